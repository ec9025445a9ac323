"""What a report says is what was done: no row tells how it ends, records name their samples, nothing is ignored."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.naive_bayes import GaussianNB
from sklearn.tree import DecisionTreeClassifier

from estimators import Critic, DeliberativeClassifier, DeliberativeRegressor, Escalation
from estimators.deliberation_escalation import Door
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
