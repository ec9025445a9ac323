"""The table of errors, row by row: what came, what was needed, the way out; and what public peers get wrong in fit."""

import threading
import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.datasets import load_iris
from sklearn.ensemble import StackingClassifier, VotingClassifier, VotingRegressor
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GroupKFold, TimeSeriesSplit
from sklearn.multioutput import MultiOutputClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier

from estimators import (
    CallableSpecialist,
    PrecomputedSpecialist,
    RobustFusionClassifier,
    RobustFusionRegressor,
    Specialist,
    TruthInference,
    Views,
)
from fusion import Krum, TrimmedMean
from theory import BudgetError, FaultWarning, PanelError

X, Y = load_iris(return_X_y=True)


class Says(ClassifierMixin, BaseEstimator):
    """Answer well in fit; afterwards, say what it is told to."""

    def __init__(self, told=None):
        self.told = told

    def fit(self, X, y):
        self.inner_, self.classes_, self.armed_ = GaussianNB().fit(X, y), np.unique(y), False
        return self

    def predict_proba(self, X):
        said = self.inner_.predict_proba(X)
        if self.armed_ and self.told == "raise":
            raise RuntimeError("the sensor is gone")
        return np.full_like(said, self.told) if self.armed_ else said


class Locked:
    def __init__(self):
        self.lock = threading.Lock()

    def __call__(self, row):
        return 0


def line():
    return LogisticRegression(max_iter=500)


def armed(told, *more, fusion="mean"):
    clf = RobustFusionClassifier([("eye", Says(told)), ("line", line()), *more], fusion=fusion).fit(X, Y)
    clf.named_estimators_["eye"].armed_ = True
    return clf


def views_with_gaps():
    views = {f"v{i}": X[:, [i]].copy() for i in range(4)}
    team = [(name, Specialist(line(), view=name)) for name in views]
    clf = RobustFusionClassifier(team, fusion=TrimmedMean(n_byzantine=1)).fit(Views(views), Y)
    for name in ("v0", "v1"):
        views[name][[4, 17, 80]] = np.nan
    return clf, Views(views)


def e1():
    seen = Specialist(GaussianNB().fit(np.vstack([X, X[:9] + 9]), np.append(Y, [3] * 9)), freeze=True)
    RobustFusionClassifier([("eye", seen), ("line", line())]).fit(X, Y)


def e2():
    team = [(name, line()) for name in "abcd"]
    RobustFusionClassifier(team, fusion=TrimmedMean(n_byzantine=2)).fit(X, Y)


def e3():
    clf, gaps = views_with_gaps()
    clf.predict(gaps)


def e4():
    second = ("llm", Says(np.nan))
    clf = armed(1e6, second, ("other", GaussianNB()), ("flat", line()), fusion=TrimmedMean(n_byzantine=1))
    clf.named_estimators_["llm"].armed_ = True
    clf.predict(X)


def e5():
    armed("raise").predict(X)


def e6():
    RobustFusionClassifier([("eye", Specialist(line(), freeze=True)), ("line", line())]).fit(X, Y)


def e7():
    RobustFusionClassifier([("knn", KNeighborsClassifier()), ("line", line())]).fit(X, Y, np.ones(150))


def e8():
    RobustFusionClassifier([("a", line()), ("b", GaussianNB())]).fit(X, Y).predict(X[:, 0])


def e9():
    np.asarray(Views(a=X, b=X))


def e10():
    half = Specialist(GaussianNB().fit(X[:100], Y[:100]), freeze=True)
    team = [("a", half), *((name, line()) for name in "bcd")]
    RobustFusionClassifier(team, fusion=Krum(n_byzantine=0)).fit(X, Y)


def e11():
    team = [(name, line()) for name in "abcd"]
    RobustFusionClassifier(team, fusion=Krum(n_byzantine=0, scope="batch")).fit(X, Y)


def e12():
    with warnings.catch_warnings():
        warnings.simplefilter("error", FaultWarning)
        y = np.array(["a"] * 7 + ["c"])
        RobustFusionClassifier([("a", line()), ("b", GaussianNB())], fusion="covariance").fit(X[:8], y)


def e13():
    table = pd.DataFrame(np.eye(3)[Y], index=np.arange(150), columns=[0, 1, 2])
    past = PrecomputedSpecialist(table, key=[0], name="past").fit(np.arange(150)[:, None], Y)
    ids = np.arange(30)[:, None]
    ids[[3, 9]] = 999999
    past.predict(ids)


def e14():
    clf = RobustFusionClassifier([(name, line()) for name in "abcd"]).fit(X, Y)
    clf.from_predictions(np.zeros((4, 150, 3)), Y)


def e15():
    import pickle

    pickle.dumps(CallableSpecialist(Locked(), classes=[0, 1, 2], name="llm"))


def e16():
    RobustFusionClassifier([("a", line()), ("b", GaussianNB())], fusion="covariance", cv="none").fit(X, Y)


ROWS = [
    (
        e1,
        PanelError,
        r"specialist 'eye' predicts classes \[3\] that are not in y\. Set extra_class='keep' or 'drop'",
    ),
    (
        e2,
        BudgetError,
        r"trimmed_mean with n_byzantine=2 needs at least 5 specialists; got 4\. Lower n_byzantine to 1",
    ),
    (
        e3,
        BudgetError,
        r"3 of 150 samples have fewer specialists than .*\(3\); first \[4, 17, 80\].*short='relax'",
    ),
    (
        e4,
        BudgetError,
        r"sample 0: 2 specialists gave invalid values \('eye', 'llm'\).* 1\..*on_error='abstain'",
    ),
    (e5, RuntimeError, r"the sensor is gone"),
    (e6, NotFittedError, r"specialist 'eye' has freeze=True but is not fitted\. Fit it or set freeze=False"),
    (e7, TypeError, r"'knn' \(KNeighborsClassifier\) does not accept sample_weight\. Set use_weights=False"),
    (e8, ValueError, r"Expected 2D array, got 1D array instead.*array\.reshape\(1, -1\)"),
    (e9, TypeError, r"Views cannot become one array\. Select a view with X\['name'\]"),
    (
        e10,
        PanelError,
        r"krum needs every class from every specialist; 'a' cannot name \[2\].*absent_class='zero'",
    ),
    (e11, PanelError, r"krum over a batch makes predictions depend on other rows.*call the fusion function"),
    (
        e12,
        FaultWarning,
        r"no out-of-fold panel: class '?c'? has 1 sample\. covariance falls back to equal weights",
    ),
    (e13, PanelError, r"specialist 'past': 2 of 30 sample ids are not in the table \(first: 999999\)"),
    (
        e14,
        PanelError,
        r"panel must be \(sample, specialist, output\); got shape \(4, 150, 3\) for 150 targets\. Transpose",
    ),
    (e15, TypeError, r"specialist 'llm' holds a client that cannot be pickled .*Give factory="),
    (
        e16,
        ValueError,
        r"fusion='covariance' learns from out-of-fold predictions; cv='none' gives none\. Set cv=5",
    ),
]


@pytest.mark.parametrize(("work", "kind", "text"), ROWS, ids=[row[0].__name__ for row in ROWS])
def test_each_error_says_what_came_and_the_way_out(work, kind, text):
    with pytest.raises(kind, match=f"(?s){text}") as caught:
        work()
    if work is e5:
        assert (
            "raised by specialist 'eye' in predict_proba. Set on_error='abstain'" in caught.value.__notes__[0]
        )


def test_weights_and_a_member_without_them():  # Voting: TypeError, and no way on
    with pytest.raises(TypeError):
        VotingClassifier([("knn", KNeighborsClassifier()), ("line", line())]).fit(X, Y, np.ones(150))
    team = [("knn", Specialist(KNeighborsClassifier(), use_weights=False)), ("line", line())]
    assert RobustFusionClassifier(team).fit(X, Y, np.ones(150)).score(X, Y) > 0.9


def test_two_targets():  # Voting: ValueError
    T = X[:, 2:]
    with pytest.raises(ValueError, match="1d array"):
        VotingRegressor([("a", Ridge()), ("b", Ridge(9.0))]).fit(X[:, :2], T)
    reg = RobustFusionRegressor([("a", Ridge()), ("b", Ridge(9.0))], fusion="mean").fit(X[:, :2], T)
    alone = [Ridge(alpha).fit(X[:, :2], T).predict(X[:, :2]) for alpha in (1.0, 9.0)]
    np.testing.assert_allclose(reg.predict(X[:, :2]), np.mean(alone, axis=0))


@pytest.mark.filterwarnings("ignore:The number of unique classes")
def test_several_labels_a_sample_are_refused_with_the_way_out():
    labels = np.stack([Y == 0, Y == 2], axis=1).astype(int)
    clf = RobustFusionClassifier([("line", line()), ("bayes", GaussianNB())], fusion="mean", cv=2)
    with pytest.raises(PanelError, match=r"y has 2 outputs.*MultiOutputClassifier\(RobustFusionClassifier"):
        clf.fit(X, labels)
    both = MultiOutputClassifier(clf).fit(X, labels)
    one = [clone(clf).fit(X, labels[:, k]).predict(X) for k in range(2)]
    np.testing.assert_array_equal(both.predict(X), np.stack(one, axis=1))


def test_folds_that_leave_samples_out_and_folds_by_group():  # Stacking: ValueError, TypeError
    order = np.random.default_rng(0).permutation(150)
    X_, y_, groups = X[order], Y[order], np.arange(150) // 5
    team = [("line", line()), ("bayes", GaussianNB())]
    with pytest.raises(ValueError, match="partitions"):
        StackingClassifier(team, cv=TimeSeriesSplit(4)).fit(X_, y_)
    with pytest.raises((TypeError, ValueError)):
        StackingClassifier(team, cv=GroupKFold(3)).fit(X_, y_, groups=groups)
    timed = RobustFusionClassifier(team, fusion="covariance", cv=TimeSeriesSplit(4)).fit(X_, y_)
    assert timed.oof_coverage_ == pytest.approx(0.8) and np.isnan(timed.oof_panel_.values[:30]).all()
    grouped = RobustFusionClassifier(team, fusion="covariance", cv=GroupKFold(3)).fit(X_, y_, groups=groups)
    assert grouped.oof_coverage_ == 1.0 and min(timed.score(X_, y_), grouped.score(X_, y_)) > 0.9


def test_labels_with_ties_and_samples_without_any():  # crowd-kit 1.4.2: KeyError on a tie; the sample vanishes
    labels = np.array([[0, 1], [1, 0], [0, 0], [1, 1], [-1, -1]])
    for model in ("majority", "one_coin", "dawid_skene"):
        truth = TruthInference(model).fit(labels)
        assert truth.proba_.shape == (5, 2) and np.allclose(truth.proba_.sum(axis=1), 1)
        assert truth.labels_[2] == 0 and truth.labels_[3] == 1
        assert np.allclose(truth.proba_[4], truth.prior_ if model != "majority" else 0.5, atol=1e-6)
        assert clone(truth).get_params() == truth.get_params() and truth.__sklearn_tags__() is not None
