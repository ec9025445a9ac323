"""Accept, escalate or defer: the cheapest in expectation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion.deliberative._reading import Floats
from theory._exceptions import PanelError

ACTIONS = ("accept", "escalate", "defer")


@dataclass(frozen=True, eq=False)
class Decision:
    """What to do about each sample, and what it is expected to cost.

    Attributes
    ----------
    action : ndarray of str, shape (...)
        "accept", "escalate" or "defer".
    proba : ndarray of shape (..., output)
        The verdict it rests on; from `decide_number` the number, with one output.
    cost : ndarray of shape (...)
        Expected cost of the action.
    stage : ndarray of int, shape (...)
        The next stage of those that escalate; the stage reached by the others (0 from `decide_action`).
    record_ids : tuple of int
        Records of the transcript that justify it; empty where none was kept.
    """

    action: NDArray[np.str_]
    proba: Floats
    cost: Floats
    stage: NDArray[np.int64]
    record_ids: tuple[int, ...] = ()


def decide_action(
    verdict: Any, *, error: float = 1.0, defer: float = np.inf, gain: Any = None, price: Any = None
) -> Decision:
    """Choose the action of least expected cost for each sample.

    Parameters
    ----------
    verdict : array-like, shape (..., output)
        Calibrated probabilities.
    error : float, default 1.0
        Cost of a wrong answer.
    defer : float, default infinity
        Cost of handing the sample over.
    gain : array-like of shape (..., stage) or (...), optional
        Expected rise of the probability of being right if a further stage speaks.
    price : float or array-like of shape (stage,), optional
        What each further stage costs.

    Returns
    -------
    Decision
        Accepting costs error (1 - max verdict), deferring costs ``defer``, stage s costs
        price_s + error (1 - max verdict - gain_s). The least wins; ties accept, then escalate to the first.

    Raises
    ------
    PanelError
        If a cost is negative, gains come without prices, or a verdict is not finite.

    Notes
    -----
    NaN is refused. Nothing is executed.

    References
    ----------
    Chow (1970), On optimum recognition error and reject tradeoff, section II.

    Examples
    --------
    >>> decide_action([[0.9, 0.1], [0.6, 0.4]], defer=0.3).action.tolist()
    ['accept', 'defer']
    """
    p = np.asarray(verdict, dtype=np.float64)
    if p.ndim == 0 or not np.isfinite(p).all():
        raise PanelError("the verdict must be finite, of shape (..., output). Adjudicate first.")
    return _cheapest(p, 1.0 - p.max(axis=-1), error, defer, gain, price)


def decide_number(
    value: Any,
    variance: Any,
    *,
    error: float = 1.0,
    defer: float = np.inf,
    gain: Any = None,
    price: Any = None,
) -> Decision:
    """Choose the action of least expected cost for each number.

    Parameters
    ----------
    value : array-like, shape (...)
        Numbers to be given.
    variance : array-like, shape (...)
        Expected squared error of each.
    error : float, default 1.0
        Cost of a squared error of 1.
    defer : float, default infinity
        Cost of handing the sample over.
    gain : array-like of shape (..., stage) or (...), optional
        Expected fall of the squared error if a further stage speaks.
    price : float or array-like of shape (stage,), optional
        What each further stage costs.

    Returns
    -------
    Decision
        Accepting costs error variance, deferring costs ``defer``, stage s costs
        price_s + error (variance - gain_s). The least wins; ties accept, then escalate to the first.

    Raises
    ------
    PanelError
        If a cost is negative, gains come without prices, or numbers and variances do not fit.

    Notes
    -----
    NaN is refused. Nothing is executed.

    References
    ----------
    Chow (1970), On optimum recognition error and reject tradeoff, section II, with squared loss.

    Examples
    --------
    >>> decide_number([3.0, 4.0], [0.1, 0.9], defer=0.5).action.tolist()
    ['accept', 'defer']
    """
    number, risk = np.asarray(value, dtype=np.float64), np.asarray(variance, dtype=np.float64)
    if (
        number.shape != risk.shape
        or not np.isfinite(number).all()
        or not (np.isfinite(risk) & (risk >= 0.0)).all()
    ):
        raise PanelError(
            f"numbers and their expected squared errors (>= 0) must be finite and of one shape; got {number.shape} "
            f"and {risk.shape}."
        )
    return _cheapest(number[..., None], risk, error, defer, gain, price)


def _cheapest(verdict: Floats, risk: Floats, error: float, defer: float, gain: Any, price: Any) -> Decision:
    if not (error >= 0.0 and defer >= 0.0):
        raise PanelError(f"costs must be >= 0; got error={error!r}, defer={defer!r}.")
    costs = [error * risk]
    if (gain is None) != (price is None):
        raise PanelError("gain and price belong together: what a stage brings, and what it costs.")
    n_stages = 0
    if gain is not None:
        brings = np.asarray(gain, dtype=np.float64)
        brings = brings[..., None] if brings.ndim == risk.ndim else brings
        dear = np.broadcast_to(np.asarray(price, dtype=np.float64), brings.shape[-1:])
        if brings.shape[:-1] != risk.shape or not np.isfinite(brings).all() or not (dear >= 0.0).all():
            raise PanelError(
                f"gain needs the shape {risk.shape} + (stage,), prices must be >= 0; got {brings.shape}."
            )
        n_stages = brings.shape[-1]
        costs += [dear[j] + error * np.maximum(risk - brings[..., j], 0.0) for j in range(n_stages)]
    costs.append(np.full(risk.shape, float(defer)))
    table = np.stack(costs, axis=-1)
    best = table.argmin(axis=-1)
    action = np.where(best == 0, "accept", np.where(best <= n_stages, "escalate", "defer"))
    stage = np.where((best > 0) & (best <= n_stages), best, 0)
    return Decision(action, verdict, np.take_along_axis(table, best[..., None], axis=-1)[..., 0], stage)
