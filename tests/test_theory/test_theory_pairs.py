"""Strata, tests over pairs, and accuracies without labels."""

import numpy as np
import pytest

from theory import (
    PanelError,
    accuracy_without_labels,
    correlated_pairs,
    correlated_panel,
    difficulty_panel,
    error_agreement,
)


def mantel_haenszel_loop(wi, wj, strata):
    up = down = 0.0
    for k in set(strata):
        rows = [t for t in range(len(wi)) if strata[t] == k]
        n11 = sum(wi[t] and wj[t] for t in rows)
        n00 = sum(not wi[t] and not wj[t] for t in rows)
        n10 = sum(wi[t] and not wj[t] for t in rows)
        n01 = sum(not wi[t] and wj[t] for t in rows)
        up, down = up + n11 * n00 / len(rows), down + n10 * n01 / len(rows)
    return up, down


def test_strata_equal_the_loop():
    drawn = difficulty_panel(200, 4, seed=0)
    strata = np.random.default_rng(0).integers(0, 5, 200)
    wrong = ~drawn.correct
    found = error_agreement(drawn.answers, drawn.y, n_options=4, strata=strata)
    for i in range(4):
        for j in range(4):
            up, down = mantel_haenszel_loop(wrong[:, i], wrong[:, j], strata)
            if i != j:
                assert found.odds_ratio_strata[i, j] == pytest.approx(up / down, rel=1e-12)
                assert found.q_strata[i, j] == pytest.approx((up - down) / (up + down), rel=1e-12)
    assert "within strata" in found.summary() and "q_strata" in found.to_xarray()
    plain = error_agreement(drawn.answers, drawn.y, n_options=4)
    assert plain.q_strata is None and "q_strata" not in plain.mean


def two_difficulties(n, rng):
    hard = rng.random(n) < 0.5
    return hard, (rng.random((n, 3)) < np.where(hard, 0.6, 0.1)[:, None]).astype(int)


def test_strata_take_shared_difficulty_away():
    hard, wrong = two_difficulties(20_000, np.random.default_rng(0))
    found = error_agreement(wrong, np.zeros(20_000, int), n_options=2, strata=hard)
    assert found.mean["q"] > 0.5
    assert abs(found.mean["q_strata"]) < 0.06


def test_interval_within_strata_covers():
    """Independent within strata: Q is 0. Few large strata, and very many small ones."""
    for size in (None, 4):
        inside = []
        for seed in range(300):
            rng = np.random.default_rng(seed)
            hard, wrong = two_difficulties(400, rng)
            strata = hard if size is None else np.arange(400) // size
            if size is not None:
                hard = np.repeat(rng.random(100) < 0.5, 4)
                wrong = (rng.random((400, 3)) < np.where(hard, 0.6, 0.1)[:, None]).astype(int)
            ci = error_agreement(wrong, np.zeros(400, int), n_options=2, strata=strata).ci["q_strata"]
            inside.append(ci[0, 0, 1] <= 0 <= ci[1, 0, 1])
        assert 0.91 - 0.04 <= np.mean(inside) <= 0.97 + 0.02


def test_strata_of_pairs_that_never_differ():
    answers = np.array([[0, 0], [1, 1], [0, 0], [1, 1]])
    found = error_agreement(answers, np.zeros(4, int), n_options=2, strata=[0, 0, 1, 1])
    assert found.odds_ratio_strata[0, 1] == np.inf and found.q_strata[0, 1] == 1.0
    assert np.isnan(found.ci["q_strata"][:, 0, 1]).all()
    with pytest.raises(PanelError, match="strata must be one label"):
        error_agreement(answers, np.zeros(4, int), strata=[1])


def step_up(p, fdr):
    order = sorted(range(len(p)), key=lambda k: p[k])
    last = max((rank for rank, k in enumerate(order, 1) if p[k] <= fdr * rank / len(p)), default=0)
    return {order[k] for k in range(last)}


@pytest.mark.parametrize("fdr", [0.01, 0.05, 0.3])
def test_benjamini_hochberg_is_the_step_up(fdr):
    errors = np.random.default_rng(3).normal(size=(60, 7))
    errors[:, 1] += 0.6 * errors[:, 0]
    errors[:, 3] += 0.5 * errors[:, 2]
    tests = correlated_pairs(errors, fdr=fdr)
    upper = np.triu_indices(7, 1)
    assert set(np.flatnonzero(tests.found[upper])) == step_up(tests.p_value[upper], fdr)
    assert (correlated_pairs(errors, fdr=fdr, dependence="any").found <= tests.found).all()


def test_false_discoveries_are_as_rare_as_promised():
    """Specialists share a random scale: uncorrelated, not independent. r sqrt(n) alone finds too many."""
    wrong, naive = [], []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        errors = rng.normal(size=(300, 8)) / np.sqrt(rng.chisquare(5, (300, 1)) / 5)
        errors[:, 1] += errors[:, 0]
        tests = correlated_pairs(errors, fdr=0.1)
        wrong.append((tests.n_found - tests.found[0, 1]) / max(tests.n_found, 1))
        upper = np.triu_indices(8, 1)
        z = np.abs(tests.correlation[upper]) * np.sqrt(300)
        found = step_up([_tail(v) for v in z], 0.1)
        naive.append(len(found - {0}) / max(len(found), 1))
        assert tests.found[0, 1]
    assert np.mean(wrong) <= 0.1 + 3 * np.std(wrong) / np.sqrt(200)
    assert np.mean(naive) > 0.2


def _tail(z):
    from math import erfc, sqrt

    return erfc(z / sqrt(2))


def test_groups_and_outputs():
    base = correlated_panel(150, 4, rho=0.0, seed=1).errors[:, :, 0]
    tripled = np.repeat(base, 3, axis=0)
    honest = correlated_pairs(tripled, groups=np.repeat(np.arange(150), 3))
    alone = correlated_pairs(base)
    np.testing.assert_allclose(honest.p_value, alone.p_value, rtol=1e-9)
    naive = correlated_pairs(tripled).p_value
    off = ~np.eye(4, dtype=bool)
    assert (naive[off] < alone.p_value[off]).all()
    vector = correlated_pairs(np.stack([base, base], axis=2))
    np.testing.assert_allclose(vector.p_value, alone.p_value, rtol=1e-9)
    assert "pairs err together" in vector.summary() and "p_adjusted" in vector.to_xarray()


def test_constant_errors_are_not_tested():
    errors = np.random.default_rng(0).normal(size=(50, 3))
    errors[:, 2] = 1.0
    tests = correlated_pairs(errors)
    assert tests.n_pairs == 1 and "2 pairs were not tested" in tests.warnings[0]
    with pytest.raises(PanelError, match="no pair"):
        correlated_pairs(errors[:, :1])


def yes_no(n, accuracy, share, seed, specificity=None):
    rng = np.random.default_rng(seed)
    truth = rng.random(n) < share
    chance = np.where(truth[:, None], accuracy, accuracy if specificity is None else specificity)
    right = rng.random((n, len(accuracy))) < chance
    return truth, np.where(right, truth[:, None], ~truth[:, None]).astype(int)


@pytest.mark.parametrize("share", [0.5, 0.7, 0.2])
def test_accuracy_without_labels(share):
    accuracy, specificity = np.array([0.9, 0.8, 0.75, 0.7, 0.6]), np.array([0.8, 0.9, 0.75, 0.7, 0.7])
    truth, votes = yes_no(60_000, accuracy, share, 0, specificity)
    balanced = (accuracy + specificity) / 2
    given = accuracy_without_labels(votes, mean_truth=2 * truth.mean() - 1)
    found = accuracy_without_labels(votes)
    assert np.abs(given.value - balanced).max() < 0.02
    assert np.abs(found.value - balanced).max() < 0.04
    assert abs(found.mean_truth - (2 * share - 1)) < 0.1
    assert found.misfit < 4.5 and len(found.warnings) == 1
    assert (np.abs(given.value - balanced) < 5 * given.se).all()


def test_flipped_votes_flip_the_accuracies():
    _, votes = yes_no(20_000, np.array([0.9, 0.8, 0.7, 0.3]), 0.5, 1)
    found = accuracy_without_labels(votes, mean_truth=0.0)
    flipped = accuracy_without_labels(1 - votes, mean_truth=0.0)
    np.testing.assert_allclose(found.value, flipped.value, atol=1e-9)
    assert found.value[3] < 0.35


def test_shared_mistakes_are_read_as_accuracy():
    """Three of five copy one poor answer: agreement makes them look good, and the misfit says so."""
    truth, votes = yes_no(20_000, np.array([0.6, 0.6, 0.6, 0.85, 0.8]), 0.5, 2)
    copied = votes.copy()
    again = np.random.default_rng(0).random((20_000, 2)) < 0.9
    copied[:, 1:3] = np.where(again, votes[:, :1], votes[:, 1:3])
    found = accuracy_without_labels(copied, mean_truth=0.0)
    assert found.value[0] > 0.8 > 0.65 > (copied[:, 0] == truth).mean()
    assert found.misfit > 5 and "does not hold" in found.warnings[1]
    assert "does not hold" in found.summary() and "loading" in found.to_xarray()


def test_refusals_without_labels():
    with pytest.raises(PanelError, match="three or more"):
        accuracy_without_labels(np.zeros((10, 2), int))
    with pytest.raises(PanelError, match="without abstentions"):
        accuracy_without_labels(np.full((10, 3), -1))
    with pytest.raises(PanelError, match="never vary"):
        accuracy_without_labels(np.zeros((10, 3), int))


def test_errors_that_never_meet_are_tested_and_not_found():
    # The statistic is 0 / 0 there, which is no pair "that never varies".
    e = np.zeros((9, 3))
    e[0, 0], e[1, 0], e[2, 1], e[3, 1] = 0.3, -0.3, 0.7, -0.7
    result = correlated_pairs(e + 0.0)
    assert result.p_value[0, 1] == 1.0
    assert np.isnan(result.p_value[0, 2])
    assert result.n_pairs == 1
    assert result.n_found == 0
    assert "2 pairs were not tested" in result.warnings[0]


def test_impossible_accuracies_are_named():
    votes = np.array([[0, 0, 1], [1, 1, 1], [0, 1, 0], [1, 1, 0], [0, 0, 1], [1, 1, 0]])
    result = accuracy_without_labels(votes, mean_truth=0.99)
    assert np.maximum(-result.value, result.value - 1.0).max() > 0.05
    assert any("which no accuracy can be" in note for note in result.warnings)
    truth = np.arange(4000) % 2
    right = np.random.default_rng(0).random((4000, 3)) < 0.8
    fine = accuracy_without_labels(np.where(right, truth[:, None], 1 - truth[:, None]), mean_truth=0.0)
    assert len(fine.warnings) == 1
