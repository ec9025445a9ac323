"""scikit-learn's checks over fusions and teams: plain, by views, frozen, and with members that leave samples out."""

import warnings

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
from sklearn.utils.estimator_checks import check_estimator

from estimators import CallableSpecialist, RobustFusionClassifier, RobustFusionRegressor, Specialist
from fusion import GeometricMedian, Krum, TrimmedMean
from theory import FaultWarning


class Shy(ClassifierMixin, BaseEstimator):
    """Say nothing about some of the samples, the same ones in any batch."""

    def fit(self, X, y, sample_weight=None):
        self.model_ = LogisticRegression(max_iter=200).fit(X, y, sample_weight)
        self.classes_ = self.model_.classes_
        return self

    def predict_proba(self, X):
        said = self.model_.predict_proba(X)
        said[said[:, 0] > 0.9] = np.nan
        return said

    def predict(self, X):
        return self.model_.predict(X)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


class Fixed(RegressorMixin, BaseEstimator):
    """Be fitted already, and take any number of features."""

    def fit(self, X, y):
        return self

    def predict(self, X):
        return np.zeros(X.shape[0])

    def __sklearn_is_fitted__(self):
        return True

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


def some(row):
    """Leave out a quarter of all samples, the same ones in any batch."""
    return None if int(abs(float(row.sum())) * 1000) % 4 == 1 else 0.0


def classifiers():
    return [
        ("line", LogisticRegression(max_iter=200)),
        ("tree", DecisionTreeClassifier(random_state=0)),
        ("flat", LogisticRegression(C=0.1, max_iter=200)),
    ]


def regressors():
    return [("line", Ridge()), ("tree", DecisionTreeRegressor(random_state=0)), ("flat", Ridge(10.0))]


def by_view(team):
    return [*team[:2], ("first", Specialist(team[2][1], view=slice(0, 1)))]


TEAMS = {
    "plain": (classifiers, regressors),
    "view": (lambda: by_view(classifiers()), lambda: by_view(regressors())),
    # A frozen classifier knows its labels for good, and the checks bring others: frozen regressors only.
    "frozen": (None, lambda: [*regressors(), ("fixed", Specialist(Fixed(), freeze=True))]),
    "missing": (
        lambda: [*classifiers(), ("shy", Specialist(Shy(), on_error="abstain"))],
        lambda: [*regressors(), ("shy", CallableSpecialist(some))],
    ),
}
FUSIONS = {
    "mean": "mean",
    "median": "median",
    "log_pool": "log_pool",
    "trimmed_mean": TrimmedMean(n_byzantine=1),
    "krum": Krum(n_byzantine=0),
    "geometric_median": GeometricMedian(),
    "covariance": "covariance",
    "accuracy": "accuracy",
    "inverse_mse": "inverse_mse",
}
CASES = [
    (task, team, fusion)
    for task in (0, 1)
    for team, teams in TEAMS.items()
    for fusion in FUSIONS
    if teams[task] is not None and not (task == 1 and fusion in ("log_pool", "accuracy"))
]
FAST = [(1, "view", "median"), (1, "missing", "trimmed_mean")]  # classifiers take three times as long
# Passed checks of scikit-learn 1.9, by task and team: some are for several targets, some for sparse input.
PASSED = {
    (0, "plain"): 63,
    (0, "view"): 63,
    (0, "missing"): 63,
    (1, "plain"): 61,
    (1, "view"): 61,
    (1, "frozen"): 60,
    (1, "missing"): 60,
}


@pytest.mark.parametrize(
    ("task", "team", "fusion"),
    [pytest.param(*case, marks=() if case in FAST else pytest.mark.slow) for case in CASES],
)
def test_every_check_passes(task, team, fusion):
    kind = (RobustFusionClassifier, RobustFusionRegressor)[task]
    estimator = kind(TEAMS[team][task](), fusion=FUSIONS[fusion])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FaultWarning)
        results = check_estimator(estimator, on_skip=None, on_fail=None)
    failed = {r["check_name"]: repr(r["exception"])[:200] for r in results if r["status"] == "failed"}
    assert not failed
    assert not {r["check_name"] for r in results if r["status"] == "skipped"}
    assert sum(r["status"] == "passed" for r in results) == PASSED[task, team]
