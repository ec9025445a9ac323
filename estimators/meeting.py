"""A meeting: proposals become a verdict by a protocol's own rule, cross-fitted and calibrated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from estimators.critic import Adjudicator
from estimators.hearing import Floats, Splits, inner_folds, settle
from fusion.deliberative.adjudication import Temperature, adjudicate

_FLOOR = 1e-6


@dataclass(frozen=True, eq=False)
class Case:
    """What there is to be judged.

    Attributes
    ----------
    panel : ndarray of shape (sample, specialist, output)
        Sealed proposals, NaN rows for abstentions.
    valid : ndarray of bool, shape (sample, output)
        Which options exist.
    views : list of ndarray or None
        Each critic's view.
    """

    panel: Floats
    valid: NDArray[np.bool_]
    views: list[Any]

    def take(self, rows: Any) -> Case:
        """Give some of the samples."""
        views = [None if view is None else view[rows] for view in self.views]
        return Case(self.panel[rows], self.valid[rows], views)

    def seen(self) -> Floats | None:
        """Give all views side by side, or None where there is none."""
        views = [view for view in self.views if view is not None]
        return np.column_stack(views) if views else None


class Meaning(Protocol):
    """What a protocol means for specialists that speak once."""

    stopped_by_: dict[str, float]
    told_: dict[str, Any]

    def cross_fit(self, case: Case, y: NDArray[Any], splits: Splits, weight: Any) -> Floats:
        """Fit on all rows, and give opinions (sample, output) that were not fitted on their own rows."""

    def say(self, case: Case) -> Floats:
        """Give opinions (sample, output) on other samples: probabilities over the options that exist."""


class Fitted(Protocol):
    """A rule that is fitted on some rows and gives opinions on others."""

    def fit(self, case: Case, y: NDArray[Any], splits: Splits, weight: Any) -> None:
        """Fit on these rows; ``splits`` are folds of them for what is fitted in layers."""

    def say(self, case: Case) -> Floats:
        """Give opinions (sample, output)."""


def opinions_on_others(rule: Fitted, case: Case, y: NDArray[Any], splits: Splits, weight: Any) -> Floats:
    """Cross-fit a rule, and leave it fitted on all rows.

    Parameters
    ----------
    rule : Fitted
        Is fitted in place.
    case : Case
        All rows.
    y : ndarray of int, shape (sample,)
        Codes of the right options.
    splits : list of (train, test)
        Folds.
    weight : ndarray of shape (sample,), or None
        Weights of the samples.

    Returns
    -------
    ndarray of shape (sample, output)
        Opinions on rows that nothing in the rule was fitted on.
    """
    out = np.zeros(case.valid.shape)
    for train, test in splits:
        part = None if weight is None else weight[train]
        rule.fit(case.take(train), y[train], inner_folds(train, splits), part)
        out[test] = rule.say(case.take(test))
    rule.fit(case, y, splits, weight)
    return out


class Meeting:
    """A protocol's rule with a temperature, in the place of a hearing.

    Parameters
    ----------
    meaning : Meaning
        What turns proposals into opinions.
    adjudicator : Adjudicator
        Whose calibration is used.

    Attributes
    ----------
    verdict_ : ndarray of shape (sample, output)
        Cross-fitted verdict of the training rows.
    temperature_ : Temperature or None
        Fitted on cross-fitted opinions.
    stopped_by_ : dict of str to float
        Share of the training rows that each stop rule ended.
    told_ : dict
        What the rule has to report.
    """

    def __init__(self, meaning: Meaning, adjudicator: Adjudicator):
        self.meaning = meaning
        self.adjudicator = adjudicator
        self.critic_names_: list[str] = []
        self.weights_: Floats | None = None

    def fit(
        self,
        panel: Floats,
        y: NDArray[Any],
        *,
        valid: NDArray[np.bool_],
        views: list[Any],
        splits: Splits,
        sample_weight: Any = None,
    ) -> Meeting:
        """Cross-fit the rule, then the temperature on its opinions; the arguments are those of `Hearing.fit`."""
        case = Case(panel, valid, views)
        scores = self._scores(self.meaning.cross_fit(case, y, splits, sample_weight), case)
        self.temperature_: Temperature | None = settle(self.adjudicator, scores, y, valid, sample_weight)
        self.verdict_ = adjudicate(scores, valid=valid, inverse_temperature=self.inverse_temperature_)
        self.stopped_by_, self.told_ = self.meaning.stopped_by_, self.meaning.told_
        return self

    @property
    def inverse_temperature_(self) -> float:
        """Inverse temperature of the verdict."""
        return 1.0 if self.temperature_ is None else self.temperature_.value

    def verdict(
        self,
        panel: Floats,
        *,
        valid: NDArray[np.bool_],
        views: list[Any],
        critiques: Any = None,
        extra: Any = None,
    ) -> Floats:
        """Give the verdict of shape (sample, output); critiques and extra columns are a hearing's alone."""
        if not len(panel):
            return np.zeros(valid.shape)
        case = Case(panel, valid, views)
        scores = self._scores(self.meaning.say(case), case)
        return adjudicate(scores, valid=valid, inverse_temperature=self.inverse_temperature_)

    def critique(self, panel: Floats, *, valid: NDArray[np.bool_], views: list[Any]) -> Floats:
        """Give no columns: of shape (sample, output, 0)."""
        return np.zeros((*valid.shape, 0))

    def influence_bound(self, n_byzantine: int) -> float:
        """Give the trivial bound: 0 without liars, 1 with them."""
        return 0.0 if n_byzantine == 0 else 1.0

    def _scores(self, opinion: Floats, case: Case) -> Floats:
        return np.where(case.valid, np.log(np.maximum(opinion, _FLOOR)), 0.0)


def even(valid: NDArray[np.bool_]) -> Floats:
    """Give probabilities that are equal over the options that exist."""
    return np.asarray(valid / valid.sum(axis=1, keepdims=True))


def softmax(scores: Floats, valid: NDArray[np.bool_]) -> Floats:
    """Give exp(scores) over the options that exist, made to sum to 1."""
    raw = np.where(valid, scores, -np.inf)
    raw = np.exp(raw - raw.max(axis=1, keepdims=True))
    return np.asarray(raw / raw.sum(axis=1, keepdims=True))
