"""Agreement of errors on labels: equal to loops over pairs, honest about abstentions."""

import numpy as np
import pytest
from enumeration import agreement_loop
from hypothesis import given
from hypothesis import strategies as st

from theory import PanelError, difficulty_panel, error_agreement, error_correlation
from theory._pair_tables import relabelled, same_answers

NAMES = ("phi", "disagreement", "double_fault", "kappa", "capa", "same_wrong", "same_wrong_chance", "q", "y")


def draw(n=80, m=5, k=4, silent=0.15, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, k, n)
    answers = np.where(rng.random((n, m)) < 0.5, y[:, None], rng.integers(0, k, (n, m)))
    answers[rng.random((n, m)) < silent] = -1
    return answers, y


@pytest.mark.parametrize("abstain", ["wrong", "pairwise"])
@pytest.mark.parametrize("silent", [0.0, 0.2])
@pytest.mark.parametrize("varying", [False, True])
def test_equals_the_loop(abstain, silent, varying):
    answers, y = draw(silent=silent)
    options = np.random.default_rng(1).integers(4, 9, len(y)) if varying else np.full(len(y), 4)
    expected = agreement_loop(answers, y, options, abstain)
    result = error_agreement(answers, y, n_options=options, abstain=abstain)
    for name in NAMES:
        np.testing.assert_allclose(
            getattr(result, name), expected[name], rtol=1e-11, atol=1e-13, err_msg=name
        )


def test_phi_is_the_correlation_of_zero_one_errors():
    answers, y = draw()
    result = error_agreement(answers, y)
    peer = error_correlation((answers != y[:, None]).astype(float))
    np.testing.assert_allclose(result.phi, peer.value, atol=1e-12)
    np.testing.assert_allclose(result.se["phi"], peer.se, atol=1e-7)
    np.testing.assert_allclose(result.ci["phi"], peer.ci, atol=1e-7)


def test_phi_ratio_reaches_one():
    wrong = np.zeros((100, 2), int)
    wrong[:30, 0] = 1
    wrong[:10, 1] = 1  # whoever errs least errs only where the other does too
    result = error_agreement(wrong, np.zeros(100, int))
    assert result.phi[0, 1] < 0.6 and result.phi_ratio[0, 1] == pytest.approx(1.0)


@pytest.mark.parametrize("kind", ["labels", "probabilities"])
@pytest.mark.parametrize("grouped", [False, True])
def test_standard_errors_equal_the_jackknife(kind, grouped):
    answers, y = draw(n=240, m=3, silent=0.0)
    source = answers
    if kind == "probabilities":
        rng = np.random.default_rng(0)
        source = rng.dirichlet(np.ones(4), (240, 3)) * 0.5
        source[np.arange(240)[:, None], np.arange(3), answers] += 0.5
    group = np.arange(240) // 3 if grouped else np.arange(240)
    result = error_agreement(source, y, groups=group if grouped else None)
    names = np.unique(group)
    left_out = [error_agreement(source[group != g], y[group != g]) for g in names]
    g = len(names)
    for name in ("phi", "kappa", "capa", "same_wrong", "disagreement", "double_fault", "q", "y"):
        values = np.array([getattr(one, name)[0, 1] for one in left_out])
        jackknife = np.sqrt((g - 1) / g * ((values - values.mean()) ** 2).sum())
        assert result.se[name][0, 1] == pytest.approx(jackknife, rel=0.06), name
    pooled = np.array([one.mean["same_wrong_pooled"] for one in left_out])
    jackknife = np.sqrt((g - 1) / g * ((pooled - pooled.mean()) ** 2).sum())
    assert result.se["same_wrong_pooled"] == pytest.approx(jackknife, rel=0.05)


def test_probabilities_agree_with_labels_where_they_are_certain():
    answers, y = draw(silent=0.1)
    panel = np.eye(4)[np.where(answers < 0, 0, answers)]
    panel[answers < 0] = np.nan
    soft, hard = error_agreement(panel, y), error_agreement(answers, y, n_options=4)
    for name in (*NAMES, "cohen"):
        np.testing.assert_allclose(getattr(soft, name), getattr(hard, name), atol=1e-12, err_msg=name)
    np.testing.assert_allclose(soft.se["capa"], hard.se["capa"], atol=1e-8)


def test_capa_of_probabilities_equals_its_definition():
    rng = np.random.default_rng(0)
    panel, y = rng.dirichlet(np.ones(3), (50, 4)), rng.integers(0, 3, 50)
    result = error_agreement(panel, y)
    for i, j in ((0, 1), (2, 3), (1, 1)):
        observed = np.mean([panel[t, i] @ panel[t, j] for t in range(50)])
        a, b = (np.mean([panel[t, s, y[t]] for t in range(50)]) for s in (i, j))
        chance = a * b + (1 - a) * (1 - b) / 2
        assert result.capa[i, j] == pytest.approx((observed - chance) / (1 - chance), rel=1e-12)


def test_cohen_equals_scikit_learn():
    from sklearn.metrics import cohen_kappa_score

    answers, y = draw(silent=0.0)
    result = error_agreement(answers, y)
    assert result.cohen[0, 2] == pytest.approx(cohen_kappa_score(answers[:, 0], answers[:, 2]), rel=1e-12)


def test_two_abstentions_never_agree():
    answers = np.array([[-1, -1], [-1, -1], [0, 1], [1, 1], [0, 0]])
    y = np.array([0, 0, 0, 0, 0])
    result = error_agreement(answers, y, n_options=3)
    assert result.same_wrong[0, 1] == 1.0 and result.n_joint_wrong[0, 1] == 1
    assert result.n_pair[0, 1] == 3 and result.double_fault[0, 1] == pytest.approx(3 / 5)
    left_out = error_agreement(answers, y, n_options=3, abstain="pairwise")
    assert left_out.double_fault[0, 1] == pytest.approx(1 / 3)
    np.testing.assert_allclose(result.accuracy, [2 / 5, 1 / 5])
    np.testing.assert_allclose(left_out.accuracy, [2 / 3, 1 / 3])
    assert "never agree" in result.warnings[-1]


def test_truth_outside_all_answers_and_open_codes():
    answers = np.array([[0, 0, 1], [2, 1, 0], [0, 0, 0]])
    options = np.array([2, 3, 2])
    result = error_agreement(answers, [2, 3, 0], n_options=options)
    assert result.accuracy.tolist() == [1 / 3] * 3
    assert result.same_wrong[0, 1] == 0.5 and result.same_wrong_chance[0, 1] == pytest.approx((1 + 0.5) / 2)


def test_many_codes_are_renumbered_within_samples():
    rng = np.random.default_rng(0)
    answers = rng.integers(-1, 200, (60, 6)) // rng.integers(1, 40, (60, 1))
    codes = relabelled(answers)
    assert codes.max() < 6
    direct = np.array(
        [
            [np.sum((answers[:, i] == answers[:, j]) & (answers[:, i] >= 0)) for j in range(6)]
            for i in range(6)
        ]
    )
    np.testing.assert_array_equal(same_answers(answers), direct)
    np.testing.assert_array_equal(same_answers(codes), direct)


def test_difficulty_panel_has_the_moments_it_promises():
    drawn = difficulty_panel(20_000, 12, seed=0)
    result = error_agreement(drawn.answers, drawn.y, n_options=4)
    assert drawn.same_wrong == pytest.approx(1 / 3 + 2 / 3 * 0.636**2)
    assert result.mean["phi"] == pytest.approx(0.419, abs=0.02)
    assert result.accuracy.mean() == pytest.approx(0.721, abs=0.01)
    ends = result.ci["same_wrong_pooled"]
    assert ends[0] < drawn.same_wrong < ends[1] and ends[1] - ends[0] < 0.03
    independent = difficulty_panel(5000, 4, rho=0.0, distractor=0.0, seed=1)
    result = error_agreement(independent.answers, independent.y)
    assert abs(result.mean["phi"]) < 0.03 and result.mean["same_wrong_pooled"] == pytest.approx(
        1 / 3, abs=0.05
    )


def test_specialists_without_errors_are_nan_and_said_so():
    y = np.arange(20) % 3
    answers = np.stack([y, (y + 1) % 3, np.where(np.arange(20) < 5, (y + 1) % 3, y)], axis=1)
    result = error_agreement(answers, y)
    assert np.isnan(result.phi[0, 1]) and np.isnan(result.same_wrong[0, 1])
    assert result.n_joint_wrong[0, 1] == 0 and result.same_wrong[1, 2] == 1.0
    assert any("phi is NaN for 3 of 3 pairs" in warning for warning in result.warnings)
    assert any("same_wrong is NaN for 2 of 3" in warning for warning in result.warnings)


@given(st.integers(2, 5), st.integers(0, 10**6))
def test_invariances_and_ranges(m, seed):
    answers, y = draw(n=40, m=m, seed=seed)
    base = error_agreement(answers, y, n_options=4)
    rng = np.random.default_rng(seed)
    order, names = rng.permutation(m), rng.permutation(4)
    turned = error_agreement(np.where(answers < 0, -1, names[answers])[:, order], names[y], n_options=4)
    for name in (*NAMES, "cohen", "n_pair"):
        one, two = getattr(base, name)[np.ix_(order, order)], getattr(turned, name)
        np.testing.assert_allclose(one, two, atol=1e-12, err_msg=name)
        np.testing.assert_allclose(one, one.T, atol=1e-12, err_msg=name)
    for name in ("phi", "kappa", "capa", "same_wrong", "disagreement", "double_fault", "q", "y"):
        value, (low, high) = getattr(base, name), base.ci[name]
        known = ~np.isnan(value)
        assert ((low[known] <= value[known] + 1e-9) & (value[known] <= high[known] + 1e-9)).all(), name


def test_dataset_and_summary():
    answers, y = draw()
    result = error_agreement(answers, y)
    dataset = result.to_xarray()
    assert dataset.phi_ci.dims == ("bound", "specialist", "specialist_")
    assert dataset.attrs["mean_phi"] == result.mean["phi"]
    assert "same wrong answer" in result.summary()


@pytest.mark.parametrize(
    ("answers", "y", "terms", "text"),
    [
        ([[0, 5]] * 3, [0, 0, 0], {"n_options": 4}, "gave code 5 on sample 0, which has 4 options"),
        ([[0, 1]] * 3, [0, 0], {}, "one label code per sample .3."),
        ([[0, 1]] * 3, [0, 0, np.nan], {}, "whole numbers"),
        ([[0, 1]] * 3, [0, 0, -1], {}, "negative codes"),
        ([[0, 0]] * 3, [0, 0, 0], {"n_options": 1}, "With one option nobody can err"),
        ([[0, 1]] * 3, [0, 0, 0], {"n_options": [2, 2]}, "one per sample .3."),
        ([[0, 1]] * 3, [0, 0, 0], {"n_options": 2.5}, "whole number"),
        ([[0, 1]] * 3, [0, 0, 0], {"abstain": "drop"}, "abstain must be one of"),
        ([[0, 1]] * 3, [0, 0, 0], {"groups": [1, 1, 1]}, "one group only"),
        ([[0, 1]], [0], {}, "2 or more samples"),
        ([["a", "b"]] * 3, [0, 0, 0], {}, "encode_labels"),
        (np.full((3, 2, 2), 0.7), [0, 0, 0], {}, "sums to 1.4"),
        (np.full((3, 2, 2), np.inf), [0, 0, 0], {}, "finite"),
    ],
)
def test_bad_input(answers, y, terms, text):
    with pytest.raises(PanelError, match=text):
        error_agreement(answers, y, **terms)
