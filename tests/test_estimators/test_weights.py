"""One weight per specialist: hand-computed cases, identities, and what is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone

from estimators import CovarianceWeights, SkillWeights, TopSpecialists
from estimators.datasets import load_llm_panel
from fusion import linear_pool
from theory import PanelError, correlated_panel, difficulty_panel

RULES = [
    SkillWeights("log_odds"),
    SkillWeights("nitzan_paroush"),
    SkillWeights("accuracy"),
    SkillWeights("inverse_mse"),
    CovarianceWeights(),
    TopSpecialists(1),
]


def votes(said, n_outputs):
    said = np.asarray(said)
    one_hot = np.eye(n_outputs)[np.maximum(said, 0)]
    one_hot[said < 0] = np.nan
    return one_hot


def proba(n, m, k, seed, missing=0.0):
    rng = np.random.default_rng(seed)
    panel = rng.dirichlet(np.ones(k), size=(n, m))
    panel[rng.random((n, m)) < missing] = np.nan
    return panel, rng.integers(k, size=n)


@given(st.integers(0, 10_000), st.integers(2, 5), st.integers(2, 4))
def test_brier_score_of_the_linear_pool_is_the_quadratic_form(seed, m, k):
    panel, y = proba(60, m, k, seed)
    rule = CovarianceWeights(shrink_covariance=None).fit(panel, y)
    brier = ((rule.fuse(panel) - np.eye(k)[y]) ** 2).sum(axis=1).mean()
    assert rule.weights_ @ rule.second_moment_ @ rule.weights_ == pytest.approx(brier, abs=1e-10)
    any_weights = np.random.default_rng(seed).dirichlet(np.ones(m))
    pooled = ((linear_pool(panel, weights=any_weights) - np.eye(k)[y]) ** 2).sum(axis=1).mean()
    assert any_weights @ rule.second_moment_ @ any_weights == pytest.approx(pooled, abs=1e-10)
    best = CovarianceWeights(shrink_covariance=None, shrink=None).fit(panel, y)
    in_sample = ((best.fuse(panel) - np.eye(k)[y]) ** 2).sum(axis=1).mean()
    assert in_sample <= pooled + 1e-7


def test_log_odds_weights_by_hand():
    y = np.zeros(98, dtype=int)
    said = np.zeros((98, 3), dtype=int)
    said[:9, 0] = 1  # 89 right: (89 + 1) / 100 = .9
    said[:39, 1] = 1  # 59 right: .6
    said[:79, 2] = 1  # 19 right: .2, below chance
    rule = SkillWeights().fit(votes(said, 2), y)
    expected = np.array([np.log(9.0), np.log(1.5), 0.0])
    np.testing.assert_allclose(rule.weights_, expected / expected.sum(), atol=1e-8)
    assert rule.weights_[2] > 0
    fused = rule.fuse(votes([[1, 0, 0], [-1, -1, 1]], 2))
    np.testing.assert_allclose(fused[0], [1 - rule.weights_[0], rule.weights_[0]], atol=1e-12)
    np.testing.assert_allclose(fused[1], [0.0, 1.0])  # the worthless one is heard where nobody else speaks


def test_accuracy_counts_answered_samples_only():
    said = [[0, 0], [1, -1], [0, -1], [1, -1]]
    rule = SkillWeights("accuracy").fit(votes(said, 2), [0, 0, 0, 0])
    np.testing.assert_allclose(rule.weights_, [1 / 3, 2 / 3])


def test_inverse_mse_by_hand_and_in_any_unit():
    y = np.array([0.0, 1.0, 2.0, 3.0])
    panel = (y[:, None] + np.array([1.0, 2.0]) * np.array([[1], [-1], [1], [-1]]))[:, :, None]
    rule = SkillWeights("inverse_mse").fit(panel, y, task="regression")
    np.testing.assert_allclose(rule.weights_, [0.8, 0.2], atol=1e-8)
    tiny = SkillWeights("inverse_mse").fit(panel * 1e-9, y * 1e-9, task="regression")
    np.testing.assert_allclose(tiny.weights_, [0.8, 0.2], atol=1e-6)


def test_weights_against_wrong_answers_that_agree_by_hand():
    y = np.zeros(98, dtype=int)
    said = np.zeros((98, 3), dtype=int)
    said[:9, 0] = 3  # 89 right: (89 + 1) / 100 = .9, whatever the number of options
    said[:39, 1] = 2
    said[:59, 2] = 1  # 39 right: more often wrong than right
    rule = SkillWeights("nitzan_paroush").fit(votes(said, 4), y)
    expected = np.array([np.log(9.0), np.log(1.5), 0.0])
    np.testing.assert_allclose(rule.weights_, expected / expected.sum(), atol=1e-8)
    plain = SkillWeights("log_odds").fit(votes(said, 4), y)
    assert plain.weights_[2] > 0.1  # far above chance, if wrong answers were spread


@pytest.mark.parametrize(("agree", "better"), [(True, "nitzan_paroush"), (False, "log_odds")])
def test_which_log_odds_are_best_depends_on_whether_wrong_answers_agree(agree, better):
    rng = np.random.default_rng(0)
    y = rng.integers(10, size=8000)
    right = rng.random((8000, 9)) < np.r_[0.75, 0.7, [0.35] * 7]
    lure = (y[:, None] + (1 if agree else rng.integers(1, 10, size=(8000, 9)))) % 10
    panel = votes(np.where(right, y[:, None], lure), 10)
    score = {
        kind: (SkillWeights(kind).fit(panel[:4000], y[:4000]).fuse(panel[4000:]).argmax(axis=1) == y[4000:])
        for kind in ("log_odds", "nitzan_paroush")
    }
    other = ({"log_odds", "nitzan_paroush"} - {better}).pop()
    gain = score[better].astype(float) - score[other]
    assert gain.mean() > 3 * gain.std() / np.sqrt(4000)


# The README's numbers.
@pytest.mark.parametrize(
    ("name", "independent", "agreeing"),
    [
        ("mmlupro", 0.629, 0.721),
        ("cruxeval", 0.867, 0.923),
        ("mathl5", 0.767, 0.913),
        ("gsm8k", 0.972, 0.974),
    ],
)
def test_wrong_answers_of_language_models_agree(name, independent, agreeing):
    data = load_llm_panel(name)
    n, panel = len(data.gold), votes(data.answers, int(data.answers.max()) + 1)
    for kind, expected in (("log_odds", independent), ("nitzan_paroush", agreeing)):
        hits = []
        for seed in range(5):
            order = np.random.default_rng(seed).permutation(n)
            train, test = order[: n // 2], order[n // 2 :]
            rule = SkillWeights(kind).fit(panel[train], data.gold[train])
            hits.append((rule.fuse(panel[test]).argmax(axis=1) == data.gold[test]).mean())
        assert np.mean(hits) == pytest.approx(expected, abs=6e-4)


@pytest.mark.parametrize("kind", ["log_odds", "nitzan_paroush", "accuracy", "inverse_mse"])
def test_who_was_never_seen_earns_nothing(kind):
    panel, y = proba(50, 3, 2, 0)
    panel[:, 1] = np.nan
    weights = SkillWeights(kind).fit(panel, y).weights_
    assert weights[1] < 1e-8 and weights.sum() == pytest.approx(1.0)


def test_sample_weights_count_as_repetition():
    panel, y = proba(40, 3, 3, 1, missing=0.2)
    counts = np.random.default_rng(0).integers(0, 4, size=40)
    long = np.repeat(np.arange(40), counts)
    for rule in RULES:
        weighted = clone(rule).fit(panel, y, sample_weight=counts).weights_
        repeated = clone(rule).fit(panel[long], y[long]).weights_
        np.testing.assert_allclose(weighted, repeated, atol=1e-8, err_msg=repr(rule))


@given(st.integers(0, 10_000), st.permutations(range(4)), st.sampled_from(RULES))
def test_permuted_specialists_permute_weights(seed, order, rule):
    panel, y = proba(40, 4, 3, seed, missing=0.1)
    order = list(order)
    kept = clone(rule).fit(panel, y)
    moved = clone(rule).fit(panel[:, order], y)
    if not isinstance(rule, TopSpecialists):  # its ties go to the first listed
        np.testing.assert_allclose(moved.weights_, kept.weights_[order], atol=1e-6)


def test_covariance_weights_beat_equal_ones_when_skill_and_correlation_differ():
    rng = np.random.default_rng(3)
    shared = rng.normal(size=(4000, 1))
    errors = np.column_stack([rng.normal(size=4000), *(shared[:, 0] + 0.2 * rng.normal(size=(4, 4000)))])
    y = rng.normal(size=4000)
    panel = (y[:, None] + errors)[:, :, None]
    rule = CovarianceWeights().fit(panel[:2000], y[:2000], task="regression")
    skill = SkillWeights("inverse_mse").fit(panel[:2000], y[:2000], task="regression")
    loss = {
        name: float(((fused - y[2000:, None]) ** 2).mean())
        for name, fused in {
            "covariance": rule.fuse(panel[2000:]),
            "skill": skill.fuse(panel[2000:]),
            "equal": panel[2000:].mean(axis=1),
        }.items()
    }
    # four who err alike count as one: half the weight each side, variance near 1/2 instead of .68
    assert rule.weights_[0] == pytest.approx(0.5, abs=0.03)
    assert loss["covariance"] < 0.55 < 0.6 < min(loss["skill"], loss["equal"])


def test_equally_good_independent_specialists_get_equal_weights():
    simulated = correlated_panel(3000, 6, rho=0.3, seed=0)
    rule = CovarianceWeights().fit(simulated.panel, simulated.y, task="regression")
    np.testing.assert_allclose(rule.weights_, 1 / 6, atol=0.03)


def test_free_weights_are_solved_again_for_those_present():
    rng = np.random.default_rng(1)
    y = rng.normal(size=800)
    covariance = np.array([[1.0, 1.2, 0.0], [1.2, 2.0, 0.0], [0.0, 0.0, 1.0]])
    panel = (y[:, None] + rng.multivariate_normal(np.zeros(3), covariance, size=800))[:, :, None]
    rule = CovarianceWeights("none", shrink=None, shrink_covariance=None).fit(panel, y, task="regression")
    assert rule.weights_[1] < 0 and rule.weights_.sum() == pytest.approx(1.0)
    gaps = panel.copy()
    gaps[:400, 0] = np.nan
    fused = rule.fuse(gaps)
    two = CovarianceWeights("none", shrink=None, shrink_covariance=None).fit(
        panel[:, 1:], y, task="regression"
    )
    np.testing.assert_allclose(fused[:400], two.fuse(panel[:400, 1:]), atol=1e-9)
    np.testing.assert_allclose(fused[400:], rule.fuse(panel[400:]), atol=1e-12)


def test_covariance_from_gaps_is_a_possible_one():
    panel, y = proba(30, 6, 3, 5, missing=0.45)
    rule = CovarianceWeights().fit(panel, y)
    assert np.linalg.eigvalsh(rule.second_moment_).min() > -1e-12
    assert (rule.weights_ > 0).all() and rule.weights_.sum() == pytest.approx(1.0)


def test_cap_bounds_the_largest_weight():
    rng = np.random.default_rng(0)
    y = rng.normal(size=400)
    panel = (y[:, None] + rng.normal(size=(400, 4)) * [0.1, 1, 1, 1])[:, :, None]
    assert CovarianceWeights(shrink=None).fit(panel, y, task="regression").weights_[0] > 0.9
    assert CovarianceWeights(cap=0.4).fit(panel, y, task="regression").weights_.max() <= 0.4 + 1e-6


def test_top_specialists_keep_the_best_and_break_ties_by_order():
    simulated = difficulty_panel(300, 5, accuracy=0.6, seed=0)
    panel = votes(simulated.answers, 4)
    ranked = np.argsort(-simulated.correct.mean(axis=0), kind="stable")
    rule = TopSpecialists(3).fit(panel, simulated.y)
    assert rule.chosen_.tolist() == ranked[:3].tolist()
    np.testing.assert_allclose(rule.fuse(panel), panel[:, ranked[:3]].mean(axis=1))
    same = TopSpecialists(1).fit(panel[:, [2, 2, 2]], simulated.y)
    assert same.chosen_.tolist() == [0]


def test_top_specialist_away_gives_no_answer_and_absence_counts_as_wrong():
    panel = votes([[0, 0], [-1, 0], [0, 1], [0, 1]], 2)
    rule = TopSpecialists(1).fit(panel, [0, 0, 0, 0])
    assert rule.chosen_.tolist() == [0]  # 3 of 4 right, though the absence counts against it
    np.testing.assert_array_equal(rule.fuse(panel)[1], [np.nan, np.nan])


def test_top_specialists_of_numbers_charge_absence_with_the_largest_error():
    y = np.array([0.0, 0.0, 0.0])
    panel = np.array([[0.5, 0.0], [0.5, np.nan], [0.5, 3.0]])[:, :, None]
    assert TopSpecialists(1).fit(panel, y, task="regression").chosen_.tolist() == [0]


def test_a_class_that_a_specialist_cannot_name_is_probability_zero():
    panel, y = proba(80, 3, 3, 2)
    panel[:, 0, 2] = np.nan
    named = np.nan_to_num(panel)
    for rule in (SkillWeights("inverse_mse"), SkillWeights("log_odds"), TopSpecialists(2)):
        np.testing.assert_allclose(clone(rule).fit(panel, y).weights_, clone(rule).fit(named, y).weights_)
    rule = CovarianceWeights(shrink_covariance=None)
    np.testing.assert_allclose(
        clone(rule).fit(panel, y).second_moment_, clone(rule).fit(named, y).second_moment_, atol=1e-12
    )
    assert np.isfinite(SkillWeights().fit(panel, y).fuse(panel)).all()


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_inputs_are_not_changed_and_views_work(rule):
    panel, y = proba(60, 4, 3, 7, missing=0.1)
    strided = np.asfortranarray(np.repeat(panel, 2, axis=0))[::2]
    before = panel.copy()
    panel.setflags(write=False)
    y.setflags(write=False)
    fitted = clone(rule).fit(panel, y)
    np.testing.assert_array_equal(panel, before)
    np.testing.assert_allclose(clone(rule).fit(strided, y).weights_, fitted.weights_)
    np.testing.assert_allclose(fitted.fuse(strided), fitted.fuse(panel))
    single = clone(rule).fit(panel.astype(np.float32), y)
    np.testing.assert_allclose(single.weights_, fitted.weights_, atol=1e-4)


BAD = [
    (np.zeros((4, 2)), [0, 1, 0, 1], {}, "panel must be .sample, specialist, output."),
    (np.zeros((3, 2, 2)), [0, 1, 0, 1], {}, "truths of shape"),
    (np.full((4, 2, 2), np.inf), [0, 1, 0, 1], {}, "infinite answers"),
    (np.zeros((4, 2, 2)), [0, 1, 0, 2], {}, "one code 0 .. 1"),
    (np.zeros((4, 2, 2)), [0, 1, 0, -1], {}, "one code 0 .. 1"),
    (np.zeros((4, 2, 2)), [0.0, 1, 0, 1], {}, "one code 0 .. 1"),
    (np.zeros((4, 2, 2)), [[0], [1], [0], [1]], {}, "per sample"),
    (np.zeros((4, 2, 1)), np.zeros((4, 2)), {"task": "regression"}, "panel has 1 outputs, y has shape"),
    (np.zeros((4, 2, 1)), [0, 1, np.nan, 2], {"task": "regression"}, "1 non-finite values"),
    (np.zeros((4, 2, 2)), [0, 1, 0, 1], {"task": "ranking"}, "task must be"),
    (np.zeros((4, 2, 2)), [0, 1, 0, 1], {"sample_weight": [1, 1]}, "sample_weight must be 4"),
    (np.zeros((4, 2, 2)), [0, 1, 0, 1], {"sample_weight": [1, 1, -1, 1]}, "sample_weight must be 4"),
    (np.zeros((4, 2, 2)), [0, 1, 0, 1], {"sample_weight": np.zeros(4)}, "not all of them 0"),
]


@pytest.mark.parametrize("rule", RULES, ids=repr)
@pytest.mark.parametrize(("panel", "y", "more", "text"), BAD)
def test_bad_input(rule, panel, y, more, text):
    with pytest.raises(PanelError, match=text):
        clone(rule).fit(panel, y, **more)


def test_bad_parameters():
    panel, y = proba(20, 3, 2, 0)
    with pytest.raises(PanelError, match="kind must be"):
        SkillWeights("skill").fit(panel, y)
    with pytest.raises(PanelError, match="use 'inverse_mse' for numbers"):
        SkillWeights("accuracy").fit(panel[:, :, :1], y, task="regression")
    for k in (0, 4, 1.5, True):
        with pytest.raises(PanelError, match="k must be a whole number between 1 and the 3"):
            TopSpecialists(k).fit(panel, y)
    panel[:] = np.nan
    with pytest.raises(PanelError, match="nobody to choose"):
        TopSpecialists(1).fit(panel[:, :, :1], y, task="regression")
