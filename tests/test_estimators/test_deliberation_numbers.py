"""Deliberation about numbers: escalation, budgets, decisions and records; what a killed run leaves behind."""

import pickle
import time

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.tree import DecisionTreeRegressor

from estimators import Critic, DeliberativeClassifier, DeliberativeRegressor, Escalation, Specialist
from fusion.deliberative import Budget, decide_action, decide_number, read_transcript, verify_transcript
from theory import BudgetError, FaultWarning, PanelError


def broken_sensors(n=1200, seed=0):
    """Two views split the signal; in one region the first sensor breaks, and only who sees the other knows."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 6))
    y = 2 * X[:, 0] + X[:, 1] - X[:, 2] + np.sin(2 * X[:, 3]) + 0.3 * rng.normal(size=n)
    X[:, 0] = np.where(X[:, 4] > 0.5, rng.normal(size=n), X[:, 0])
    return X, y


def team():
    return [
        ("left", Specialist(Ridge(), view=[0, 1])),
        ("tree", Specialist(DecisionTreeRegressor(max_depth=4, random_state=0), view=[0, 2])),
        ("right", Specialist(Ridge(), view=[2, 3])),
    ]


def two_stages(**rule):
    return Escalation([["left", "tree"], ["right"]], **rule)


@pytest.fixture(scope="module")
def fitted():
    X, y = broken_sensors()
    rule = two_stages(rule="expected_gain", rate=0.4)
    return (
        DeliberativeRegressor(team(), escalation=rule, random_state=0).fit(X[:800], y[:800]),
        X[800:],
        y[800:],
    )


@pytest.mark.parametrize(
    "rule",
    [
        {"rule": "disagreement"},
        {"rule": "disagreement", "threshold": 0.4},
        {"rule": "disagreement", "rate": 0.3},
        {"rule": "confidence", "rate": 0.3},
        {"rule": "confidence", "threshold": 1.5},
        {"rule": "expected_gain", "rate": 0.3},
        {"rule": "expected_gain", "threshold": 0.5},
        {"rule": lambda panel, verdict: verdict[:, 1] > 1.6},
    ],
    ids=["spread", "half spread", "spread rate", "error rate", "error", "gain rate", "gain", "callable"],
)
def test_escalation_asks_only_whom_it_must(rule):
    X, y = broken_sensors(900)
    critic = DecisionTreeRegressor(max_depth=4, min_samples_leaf=20)
    reg = DeliberativeRegressor(team(), escalation=two_stages(**rule), critic=critic, random_state=0)
    reg.fit(X[:500], y[:500])
    told = reg.deliberate(X[500:])
    asked = told.dataset.asked.values
    assert asked[:, :2].all()
    assert np.array_equal(asked[:, 2], told.dataset.stage.values == 1)
    assert told.ledger["calls"] == asked.sum()
    before = reg.courts_[0].hear(told.dataset.proposal.values[:, 0, [0, 1], 0], X[500:])
    stays = told.dataset.stage.values == 0
    # Columns are in the order of names: left, right, tree; the first stage has the first and the last.
    assert np.allclose(told.value[stays], before.value[stays])
    if "rate" in rule:
        assert abs(asked[:, 2].mean() - rule["rate"]) < 0.12
    if rule.get("rule") == "disagreement" and "rate" not in rule:
        spread = told.dataset.proposal.values[:, 0, :2, 0].std(axis=1)
        noise = np.sqrt(reg.report_["escalation"]["first"])
        assert np.array_equal(spread > rule.get("threshold", 1.0) * noise, asked[:, 2])


def test_the_expected_gain_beats_chance_at_equal_calls(fitted):
    reg, X, y = fitted
    told = reg.report_["escalation"]
    assert told["all"] < told["cascade"] + 0.15
    assert told["cascade"] < told["random"] - 0.15
    assert told["calls_per_sample"] == pytest.approx(2.4, abs=0.01)
    seen = reg.deliberate(X)
    assert np.mean((seen.value - y) ** 2) < told["random"] - 0.1  # on fresh rows too


def test_between_numbers_a_learned_doubt_finds_more_than_their_spread():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(1500, 4))
    odd = np.where(X[:, 3] > 0.6, 3 * np.sin(3 * X[:, 0]) + 2 * np.sign(X[:, 1]), 0)
    y = X[:, 0] + 0.5 * X[:, 1] + odd + 0.3 * rng.normal(size=1500)
    members = [
        ("line", Ridge()),
        ("tree", DecisionTreeRegressor(max_depth=6, min_samples_leaf=8, random_state=0)),
        ("boost", HistGradientBoostingRegressor(max_iter=80, random_state=0)),
    ]
    left = {}
    critic = HistGradientBoostingRegressor(max_iter=50, max_leaf_nodes=12)
    for rule in ("disagreement", "confidence", "expected_gain"):
        stages = Escalation([["line", "tree"], ["boost"]], rule=rule, rate=0.25)
        reg = DeliberativeRegressor(
            members, critic=critic, escalation=stages, cv=3, critic_cv=2, random_state=0
        )
        reg.fit(X, y)
        told = reg.report_["escalation"]
        assert told["calls_per_sample"] == pytest.approx(2.25, abs=0.01)
        left[rule] = told["cascade"] - told["random"]
    assert left["expected_gain"] < left["disagreement"] - 0.04
    assert left["confidence"] < left["disagreement"] - 0.04
    assert left["disagreement"] < 0.0


def test_intervals_and_risks_hold_for_the_whole_cascade(fitted):
    reg, X, y = fitted
    told = reg.deliberate(X, coverage=0.8, error=2.0, defer=3.0)
    low, high = told.interval.T
    assert abs(((low <= y) & (y <= high)).mean() - 0.8) < 0.06
    assert np.allclose(reg.predict_interval(X, coverage=0.8), told.interval)
    assert np.array_equal(reg.predict(X), told.value)
    assert 0.75 < np.mean((y - told.value) ** 2 / told.sd**2) < 1.3
    assert np.array_equal(told.decision.action == "defer", 2.0 * told.sd**2 > 3.0)
    assert np.allclose(told.decision.cost, np.minimum(2.0 * told.sd**2, 3.0))
    kept = told.decision.action == "accept"
    error = (y - told.value) ** 2
    assert error[kept].mean() < error[~kept].mean()
    alone = reg.decide(X, error=2.0, defer=3.0)
    assert np.array_equal(alone.action, told.decision.action)


def test_budgets_hold(fitted):
    reg, X, _ = fitted
    tight = pickle.loads(pickle.dumps(reg)).set_params(budget=Budget(calls=850))
    told = tight.deliberate(X)
    assert 840 < told.ledger["calls"] <= 850
    assert told.ledger["stopped_by"] == "calls"
    assert (told.decision.action == "escalate").any()
    assert (told.decision.stage[told.decision.action == "escalate"] == 1).all()
    with pytest.raises(BudgetError, match="400 samples x 2 specialists of the first stage need 800 calls"):
        reg_small = pickle.loads(pickle.dumps(reg)).set_params(budget=Budget(calls=799))
        reg_small.predict(X)
    late = pickle.loads(pickle.dumps(reg)).set_params(budget=Budget(seconds=0.0)).deliberate(X)
    assert late.ledger["stopped_by"] == "seconds"
    assert late.ledger["calls"] == 800
    with pytest.raises(BudgetError, match="report no tokens"):
        DeliberativeRegressor(team(), budget=Budget(tokens=5)).fit(*broken_sensors(100))


def test_time_that_runs_out_ends_a_stage_in_its_midst():
    X, y = broken_sensors(400)

    class Slow(Ridge):
        def predict(self, X):
            time.sleep(0.004 * len(X))
            return super().predict(X)

    members = [("quick", Ridge()), ("slow", Specialist(Slow(), freeze=True))]
    members[1][1].model = Slow().fit(X, y)
    rule = Escalation([["quick"], ["slow"]], rule=lambda panel, verdict: np.ones(len(verdict), dtype=bool))
    critic = DecisionTreeRegressor(max_depth=2)
    reg = DeliberativeRegressor(members, escalation=rule, critic=critic, random_state=0).fit(X[:100], y[:100])
    reg.set_params(budget=Budget(seconds=0.6))
    told = reg.deliberate(X)  # the slow one would take 1.6 seconds
    assert told.ledger["stopped_by"] == "seconds"
    assert 0 < told.ledger["by_specialist"]["slow"] < 400
    assert told.ledger["seconds"] < 0.9
    undone = told.decision.action == "escalate"
    assert undone.sum() == 400 - told.ledger["by_specialist"]["slow"]
    assert np.array_equal(undone, ~told.dataset.asked.values[:, 1])
    assert verify_transcript(told.transcript)


def test_the_record_can_be_checked_and_replayed(fitted, tmp_path):
    reg, X, _ = fitted
    told = reg.deliberate(X, path=tmp_path / "run.jsonl")
    assert verify_transcript(tmp_path / "run.jsonl", head=told.transcript.head)
    again = reg.deliberate(X, nonces=told.transcript)
    assert again.transcript.head == told.transcript.head
    actions = [(r["round"], r["action"]) for r in told.transcript.records]
    first = ["commit"] * 2 + ["reveal"] * 2 + ["critique"] * 3
    second = ["commit", "reveal"] + ["critique"] * 3
    assert actions == [(0, a) for a in first] + [(1, a) for a in second] + [(1, "adjudicate")]
    data = told.dataset
    assert data.sizes["sample"] == 400
    assert data.proposal.dims == ("sample", "round", "specialist", "output")
    assert np.array_equal(np.isnan(data.proposal.values[:, 0, :, 0]), ~data.asked.values)
    assert np.array_equal(np.isnan(data.critique.values[:, 0]), ~data.asked.values)
    with pytest.raises(PanelError, match="a transcript is never continued"):
        reg.deliberate(X, path=tmp_path / "run.jsonl")


def test_a_killed_run_leaves_a_prefix_that_verifies(tmp_path):
    X, y = broken_sensors(400)
    y = (y > 0).astype(int)
    members = [("line", LogisticRegression()), ("bayes", GaussianNB())]
    clf = DeliberativeClassifier(members, critics=[("left", Critic(view=[4]))], random_state=0).fit(
        X[:300], y[:300]
    )

    class KilledError(RuntimeError):
        pass

    def kill(*args, **kwargs):
        raise KilledError

    clf.hearings_[0].critics_[0].scores = kill
    with pytest.raises(KilledError):
        clf.deliberate(X[300:], path=tmp_path / "cut.jsonl")
    assert verify_transcript(tmp_path / "cut.jsonl")
    left = read_transcript(tmp_path / "cut.jsonl")
    # Both had committed, and were revealed, before a critic looked.
    assert [r["action"] for r in left.records] == ["commit", "commit", "reveal", "reveal"]


def test_order_of_specialists_changes_nothing_and_searches_work():
    X, y = broken_sensors(400)
    params = {"escalation": two_stages(), "random_state": 0, "critic": DecisionTreeRegressor(max_depth=3)}
    one = DeliberativeRegressor(team(), **params).fit(X, y)
    two = DeliberativeRegressor(team()[::-1], **params).fit(X, y)
    assert np.allclose(one.predict(X), two.predict(X), atol=1e-8)
    assert one.report_["best_single"] == two.report_["best_single"]
    again = clone(one).fit(X, y)
    assert np.array_equal(again.predict(X), one.predict(X))
    search = GridSearchCV(one, {"escalation__rule": ["disagreement"], "clip": [True, False]}, cv=2).fit(X, y)
    assert len(search.cv_results_["params"]) == 2


def test_numbers_that_mean_nothing_are_not_learned():
    X, y = broken_sensors(900)
    shuffled = np.random.default_rng(3).permutation(y)
    reg = DeliberativeRegressor(team(), random_state=0).fit(X, shuffled)
    assert reg.report_["rmse"]["judge"] == pytest.approx(shuffled.std(), rel=0.03)
    gain = reg.report_["gain_over_stack"]
    assert gain["value"] < 3 * gain["standard_error"]


@pytest.mark.filterwarnings("ignore:specialist 'one':theory.FaultWarning")
def test_who_is_silent_is_deferred_with_the_mean():
    X, y = broken_sensors(300)

    class Mute(Ridge):
        def predict(self, X):
            said = super().predict(X)
            return np.where(np.abs(np.asarray(X)[:, 0]) > 50, np.nan, said)

    reg = DeliberativeRegressor([("one", Specialist(Mute(), on_error="abstain"))], random_state=0).fit(X, y)
    other = X[:20].copy()
    other[:5, 0] = 99.0
    with pytest.warns(FaultWarning, match="nobody answered 5 of 20 samples"):
        told = reg.deliberate(other)
    assert np.allclose(told.value[:5], y.mean())
    assert (told.decision.action[:5] == "defer").all()


def test_too_few_rows_give_the_mean_of_who_answers():
    X, y = broken_sensors(40)
    reg = DeliberativeRegressor(team(), cv="none", random_state=0, escalation=two_stages())
    reg.fit(X, y)
    assert reg.courts_ == [None, None]
    said = np.stack([member.predict(X) for member in reg._members], axis=1)
    assert np.allclose(reg.predict(X), said.mean(axis=1))
    assert np.isinf(reg.predict_interval(X)).all()


def test_numbers_are_decided_like_options():
    risk = np.array([0.1, 0.5, 0.5, 0.9])
    made = decide_number(np.arange(4.0), risk, error=2.0, defer=1.5, gain=[0.0, 0.3, 0.1, 0.2], price=0.4)
    assert made.action.tolist() == ["accept", "escalate", "accept", "defer"]
    assert made.cost.tolist() == pytest.approx([0.2, 0.8, 1.0, 1.5])
    assert made.proba.tolist() == [[0.0], [1.0], [2.0], [3.0]]
    options = decide_action(np.column_stack([1 - risk, risk * 0.0]), error=2.0, defer=1.5)
    assert options.action.tolist() == decide_number(risk, risk, error=2.0, defer=1.5).action.tolist()
    with pytest.raises(PanelError, match="must be finite and of one shape"):
        decide_number([1.0], [-0.1])
    with pytest.raises(PanelError, match=r"needs the shape \(1,\) \+ \(stage,\)"):
        decide_number([1.0], [0.1], gain=[[0.1], [0.2]], price=1.0)
