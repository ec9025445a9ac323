"""Protocols that end before a judge: its own view alone, the source, one consultant, layers of aggregators."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier

from estimators.critic import Adjudicator, Critic, fit_weighted
from estimators.hearing import Floats, Hearing, Splits
from estimators.meeting import Case, even, opinions_on_others
from fusion.deliberative.critics import proposed_options

Critics = list[tuple[str, Critic]]


def first_model(critics: Critics) -> Any:
    """Give the estimator of the first critic that has one, or None."""
    return next((critic.estimator for _, critic in critics if critic.estimator is not None), None)


class OwnView:
    """The judge alone: a classifier of the options on what it sees itself.

    Parameters
    ----------
    critics : list of (str, Critic)
        Their views, and the estimator of the first that has one; gradient boosting by default.
    seed : int
        Of the classifier.
    """

    def __init__(self, critics: Critics, *, seed: int):
        self.model = first_model(critics)
        self.seed = seed
        self.stopped_by_ = {"rounds": 1.0}
        self.told_: dict[str, Any] = {}

    def cross_fit(self, case: Case, y: NDArray[Any], splits: Splits, weight: Any) -> Floats:
        """Fit on other rows."""
        return opinions_on_others(self, case, y, splits, weight)

    def fit(self, case: Case, y: NDArray[Any], splits: Splits, weight: Any) -> None:
        """Fit the classifier."""
        self.only_, self.model_ = int(y[0]), None
        if len(np.unique(y)) > 1:
            default = HistGradientBoostingClassifier(
                max_iter=60, learning_rate=0.07, max_leaf_nodes=15, early_stopping=False
            )
            self.model_ = fit_weighted(self.model, default, case.seen(), y, weight, self.seed)

    def say(self, case: Case) -> Floats:
        """Give probabilities over the options that exist."""
        out = np.zeros(case.valid.shape)
        if self.model_ is None:
            out[:, self.only_] = 1.0
        else:
            out[:, self.model_.classes_] = self.model_.predict_proba(case.seen())
        out = np.where(case.valid, np.maximum(out, 1e-6), 0.0)
        return np.asarray(out / out.sum(axis=1, keepdims=True))


class WithSource:
    """The judge who has read the source: stacking with its own view as one more specialist.

    Parameters
    ----------
    critics : list of (str, Critic)
        They see the source too.
    adjudicator : Adjudicator
        The judge.
    seed : int
        Of classifier, critics and judge.
    """

    def __init__(self, critics: Critics, adjudicator: Adjudicator, *, seed: int):
        self.own = OwnView(critics, seed=seed)
        self.hearing = Hearing(critics, adjudicator, seed=seed)
        self.stopped_by_ = {"rounds": 1.0}
        self.told_: dict[str, Any] = {}

    def cross_fit(self, case: Case, y: NDArray[Any], splits: Splits, weight: Any) -> Floats:
        """Fit own view, critics and judge on other rows."""
        return opinions_on_others(self, case, y, splits, weight)

    def fit(self, case: Case, y: NDArray[Any], splits: Splits, weight: Any) -> None:
        """Fit the own view, then critics and judge on its cross-fitted opinions."""
        panel = np.concatenate([case.panel, self.own.cross_fit(case, y, splits, weight)[:, None]], axis=1)
        self.hearing.fit(
            panel, y, valid=case.valid, views=case.views, splits=splits, sample_weight=weight, nested=False
        )

    def say(self, case: Case) -> Floats:
        """Give the judge's verdict."""
        panel = np.concatenate([case.panel, self.own.say(case)[:, None]], axis=1)
        return self.hearing.verdict(panel, valid=case.valid, views=case.views)


class Consultant:
    """One specialist, its critics and the judge.

    Parameters
    ----------
    critics : list of (str, Critic)
        May be empty.
    adjudicator : Adjudicator
        The judge.
    seed : int
        Of critics and judge.

    Attributes
    ----------
    chosen_ : int
        Column of the specialist that was right most often.
    """

    def __init__(self, critics: Critics, adjudicator: Adjudicator, *, seed: int):
        self.hearing = Hearing(critics, adjudicator, seed=seed)
        self.stopped_by_ = {"rounds": 1.0}
        self.told_: dict[str, Any] = {}

    def cross_fit(self, case: Case, y: NDArray[Any], splits: Splits, weight: Any) -> Floats:
        """Choose on other rows, then fit critics and judge on what the chosen ones said."""
        right = (proposed_options(case.panel, valid=case.valid) == y[:, None]).astype(np.float64)
        right *= 1.0 if weight is None else weight[:, None]
        panel = np.empty((len(y), 1, case.valid.shape[1]))
        for train, test in splits:
            panel[test, 0] = case.panel[test, int(right[train].sum(axis=0).argmax())]
        self.chosen_ = int(right.sum(axis=0).argmax())
        return self.hearing.fit(
            panel, y, valid=case.valid, views=case.views, splits=splits, sample_weight=weight
        ).verdict_

    def say(self, case: Case) -> Floats:
        """Give the judge's verdict on what the consultant says."""
        panel = case.panel[:, [self.chosen_]]
        return self.hearing.verdict(panel, valid=case.valid, views=case.views)


class Layers:
    """Mixture of agents: aggregators read what the layer before said, and one judge reads the last layer.

    Parameters
    ----------
    depth : int
        Layers after the specialists, the judge included.
    critics : list of (str, Critic)
        Each leads an aggregator of its own, in every layer but the last, beside a linear one and one that sees the
        votes with the estimator of the first critic that has one.
    adjudicator : Adjudicator
        The judge of every aggregator.
    seed : int
        Of all.

    Notes
    -----
    A layer is fitted on the cross-fitted outputs of the one before, over the same folds. Those outputs carry labels
    of the rows that the layer is judged on (1.7 points above chance on labels that mean nothing, at 600 samples), so
    that the opinions on training rows come from layers that were fitted on other rows throughout.
    """

    def __init__(self, depth: int, critics: Critics, adjudicator: Adjudicator, *, seed: int):
        self.depth = depth
        self.aggregators: list[Critics] = [
            [],
            [("votes", Critic(first_model(critics)))],
            *([critic] for critic in critics),
        ]
        self.adjudicator = adjudicator
        self.seed = seed
        self.stopped_by_ = {"rounds": 1.0}
        self.told_: dict[str, Any] = {"layers": [len(self.aggregators)] * (depth - 1) + [1]}

    def cross_fit(self, case: Case, y: NDArray[Any], splits: Splits, weight: Any) -> Floats:
        """Fit all layers on other rows, then on all."""
        return opinions_on_others(self, case, y, splits, weight)

    def fit(self, case: Case, y: NDArray[Any], splits: Splits, weight: Any) -> None:
        """Fit layer by layer."""
        self.layers_: list[list[Hearing]] = []
        panel = case.panel
        for level in range(self.depth):
            kinds = self.aggregators if level < self.depth - 1 else [[]]
            layer = [
                Hearing(critics, self.adjudicator, seed=self.seed).fit(
                    panel,
                    y,
                    valid=case.valid,
                    views=self._views(case, c),
                    splits=splits,
                    sample_weight=weight,
                )
                for c, critics in enumerate(kinds)
            ]
            self.layers_.append(layer)
            panel = np.stack([hearing.verdict_ for hearing in layer], axis=1)

    def say(self, case: Case) -> Floats:
        """Pass the proposals through the layers."""
        panel = case.panel
        for layer in self.layers_:
            told = [
                hearing.verdict(panel, valid=case.valid, views=self._views(case, c))
                for c, hearing in enumerate(layer)
            ]
            panel = np.stack(told, axis=1)
        silent = np.isnan(case.panel).any(axis=2).all(axis=1)
        return np.where(silent[:, None], even(case.valid), panel[:, 0])

    def _views(self, case: Case, c: int) -> list[Any]:
        return [] if c == 0 else [None] if c == 1 else [case.views[c - 2]]
