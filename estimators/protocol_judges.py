"""Protocols that end before a judge: its own view alone, the source, one consultant, layers of aggregators."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier

from estimators.critic import Adjudicator, Critic, fit_weighted
from estimators.hearing import Floats, Hearing, Splits
from estimators.meeting import Case, even
from fusion.deliberative.critics import proposed_options

Critics = list[tuple[str, Critic]]


class OwnView:
    """The judge alone: a classifier of the options on what it sees itself.

    Parameters
    ----------
    seed : int
        Of the classifier.
    """

    def __init__(self, *, seed: int):
        self.seed = seed
        self.stopped_by_ = {"rounds": 1.0}
        self.told_: dict[str, Any] = {}

    def cross_fit(self, case: Case, y: NDArray[Any], splits: Splits, weight: Any) -> Floats:
        """Fit on other rows."""
        out = np.zeros(case.valid.shape)
        for train, test in splits:
            self._fit(case.take(train), y[train], None if weight is None else weight[train])
            out[test] = self.say(case.take(test))
        self._fit(case, y, weight)
        return out

    def say(self, case: Case) -> Floats:
        """Give probabilities over the options that exist."""
        out = np.zeros(case.valid.shape)
        if self.model_ is None:
            out[:, self.only_] = 1.0
        else:
            out[:, self.model_.classes_] = self.model_.predict_proba(case.seen())
        out = np.where(case.valid, np.maximum(out, 1e-6), 0.0)
        return np.asarray(out / out.sum(axis=1, keepdims=True))

    def _fit(self, case: Case, y: NDArray[Any], weight: Any) -> None:
        self.only_, self.model_ = int(y[0]), None
        if len(np.unique(y)) > 1:
            default = HistGradientBoostingClassifier(
                max_iter=60, learning_rate=0.07, max_leaf_nodes=15, early_stopping=False
            )
            self.model_ = fit_weighted(None, default, case.seen(), y, weight, self.seed)


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
        self.own = OwnView(seed=seed)
        self.hearing = Hearing(critics, adjudicator, seed=seed)
        self.stopped_by_ = {"rounds": 1.0}
        self.told_: dict[str, Any] = {}

    def cross_fit(self, case: Case, y: NDArray[Any], splits: Splits, weight: Any) -> Floats:
        """Fit the own view on other rows, then critics and judge."""
        panel = np.concatenate([case.panel, self.own.cross_fit(case, y, splits, weight)[:, None]], axis=1)
        return self.hearing.fit(
            panel, y, valid=case.valid, views=case.views, splits=splits, sample_weight=weight
        ).verdict_

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
        Each leads an aggregator of its own, beside a linear and a boosted one, in every layer but the last.
    adjudicator : Adjudicator
        The judge of every aggregator.
    seed : int
        Of all.

    Notes
    -----
    A layer is fitted on the cross-fitted outputs of the one before, over the same folds.
    """

    def __init__(self, depth: int, critics: Critics, adjudicator: Adjudicator, *, seed: int):
        self.depth = depth
        self.aggregators: list[Critics] = [[], [("votes", Critic())], *([critic] for critic in critics)]
        self.adjudicator = adjudicator
        self.seed = seed
        self.stopped_by_ = {"rounds": 1.0}
        self.told_: dict[str, Any] = {"layers": [len(self.aggregators)] * (depth - 1) + [1]}

    def cross_fit(self, case: Case, y: NDArray[Any], splits: Splits, weight: Any) -> Floats:
        """Fit layer by layer."""
        self.layers_: list[list[Hearing]] = []
        panel = case.panel
        silent = np.isnan(panel).any(axis=2).all(axis=1)
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
        return np.where(silent[:, None], even(case.valid), panel[:, 0])

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
