"""One way to apply any fusion: names, faults and budgets, gaps, short samples, callables."""

import numpy as np
import pytest

from estimators import Arbiter, CovarianceWeights, SkillWeights, TopSpecialists, learned_fusion_names
from estimators.fusions import PanelFuser, fusion_name, resolve_fusion
from fusion import Krum, LogPool, Mean, Median, TrimmedMean, linear_pool, operator_names, trimmed_mean
from theory import BudgetError, FaultWarning, PanelError


@pytest.fixture
def panel():
    return np.random.default_rng(0).dirichlet(np.ones(3), size=(20, 5))


def test_names():
    for name in (*operator_names("late"), *learned_fusion_names()):
        assert fusion_name(name) == name
        assert fusion_name(resolve_fusion(name)).startswith(name.partition("(")[0])
    assert fusion_name(Krum(n_byzantine=2)) == "krum(2)"
    assert fusion_name(TopSpecialists(3)) == "top_3" and fusion_name(TopSpecialists(1)) == "best_single"
    assert [fusion_name(f) for f in (Arbiter(), CovarianceWeights(), SkillWeights("accuracy"))] == [
        "arbiter", "covariance", "accuracy",
    ]  # fmt: skip
    assert fusion_name(linear_pool) == "linear_pool"
    with pytest.raises(PanelError, match=r"no fusion 'magic'; there are mean,"):
        resolve_fusion("magic")
    with pytest.raises(PanelError, match="a name, an operator, a learned fusion or a callable; got 3"):
        resolve_fusion(3)


def test_objects_are_copied_not_shared():
    for mine in (TrimmedMean(n_byzantine=1), SkillWeights()):
        assert resolve_fusion(mine) is not mine


@pytest.mark.parametrize(
    ("fusion", "budget"),
    [("mean", 0), ("median", 2), ("geometric_median", 2), (TrimmedMean(n_byzantine=1), 1), ("covariance", 0),
     (TrimmedMean(n_byzantine=0.2), 1), (Krum(n_byzantine=1), 1), (linear_pool, 0)],
    ids=lambda value: str(value) if isinstance(value, int) else fusion_name(value),
)  # fmt: skip
def test_budgets(fusion, budget, panel):
    fuser = PanelFuser(fusion, task="classification")
    fuser.fit(panel, np.arange(20) % 3)
    assert fuser.budget(5) == budget
    for n_faults in range(4):
        hurt, faults = panel.copy(), np.zeros((20, 5), dtype=bool)
        faults[7, :n_faults] = True
        hurt[faults] = np.nan
        if n_faults > budget:
            with pytest.raises(
                BudgetError, match=rf"sample 7: {n_faults} specialists? gave invalid values .'a'"
            ):
                fuser.fuse(hurt, faults=faults, names="abcde")
        else:
            fused = fuser.fuse(hurt, faults=faults, names="abcde")
            np.testing.assert_array_equal(
                np.delete(fused, 7, axis=0), np.delete(fuser.fuse(panel), 7, axis=0)
            )
            assert np.isfinite(fused).all()


def test_faults_spend_the_budget_and_absences_do_not(panel):
    fuser = PanelFuser(TrimmedMean(n_byzantine=1), task="classification")
    hurt = panel.copy()
    hurt[0, 4] = np.nan
    faulty = fuser.fuse(hurt, faults=np.isnan(hurt).all(axis=2))
    away = fuser.fuse(hurt)
    np.testing.assert_allclose(faulty[0], panel[0, :4].mean(axis=0))
    np.testing.assert_allclose(away[0], trimmed_mean(panel[0, :4], n_byzantine=1))


def test_gaps_are_the_panel_without_them(panel):
    gaps = panel.copy()
    gaps[3, [0, 2]] = np.nan
    gaps[5] = np.nan
    for fusion in ("mean", "median", "krum", "geometric_median", "log_pool", "plurality_vote"):
        fuser = PanelFuser(fusion, task="classification")
        fused = fuser.fuse(gaps)
        np.testing.assert_allclose(fused[3], fuser.fuse(panel[3:4, [1, 3, 4]])[0], atol=1e-12)
        assert np.isnan(fused[5]).all()
        np.testing.assert_array_equal(fused[6:], fuser.fuse(panel[6:]))


def test_short_samples(panel):
    gaps = panel.copy()
    gaps[4, 1:4] = np.nan
    rule = TrimmedMean(n_byzantine=1)
    with pytest.raises(
        BudgetError, match=r"1 of 20 samples have fewer specialists than trimmed_mean\(1\) needs \(3\); first"
    ):
        PanelFuser(rule, task="classification").fuse(gaps)
    with pytest.warns(FaultWarning, match="short='relax' weakens"):
        relaxed = PanelFuser(rule, task="classification", short="relax").fuse(gaps)
    np.testing.assert_allclose(relaxed[4], panel[4, [0, 4]].mean(axis=0))
    with pytest.warns(FaultWarning, match="short='prior'"):
        prior = PanelFuser(rule, task="classification", short="prior").fuse(gaps)
    assert np.isnan(prior[4]).all() and np.isfinite(np.delete(prior, 4, axis=0)).all()


def test_a_class_that_nobody_present_can_name_gets_zero(panel):
    partly = panel / panel.sum(axis=2, keepdims=True)
    partly[:, :2, 2] = np.nan
    partly[8, 2:] = np.nan
    for fusion in ("mean", "median", TrimmedMean(n_byzantine=0), "covariance", "accuracy", "log_odds"):
        fuser = PanelFuser(fusion, task="classification")
        fuser.fit(partly, np.arange(20) % 3)
        fused = fuser.fuse(partly)
        assert fused[8, 2] == 0 and np.isfinite(fused).all(), fusion
    numbers = PanelFuser("mean", task="regression")
    with pytest.raises(BudgetError, match="no specialist answered in sample 8, output 2"):
        numbers.fuse(partly)


def test_callables(panel):
    def first(answers):
        return answers[:, 0]

    np.testing.assert_array_equal(PanelFuser(first, task="classification").fuse(panel), panel[:, 0])
    numbers = panel[:, :, :1]
    flat = PanelFuser(lambda answers: answers[:, 0, 0], task="regression")
    np.testing.assert_array_equal(flat.fuse(numbers), numbers[:, 0])
    with pytest.raises(
        PanelError, match=r"gave shape \(20,\) for a panel of shape \(20, 5, 3\); .*\(20, 3\) was needed"
    ):
        PanelFuser(lambda answers: answers[:, 0, 0], task="classification").fuse(panel)
    with pytest.raises(PanelError, match=r"gave shape \(20, 5\)"):
        PanelFuser(lambda answers: answers[:, :, 0], task="classification").fuse(panel)


def test_learned_fusions_see_options_only_if_they_can_use_them():
    rng = np.random.default_rng(0)
    y = rng.integers(3, size=60)
    votes = np.eye(4)[np.where(rng.random((60, 4)) < 0.8, y[:, None], rng.integers(3, size=(60, 4)))]
    votes[2] = np.nan
    counts = np.full(60, 3)
    for fusion in learned_fusion_names():
        fuser = PanelFuser(fusion, task="classification")
        fuser.fit(votes, y, n_options=counts)
        fused = fuser.fuse(votes, n_options=counts)
        assert np.isnan(fused[2]).all() and np.isfinite(np.delete(fused, 2, axis=0)).all()
        assert (fused[3:, 3] == 0).all()


def test_rules_for_probabilities_refuse_numbers():
    with pytest.raises(PanelError, match=r"fuses .*, not numbers. Use mean, median"):
        PanelFuser(LogPool(), task="regression")
    for fusion in (Mean(), Median(), Krum()):
        PanelFuser(fusion, task="regression")


def test_nobody_at_all():
    nothing = np.full((3, 4, 2), np.nan)
    for fusion in ("mean", "median", linear_pool):
        assert np.isnan(PanelFuser(fusion, task="classification").fuse(nothing)).all()
