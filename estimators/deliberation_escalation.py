"""Escalation: who is asked first, and when the others are asked too."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.ensemble import HistGradientBoostingRegressor

from fusion.deliberative.critics import proposed_options
from theory import PanelError

_FEW = 200


class Escalation(BaseEstimator):
    """Ask a few specialists, and the others only where it pays.

    Parameters
    ----------
    stages : list of list of str
        Names of the specialists that each stage adds; those of stage 0 are asked about every sample.
    rule : {"disagreement", "confidence", "expected_gain"} or callable
        Which samples go on. ``"disagreement"``: those whose specialists do not all say the same (no labels
        needed); of numbers, those whose standard deviation between specialists exceeds ``threshold`` times the
        judge's root mean squared error. ``"confidence"``: those whose verdict is below ``threshold`` (of numbers,
        whose predicted standard deviation is above it), or the ``rate`` least confident.
        ``"expected_gain"``: those that are expected to gain most per price. A callable gets (panel, verdict) and
        gives a mask; the verdict on numbers has the columns value and predicted standard deviation.
    threshold : float, optional
        Of ``"confidence"``: largest probability below which a sample goes on; of ``"expected_gain"``: gain (in
        probability, or in squared error) per price above which it does; of ``"disagreement"`` between numbers: 1 by
        default.
    rate : float, optional
        Share of the samples of a stage that go on, turned into a threshold on the calibration rows.
    price : float or list of float
        Price of each stage after the first, of ``"expected_gain"``. With ``threshold=1/error`` samples go on where
        that is cheaper than accepting, at a cost of ``error`` per wrong answer (or per squared error of 1).

    Notes
    -----
    Unanimous: everybody answered, and names one option. An abstention is doubt too: on the stored language models,
    passing over it costs 1.3 points at .6 calls saved. One specialist disagrees with nobody: after a stage of one,
    ``"disagreement"`` goes on only where it abstains. Between numbers disagreement is a weak sign: with a line and
    a tree before a boosted model that is needed in one region, a quarter of the samples chosen by spread leaves a
    squared error of .36 to .39, by lot .40 to .42, by ``"confidence"`` .28 to .32, by ``"expected_gain"`` .28 to .29.

    Examples
    --------
    >>> Escalation([["small", "other"], ["large", "larger"]]).rule
    'disagreement'
    """

    def __init__(
        self,
        stages: list[list[str]],
        *,
        rule: Any = "disagreement",
        threshold: float | None = None,
        rate: float | None = None,
        price: Any = 1.0,
    ):
        self.stages = stages
        self.rule = rule
        self.threshold = threshold
        self.rate = rate
        self.price = price

    def check(self, names: list[str]) -> list[list[int]]:
        """Turn names into positions; every stage holds those before it.

        Parameters
        ----------
        names : list of str
            The specialists.

        Returns
        -------
        list of list of int
            Who has spoken at the end of each stage.

        Raises
        ------
        PanelError
            If a stage is empty or names somebody unknown, the stages leave somebody out, or the rule lacks its
            parameter.
        """
        if not self.stages or not all(len(stage) for stage in self.stages):
            raise PanelError("stages must be non-empty lists of names: [['small'], ['large']].")
        unknown = sorted({name for stage in self.stages for name in stage} - set(names))
        if unknown:
            raise PanelError(f"stages name {unknown}; the specialists are {names}.")
        if not callable(self.rule) and self.rule not in ("disagreement", "confidence", "expected_gain"):
            raise PanelError(
                f"rule must be 'disagreement', 'confidence', 'expected_gain' or a callable; got {self.rule!r}."
            )
        if self.rule in ("confidence", "expected_gain") and (self.threshold is None) == (self.rate is None):
            raise PanelError(f"rule={self.rule!r} needs either threshold or rate.")
        if self.threshold is not None and self.rate is not None:
            raise PanelError(f"rule={self.rule!r} takes a threshold or a rate, not both.")
        if callable(self.rule) and (self.threshold is not None or self.rate is not None):
            raise PanelError("a callable rule decides by itself: leave threshold and rate out.")
        if self.rule != "expected_gain" and not np.all(np.asarray(self.price) == 1.0):
            raise PanelError(
                f"price={self.price!r} would not count: only rule='expected_gain' weighs gains against prices."
            )
        if self.threshold is not None and not np.isfinite(self.threshold):
            raise PanelError(f"threshold must be finite, or nobody goes on; got {self.threshold!r}.")
        if self.rate is not None and not 0.0 <= self.rate <= 1.0:
            raise PanelError(f"rate is a share in [0, 1]; got {self.rate!r}.")
        active: list[int] = []
        out = []
        for stage in self.stages:
            active = sorted({*active, *(names.index(name) for name in stage)})
            out.append(active)
        idle = [name for i, name in enumerate(names) if i not in active]
        if idle:
            raise PanelError(f"no stage asks {idle}. Add them to a stage, or drop them from the specialists.")
        return out

    def prices(self) -> NDArray[np.float64]:
        """Price of each stage after the first.

        Returns
        -------
        ndarray of shape (stage - 1,)

        Raises
        ------
        PanelError
            If there are not as many prices as stages, or one is not positive.
        """
        later = len(self.stages) - 1
        prices = np.asarray(self.price, dtype=np.float64)
        if prices.shape not in ((), (later,)) or not (prices > 0.0).all():
            raise PanelError(
                f"price is one positive number, or one per later stage ({later}); got {self.price!r}."
            )
        return np.broadcast_to(prices, (later,))


class StageGain:
    """What a further stage brings to a sample: a regression on its situation.

    Parameters
    ----------
    seed : int
        Seed of the regression.

    Attributes
    ----------
    model_ : regressor
        Fitted.
    """

    def __init__(self, *, seed: int):
        self.seed = seed

    def fit(self, situation: NDArray[Any], won: NDArray[Any], sample_weight: Any = None) -> StageGain:
        """Learn on cross-fitted verdicts.

        Parameters
        ----------
        situation : ndarray of shape (sample, feature)
            What is known of the sample before the stage.
        won : ndarray of shape (sample,)
            What the stage brought.
        sample_weight : ndarray, optional
            Weights.

        Returns
        -------
        self : StageGain

        Raises
        ------
        PanelError
            On fewer than 200 samples.
        """
        if len(won) < _FEW:
            raise PanelError(
                f"expected gains need at least {_FEW} samples to be learned on; got {len(won)}. Use rule='disagreement'."
            )
        self.model_ = self._fresh().fit(situation, won, sample_weight=sample_weight)
        return self

    def cross_predict(
        self, situation: NDArray[Any], won: NDArray[Any], splits: Any, sample_weight: Any = None
    ) -> NDArray[np.float64]:
        """Give the gains that are expected of samples which were not learned on.

        Parameters
        ----------
        situation, won, sample_weight : ndarray
            As in `fit`.
        splits : list of (train, test)
            Folds.

        Returns
        -------
        ndarray of shape (sample,)
        """
        out = np.zeros(len(won))
        for train, test in splits:
            part = None if sample_weight is None else sample_weight[train]
            model = self._fresh().fit(situation[train], won[train], sample_weight=part)
            out[test] = model.predict(situation[test])
        return out

    def predict(self, situation: NDArray[Any]) -> NDArray[np.float64]:
        """Give the expected gain of each sample.

        Parameters
        ----------
        situation : ndarray of shape (sample, feature)
            As in `fit`.

        Returns
        -------
        ndarray of shape (sample,)
        """
        return np.asarray(self.model_.predict(situation)) if len(situation) else np.zeros(0)

    def _fresh(self) -> Any:
        return HistGradientBoostingRegressor(
            max_iter=60, learning_rate=0.07, max_leaf_nodes=8, min_samples_leaf=40, random_state=self.seed,
            early_stopping=False,
        )  # fmt: skip


class Door:
    """Between two stages: which samples go on. Verdicts are probabilities of options.

    Parameters
    ----------
    rule : Escalation
        By which they do.
    stage : int
        The stage before.
    seed : int
        Of the regression of expected gains.
    """

    def __init__(self, rule: Escalation, stage: int, *, seed: int):
        self.rule, self.stage, self.seed = rule, stage, seed

    def fit(
        self,
        panel: Any,
        before: Any,
        after: Any,
        y: Any,
        *,
        splits: Any,
        came: NDArray[np.bool_],
        sample_weight: Any = None,
    ) -> Door:
        """Turn the rule's rate into a threshold.

        Parameters
        ----------
        panel : ndarray of shape (sample, specialist, output)
            Proposals of the stage before.
        before, after : ndarray of shape (sample, output)
            Cross-fitted verdicts.
        y : ndarray
            Codes of the right options, or numbers.
        splits : list of (train, test)
            Folds of these samples.
        came : ndarray of bool, shape (sample,)
            Which of them came to the stage before: a rate is a share of those.
        sample_weight : ndarray, optional
            Weights.

        Returns
        -------
        self : Door
            With ``passed_``, the samples that go on by what was learned on others.

        Raises
        ------
        PanelError
            If expected gains are to be learned on fewer than 200 samples.
        """
        rule = self.rule
        self.threshold_ = rule.threshold
        self._settle(before, y, sample_weight)
        if rule.rule != "expected_gain":
            if rule.rate is not None:
                self.threshold_ = _exceeded_by(rule.rate, self._doubt(panel, before), came, sample_weight)
            self.passed_ = self.goes_on(panel, before) & came
            return self
        self.price_ = float(rule.prices()[self.stage])
        situation, won = self._situation(panel, before), self._won(before, after, y)
        self.gain_ = StageGain(seed=self.seed).fit(situation, won, sample_weight)
        # What was learned on a sample knows how it ends: on labels that mean nothing, at 600 samples, the cascade
        # would seem 5.7 points (standard error .8) better than by lot.
        worth = self.gain_.cross_predict(situation, won, splits, sample_weight) / self.price_
        if rule.rate is not None:
            self.threshold_ = _exceeded_by(rule.rate, worth, came, sample_weight)
        self.passed_ = (worth > self.threshold_) & came
        return self

    def goes_on(self, panel: Any, verdict: Any) -> NDArray[np.bool_]:
        """Give the mask of the samples that go on.

        Parameters
        ----------
        panel : ndarray of shape (sample, specialist, output)
            Proposals of the stage before.
        verdict : ndarray of shape (sample, output)
            Of the stage before.

        Returns
        -------
        ndarray of bool, shape (sample,)

        Raises
        ------
        PanelError
            If a callable gives anything but a bool per sample.
        """
        rule = self.rule.rule
        if callable(rule):
            mask = np.asarray(rule(panel, verdict))
            if mask.dtype != bool or mask.shape != (len(verdict),):
                raise PanelError(
                    f"an escalation rule gives a bool for each of {len(verdict)} samples; got shape {mask.shape} of "
                    f"{mask.dtype}. Return a mask such as verdict.max(axis=1) < 0.5."
                )
            return mask
        if rule == "expected_gain":
            gain = self.gain_.predict(self._situation(panel, verdict)) / self.price_
            return np.asarray(gain > self.threshold_)
        return self._unsure(panel, verdict)

    def _settle(self, before: Any, y: Any, sample_weight: Any) -> None:
        """Learn what the rule needs beside a threshold: nothing, of options."""

    def _doubt(self, panel: Any, verdict: Any) -> NDArray[np.float64]:
        return np.asarray(-verdict.max(axis=1))

    def _unsure(self, panel: Any, verdict: Any) -> NDArray[np.bool_]:
        if self.rule.rule == "disagreement":
            return disagree(panel)
        least = self.rule.threshold if self.rule.rate is None else -self.threshold_
        return np.asarray(verdict.max(axis=1) < least)

    def _won(self, before: Any, after: Any, y: Any) -> NDArray[np.float64]:
        return np.asarray((after.argmax(axis=1) == y).astype(np.float64) - (before.argmax(axis=1) == y))

    def _situation(self, panel: Any, verdict: Any) -> NDArray[np.float64]:
        ordered = np.sort(verdict, axis=1)[:, ::-1]
        words = proposed_options(panel)
        spoke = (words >= 0).sum(axis=1)
        second = ordered[:, 1] if ordered.shape[1] > 1 else np.zeros(len(verdict))
        entropy = -(verdict * np.log(np.maximum(verdict, 1e-12))).sum(axis=1)
        distinct = np.array([len(set(row[row >= 0])) for row in words], dtype=np.float64)
        return np.column_stack([ordered[:, 0], second, entropy, spoke, distinct])


class NumberDoor(Door):
    """Between two stages of numbers; the verdict has the columns value and predicted standard deviation.

    Notes
    -----
    Spread counts in units of the judge's root mean squared error on unseen rows: what of y it cannot explain. Who
    does not answer is doubt too.
    """

    def _settle(self, before: Any, y: Any, sample_weight: Any) -> None:
        self.noise_ = float(np.sqrt(np.average((y - before[:, 0]) ** 2, weights=sample_weight)))
        if self.threshold_ is None:
            self.threshold_ = 1.0

    def _doubt(self, panel: Any, verdict: Any) -> NDArray[np.float64]:
        if self.rule.rule == "confidence":
            return np.asarray(verdict[:, 1])
        spread, absent = _spread(panel)
        return np.where(absent, np.inf, spread / max(self.noise_, 1e-300))

    def _unsure(self, panel: Any, verdict: Any) -> NDArray[np.bool_]:
        return np.asarray(self._doubt(panel, verdict) > self.threshold_)

    def _won(self, before: Any, after: Any, y: Any) -> NDArray[np.float64]:
        return np.asarray((y - before[:, 0]) ** 2 - (y - after[:, 0]) ** 2)

    def _situation(self, panel: Any, verdict: Any) -> NDArray[np.float64]:
        spread, _ = _spread(panel)
        return np.column_stack([verdict, spread, (~np.isnan(panel[:, :, 0])).sum(axis=1)])


def _exceeded_by(rate: float, doubt: NDArray[np.float64], came: NDArray[np.bool_], weight: Any) -> float:
    """Give the threshold that a share of the samples exceeds, at most where many are equal."""
    if rate in (0.0, 1.0) or not came.any():
        return np.inf if rate == 0.0 else -np.inf
    share = None if weight is None else weight[came]
    return float(np.quantile(doubt[came], 1.0 - rate, weights=share, method="inverted_cdf"))


def _spread(panel: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Give the standard deviation between specialists, and where somebody is absent."""
    said = panel[:, :, 0]
    here = ~np.isnan(said)
    count = np.maximum(here.sum(axis=1), 1)
    mean = np.where(here, said, 0.0).sum(axis=1) / count
    square = np.where(here, (said - mean[:, None]) ** 2, 0.0).sum(axis=1) / count
    return np.sqrt(square), ~here.all(axis=1)


def disagree(panel: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Say in which samples the specialists do not all name one option.

    Parameters
    ----------
    panel : ndarray of shape (sample, specialist, output)
        Proposals.

    Returns
    -------
    ndarray of bool, shape (sample,)
        True too where somebody abstains.
    """
    words = proposed_options(panel)
    most = words.max(axis=1)
    return np.asarray((words != most[:, None]).any(axis=1) | (most < 0))


def cascade_report(
    losses: list[NDArray[np.float64]], reached: NDArray[np.int64], sizes: list[int], weight: Any = None
) -> dict[str, Any]:
    """Compare a cascade on unseen rows with always the first stage, always all, and as many by lot.

    Parameters
    ----------
    losses : list of ndarray of shape (sample,)
        Of each stage's verdict.
    reached : ndarray of int, shape (sample,)
        Last stage of each sample.
    sizes : list of int
        Specialists who have spoken at the end of each stage.
    weight : ndarray of shape (sample,), optional
        Weights of the samples.

    Returns
    -------
    dict
        Loss of each, the calls of a sample and the share that goes on. By lot: its expectation at the same
        share of samples in each stage.

    Examples
    --------
    >>> told = cascade_report([np.array([0.0, 1.0]), np.zeros(2)], np.array([0, 1]), [1, 3])
    >>> told["cascade"], told["random"], told["calls_per_sample"]
    (0.0, 0.25, 2.0)
    """
    share = np.ones(len(reached)) if weight is None else weight
    table = np.stack(losses, axis=1)
    rate = np.array([np.average(reached == s, weights=share) for s in range(len(losses))])
    mean = np.average(table, axis=0, weights=share)
    own = np.average(table[np.arange(len(reached)), reached], weights=share)
    return {
        "rate": float(1.0 - rate[0]),
        "calls_per_sample": float(rate @ np.asarray(sizes, dtype=np.float64)),
        "first": float(mean[0]),
        "all": float(mean[-1]),
        "cascade": float(own),
        "random": float(rate @ mean),
    }
