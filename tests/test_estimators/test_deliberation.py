"""Deliberating estimators: scikit-learn's contract, no leaks, no order effects, edge cases that say what to do."""

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.datasets import load_iris, make_classification, make_regression
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
from sklearn.utils.estimator_checks import check_estimator, check_param_validation

from estimators import (
    Adjudicator,
    Critic,
    DeliberativeClassifier,
    DeliberativeRegressor,
    Escalation,
    PrecomputedSpecialist,
    Specialist,
)
from fusion.deliberative import Revision
from fusion.deliberative.budget import Budget
from fusion.deliberative.verification import verify_transcript
from theory import BudgetError, FaultWarning, PanelError

# A judge calibrated on fewer than 200 samples says so; most tests here are that small.
pytestmark = pytest.mark.filterwarnings("ignore:the temperature:theory.FaultWarning")


def classifiers():
    return [
        ("line", LogisticRegression(max_iter=200)),
        ("tree", DecisionTreeClassifier(max_depth=3, random_state=0)),
        ("bayes", GaussianNB()),
    ]


def regressors():
    return [
        ("line", Ridge()),
        ("tree", DecisionTreeRegressor(max_depth=4, random_state=0)),
        ("flat", Ridge(10.0)),
    ]


def task(n=300, seed=0):
    X, y = make_classification(n, 8, n_informative=5, n_classes=3, flip_y=0.2, random_state=seed)
    return X, y


@pytest.mark.filterwarnings("ignore::theory.FaultWarning")
def test_every_check_of_scikit_learn_passes():
    # GaussianNB itself warns of a class whose weights are all 0.
    team = [*classifiers()[:2], ("flat", LogisticRegression(C=0.1, max_iter=200))]
    results = check_estimator(DeliberativeClassifier(team), on_skip=None, on_fail=None)
    assert {r["check_name"]: r["exception"] for r in results if r["status"] == "failed"} == {}
    assert sum(r["status"] == "passed" for r in results) == 63
    reason = "folds of critics and judge differ between repeated rows and weights"
    expected = {
        "check_sample_weight_equivalence_on_dense_data": reason,
        "check_sample_weight_equivalence_on_sparse_data": reason,
    }
    results = check_estimator(
        DeliberativeRegressor(regressors()), on_skip=None, on_fail=None, expected_failed_checks=expected
    )
    assert {r["check_name"]: r["exception"] for r in results if r["status"] == "failed"} == {}
    assert sum(r["status"] == "passed" for r in results) == 58
    for estimator in (DeliberativeClassifier(classifiers()), DeliberativeRegressor(regressors())):
        check_param_validation(type(estimator).__name__, estimator)


def test_clone_pickle_and_grid_search():
    X, y = load_iris(return_X_y=True)
    clf = DeliberativeClassifier(classifiers(), critics=[("all", Critic(view=slice(None)))], random_state=0)
    fitted = clf.fit(X, y)
    expected = fitted.predict_proba(X)
    assert np.array_equal(pickle.loads(pickle.dumps(fitted)).predict_proba(X), expected)
    assert np.array_equal(clone(fitted).fit(X, y).predict_proba(X), expected)
    search = GridSearchCV(
        DeliberativeClassifier(classifiers(), random_state=0, adjudicator=Adjudicator()),
        {"tree__max_depth": [1, 3], "adjudicator__calibration": ["temperature", None]},
        cv=2,
    ).fit(X, y)
    assert len(search.cv_results_["params"]) == 4


def test_labels_that_mean_nothing_are_not_learned():
    X, y = task(1500)
    shuffled = np.random.default_rng(5).permutation(y)
    clf = DeliberativeClassifier(
        classifiers(), critics=[("all", Critic(view=slice(None)))], random_state=0
    ).fit(X, shuffled)
    chance = np.bincount(shuffled).max() / len(y)
    told = clf.report_["accuracy"]
    assert abs(told["value"] - 1 / 3) < 3 * told["standard_error"] + (chance - 1 / 3)
    gain = clf.report_["critic_gain"]
    assert gain["value"] < 3 * gain["standard_error"]
    assert clf.report_["log_loss"]["value"] < np.log(3) + 0.03  # it knows that it knows nothing


def test_no_row_judges_itself():
    X, y = task()
    clf = DeliberativeClassifier(classifiers(), critics=[("all", Critic(view=slice(None)))], random_state=0)
    hearing = clf.fit(X, y).hearings_[-1]
    for fits in hearing.rows_.values():
        assert sorted(np.concatenate([test for _, test in fits]).tolist()) == list(range(len(y)))
        assert not any(set(train) & set(test) for train, test in fits)
    groups = np.arange(len(y)) // 3
    clf = DeliberativeClassifier(classifiers(), random_state=0).fit(X, y, groups=groups)
    assert not any(set(groups[a]) & set(groups[b]) for a, b in clf.hearings_[-1].rows_["judge"])


def test_order_of_specialists_and_samples_changes_nothing():
    X, y = task()
    critics = [("all", Critic(view=slice(None)))]
    one = DeliberativeClassifier(classifiers(), critics=critics, random_state=0).fit(X, y)
    two = DeliberativeClassifier(classifiers()[::-1], critics=critics, random_state=0).fit(X, y)
    assert np.allclose(one.predict_proba(X), two.predict_proba(X), atol=1e-9)
    assert np.allclose(one.judge_weights_, two.judge_weights_[::-1], atol=1e-9)
    order = np.random.default_rng(0).permutation(len(X))
    assert np.allclose(one.predict_proba(X[order]), one.predict_proba(X)[order], atol=1e-12)


def test_names_of_labels_change_nothing():
    X, y = task()
    plain = DeliberativeClassifier(classifiers(), random_state=0).fit(X, y)
    named = DeliberativeClassifier(classifiers(), random_state=0).fit(X, np.array(["x", "y", "z"])[y])
    assert np.allclose(plain.predict_proba(X), named.predict_proba(X), atol=1e-12)


def test_a_critic_that_knows_what_its_target_knows_is_refused():
    X, y = task()
    same = [("twin", Critic(GaussianNB(), view=slice(None)))]
    with pytest.raises(PanelError, match="would repeat its errors"):
        DeliberativeClassifier(classifiers(), critics=same).fit(X, y)
    same[0][1].set_params(allow_same_view=True)
    assert (
        DeliberativeClassifier(classifiers(), critics=same, random_state=0).fit(X, y).report_["critic_gain"]
    )


def test_a_critic_about_specialists_learns_where_each_is_right():
    rng = np.random.default_rng(0)
    n = 1500
    place, y = rng.integers(0, 2, n), rng.integers(0, 3, n)
    X = np.column_stack([place, rng.random(n)])
    said = [np.where(place == i, y, (y + rng.integers(0, 3, n)) % 3) for i in range(2)]
    votes = [Specialist(_Stored(s), freeze=True) for s in said]
    X = np.column_stack([X, np.arange(n)])
    critics = [("where", Critic(view=[0], about="specialist"))]
    clf = DeliberativeClassifier(
        [("a", votes[0]), ("b", votes[1])], critics=critics, cv="prefit", random_state=0, quarantine=False
    ).fit(X, y)
    assert clf.report_["accuracy"]["value"] > 0.99
    assert clf.report_["critic_gain"]["value"] > 0.1


class _Stored(LogisticRegression):
    """Answers on file, by the number in the last column."""

    def __init__(self, said=None):
        super().__init__()
        self.said = said
        self.classes_ = np.arange(3)
        self.n_features_in_ = 3

    def predict_proba(self, X):
        return np.eye(3)[self.said[np.asarray(X)[:, -1].astype(int)]]


def test_revision_is_switched_off_unless_it_earns_its_place():
    X, y = task(600)
    clf = DeliberativeClassifier(classifiers(), revision=Revision(), random_state=0).fit(X, y)
    told = clf.report_["revision"]
    off = DeliberativeClassifier(classifiers(), random_state=0).fit(X, y)
    if not told["used"]:
        assert np.array_equal(clf.predict_proba(X), off.predict_proba(X))
        assert told["log_loss_gain"] <= 2 * told["standard_error"]
    assert "two standard errors" in told["reason"]
    for topology in ("ring", "star", "line"):
        DeliberativeClassifier(classifiers(), revision=Revision(tv_cap=0.2), topology=topology).fit(
            X[:210], y[:210]
        )


def test_escalation_asks_only_whom_it_must():
    X, y = task(900)
    stages = [["line", "tree"], ["bayes"]]
    for rule in (
        {"rule": "disagreement"},
        {"rule": "confidence", "rate": 0.3},
        {"rule": "confidence", "threshold": 0.6},
        {"rule": "expected_gain", "rate": 0.2},
        {"rule": lambda panel, verdict: verdict.max(axis=1) < 0.5},
    ):
        clf = DeliberativeClassifier(classifiers(), escalation=Escalation(stages, **rule), random_state=0)
        told = clf.fit(X[:600], y[:600]).deliberate(X[600:])
        asked = told.dataset.asked.values
        assert asked[:, :2].all()
        assert np.array_equal(asked[:, 2], told.dataset.stage.values == 1)
        assert told.ledger["calls"] == asked.sum()
        if rule.get("rule") == "disagreement":
            words = told.dataset.proposal.values[:, 0, :2].argmax(axis=2)
            assert np.array_equal(words[:, 0] != words[:, 1], asked[:, 2])
        if "rate" in rule:
            assert abs(asked[:, 2].mean() - rule["rate"]) < 0.12


def test_budget_stops_escalation_and_refuses_what_it_cannot_begin():
    X, y = task(300)
    stages = Escalation([["line", "tree"], ["bayes"]])
    clf = DeliberativeClassifier(classifiers(), escalation=stages, budget=Budget(calls=205), random_state=0)
    clf.fit(X[:200], y[:200])
    told = clf.deliberate(X[200:])
    assert told.ledger["calls"] <= 205
    assert told.ledger["stopped_by"] == "calls"
    assert (told.decision.action == "escalate").sum() > 0
    with pytest.raises(BudgetError, match="need 600 calls; the budget is 205"):
        clf.predict(X)


def test_decisions_follow_the_costs():
    X, y = task(400)
    clf = DeliberativeClassifier(classifiers(), random_state=0).fit(X[:200], y[:200])
    proba = clf.predict_proba(X[200:])
    made = clf.decide(X[200:], error=1.0, defer=0.3)
    assert np.array_equal(made.action == "defer", 1 - proba.max(axis=1) > 0.3)
    assert np.allclose(made.cost, np.minimum(1 - proba.max(axis=1), 0.3))
    assert (clf.decide(X[200:]).action == "accept").all()


def test_the_record_holds_what_was_decided():
    X, y = task(300)
    clf = DeliberativeClassifier(
        classifiers(), critics=[("all", Critic(view=slice(None)))], random_state=0
    ).fit(X[:200], y[:200])
    told = clf.deliberate(X[200:])
    again = clf.deliberate(X[200:], nonces=told.transcript)
    assert told.transcript.head == again.transcript.head
    assert verify_transcript(told.transcript, head=again.transcript.head)
    actions = [record["action"] for record in told.transcript.records]
    assert actions == [*["commit"] * 3, *["reveal"] * 3, "critique", "adjudicate"]
    assert told.decision.record_ids == (3, 4, 5, 6, 7)
    assert told.dataset.sizes == {"sample": 100, "round": 1, "specialist": 3, "output": 3, "critic": 1}
    other = X[200:].copy()
    other[0] += 1.0
    assert clf.deliberate(other, nonces=told.transcript).transcript.head != told.transcript.head
    assert told.report["fit"]["gain_over_best_single"]["standard_error"] > 0


def test_one_specialist_is_calibrated():
    X, y = task(400)
    clf = DeliberativeClassifier(classifiers()[:1], random_state=0).fit(X, y)
    own = clf._members[0].predict_proba(X)
    assert (clf.predict(X) == own.argmax(axis=1)).mean() > 0.97


def test_silence_is_deferred_with_the_prior():
    _, y = task(300)
    table = pd.DataFrame({"id": np.arange(300)})
    said = pd.DataFrame(np.eye(3)[y], columns=[0, 1, 2])
    said.iloc[250:] = np.nan
    clf = DeliberativeClassifier(
        [("file", PrecomputedSpecialist(said, key=["id"]))], cv="prefit", random_state=0, quarantine=False
    ).fit(table.iloc[:250], y[:250])
    with pytest.warns(FaultWarning, match="nobody answered 50 of 60 samples"):
        proba = clf.predict_proba(table.iloc[240:])
    prior = np.bincount(y[:250]) / 250
    assert np.allclose(proba[10:], prior)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert (clf.decide(table.iloc[240:]).action[10:] == "defer").all()


def test_options_that_do_not_exist_get_nothing():
    X, y = task(300)
    frame = pd.DataFrame(X, columns=[f"f{j}" for j in range(8)])
    frame["k"] = np.where(y < 2, 2, 3)
    clf = DeliberativeClassifier(classifiers(), n_options="k", random_state=0).fit(frame, y)
    proba = clf.predict_proba(frame)
    assert (proba[frame["k"] == 2, 2] == 0).all()
    frame["k"] = 1
    assert np.allclose(clf.predict_proba(frame)[:, 0], 1)
    with pytest.raises(PanelError, match="must count options from 1 to 3"):
        clf.predict_proba(frame.assign(k=4))
    with pytest.raises(PanelError, match="is no column of X"):
        DeliberativeClassifier(classifiers(), n_options="k").fit(X, y)


def test_few_samples_are_told():
    X, y = task(100)
    with pytest.warns(FaultWarning, match="rests on 100 samples"):
        DeliberativeClassifier(classifiers(), random_state=0).fit(X, y)
    rule = Escalation([["line"], ["tree", "bayes"]], rule="expected_gain", rate=0.2)
    with pytest.raises(PanelError, match="at least 200 samples"):
        DeliberativeClassifier(classifiers(), escalation=rule).fit(X, y)


def test_certificate_holds_against_liars():
    X, y = task(600)
    clf = DeliberativeClassifier(classifiers(), random_state=0, quarantine=False).fit(X, y)
    bound = clf.influence_bound(1)
    rng = np.random.default_rng(0)
    said = np.stack([m.predict_proba(X[:50]) for m in clf._members], axis=1)[:, clf._order]
    valid = np.ones((50, 3), dtype=bool)
    honest = clf.hearings_[-1].verdict(said, valid=valid, views=[])
    for i in range(3):
        for _ in range(20):
            lied = said.copy()
            lied[:, i] = rng.dirichlet(np.full(3, 0.05), 50)
            lied[:, i] /= lied[:, i].sum(axis=1, keepdims=True)
            moved = 0.5 * np.abs(clf.hearings_[-1].verdict(lied, valid=valid, views=[]) - honest).sum(axis=1)
            assert moved.max() <= bound + 1e-6
    assert clf.influence_bound(0) == 0
    critics = [("all", Critic(view=slice(None)))]
    assert DeliberativeClassifier(classifiers(), critics=critics).fit(X, y).influence_bound() == 1.0
    capped = DeliberativeClassifier(classifiers(), adjudicator=Adjudicator(max_weight=1.5)).fit(X, y)
    weights = capped.judge_weights_
    assert (weights >= 0).all()


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({"critics": [("a", GaussianNB())]}, r"critics are a list of \(name, Critic\)"),
        ({"critics": [("a", Critic(about="judge"))]}, "about must be 'option' or 'specialist'"),
        ({"adjudicator": Adjudicator(calibration="platt")}, "calibration must be 'temperature' or None"),
        ({"escalation": Escalation([["nobody"]])}, "stages name .*nobody"),
        (
            {"escalation": Escalation([["line"], ["tree"]], rule="confidence")},
            "needs either threshold or rate",
        ),
        ({"revision": 0.5}, "revision must be a fusion.deliberative.Revision"),
    ],
)
def test_bad_parameters_are_refused(params, text):
    X, y = task(210)
    with pytest.raises(PanelError, match=text):
        DeliberativeClassifier(classifiers(), **params).fit(X, y)


def broken_sensors(seed, n=1600):
    """Two views split the signal; in one region the better sensor breaks."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 6))
    y = 2 * X[:, 0] + X[:, 1] - X[:, 2] + np.sin(2 * X[:, 3]) + 0.3 * rng.normal(size=n)
    X[:, 0] = np.where(X[:, 4] > 0.5, rng.normal(size=n), X[:, 0])
    team = [
        ("left", Specialist(Ridge(), view=[0, 1])),
        ("right", Specialist(Ridge(), view=[2, 3])),
        ("tree", Specialist(DecisionTreeRegressor(max_depth=5, random_state=0), view=[0, 2])),
    ]
    return X, y, team


@pytest.mark.parametrize(
    "seed", [0, pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow)]
)
def test_a_judge_that_reads_critics_beats_stacking(seed):
    X, y, team = broken_sensors(seed)
    reg = DeliberativeRegressor(team, random_state=0).fit(X[:1200], y[:1200])
    told = reg.report_
    assert told["rmse"]["judge"] < told["rmse"]["stack"] < told["rmse"]["best_single"]
    assert told["gain_over_stack"]["value"] > 2 * told["gain_over_stack"]["standard_error"]
    assert 0.7 < told["predicted_variance_ratio"] < 1.8
    low, high = reg.predict_interval(X[1200:], coverage=0.9).T
    assert abs(((low <= y[1200:]) & (y[1200:] <= high)).mean() - 0.9) < 0.05
    fresh = np.sqrt(np.mean((reg.predict(X[1200:]) - y[1200:]) ** 2))
    assert fresh == pytest.approx(told["rmse"]["judge"], rel=0.1)


def test_regression_survives_who_does_not_answer():
    X, y = make_regression(300, 5, noise=5.0, random_state=0)
    team = [("line", Specialist(Ridge(), view=[0, 1, 2])), ("all", Specialist(Ridge()))]
    reg = DeliberativeRegressor(team, random_state=0).fit(X, y)
    whole = reg.predict(X)
    assert np.corrcoef(whole, y)[0, 1] > 0.99
    with pytest.raises(PanelError, match="coverage lies between 0 and 1"):
        reg.predict_interval(X, coverage=1.0)
    assert np.isinf(reg.predict_interval(X, coverage=0.999999)).all()


def test_what_a_judge_does_not_have_is_not_there():
    for kind in (DeliberativeClassifier, DeliberativeRegressor):
        for name in ("fuse", "predict_or_defer", "with_fusion", "from_predictions", "update", "partial_fit"):
            assert not hasattr(kind([]), name)
    with pytest.raises(AttributeError, match=r"DeliberativeClassifier has no fuse: .* Use deliberate\(X\)"):
        DeliberativeClassifier([]).fuse([[0.0]])
