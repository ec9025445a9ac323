"""The judge: from scores of options to calibrated probabilities, their certificate and a quarantine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fusion.deliberative._reading import Bools, Floats, read_valid
from theory._checks import read_sample_weight, read_truth
from theory._exceptions import BudgetError, PanelError

_FLOOR = 1e-6
_RANGE = (0.05, 20.0)


@dataclass(frozen=True)
class Temperature:
    """How far a judge's scores are to be believed.

    Attributes
    ----------
    value : float
        Inverse temperature in [.05, 20]: below 1 for an overconfident judge.
    standard_error : float
        From the curvature of the log loss; infinite where the loss is flat.
    log_loss : float
        Mean log loss at that value.
    n : int
        Samples it was fitted on.
    at_bound : bool
        Whether the value lies at an end of its range.
    """

    value: float
    standard_error: float
    log_loss: float
    n: int
    at_bound: bool


def adjudicate(scores: Any, *, valid: Any = None, inverse_temperature: float = 1.0) -> Floats:
    """Turn a judge's scores into a verdict over all options, those that nobody proposed included.

    Parameters
    ----------
    scores : array-like, shape (..., output)
        Log-odds of each option to be right, up to a constant per sample.
    valid : array-like of bool, shape (..., output), or of int, shape (...), optional
        Which options exist.
    inverse_temperature : float, default 1.0
        Of the softmax, in [.05, 20]; `fit_temperature` finds it.

    Returns
    -------
    ndarray of float64, shape (..., output)
        Probabilities of at least 1e-6 before they are made to sum to 1; exactly 0 at options that do not exist.

    Raises
    ------
    PanelError
        If a score of a valid option is not finite, or the inverse temperature is out of range.

    Notes
    -----
    NaN is refused. Equal scores get equal probabilities.

    References
    ----------
    Guo et al. (2017), On calibration of modern neural networks, section 4.2.

    Examples
    --------
    >>> adjudicate([2.0, 0.0, 0.0], valid=2).round(3)
    array([0.881, 0.119, 0.   ])
    """
    values, mask = _read_scores(scores, valid)
    low, high = _RANGE
    if not low <= inverse_temperature <= high:
        raise PanelError(
            f"inverse_temperature lies in [{low}, {high}]; got {inverse_temperature!r}. Fit it with fit_temperature."
        )
    verdict = _softmax(values, mask, inverse_temperature)
    lifted = np.maximum(verdict, _FLOOR)
    if mask is not None:
        lifted = np.where(mask, lifted, 0.0)
    return np.asarray(lifted / lifted.sum(axis=-1, keepdims=True))


def fit_temperature(scores: Any, y: Any, *, valid: Any = None, sample_weight: Any = None) -> Temperature:
    """Find the inverse temperature with the least log loss on samples that the judge was not fitted on.

    Parameters
    ----------
    scores : array-like, shape (sample, output)
        As in `adjudicate`.
    y : array-like of int, shape (sample,)
        Codes of the right options.
    valid : array-like of bool, shape (sample, output), or of int, shape (sample,), optional
        Which options exist.
    sample_weight : array-like of shape (sample,), optional
        Weights of the samples.

    Returns
    -------
    Temperature
        Value in [.05, 20] with its standard error.

    Raises
    ------
    PanelError
        If scores, truth and masks do not fit.

    Notes
    -----
    The log loss is convex in the inverse temperature, so the zero of its slope is found by bisection. NaN is
    refused.

    References
    ----------
    Guo et al. (2017), On calibration of modern neural networks, section 4.2.

    Examples
    --------
    >>> found = fit_temperature([[4.0, 0.0]] * 10, [0] * 7 + [1] * 3)
    >>> round(found.value, 3)
    0.212
    """
    values, mask = _read_scores(scores, valid)
    if values.ndim != 2:
        raise PanelError(f"scores need the axes (sample, output); got shape {values.shape}.")
    codes = read_truth(y, len(values))
    weight = read_sample_weight(sample_weight, len(values))
    share = np.full(len(codes), 1.0 / len(codes)) if weight is None else weight / weight.sum()
    rows = np.arange(len(codes))
    if codes.max(initial=0) >= values.shape[1] or (mask is not None and not mask[rows, codes].all()):
        raise PanelError("y holds options that are not valid. Widen valid, or leave those samples out.")
    centred = values - values[rows, codes][:, None]  # 0 at the truth
    known = np.where(mask, centred, 0.0) if mask is not None else centred

    def slope(beta: float) -> tuple[float, float]:
        p = _softmax(centred, mask, beta)
        mean = (p * known).sum(axis=1)
        spread = (p * known**2).sum(axis=1) - mean**2
        return float(share @ mean), float(share @ spread)

    low, high = _RANGE
    if slope(low)[0] >= 0.0:
        beta = low
    elif slope(high)[0] <= 0.0:
        beta = high
    else:
        for _ in range(50):
            beta = float(np.sqrt(low * high))
            low, high = (beta, high) if slope(beta)[0] < 0.0 else (low, beta)
        beta = float(np.sqrt(low * high))
    curvature = slope(beta)[1] * (1.0 / float((share**2).sum()))
    p = _softmax(centred, mask, beta)[rows, codes]
    return Temperature(
        beta,
        float(curvature**-0.5) if curvature > 0.0 else float("inf"),
        float(-(share @ np.log(np.maximum(p, _FLOOR)))),
        len(codes),
        beta in _RANGE,
    )


def influence_bound(
    weights: Any, *, n_byzantine: int, inverse_temperature: float = 1.0, max_abs: float | None = None
) -> float:
    """Bound how far corrupted specialists can move a linear judge's verdict.

    Parameters
    ----------
    weights : array-like of shape (specialist,), or None
        Weights >= 0 on votes (or on log-odds clipped to ``max_abs``). None: the judge is not linear.
    n_byzantine : int
        How many specialists may say anything (papers write f).
    inverse_temperature : float, default 1.0
        Of the softmax.
    max_abs : float, optional
        Bound of the clipped log-odds that the weights act on; votes by default.

    Returns
    -------
    float
        Largest total variation between the verdict and that with other answers of the worst ``n_byzantine``:
        tanh(D/4), D the sum of their 2 beta w (4 beta w max_abs). 1.0, the trivial bound, for None.

    Raises
    ------
    BudgetError
        If there are fewer specialists than ``n_byzantine``.
    PanelError
        If a weight is negative or not finite.

    Notes
    -----
    NaN is refused. Pairwise log-odds of the verdict move by at most D; among all pairs of distributions with
    that property, tanh(D/4) is the largest total variation, reached between two equal options.

    Examples
    --------
    >>> round(influence_bound([1.0, 0.5, 0.5], n_byzantine=1), 3)
    0.462
    """
    if weights is None:
        return 1.0
    values = np.asarray(weights, dtype=np.float64)
    if values.ndim != 1 or not np.isfinite(values).all() or (values < 0.0).any():
        raise PanelError(
            "weights must be finite and >= 0, one per specialist. Fit the judge with such weights."
        )
    if isinstance(n_byzantine, bool) or n_byzantine < 0:
        raise PanelError(f"n_byzantine is a whole number >= 0; got {n_byzantine!r}.")
    if n_byzantine > len(values):
        raise BudgetError(
            f"n_byzantine={n_byzantine} needs as many specialists; got {len(values)}. Lower it."
        )
    worst = np.sort(values)[len(values) - n_byzantine :].sum()
    reach = 2.0 if max_abs is None else 4.0 * max_abs
    return float(np.tanh(reach * inverse_temperature * worst / 4.0))


def _read_scores(scores: Any, valid: Any) -> tuple[Floats, Bools | None]:
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim == 0 or values.shape[-1] == 0:
        raise PanelError(f"scores need an output axis; got shape {values.shape}.")
    mask = read_valid(valid, values.shape[:-1], values.shape[-1])
    known = values if mask is None else np.where(mask, values, 0.0)
    if not np.isfinite(known).all():
        raise PanelError(
            f"{int((~np.isfinite(known)).sum())} scores of valid options are not finite. Floor probabilities first."
        )
    return known, mask


def _softmax(values: Floats, mask: Bools | None, beta: float) -> Floats:
    raw = beta * values
    if mask is not None:
        raw = np.where(mask, raw, -np.inf)
    raw = raw - raw.max(axis=-1, keepdims=True)
    np.exp(raw, out=raw)
    return np.asarray(raw / raw.sum(axis=-1, keepdims=True))
