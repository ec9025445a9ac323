"""Answers from what many said, without talk: repeated samples, surprising popularity, the Delphi method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion.deliberative._reading import Floats, read_valid
from fusion.deliberative.critics import proposed_options
from theory._exceptions import PanelError
from theory.labels import as_labels
from theory.panel import as_panel


@dataclass(frozen=True, eq=False)
class SelfConsistency:
    """Shares of repeated answers of one model, and how many had to be drawn.

    Attributes
    ----------
    shares : ndarray of shape (sample, output)
        Of the answers counted; even where there was none.
    drawn : ndarray of int, shape (sample,)
        Answers counted before the lead was safe.
    """

    shares: Floats
    drawn: NDArray[np.int64]


def self_consistency(
    labels: Any, *, n_outputs: int | None = None, stop_early: bool = False
) -> SelfConsistency:
    """Count the answers that one model gave when asked repeatedly.

    Parameters
    ----------
    labels : array-like of int, shape (sample, draw)
        Answers in the order drawn; -1 abstains.
    n_outputs : int, optional
        Number of options.
    stop_early : bool, default False
        Whether to stop where the lead exceeds the draws that are left: the winner cannot change any more.

    Returns
    -------
    SelfConsistency

    Raises
    ------
    PanelError
        If the labels cannot be read.

    Notes
    -----
    Stopping early never changes the plurality. It is the baseline, at equal calls, for every protocol.

    References
    ----------
    Wang et al. (2023), Self-consistency improves chain of thought reasoning in language models, section 2.

    Examples
    --------
    >>> found = self_consistency([[1, 1, 1, 0, 1]], stop_early=True)
    >>> found.shares.tolist(), found.drawn.tolist()
    ([[0.0, 1.0]], [3])
    """
    words, _ = as_labels(labels)
    if words.ndim != 2:
        raise PanelError(f"labels need the axes (sample, draw); got shape {words.shape}.")
    k = int(words.max(initial=0)) + 1 if n_outputs is None else n_outputs
    if words.max(initial=-1) >= k:
        raise PanelError(f"labels reach {int(words.max())} with n_outputs={k}. Raise n_outputs.")
    n, draws = words.shape
    running = (words[:, :, None] == np.arange(k)).cumsum(axis=1)
    drawn = np.full(n, draws, dtype=np.int64)
    if stop_early and k > 1 and draws:
        ordered = np.sort(running, axis=2)
        safe = ordered[:, :, -1] - ordered[:, :, -2] > draws - 1 - np.arange(draws)
        drawn = np.where(safe.any(axis=1), safe.argmax(axis=1) + 1, draws)
    counts = running[np.arange(n), np.maximum(drawn, 1) - 1] if draws else np.zeros((n, k))
    total = counts.sum(axis=1, keepdims=True)
    return SelfConsistency(np.where(total > 0, counts / np.maximum(total, 1), 1.0 / k), drawn)


def surprisingly_popular(panel: Any, predicted: Any, *, valid: Any = None) -> Any:
    """Score options by how much more often they are named than their namers and others predicted.

    Parameters
    ----------
    panel : array-like, shape (..., specialist, output)
        Votes or probabilities.
    predicted : array-like, shape (..., specialist, output)
        What each predicts of the others: shares of answers, rows sum to 1.
    valid : array-like of bool, shape (..., output), or of int, shape (...), optional
        Which options exist.

    Returns
    -------
    array of float64, shape (..., output)
        Actual over mean predicted share, made to sum to 1; `argmax` is the answer. Even where nobody answered.

    Raises
    ------
    PanelError
        If the shapes differ or a predicted row is no probability.

    Notes
    -----
    Predictions are floored at 1e-6. Where all predictions come from one common rate of agreement and options are
    exchangeable, the answer equals the plurality: without different predictions there is no surprise. NaN rows
    abstain; ties go to nobody in particular (equal scores).

    References
    ----------
    Prelec, Seung and McCoy (2017), A solution to the single-question crowd wisdom problem, equation 1.

    Examples
    --------
    >>> surprisingly_popular([[1, 0], [1, 0], [0, 1]], [[0.9, 0.1], [0.9, 0.1], [0.6, 0.4]]).round(2)
    array([0.33, 0.67])
    """
    values, wrap = as_panel(panel)
    guess, _ = as_panel(predicted)
    if guess.shape != values.shape:
        raise PanelError(f"panel and predicted must have one shape; got {values.shape} and {guess.shape}.")
    k = values.shape[-1]
    mask = read_valid(valid, values.shape[:-2], k)
    told = np.asarray(~np.isnan(guess).any(axis=-1))
    if (np.abs(np.where(told, guess.sum(axis=-1), 1.0) - 1.0) > 1e-6).any() or (
        np.nan_to_num(guess) < 0.0
    ).any():
        raise PanelError("predicted rows must be shares that sum to 1, or NaN where there is no prediction.")
    words = proposed_options(values, valid=valid)
    heads = (words[..., None] == np.arange(k)).sum(axis=-2)
    actual = heads / np.maximum(heads.sum(axis=-1, keepdims=True), 1)
    count = np.maximum(told.sum(axis=-1), 1)[..., None]
    mean = np.where(told[..., None], guess, 0.0).sum(axis=-2) / count
    score = actual / np.maximum(mean, 1e-6)
    if mask is not None:
        score = np.where(mask, score, 0.0)
    total = score.sum(axis=-1, keepdims=True)
    exists = np.ones(score.shape) if mask is None else mask.astype(np.float64)
    even = exists / exists.sum(axis=-1, keepdims=True)
    return wrap(np.where(total > 0.0, score / np.where(total > 0.0, total, 1.0), even))


@dataclass(frozen=True, eq=False)
class Delphi:
    """The outcome of anonymous rounds around a median.

    Attributes
    ----------
    value : ndarray of shape (..., output)
        Median of the last opinions.
    panel : ndarray of shape (..., specialist, output)
        Last opinions.
    rounds : int
        Rounds held.
    spread : ndarray of shape (rounds + 1,)
        Mean interquartile range before and after each round.
    """

    value: Floats
    panel: Floats
    rounds: int
    spread: Floats


def delphi(panel: Any, *, step: float, trust: Any = None, rounds: int = 4, tolerance: float = 0.01) -> Delphi:
    """Let numbers move toward their median in anonymous rounds, unless a critic stands behind them.

    Parameters
    ----------
    panel : array-like, shape (..., specialist, output)
        Numbers.
    step : float
        Largest move of a round, in units of the first interquartile range of the same sample and output.
    trust : array-like of bool, shape (..., specialist), optional
        Whom a critic backs: they stay.
    rounds : int, default 4
        At most, from 0 to 8.
    tolerance : float, default 0.01
        Ends it when the mean interquartile range changes by less than this share.

    Returns
    -------
    Delphi

    Raises
    ------
    PanelError
        If a number is not finite or a parameter out of range.

    Notes
    -----
    Nobody passes the median on the way to it. With an odd number of specialists ``value`` is therefore the first
    median, whoever is trusted; with an even number it moves where one of the two in the middle is trusted and the
    other is not. What those who are trusted hold against the others is in ``panel``: its mean counts it. NaN is refused.

    References
    ----------
    Dalkey and Helmer (1963), An experimental application of the Delphi method to the use of experts.

    Examples
    --------
    >>> found = delphi([[0.0], [1.0], [8.0]], step=0.5)
    >>> found.value.tolist(), bool(found.spread[-1] < found.spread[0])
    ([1.0], True)
    """
    values, _ = as_panel(panel)
    if not np.isfinite(values).all():
        raise PanelError("delphi needs finite numbers. Leave out who did not answer.")
    if not step >= 0.0 or not tolerance >= 0.0 or isinstance(rounds, bool) or not 0 <= rounds <= 8:
        raise PanelError(
            f"step and tolerance are >= 0 and rounds 0 to 8; got {step!r}, {tolerance!r}, {rounds!r}."
        )
    opinion = values.astype(np.float64)
    stays = np.zeros(values.shape[:-1], dtype=bool) if trust is None else np.asarray(trust)
    if stays.shape != values.shape[:-1] or stays.dtype != bool:
        raise PanelError(
            f"trust must be bool of shape {values.shape[:-1]}; got {stays.dtype}, {stays.shape}."
        )
    middle, apart = _middle(opinion)
    limit = step * apart[..., None, :]
    spread = [float(apart.mean())]
    for _ in range(rounds):
        move = np.clip(middle[..., None, :] - opinion, -limit, limit)
        opinion = opinion + np.where(stays[..., None], 0.0, move)
        middle, apart = _middle(opinion)
        spread.append(float(apart.mean()))
        if abs(spread[-1] - spread[-2]) <= tolerance * max(spread[-2], 1e-300):
            break
    return Delphi(middle, opinion, len(spread) - 1, np.array(spread))


def _middle(values: Floats) -> tuple[Floats, Floats]:
    """Give the median and the interquartile range over specialists: one sort for the three."""
    ordered, last = np.sort(values, axis=-2), values.shape[-2] - 1
    low, middle, high = (
        ordered[..., k, :] + (place - k) * (ordered[..., min(k + 1, last), :] - ordered[..., k, :])
        for k, place in ((int(share * last), share * last) for share in (0.25, 0.5, 0.75))
    )
    return np.asarray(middle), np.asarray(high - low)
