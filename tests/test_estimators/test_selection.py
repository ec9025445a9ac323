"""Selected teams: greedy against its twin and by hand, gains against the matrices they stand for, costs, gaps."""

import numpy as np
import pytest
import reference_estimators as twins
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.naive_bayes import GaussianNB
from sklearn.tree import DecisionTreeClassifier

from estimators import (
    DecorrelatedSelection,
    GreedySelection,
    PanelAudit,
    RobustFusionClassifier,
    load_llm_panel,
    load_mfeat,
)
from estimators.selection import moment_gains, precision_gains
from theory import PanelError, correlated_panel, difficulty_panel

LOSSES = ["log_loss", "brier", "error", "mse"]


def make(loss, seed, n=40, m=4, k=3, missing=0.0):
    rng = np.random.default_rng(seed)
    if loss == "mse":
        y = rng.normal(size=(n, 2))
        panel = y[:, None] + rng.normal(size=(n, m, 2)) * rng.uniform(0.5, 2, size=(m, 1))
    else:
        y = rng.integers(k, size=n)
        panel = rng.dirichlet(np.ones(k), size=(n, m)) + np.eye(k)[y][:, None] * rng.uniform(
            0, 0.6, size=(m, 1)
        )
        panel /= panel.sum(axis=2, keepdims=True)
    panel[rng.random((n, m)) < missing] = np.nan
    return panel, y


def task_of(loss):
    return "regression" if loss == "mse" else "classification"


@given(st.sampled_from(LOSSES), st.integers(0, 10_000), st.sampled_from([0.0, 0.4]))
def test_greedy_equals_its_twin(loss, seed, missing):
    panel, y = make(loss, seed, missing=missing)
    rule = GreedySelection(7, loss=loss).fit(panel, y, task=task_of(loss))
    team, path = twins.greedy(panel, y, 7, loss)
    np.testing.assert_allclose(rule.losses_, path, rtol=1e-10)
    assert rule.chosen_.tolist() == team
    np.testing.assert_allclose(rule.weights_, np.bincount(team, minlength=4) / len(team), atol=1e-15)


@given(st.sampled_from(LOSSES), st.integers(0, 10_000), st.sampled_from([0.0, 0.3]))
def test_greedy_is_never_worse_here_than_the_best_single_one(loss, seed, missing):
    panel, y = make(loss, seed, n=25, missing=missing)
    rule = GreedySelection(10, loss=loss).fit(panel, y, task=task_of(loss))
    best = min(twins.team_loss(panel, y, [j], loss) for j in range(4))
    assert rule.losses_[len(rule.chosen_) - 1] == pytest.approx(rule.losses_.min(), rel=1e-12)
    assert rule.losses_.min() <= best + 1e-12
    heard = ~np.isnan(panel).all(axis=(1, 2))
    fused = rule.fuse(panel)
    expected = [twins.average(row, rule.chosen_) for row in panel[heard]]
    np.testing.assert_allclose(fused[heard], expected, atol=1e-12)
    assert np.isnan(fused[~heard]).all()


def test_greedy_by_hand():
    y = np.zeros(4)
    panel = np.array([[1, -1, 4], [-1, 1, 4], [1, -2, 4], [-1, 2, 4]], dtype=float)[:, :, None]
    rule = GreedySelection(3).fit(panel, y, task="regression")
    # alone: 1, 2.5, 16; with 0: (0, 0, -.5, .5) -> .125; a third time 0: (1/3, -1/3, 0, 0) -> 1/18
    np.testing.assert_allclose(rule.losses_, [1.0, 0.125, 1 / 18])
    np.testing.assert_allclose(rule.weights_, [2 / 3, 1 / 3, 0.0])
    assert rule.loss_ == "mse"


def test_greedy_ties_go_to_the_chosen_then_to_the_first():
    panel, y = make("log_loss", 0)
    twice = panel[:, [2, 2, 0]]
    chosen = GreedySelection(6).fit(twice, y).chosen_
    assert 1 not in chosen
    np.testing.assert_array_equal(GreedySelection(6).fit(panel[:, [1, 1]], y).weights_, [1.0, 0.0])


def test_the_unit_of_numbers_changes_no_choice():
    panel, y = make("mse", 3, m=6)
    kept = GreedySelection(8).fit(panel, y, task="regression").chosen_.tolist()
    assert GreedySelection(8).fit(panel * 1e-9, y * 1e-9, task="regression").chosen_.tolist() == kept


def test_auto_losses():
    panel, y = make("error", 0)
    assert GreedySelection().fit(panel, y).loss_ == "log_loss"
    votes = np.eye(3)[panel.argmax(axis=2)]
    votes[0, 1] = np.nan
    assert GreedySelection().fit(votes, y).loss_ == "brier"


@pytest.mark.parametrize("loss", LOSSES)
def test_sample_weights_count_as_repetition(loss):
    panel, y = make(loss, 1, n=60, missing=0.2)
    counts = np.random.default_rng(0).integers(0, 4, size=60)
    long = np.repeat(np.arange(60), counts)
    for rule in (GreedySelection(8, loss=loss), DecorrelatedSelection(shrink_covariance=None)):
        weighted = clone(rule).fit(panel, y, task=task_of(loss), sample_weight=counts)
        repeated = clone(rule).fit(panel[long], y[long], task=task_of(loss))
        np.testing.assert_allclose(weighted.weights_, repeated.weights_, atol=1e-9)


@given(st.integers(0, 10_000), st.permutations(range(5)))
def test_gains_are_what_joining_changes(seed, order):
    rng = np.random.default_rng(seed)
    draws = rng.normal(size=(30, 5)) + rng.normal(size=(30, 1))
    matrix = draws.T @ draws / 30
    team = list(order[:3])
    before = twins.equal_variance(matrix, team)
    gain, value = moment_gains(matrix, team)
    precise, precision = precision_gains(matrix, team)
    assert value == pytest.approx(before, abs=1e-12)
    assert precision == pytest.approx(twins.free_precision(matrix, team), rel=1e-10)
    for j in order[3:]:
        after = twins.equal_variance(matrix, [*team, j])
        assert gain[j] == pytest.approx(before - after, abs=1e-10)
        r = matrix[j, team].sum()
        if abs(before - after) > 1e-10:  # the test for joining, as it is written
            assert (2 * r + matrix[j, j] < (2 * 3 + 1) * before) == (after < before)
        grown = twins.free_precision(matrix, [*team, j]) - precision
        assert precise[j] == pytest.approx(grown, rel=1e-8, abs=1e-10)
    np.testing.assert_allclose(precise[team], 0.0, atol=1e-10)  # the chosen add nothing again


@pytest.mark.parametrize("criterion", ["second_moment", "precision"])
def test_path_of_gains(criterion):
    simulated = correlated_panel(2000, 8, rho=0.2, scale=np.linspace(0.8, 1.6, 8), seed=0)
    rule = DecorrelatedSelection(criterion=criterion).fit(simulated.panel, simulated.y, task="regression")
    value = twins.equal_variance if criterion == "second_moment" else twins.free_precision
    path = [value(rule.second_moment_, rule.chosen_[: s + 1]) for s in range(len(rule.chosen_))]
    np.testing.assert_allclose(np.abs(np.diff(path)), rule.gains_[1:], atol=1e-10)
    assert rule.gains_[0] == pytest.approx(path[0]) and len(path) > 1
    assert rule.weights_.sum() == pytest.approx(1.0)
    assert set(np.flatnonzero(rule.weights_)) == set(rule.chosen_)


def test_copies_never_join():
    rng = np.random.default_rng(0)
    errors = rng.normal(size=(500, 3))
    panel = errors[:, [0, 0, 0, 1, 1, 2]][:, :, None]
    for criterion in ("second_moment", "precision"):
        rule = DecorrelatedSelection(criterion=criterion, shrink_covariance=None)
        chosen = rule.fit(panel, np.zeros(500), task="regression").chosen_
        assert len(set(np.array([0, 0, 0, 1, 1, 2])[chosen])) == len(chosen) == 3
    asked = DecorrelatedSelection(5, criterion="precision", shrink_covariance=None)
    assert len(asked.fit(panel, np.zeros(500), task="regression").chosen_) == 3


def test_precision_stops_where_another_weight_costs_more_than_it_brings():
    rng = np.random.default_rng(1)
    panel = rng.normal(size=(40, 12))[:, :, None] * np.where(np.arange(12) < 2, 1.0, 6.0)[:, None]
    chosen = DecorrelatedSelection(criterion="precision").fit(panel, np.zeros(40), task="regression").chosen_
    assert {0, 1} <= set(chosen) and len(chosen) < 7
    every = DecorrelatedSelection(12, criterion="precision").fit(panel, np.zeros(40), task="regression")
    assert len(every.chosen_) == 12


def test_costs():
    simulated = correlated_panel(1000, 4, rho=0.0, scale=np.array([1.0, 1.1, 1.2, 1.3]), seed=0)
    terms = {"task": "regression"}
    costs = [10.0, 1.0, 1.0, 10.0]
    plain = DecorrelatedSelection(2).fit(simulated.panel, simulated.y, **terms)
    assert plain.chosen_.tolist() == [0, 1]
    cheap = DecorrelatedSelection(2, costs=costs, max_cost=3.0).fit(simulated.panel, simulated.y, **terms)
    assert cheap.chosen_.tolist() == [1, 2]
    per_cost = DecorrelatedSelection(3, costs=[1, 10, 1, 10], by_cost=True)
    assert per_cost.fit(simulated.panel, simulated.y, **terms).chosen_.tolist() == [0, 2, 1]
    greedy = GreedySelection(8, costs=costs, max_cost=2.0).fit(simulated.panel, simulated.y, **terms)
    assert set(greedy.chosen_) == {1, 2}
    tenth = GreedySelection(8, costs=[0.1] * 4, max_cost=0.3).fit(simulated.panel, simulated.y, **terms)
    assert len(set(tenth.chosen_)) == 3


def test_free_weights_of_the_chosen_are_solved_again_for_those_present():
    rng = np.random.default_rng(1)
    y = rng.normal(size=800)
    covariance = np.array([[1.0, 1.2, 0.0], [1.2, 2.0, 0.0], [0.0, 0.0, 1.0]])
    panel = (y[:, None] + rng.multivariate_normal(np.zeros(3), covariance, size=800))[:, :, None]
    rule = DecorrelatedSelection(criterion="precision").fit(panel, y, task="regression")
    assert rule.weights_.min() < 0
    gaps = panel.copy()
    gaps[:300, 0] = np.nan
    gaps[300:302] = np.nan
    fused = rule.fuse(gaps)
    assert np.isnan(fused[300:302]).all() and np.isfinite(np.delete(fused, [300, 301])).all()
    np.testing.assert_allclose(fused[302:, 0], panel[302:, :, 0] @ rule.weights_, atol=1e-12)
    one = DecorrelatedSelection(1, criterion="precision").fit(panel, y, task="regression")
    alone = gaps.copy()
    alone[:, one.chosen_] = np.nan
    others = [j for j in range(3) if j not in one.chosen_]
    np.testing.assert_allclose(one.fuse(alone)[310:], panel[310:, others].mean(axis=1), atol=1e-12)


@pytest.mark.parametrize(
    "rule",
    [GreedySelection(5), DecorrelatedSelection(), DecorrelatedSelection(criterion="precision")],
)
def test_classes_that_a_specialist_cannot_name(rule):
    panel, y = make("log_loss", 2, n=200)
    panel[:, 0, 2] = np.nan
    rule = clone(rule).fit(panel, y)
    fused = rule.fuse(panel)
    assert np.isfinite(fused).all()
    if rule.weights_.min() >= 0:
        only = [j for j in np.flatnonzero(rule.weights_) if j]
        weights = rule.weights_[only] / rule.weights_[only].sum()
        np.testing.assert_allclose(fused[:, 2], panel[:, only, 2] @ weights, atol=1e-12)


def test_as_a_fusion():
    digits = load_mfeat()
    X, y = np.concatenate([digits.views[name] for name in ("mor", "zer")], axis=1)[::5], digits.y[::5]
    team = [
        ("lda", LinearDiscriminantAnalysis()),
        ("bayes", GaussianNB()),
        ("tree", DecisionTreeClassifier(random_state=0)),
    ]
    for fusion in ("greedy", "decorrelated", DecorrelatedSelection(2, criterion="precision")):
        model = RobustFusionClassifier(team, fusion=fusion, cv=3).fit(X[::2], y[::2])
        assert model.weights_.sum() == pytest.approx(1.0)
        assert model.score(X[1::2], y[1::2]) > 0.5
    simulated = difficulty_panel(200, 4, seed=0)
    audit = PanelAudit(
        fusions=["mean", GreedySelection(4), "decorrelated"], random_state=0, cv=2, n_byzantine=(0, 1)
    )
    audit.fit(simulated.answers, simulated.y)
    assert {"greedy", "decorrelated"} <= set(audit.leaderboard_.index)


@pytest.mark.slow
@pytest.mark.parametrize("loss", LOSSES)
def test_who_never_answered_is_never_chosen(loss):
    panel, y = make(loss, 3)
    panel[:, 2] = np.nan  # to choose it would be to choose everybody
    rule = GreedySelection(6, loss=loss).fit(panel, y, task=task_of(loss))
    assert 2 not in rule.chosen_
    others = GreedySelection(6, loss=loss).fit(panel[:, [0, 1, 3]], y, task=task_of(loss))
    np.testing.assert_array_equal(rule.weights_[[0, 1, 3]], others.weights_)
    weight = np.r_[np.zeros(5), np.ones(35)]
    panel[:5, 2] = panel[:5, 1]
    assert (
        2 not in GreedySelection(6, loss=loss).fit(panel, y, task=task_of(loss), sample_weight=weight).chosen_
    )
    with pytest.raises(
        PanelError, match="max_cost=1 pays for nobody who answered a sample of positive weight"
    ):
        GreedySelection(loss=loss, costs=[2, 2, 1, 2], max_cost=1).fit(
            panel, y, task=task_of(loss), sample_weight=weight
        )


def test_certainty_costs_nothing():
    y = np.arange(40) % 3
    panel = np.repeat(np.eye(3)[y][:, None], 3, axis=1)
    rule = GreedySelection(7, loss="log_loss").fit(panel, y)
    assert rule.losses_.tolist() == [0.0] * 7 and rule.chosen_.tolist() == [0]


def test_probabilities_below_zero_count_as_the_floor_on_every_path():
    rng = np.random.default_rng(0)
    panel, y = rng.dirichlet(np.ones(3), size=(64, 4)), rng.integers(3, size=64)
    panel[3, :, y[3]] = [0.05, -0.4, 0.05, 0.05]  # two of them in one block of factors would be no sign
    panel[7, :, y[7]] = [0.05, -0.4, 0.05, 0.05]
    even = GreedySelection(6, loss="log_loss").fit(panel, y)
    uneven = GreedySelection(6, loss="log_loss").fit(
        panel, y, sample_weight=1.0 + 1e-9 * (np.arange(64) == 0)
    )
    np.testing.assert_allclose(even.losses_, uneven.losses_, rtol=1e-6)
    np.testing.assert_array_equal(even.weights_, uneven.weights_)
    assert even.weights_[1] == 0.0


@pytest.mark.parametrize(
    "rule", [GreedySelection(3), DecorrelatedSelection(), DecorrelatedSelection(criterion="precision")]
)
def test_panels_of_others_are_refused(rule):
    panel, y = make("brier", 0)
    rule.fit(panel, y)
    for other in (panel[:, :3], np.concatenate([panel, panel], axis=1), panel[:, 0]):
        with pytest.raises(PanelError, match=r"panel needs \(4, 3\) \(specialist, output\) as in fit"):
            rule.fuse(other)
    with pytest.raises(PanelError, match="infinite answers"):
        rule.fuse(np.where(panel > 0.5, np.inf, panel))


@pytest.mark.parametrize(
    ("name", "least"), [("mmlupro", 0.706), ("cruxeval", 0.965), ("mathl5", 0.9), ("gsm8k", 0.965)]
)
def test_language_models(name, least):
    panel = load_llm_panel(name)
    votes = panel.votes.copy()
    votes[panel.answers < 0] = np.nan
    right = []
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(len(votes))
        train, test = order[: len(order) // 2], order[len(order) // 2 :]
        fused = GreedySelection(25).fit(votes[train], panel.gold[train]).fuse(votes[test])
        right.append(float((np.nan_to_num(fused, nan=-1).argmax(axis=1) == panel.gold[test]).mean()))
    assert np.mean(right) > least


def test_refusals():
    for shape, what in (((0, 3, 2), "sample"), ((5, 0, 2), "specialist"), ((5, 3, 0), "output")):
        with pytest.raises(
            PanelError, match=rf"there is no {what} to learn from; got a panel of shape \({shape[0]}, "
        ):
            GreedySelection().fit(np.zeros(shape), np.zeros(shape[0], dtype=int))
    for costs in (["a"] * 4, [1, 2], [0, 1, 1, 1], [np.nan, 1, 1, 1]):
        with pytest.raises(PanelError, match="costs must be one finite number > 0 per specialist"):
            GreedySelection(costs=costs).fit(*make("brier", 0))
    with pytest.raises(PanelError, match="max_cost=x pays for nobody"):
        GreedySelection(costs=[1] * 4, max_cost="x").fit(*make("brier", 0))
    panel, y = make("log_loss", 0)
    for size in (0, 2.0, True):
        with pytest.raises(PanelError, match="size must be a whole number >= 1"):
            GreedySelection(size).fit(panel, y)
    with pytest.raises(PanelError, match="loss must be 'auto' or one of log_loss, brier, error"):
        GreedySelection(loss="mse").fit(panel, y)
    with pytest.raises(PanelError, match="criterion must be"):
        DecorrelatedSelection(criterion="rho").fit(panel, y)
    with pytest.raises(PanelError, match="by_cost=True divides gains by costs"):
        DecorrelatedSelection(by_cost=True).fit(panel, y)
    for rule in (GreedySelection, DecorrelatedSelection):
        with pytest.raises(PanelError, match=r"one finite number > 0 per specialist \(4\)"):
            rule(costs=[1.0, 1.0]).fit(panel, y)
        with pytest.raises(PanelError, match="give costs=, one per specialist"):
            rule(max_cost=1.0).fit(panel, y)
        with pytest.raises(PanelError, match="pays for nobody: the cheapest specialist costs 2"):
            rule(costs=[2.0] * 4, max_cost=1.0).fit(panel, y)
    with pytest.raises(PanelError, match="nobody to choose"):
        GreedySelection().fit(np.full((5, 2, 2), np.nan), [0, 1, 0, 1, 0])
    before = panel.copy()
    panel.setflags(write=False)
    GreedySelection().fit(panel, y).fuse(panel)
    np.testing.assert_array_equal(panel, before)
