"""A pytest plugin that puts our classes in the place of scikit-learn's Voting and Stacking, under their names.

Only parameters are translated. Loaded with ``-p sklearn_swap``; outcomes go to the file named by SWAP_OUTCOMES.
"""

from __future__ import annotations

import json
import os
from numbers import Integral

import numpy as np
import sklearn.ensemble
from scipy import sparse
from sklearn.utils.validation import check_is_fitted

from estimators import Arbiter, PanelTransformer, RobustFusionClassifier, RobustFusionRegressor, Specialist
from estimators._compat import HasMethods, StrOptions
from fusion import get_operator


def _weighted(name, estimators, weights):
    if weights is None:
        return name
    kept = [
        w
        for w, (_, member) in zip(weights, estimators, strict=False)
        if member is not None and not _dropped(member)
    ]
    share = np.asarray(kept, dtype=float) / np.sum(kept)
    return lambda panel: get_operator(name)(panel, weights=share, missing="abstain")


def _dropped(member):
    return isinstance(member, str) and member == "drop"


class _Heard:
    """What Voting and Stacking call transform: the panel of the specialists fitted on everything."""

    def _cube(self, X):
        check_is_fitted(self)
        flat = _as_transformer(self).transform(X)
        return flat.reshape(len(flat), len(self._names), -1)

    def fit_transform(self, X, y, **params):
        return self.fit(X, y, **params).transform(X)


def _as_transformer(fitted):
    step = PanelTransformer(fitted.estimators, flatten=True)
    step._team = fitted
    return step


class VotingClassifier(_Heard, RobustFusionClassifier):
    _parameter_constraints = {  # noqa: RUF012
        **RobustFusionClassifier._parameter_constraints,
        "voting": [StrOptions({"hard", "soft"})],
        "weights": ["array-like", None],
        "flatten_transform": ["boolean"],
    }

    def __init__(
        self, estimators, *, voting="hard", weights=None, n_jobs=None, flatten_transform=True, verbose=False
    ):
        super().__init__(estimators, cv="none", n_jobs=n_jobs, verbose=verbose)
        self.voting, self.weights, self.flatten_transform = voting, weights, flatten_transform

    def fit(self, X, y, sample_weight=None, **params):
        if self.weights is not None and len(self.weights) != len(self.estimators):
            raise ValueError(
                f"Number of `estimators` and weights must be equal; got {len(self.weights)} weights, "
                f"{len(self.estimators)} estimators"
            )
        rule = "mean" if self.voting == "soft" else "plurality_vote"
        self.fusion = _weighted(rule, self.estimators, self.weights)
        return super().fit(X, y, sample_weight, **params)

    def transform(self, X):
        cube = self._cube(X)
        if self.voting == "hard":
            return cube.argmax(axis=2)
        return cube.reshape(len(cube), -1) if self.flatten_transform else cube.transpose(1, 0, 2)


class VotingRegressor(_Heard, RobustFusionRegressor):
    _parameter_constraints = {  # noqa: RUF012
        **RobustFusionRegressor._parameter_constraints,
        "weights": ["array-like", None],
    }

    def __init__(self, estimators, *, weights=None, n_jobs=None, verbose=False):
        super().__init__(estimators, cv="none", n_jobs=n_jobs, verbose=verbose)
        self.weights = weights

    def fit(self, X, y, sample_weight=None, **params):
        if self.weights is not None and len(self.weights) != len(self.estimators):
            raise ValueError(
                f"Number of `estimators` and weights must be equal; got {len(self.weights)} weights, "
                f"{len(self.estimators)} estimators"
            )
        self.fusion = _weighted("mean", self.estimators, self.weights)
        return super().fit(X, y, sample_weight, **params)

    def transform(self, X):
        return self._cube(X)[:, :, 0]


class _Stacked(_Heard):
    _stacking = {  # noqa: RUF012
        "final_estimator": [None, HasMethods("fit")],
        "stack_method": [StrOptions({"auto", "predict_proba", "decision_function", "predict"})],
        "passthrough": ["boolean"],
        "cv": ["cv_object", StrOptions({"prefit"})],
        "verbose": [Integral],
    }

    def _translate(self):
        self.fusion = Arbiter(self.final_estimator, per="class")
        self.cv = 5 if self.cv is None else self.cv

    def _listed(self):
        listed = super()._listed()
        more = {"freeze": True} if self.cv == "prefit" else {}
        if getattr(self, "stack_method", "auto") != "auto":
            more["method"] = self.stack_method
        if not more:
            return listed
        return [(name, member if _dropped(member) else Specialist(member, **more)) for name, member in listed]

    def transform(self, X):
        cube = self._cube(X)
        columns = cube[:, :, 1:] if cube.shape[2] == 2 else cube
        flat = columns.reshape(len(cube), -1)
        if not self.passthrough:
            return flat
        return sparse.hstack([flat, X]).asformat(X.format) if sparse.issparse(X) else np.hstack([flat, X])

    @property
    def final_estimator_(self):
        return self.fusion_.final_estimator_


class StackingClassifier(_Stacked, RobustFusionClassifier):
    _parameter_constraints = {**RobustFusionClassifier._parameter_constraints, **_Stacked._stacking}  # noqa: RUF012

    def __init__(
        self,
        estimators,
        final_estimator=None,
        *,
        cv=None,
        stack_method="auto",
        n_jobs=None,
        passthrough=False,
        verbose=0,
    ):
        super().__init__(estimators, fusion="arbiter", cv=cv, n_jobs=n_jobs, verbose=verbose)
        self.final_estimator, self.stack_method, self.passthrough = final_estimator, stack_method, passthrough

    def fit(self, X, y, sample_weight=None, **params):
        self._translate()
        super().fit(X, y, sample_weight, **params)
        if self.cv == "prefit":
            self.estimators_ = [member.model_ for member in self.estimators_]
        return self


class StackingRegressor(_Stacked, RobustFusionRegressor):
    _parameter_constraints = {**RobustFusionRegressor._parameter_constraints, **_Stacked._stacking}  # noqa: RUF012

    def __init__(
        self,
        estimators,
        final_estimator=None,
        *,
        cv=None,
        n_jobs=None,
        passthrough=False,
        verbose=0,
    ):
        super().__init__(estimators, fusion="arbiter", cv=cv, n_jobs=n_jobs, verbose=verbose)
        self.final_estimator, self.passthrough = final_estimator, passthrough

    def fit(self, X, y, sample_weight=None, **params):
        self._translate()
        super().fit(X, y, sample_weight, **params)
        if self.cv == "prefit":
            self.estimators_ = [member.model_ for member in self.estimators_]
        return self


for _class in (VotingClassifier, VotingRegressor, StackingClassifier, StackingRegressor):
    setattr(sklearn.ensemble, _class.__name__, _class)

_outcomes: dict[str, str] = {}


def pytest_runtest_logreport(report):
    """Keep the worst outcome of each test's phases, with its error."""
    name = report.nodeid.rpartition("::")[2]
    if report.when == "call" or report.outcome != "passed":
        crash = getattr(report.longrepr, "reprcrash", None)
        _outcomes[name] = (
            "passed" if report.passed else f"{report.outcome}: {getattr(crash, 'message', '')}"[:300]
        )


def pytest_sessionfinish():
    """Write the outcomes."""
    with open(os.environ["SWAP_OUTCOMES"], "w") as file:
        json.dump(_outcomes, file)
