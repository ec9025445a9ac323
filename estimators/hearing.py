"""One hearing: critics and judge, cross-fitted on the sealed proposals of some specialists."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from estimators.critic import Adjudicator, Critic
from fusion.deliberative.adjudication import Temperature, adjudicate, fit_temperature, influence_bound
from fusion.deliberative.critics import proposed_options
from fusion.deliberative.odds import log_odds, soften_votes
from theory import FaultWarning

Floats = NDArray[np.float64]
Splits = list[tuple[NDArray[Any], NDArray[Any]]]
_FLOOR = 1e-6
_FEW = 200


class Sealed:
    """Proposals as the judge reads them: rows that are whole, and votes softened by their accuracy."""

    def __init__(self, panel: Floats, valid: NDArray[np.bool_], y: NDArray[Any], weight: Any):
        clean = seal(panel, valid)
        spoke = ~np.isnan(clean).any(axis=2)
        self.hard = (_is_vote(clean) | ~spoke).all(axis=0) & spoke.any(axis=0)
        self.accuracy = accuracy_of(clean, y, valid, weight)

    def odds(self, panel: Floats, valid: NDArray[np.bool_]) -> Floats:
        """Give centred log-odds of sealed proposals."""
        soft = panel.copy()
        votes = self.hard[None, :] & _is_vote(panel)
        if votes.any():
            only = np.where(votes[:, :, None], panel, np.nan)
            soft[votes] = soften_votes(only, self.accuracy, valid=valid)[votes]
        return np.asarray(log_odds(soft, valid=valid, missing="abstain"))


def seal(panel: Floats, valid: NDArray[np.bool_]) -> Floats:
    """Make rows whole: 1e-6 for a class that a specialist cannot name, nothing for options that do not exist.

    Parameters
    ----------
    panel : ndarray of shape (sample, specialist, output)
        Answers; NaN where there is none.
    valid : ndarray of bool, shape (sample, output)
        Which options exist.

    Returns
    -------
    ndarray of shape (sample, specialist, output)
        Probabilities, or NaN rows; a row without mass on valid options is an abstention.
    """
    gone = np.isnan(panel).all(axis=2)
    holes = np.isnan(panel)
    filled = np.where(holes, _FLOOR, panel) if (holes & ~gone[:, :, None]).any() else panel.copy()
    filled = np.where(valid[:, None, :], filled, 0.0)
    filled[gone] = np.nan
    mass = filled.sum(axis=2, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(mass > 0.0, filled / mass, np.nan)


def _is_vote(panel: Floats) -> NDArray[np.bool_]:
    return np.asarray(((panel == 0.0) | (panel == 1.0)).all(axis=2))


def accuracy_of(panel: Floats, y: NDArray[Any], valid: Any, weight: Any = None) -> Floats:
    """Accuracy of each specialist among the samples it answered; a half where it answered none."""
    words = proposed_options(panel, valid=valid)
    share = np.ones(len(y)) if weight is None else np.asarray(weight, dtype=np.float64)
    spoke = (words >= 0) * share[:, None]
    right = (words == y[:, None]) * share[:, None]
    total = spoke.sum(axis=0)
    return np.divide(right.sum(axis=0), total, out=np.full(len(total), 0.5), where=total > 0.0)


def settle(
    adjudicator: Adjudicator, scores: Floats, y: NDArray[Any], valid: Any, weight: Any
) -> Temperature | None:
    """Fit the temperature on cross-fitted scores; tell where there are few.

    Parameters
    ----------
    adjudicator : Adjudicator
        Whose calibration is wanted.
    scores : ndarray of shape (sample, output)
        Of rows that the judge was not fitted on.
    y : ndarray of int
        Codes of the right options.
    valid : ndarray of bool, shape (sample, output)
        Which options exist.
    weight : ndarray of shape (sample,), or None
        Weights of the samples.

    Returns
    -------
    Temperature or None
        None without calibration.
    """
    if adjudicator.calibration != "temperature":
        return None
    found = fit_temperature(scores, y, valid=valid, sample_weight=weight)
    if len(y) < _FEW:
        warnings.warn(
            f"the temperature {found.value:.3g} rests on {len(y)} samples (standard error "
            f"{found.standard_error:.2g}); {_FEW} are needed to trust the probabilities.",
            FaultWarning,
            stacklevel=7,
        )
    return found


class Hearing:
    """Critics and judge of one set of specialists.

    Parameters
    ----------
    critics : list of (str, Critic)
        May be empty: the judge is then a stack of the sealed proposals.
    adjudicator : Adjudicator
        The judge.
    seed : int
        For estimators without a seed.

    Attributes
    ----------
    critics_, judge_ : list of Critic, Adjudicator
        Fitted on all rows (the judge on cross-fitted critics).
    temperature_ : Temperature or None
        Fitted on cross-fitted scores.
    verdict_ : ndarray of shape (sample, output)
        Cross-fitted verdict of the training rows.
    critic_scores_ : ndarray of shape (sample, output, critic)
        Cross-fitted.
    revised_ : bool
        Whether the judge sees further columns.
    """

    def __init__(self, critics: list[tuple[str, Critic]], adjudicator: Adjudicator, *, seed: int):
        self.critics = critics
        self.adjudicator = adjudicator
        self.seed = seed
        self.critic_names_ = [name for name, _ in critics]
        self.told_: dict[str, Any] = {}

    def fit(
        self,
        panel: Floats,
        y: NDArray[Any],
        *,
        valid: NDArray[np.bool_],
        views: list[Any],
        splits: Splits,
        sample_weight: Any = None,
        extra: Floats | None = None,
        nested: bool = True,
    ) -> Hearing:
        """Cross-fit critics, then the judge on their outputs, then the temperature on its outputs.

        Parameters
        ----------
        panel : ndarray of shape (sample, specialist, output)
            Sealed proposals to samples that the specialists were not fitted on.
        y : ndarray of int
            Codes of the right options.
        valid : ndarray of bool, shape (sample, output)
            Which options exist.
        views : list of ndarray or None
            Each critic's view.
        splits : list of (train, test)
            Folds of these rows.
        sample_weight : ndarray, optional
            Weights of the samples.
        extra : ndarray of shape (sample, output, column), optional
            Further columns for the judge, such as revised opinions.
        nested : bool
            Whether, for the cross-fitted verdict, critics are fitted anew within each judge's rows. Without, critics
            of those rows have seen the labels of the others: on labels that mean nothing, at 600 samples, that
            looks like a gain of 1.1 points (standard error .4). Who cross-fits the hearing as a whole needs it not.

        Returns
        -------
        self : Hearing
        """
        n, _, k = panel.shape
        self.sealed_ = Sealed(panel, valid, y, sample_weight)
        odds = self.sealed_.odds(panel, valid)
        columns = np.zeros((n, k, len(self.critics)))
        self.right_ = np.full((len(self.critics), *panel.shape[:2]), np.nan)
        self.rows_ = {"critic": splits, "judge": splits}
        self.critics_ = []
        for c, (name, critic) in enumerate(self.critics):
            view = views[c]
            for train, test in splits:
                fitted = self._critic(critic, panel, y, valid, view, train, sample_weight)
                seen = None if view is None else view[test]
                columns[test, :, c] = fitted.scores(panel[test], valid=valid[test], view=seen)
                self.right_[c, test] = fitted.right(panel[test], valid=valid[test], view=seen)
            whole = self._critic(critic, panel, y, valid, view, np.arange(n), sample_weight)
            if whole.estimator_ is None:
                warnings.warn(
                    f"critic {name!r} saw one target only (all right, or all wrong): the judge goes on without it.",
                    FaultWarning,
                    stacklevel=6,
                )
            self.critics_.append(whole)
        self.critic_scores_ = columns
        self.revised_ = extra is not None
        columns = columns if extra is None else np.concatenate([columns, extra], axis=2)
        scores = np.zeros((n, k))
        known: dict[
            tuple[int, bytes], Critic
        ] = {}  # who leaves out two folds serves either as the judge's own
        for train, test in splits:
            own = columns
            if nested and self.critics:
                own = columns.copy()
                own[train, :, : len(self.critics)] = self._inner(
                    panel, y, valid, views, train, splits, sample_weight, known
                )
            judge = self._judge(odds, own, y, valid, train, sample_weight)
            scores[test] = judge.scores(odds[test], columns[test], valid=valid[test])
        self.judge_ = self._judge(odds, columns, y, valid, np.arange(n), sample_weight)
        self.temperature_ = settle(self.adjudicator, scores, y, valid, sample_weight)
        self.verdict_ = adjudicate(scores, valid=valid, inverse_temperature=self.inverse_temperature_)
        return self

    @property
    def inverse_temperature_(self) -> float:
        """Inverse temperature of the verdict."""
        return 1.0 if self.temperature_ is None else self.temperature_.value

    @property
    def weights_(self) -> Floats | None:
        """Weights of a linear judge on the specialists."""
        return self.judge_.weights_

    def verdict(
        self,
        panel: Floats,
        *,
        valid: NDArray[np.bool_],
        views: list[Any] | None = None,
        critiques: Floats | None = None,
        extra: Floats | None = None,
    ) -> Floats:
        """Judge new proposals.

        Parameters
        ----------
        panel : ndarray of shape (sample, specialist, output)
            Sealed proposals.
        valid : ndarray of bool, shape (sample, output)
            Which options exist.
        views : list of ndarray or None, optional
            Each critic's view; not needed with critiques.
        critiques : ndarray of shape (sample, output, critic), optional
            As `critique` gave them.
        extra : ndarray of shape (sample, output, column), optional
            As in ``fit``.

        Returns
        -------
        ndarray of shape (sample, output)
            Probabilities; even over the options that exist where everybody abstains.
        """
        odds = self.sealed_.odds(panel, valid)
        columns = self.critique(panel, valid=valid, views=views or []) if critiques is None else critiques
        columns = columns if extra is None else np.concatenate([columns, extra], axis=2)
        scores = self.judge_.scores(odds, columns, valid=valid)
        silent = np.isnan(panel).any(axis=2).all(axis=1)
        scores[silent] = 0.0
        return adjudicate(scores, valid=valid, inverse_temperature=self.inverse_temperature_)

    def influence_bound(self, n_byzantine: int) -> float:
        """Bound what liars can do to a linear judge without critics; 1 elsewhere."""
        weights = self.judge_.weights_
        if weights is None or self.critics or (weights < 0.0).any():
            return influence_bound(None, n_byzantine=n_byzantine)
        if n_byzantine == 0:
            return 0.0
        beta = self.inverse_temperature_
        # Log-odds lie within log(1e6) of 0; the column for "nobody leans to it" moves with them.
        odds = influence_bound(
            weights, n_byzantine=n_byzantine, inverse_temperature=beta, max_abs=float(np.log(1e6))
        )
        lonely = 2.0 * beta * abs(float(np.ravel(self.judge_.estimator_.coef_)[len(weights)]))
        return float(np.tanh(np.arctanh(min(odds, 1.0 - 1e-15)) + lonely / 4.0))

    def critique(self, panel: Floats, *, valid: NDArray[np.bool_], views: list[Any]) -> Floats:
        """Give the critics' scores, of shape (sample, output, critic)."""
        columns = np.zeros((len(panel), panel.shape[2], len(self.critics_)))
        if len(panel):
            for c, critic in enumerate(self.critics_):
                columns[:, :, c] = critic.scores(panel, valid=valid, view=views[c])
        return columns

    def _inner(
        self,
        panel: Floats,
        y: Any,
        valid: Any,
        views: list[Any],
        train: Any,
        splits: Splits,
        weight: Any,
        known: dict[tuple[int, bytes], Critic],
    ) -> Floats:
        """Give the scores of critics that were fitted within some training rows only."""
        out = np.zeros((len(train), panel.shape[2], len(self.critics)))
        for c, (_, critic) in enumerate(self.critics):
            for fit, other in inner_folds(train, splits):
                own, rows = train[fit], train[other]
                if (c, own.tobytes()) not in known:
                    known[c, own.tobytes()] = self._critic(critic, panel, y, valid, views[c], own, weight)
                seen = None if views[c] is None else views[c][rows]
                out[other, :, c] = known[c, own.tobytes()].scores(panel[rows], valid=valid[rows], view=seen)
        return out

    def _critic(
        self, critic: Critic, panel: Floats, y: Any, valid: Any, view: Any, rows: Any, weight: Any
    ) -> Critic:
        part = None if weight is None else weight[rows]
        return clone(critic).fit(
            panel[rows],
            y[rows],
            accuracy=accuracy_of(panel[rows], y[rows], valid[rows], part),
            valid=valid[rows],
            view=None if view is None else view[rows],
            sample_weight=part,
            seed=self.seed,
        )

    def _judge(self, odds: Any, columns: Any, y: Any, valid: Any, rows: Any, weight: Any) -> Adjudicator:
        return clone(self.adjudicator).fit(
            odds[rows],
            columns[rows],
            y[rows],
            valid=valid[rows],
            sample_weight=None if weight is None else weight[rows],
            seed=self.seed,
        )


def inner_folds(train: NDArray[Any], splits: Splits) -> Splits:
    """Give folds of the training rows of one fold: the other folds, or two halves where there is one.

    Parameters
    ----------
    train : ndarray of int
        Rows of the outer training set.
    splits : list of (train, test)
        Outer folds.

    Returns
    -------
    list of (train, test)
        Positions within ``train``.
    """
    parts = [np.flatnonzero(np.isin(train, test)) for _, test in splits]
    parts = [part for part in parts if len(part)]
    if len(parts) < 2:
        parts = [np.arange(len(train))[half::2] for half in (0, 1)]
    every = np.arange(len(train))
    return [(np.setdiff1d(every, part), part) for part in parts]
