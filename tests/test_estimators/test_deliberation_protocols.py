"""Protocols of specialists that speak once: each has a meaning, is cross-fitted, and can be told from the others."""

import pickle
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils.estimator_checks import check_estimator

from estimators import Critic, DeliberativeClassifier, PrecomputedSpecialist
from fusion.deliberative import confidence_weight, protocol, protocol_names, regime, verify_transcript
from theory import FaultWarning

pytestmark = pytest.mark.filterwarnings("ignore:the temperature:theory.FaultWarning")
NAMES = protocol_names()


def task(n=400, seed=0):
    return make_classification(n, 8, n_informative=5, n_classes=3, flip_y=0.2, random_state=seed)


def team():
    return [
        ("line", LogisticRegression(max_iter=200)),
        ("tree", DecisionTreeClassifier(max_depth=3, random_state=0)),
        ("bayes", GaussianNB()),
    ]


def small():
    """Return a critic that is quick: a tree on two columns."""
    return [("left", Critic(DecisionTreeClassifier(max_depth=3, random_state=0), view=[0, 1]))]


def boosted():
    model = HistGradientBoostingClassifier(max_iter=30, max_leaf_nodes=8)
    return [("noise", Critic(model, view=["a", "b"]))]


def stored(votes, y, k, **params):
    """Fit on answers on file: `votes` of shape (sample, specialist), -1 for nothing."""
    members = []
    for i in range(votes.shape[1]):
        table = np.eye(k)[np.maximum(votes[:, i], 0)]
        table[votes[:, i] < 0] = np.nan
        frame = pd.DataFrame(table, columns=list(range(k)))
        members.append((f"s{i}", PrecomputedSpecialist(frame, key="id")))
    noise = np.random.default_rng(7).normal(size=(len(y), 2))
    X = pd.DataFrame({"id": np.arange(len(y)), "a": noise[:, 0], "b": noise[:, 1]})
    params = {"cv": "prefit", "random_state": 0, "quarantine": False, "critics": ()} | params
    return DeliberativeClassifier(members, **params).fit(X, y), X


def crowd(n=600, m=5, k=4, seed=0, skill=0.6):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, k, n)
    right = rng.random((n, m)) < np.linspace(skill - 0.15, skill + 0.15, m)
    votes = np.where(right, y[:, None], rng.integers(0, k, (n, m)))
    votes[rng.random((n, m)) < 0.1] = -1
    votes[votes.max(axis=1) < 0, 0] = 0
    return votes, y


@pytest.mark.parametrize("name", NAMES)
def test_every_protocol_predicts_reports_records_and_survives_a_pickle(name):
    X, y = task(300)
    clf = DeliberativeClassifier(team(), protocol=name, critics=small(), random_state=0).fit(X[:220], y[:220])
    told = clf.deliberate(X[220:])
    assert np.allclose(told.proba.sum(axis=1), 1.0)
    assert np.array_equal(told.proba, clf.predict_proba(X[220:]))
    assert np.array_equal(pickle.loads(pickle.dumps(clf)).predict_proba(X[220:]), told.proba)
    assert np.allclose(clf.predict_proba(X[220:][::-1])[::-1], told.proba, atol=1e-12)
    assert np.allclose(
        clf.predict_proba(X[220:223]), told.proba[:3], atol=1e-12
    )  # a batch is no sample's business
    assert verify_transcript(told.transcript, head=told.transcript.head)
    report = clf.report_
    assert report["protocol"] == name
    assert sum(report["stopped_by"].values()) == pytest.approx(1.0)
    for gain in ("gain_over_stack", "gain_over_best_single"):
        assert set(report[gain]) == {"value", "standard_error"}
    calls = {"naive": 0, "consultancy": 80}
    assert told.ledger["calls"] == calls.get(name, 240)


@pytest.mark.parametrize("name", NAMES)
def test_order_of_specialists_and_names_of_labels_change_nothing(name):
    X, y = task(240)
    params = {"protocol": name, "critics": small(), "random_state": 0}
    one = DeliberativeClassifier(team(), **params).fit(X, y).predict_proba(X)
    two = DeliberativeClassifier(team()[::-1], **params).fit(X, y).predict_proba(X)
    assert np.allclose(one, two, atol=1e-9)
    named = DeliberativeClassifier(team(), **params).fit(X, np.array(["x", "y", "z"])[y]).predict_proba(X)
    assert np.allclose(one, named, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_labels_that_mean_nothing_are_not_learned(name):
    votes, y = crowd(600, skill=0.8)
    shuffled = np.random.default_rng(5).permutation(y)
    clf, _ = stored(votes, shuffled, 4, protocol=name, critics=boosted())
    told, share = clf.report_["accuracy"], np.bincount(shuffled) / len(y)
    assert abs(told["value"] - 1 / 4) < 3 * told["standard_error"] + (share.max() - 1 / 4)
    assert clf.report_["log_loss"]["value"] < np.log(4) + 0.03  # it knows that it knows nothing
    for gain in (clf.report_["gain_over_stack"], clf.report_["gain_over_best_single"]):
        assert abs(gain["value"]) < 3 * gain["standard_error"] + 0.005


@pytest.mark.parametrize("name", NAMES)
def test_specialists_fitted_on_noise_give_no_verdict_above_chance(name):
    # Out-of-fold answers to permuted labels lean against them, stacking too: its gain says nothing here.
    X, y = task(600, seed=3)
    shuffled = np.random.default_rng(5).permutation(y)
    clf = DeliberativeClassifier(team(), protocol=name, critics=small(), random_state=0).fit(X, shuffled)
    told, share = clf.report_["accuracy"], np.bincount(shuffled) / len(y)
    assert told["value"] - 1 / 3 < 3 * told["standard_error"] + (share.max() - 1 / 3)
    assert clf.report_["log_loss"]["value"] < np.log(3) + 0.03


@pytest.mark.parametrize("name", NAMES)
def test_silence_and_options_that_do_not_exist(name):
    votes, y = crowd(300)
    count = np.where(y < 2, 2, 4)
    votes = np.where(votes >= count[:, None], -1, votes)
    votes[:10] = -1

    def exist(X):
        return np.arange(4) < count[np.asarray(X)[:, 0].astype(int)][:, None]

    clf, X = stored(votes, y, 4, protocol=name, n_options=exist, critics=boosted())
    if name == "naive":  # it asks nobody, so nobody is missing
        proba = clf.predict_proba(X)
    else:
        with pytest.warns(FaultWarning, match=r"nobody answered \d+ of 300 samples"):
            proba = clf.predict_proba(X)
        prior = np.where(exist(X)[:10], np.bincount(y) / 300, 0)
        assert np.allclose(proba[:10], prior / prior.sum(axis=1, keepdims=True))
    assert (proba[count == 2][:, 2:] == 0).all()
    assert np.allclose(proba.sum(axis=1), 1.0)
    assert (proba[exist(X)] > 0).all()  # options that nobody proposed are covered


def test_a_grid_searches_protocols():
    X, y = task(240)
    clf = DeliberativeClassifier(team(), random_state=0)
    names = ["critique_revise", "self_consistency", regime("competition")]
    search = GridSearchCV(clf, {"protocol": names}, cv=2).fit(X, y)
    assert len(search.cv_results_["params"]) == 3
    assert clone(search.best_estimator_).protocol in names


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::theory.FaultWarning")
@pytest.mark.parametrize("name", ["debate", "delphi", "mixture_of_agents"])
def test_every_check_of_scikit_learn_passes(name):
    members = [*team()[:2], ("flat", LogisticRegression(C=0.1, max_iter=200))]
    results = check_estimator(DeliberativeClassifier(members, protocol=name), on_skip=None, on_fail=None)
    assert {r["check_name"]: r["exception"] for r in results if r["status"] == "failed"} == {}
    assert sum(r["status"] == "passed" for r in results) == 63


def test_plurality_counts_heads():
    votes, y = crowd()
    clf, X = stored(votes, y, 4, protocol="self_consistency")
    heads = np.array([[np.sum(row == k) for k in range(4)] for row in votes])
    assert np.array_equal(clf.predict(X), heads.argmax(axis=1))
    proba = clf.predict_proba(X)
    for row, p in zip(heads, proba, strict=True):
        for k in range(3):
            assert (row[k] > row[k + 1]) == (p[k] > p[k + 1] + 1e-12)


def test_votes_by_stated_confidence_are_those_of_the_publication():
    X, y = task(260)
    plan = replace(protocol("reconcile"), confidence="stated")
    clf = DeliberativeClassifier(team(), protocol=plan, random_state=0).fit(X[:200], y[:200])
    said = np.stack([member.predict_proba(X[200:]) for member in clf._members], axis=1)
    expected = np.zeros((60, 3))
    for n in range(60):
        for row in said[n]:
            expected[n, row.argmax()] += confidence_weight(float(row.max()))
    clear = np.diff(np.sort(expected, axis=1)[:, -2:], axis=1)[:, 0] > 1e-9
    assert np.array_equal(clf.predict(X[200:])[clear], expected.argmax(axis=1)[clear])


def test_fitted_confidences_outvote_who_only_sounds_sure():
    rng = np.random.default_rng(0)
    n = 1500
    y = rng.integers(0, 3, n)
    table = {}
    for name, skill, loud in (("good", 0.8, 0.7), ("loud", 0.0, 1.0 - 1e-9), ("loud too", 0.0, 1.0 - 1e-9)):
        said = np.where(rng.random(n) < skill, y, rng.integers(0, 3, n))
        table[name] = np.where(np.arange(3) == said[:, None], loud, (1.0 - loud) / 2)
    members = [
        (name, PrecomputedSpecialist(pd.DataFrame(p, columns=[0, 1, 2]), key="id"))
        for name, p in table.items()
    ]
    X = pd.DataFrame({"id": np.arange(n)})
    right = {}
    for how in ("fitted", "stated"):
        plan = replace(protocol("reconcile"), confidence=how)
        clf = DeliberativeClassifier(members, protocol=plan, cv="prefit", random_state=0).fit(X, y)
        right[how] = clf.report_["accuracy"]["value"]
    assert right["fitted"] > 0.75 > 0.65 > right["stated"]


def test_surprise_finds_what_only_the_informed_know():
    # Most believe 0; who knows that it is 1 says so, and knows that most say 0: Prelec's capital of Pennsylvania.
    rng = np.random.default_rng(1)
    n, m = 2000, 7
    y = (rng.random(n) < 0.5).astype(int)
    trap = rng.random(n) < 0.5  # items on which the crowd errs toward 0
    votes = np.where(rng.random((n, m)) < 0.9, y[:, None], 1 - y[:, None])
    fooled = (trap & (y == 1))[:, None] & (rng.random((n, m)) < 0.65)
    votes = np.where(fooled, 0, votes)
    surprised = stored(votes, y, 2, protocol="surprisingly_popular")[0].report_["accuracy"]["value"]
    counted = stored(votes, y, 2, protocol="self_consistency")[0].report_["accuracy"]["value"]
    assert surprised > counted + 0.02


def test_surprise_uses_no_labels():
    votes, y = crowd()
    one, X = stored(votes, y, 4, protocol="surprisingly_popular")
    two, _ = stored(votes, np.random.default_rng(0).permutation(y), 4, protocol="surprisingly_popular")
    assert np.array_equal(one.hearings_[-1].meaning.table_, two.hearings_[-1].meaning.table_)
    assert np.array_equal(one.predict(X), two.predict(X))
