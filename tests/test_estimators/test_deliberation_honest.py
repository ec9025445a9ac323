"""What a report says is what was done: no row tells how it ends, records name their samples, nothing is ignored."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.naive_bayes import GaussianNB
from sklearn.tree import DecisionTreeClassifier

from estimators import (
    Adjudicator,
    Critic,
    DeliberativeClassifier,
    DeliberativeRegressor,
    Escalation,
    Specialist,
    Views,
)
from estimators.deliberation_escalation import Door
from estimators.deliberation_memory import Memory
from estimators.deliberation_report import judge_report
from estimators.hearing import Hearing
from estimators.revising import _correlation
from fusion.deliberative import Budget, Revision, protocol, regime, render_text
from theory import BudgetError, PanelError

pytestmark = pytest.mark.filterwarnings("ignore:the temperature:theory.FaultWarning")


def team():
    return [
        ("line", LogisticRegression(max_iter=200)),
        ("tree", DecisionTreeClassifier(max_depth=4, random_state=0)),
        ("bayes", GaussianNB()),
    ]


def task(n=400, seed=0, k=3):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, k, n)
    return rng.normal(size=(n, 5)) + 0.8 * (y[:, None] == np.arange(5)), y


def test_a_cascade_on_labels_that_mean_nothing_is_no_better_than_lot():
    gains = []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        X, y = rng.normal(size=(500, 5)), rng.integers(0, 2, 500)
        stages = Escalation([["line"], ["tree", "bayes"]], rule="expected_gain", rate=0.3)
        clf = DeliberativeClassifier(team(), escalation=stages, cv=3, random_state=seed)
        told = clf.fit(X, y).report_["escalation"]
        assert told["rate"] <= 0.3
        gains.append(told["random"] - told["cascade"])
    # learned and told on the same rows, the mean was .06
    assert abs(np.mean(gains)) < 0.02


def test_a_rate_is_a_share_of_those_who_came():
    X, y = task(600)
    stages = Escalation([["line"], ["tree"], ["bayes"]], rule="confidence", rate=0.5)
    clf = DeliberativeClassifier(team(), escalation=stages, random_state=0).fit(X, y)
    told = clf.report_["escalation"]
    assert told["rate"] == pytest.approx(0.5, abs=0.01)
    assert told["calls_per_sample"] == pytest.approx(1 + 0.5 + 0.25, abs=0.01)


@pytest.mark.parametrize(("rate", "calls"), [(0.0, 1.0), (1.0, 3.0)])
@pytest.mark.parametrize("rule", ["confidence", "expected_gain"])
def test_the_ends_of_a_rate_are_nobody_and_everybody(rule, rate, calls):
    X, y = task(300)
    stages = Escalation([["line"], ["tree", "bayes"]], rule=rule, rate=rate)
    clf = DeliberativeClassifier(team(), escalation=stages, cv=2, critic_cv=2, random_state=0).fit(X, y)
    assert clf.report_["escalation"]["calls_per_sample"] == calls
    assert clf.deliberate(task(100, 1)[0]).report["calls_per_sample"] == calls


def test_samples_without_weight_set_no_threshold():
    rng = np.random.default_rng(0)
    verdict = rng.dirichlet(np.ones(3), 400)
    weight = (verdict[:, 0] > 0.3).astype(float)
    every = np.ones(400, dtype=bool)
    rule = Escalation([["a"], ["b"]], rule="confidence", rate=0.25)
    door = Door(rule, 0, seed=0)
    door.fit(None, verdict, verdict, None, splits=[], came=every, sample_weight=weight)
    assert np.average(door.passed_, weights=weight) == pytest.approx(0.25, abs=0.01)
    assert abs(door.passed_.mean() - 0.25) > 0.02


def test_the_reader_shows_a_later_stage_to_those_who_reached_it():
    X, y = task(500)
    stages = Escalation([["line"], ["tree", "bayes"]], rule="confidence", threshold=0.7)
    critics = [("left", Critic(DecisionTreeClassifier(max_depth=2), view=[0]))]
    clf = DeliberativeClassifier(team(), critics=critics, escalation=stages, random_state=0)
    told = clf.fit(X[:300], y[:300]).deliberate(X[300:])
    reached = told.dataset.stage.values
    for item in (*np.flatnonzero(reached == 1)[[0, 3, -1]], *np.flatnonzero(reached == 0)[[0, 3]]):
        text = render_text(told.transcript, int(item))
        assert ("tree (proposer), reveal" in text) == (reached[item] == 1)
        assert "samples:" not in text
        assert text.count("left (critic), critique") == 1 + reached[item]
        if reached[item]:
            said = told.dataset.proposal.values[item, 0, 1]
            shown = text.split("tree (proposer)")[1].split("[")[1].split("]")[0]
            assert np.allclose([float(p) for p in shown.split(",")], said, rtol=1e-3)


@pytest.mark.parametrize(
    ("params", "text"),
    [
        (
            {"escalation": Escalation([["line"], ["tree", "bayes"]], rate=0.3)},
            "rule='disagreement' has no threshold or rate",
        ),
        (
            {"escalation": Escalation([["line"], ["tree", "bayes"]], price=2.0)},
            r"price=2.0 would not count: only rule='expected_gain'",
        ),
        (
            {
                "escalation": Escalation(
                    [["line"], ["tree", "bayes"]], rule=lambda panel, verdict: verdict, rate=0.1
                )
            },
            "a callable rule decides by itself",
        ),
        (
            {"protocol": regime("coordination"), "escalation": Escalation([["line"], ["tree", "bayes"]])},
            "stops by price: give escalation=.*rule='expected_gain'",
        ),
        (
            {"protocol": replace(protocol("critique_revise"), rounds=0), "revision": Revision()},
            "has no round in which anybody could revise",
        ),
    ],
)
def test_what_would_be_ignored_is_refused(params, text):
    X, y = task(210)
    with pytest.raises(PanelError, match=text):
        DeliberativeClassifier(team(), **params).fit(X, y)


def test_numbers_take_a_threshold_or_a_rate():
    class Costly(Ridge):
        def fit(self, X, y):
            raise AssertionError("nobody is fitted before the stages are read")

    X, y = task(210)
    stages = Escalation([["line"], ["other"]], threshold=0.5, rate=0.3)
    with pytest.raises(PanelError, match="takes a threshold or a rate, not both"):
        DeliberativeRegressor([("line", Costly()), ("other", Costly())], escalation=stages).fit(X, y * 1.0)


def test_what_is_refused_begins_no_file_and_keeps_no_data(tmp_path):
    X, y = task(300)
    clf = DeliberativeClassifier(team(), random_state=0).fit(X[:210], y[:210])
    clf.set_params(budget=Budget(calls=10))
    with pytest.raises(BudgetError, match="90 samples x 3 specialists of the first stage need 270 calls"):
        clf.deliberate(X[210:], path=tmp_path / "run.jsonl")
    clf.set_params(budget=Budget(calls=270))
    assert clf.deliberate(X[210:], path=tmp_path / "run.jsonl").ledger["calls"] == 270
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        clf.fit(X, y[:-1])
    assert not hasattr(clf, "_input")


def test_samples_without_weight_widen_no_interval():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(600, 3))
    y = X[:, 0] + 0.3 * rng.normal(size=600)
    weight = (rng.random(600) < 0.5).astype(float)
    y[weight == 0] = 50 * rng.normal(size=int((weight == 0).sum()))
    members = [("line", Ridge()), ("other", Ridge(100.0))]
    reg = DeliberativeRegressor(members, random_state=0).fit(X, y, sample_weight=weight)
    assert reg.report_["n"] == weight.sum()
    fresh = rng.normal(size=(1000, 3))
    truth = fresh[:, 0] + 0.3 * rng.normal(size=1000)
    low, high = reg.predict_interval(fresh, coverage=0.9).T
    assert abs(((low <= truth) & (truth <= high)).mean() - 0.9) < 0.04
    # weights are counts, as in RobustFusionRegressor
    double = np.where(X[:, 1] > 0, 1.0, 3.0) * weight
    wide = DeliberativeRegressor(members, random_state=0).fit(X, y, sample_weight=double)
    scores, counts = wide._scores
    width = np.quantile(np.repeat(scores, counts.astype(int)), 0.9, method="inverted_cdf")
    low, high = wide.predict_interval(X, coverage=0.9).T
    sd = wide.deliberate(X).sd
    assert np.allclose((high - low) / (2 * sd), width, rtol=0.05)


def test_a_revision_is_weighed_by_the_weights_of_the_samples(monkeypatch):
    wrong = (np.random.default_rng(1).random((50, 3)) < 0.4) * 1.0
    counts = np.arange(50) % 3
    assert np.allclose(_correlation(wrong, counts), np.corrcoef(np.repeat(wrong, counts, axis=0).T))
    made = []

    class Kept(Hearing):
        def fit(self, *args, **params):
            made.append(self)
            return super().fit(*args, **params)

    monkeypatch.setattr("estimators.revising.Hearing", Kept)
    X, y = task(300)
    weight = np.arange(300) % 2 + 0.01
    clf = DeliberativeClassifier(team(), revision=Revision(), random_state=0).fit(X, y, sample_weight=weight)
    rows, truth = np.arange(300), clf._memory.y
    saved = np.log(made[0].verdict_[rows, truth] / clf.hearings_[-1].verdict_[rows, truth])
    told = clf.report_["revision"]
    assert not told["used"]
    share = weight / weight.sum()
    assert told["log_loss_gain"] == pytest.approx(share @ saved, rel=1e-6)
    assert told["standard_error"] == pytest.approx(np.sqrt(share**2 @ (saved - share @ saved) ** 2), rel=1e-6)


def test_the_gain_over_stacking_counts_what_a_revision_adds():
    rng = np.random.default_rng(0)
    y, valid = rng.integers(0, 3, 300), np.ones((300, 3), dtype=bool)
    panel = rng.dirichlet(np.ones(3), (300, 2))
    folds = [
        (np.arange(300)[np.arange(300) % 3 != f], np.arange(300)[np.arange(300) % 3 == f]) for f in range(3)
    ]
    memory = Memory(panel, y, valid, [], folds, None)
    extra = (y[:, None] == np.arange(3))[:, :, None] + rng.normal(size=(300, 3, 1))
    gains = []
    for column in (None, extra):
        hearing = Hearing([], Adjudicator(), seed=0)
        hearing.fit(panel, y, valid=valid, views=[], splits=folds, extra=column)
        told, _ = judge_report(memory, hearing, ["a", "b"], [], Adjudicator(), 0)
        gains.append(told["gain_over_stack"]["value"])
    assert gains[0] == 0.0
    assert gains[1] > 0.1


def test_no_certificate_where_who_lies_chooses_the_judge():
    X, y = task(300)
    stages = Escalation([["line"], ["tree", "bayes"]])
    assert DeliberativeClassifier(team(), random_state=0).fit(X, y).influence_bound(1) < 1.0 - 1e-12
    clf = DeliberativeClassifier(team(), escalation=stages, random_state=0).fit(X, y)
    assert clf.influence_bound(1) == 1.0
    assert clf.influence_bound(0) == 0.0


@pytest.mark.parametrize(("folds", "fits"), [(3, 3 + 1 + 3), (4, 4 + 1 + 6)])
def test_a_critic_that_two_judges_need_is_fitted_once(monkeypatch, folds, fits):
    X, y = task(300)
    told, fit = [], Critic.fit

    def counted(self, *args, **params):
        told.append(self)
        return fit(self, *args, **params)

    monkeypatch.setattr(Critic, "fit", counted)
    critics = [("left", Critic(DecisionTreeClassifier(max_depth=2), view=[0]))]
    DeliberativeClassifier(team(), critics=critics, critic_cv=folds, random_state=0).fit(X, y)
    assert len(told) == fits


def two_halves(n=800, seed=0, gone=0.0):
    """Each of two views holds a half of the signal; the second may be missing."""
    rng = np.random.default_rng(seed)
    one, two = rng.normal(size=(n, 2)), rng.normal(size=(n, 3))
    y = one[:, 0] + two[:, 0] + 0.2 * rng.normal(size=n)
    two[rng.random(n) < gone] = np.nan
    return Views({"one": one, "two": two}), y


def halves_team():
    return [("one", Specialist(Ridge(), view="one")), ("two", Specialist(Ridge(), view="two"))]


def test_who_is_absent_is_not_counted_as_who_agrees():
    reg = DeliberativeRegressor(halves_team(), random_state=0).fit(*two_halves())
    X, y = two_halves(seed=1, gone=1.0)
    told = reg.deliberate(X, coverage=0.9)
    assert np.sqrt(np.mean((told.value - y) ** 2)) < 1.1  # 1.42 where the judge counts the other twice
    low, high = told.interval.T
    assert abs(((low <= y) & (y <= high)).mean() - 0.9) < 0.05
    assert 0.8 < np.mean((y - told.value) ** 2 / told.sd**2) < 1.25
    assert np.allclose(told.dataset.critique.values[:, 0, 0], told.sd, rtol=0.05)
    whole, truth = two_halves(seed=2)
    assert np.sqrt(np.mean((reg.predict(whole) - truth) ** 2)) < 0.35
    # where absence was seen in training, nothing is worse than the pool of who is there
    some = DeliberativeRegressor(halves_team(), random_state=0).fit(*two_halves(gone=0.3))
    assert np.sqrt(np.mean((some.predict(X) - y) ** 2)) < 1.1


def test_a_critic_sees_all_views_by_default():
    X, y = two_halves()
    reg = DeliberativeRegressor(halves_team(), random_state=0).fit(X, y)
    assert reg._looker.look(X, reset=False).shape == (800, 5)
    members = [
        ("one", Specialist(LogisticRegression(), view="one")),
        ("two", Specialist(LogisticRegression(), view="two")),
    ]
    floor = DeliberativeClassifier(members, protocol="naive", random_state=0).fit(X, (y > 0).astype(int))
    assert floor.report_["accuracy"]["value"] > 0.9
    part, _ = two_halves(seed=1, gone=0.5)
    seen = reg._looker.look(part, reset=False)
    assert 0.4 < np.isnan(seen[:, 2:]).all(axis=1).mean() < 0.6
    assert not np.isnan(seen[:, :2]).any()
