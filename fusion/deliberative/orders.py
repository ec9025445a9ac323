"""A market in which specialists trade in turn with a logarithmic market maker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fusion.deliberative._reading import Floats, check_probabilities
from theory._exceptions import PanelError
from theory.panel import as_panel

_FLOOR = 1e-6


@dataclass(frozen=True, eq=False)
class PredictionMarket:
    """Prices and payments, averaged over orders of trade.

    Attributes
    ----------
    price : ndarray of shape (sample, output)
        Final prices.
    payments : ndarray of shape (sample, specialist), or None
        What each earned once the truth was known.
    loss : ndarray of shape (sample,), or None
        What the market maker lost; at most liquidity log K.
    """

    price: Floats
    payments: Floats | None
    loss: Floats | None


def prediction_market(
    panel: Any,
    *,
    liquidity: float = 1.0,
    step: float = 0.5,
    orders: int = 10,
    truth: Any = None,
    mixing: str = "log",
    missing: str = "raise",
    seed: int = 0,
) -> PredictionMarket:
    """Let specialists trade on their beliefs, one after the other.

    Parameters
    ----------
    panel : array-like, shape (sample, specialist, output)
        Probabilities; floored at 1e-6.
    liquidity : float, default 1.0
        b > 0 of the market maker.
    step : float, default 0.5
        lam in (0, 1]: how far each moves the price to its belief. An exponential-utility trader with risk
        tolerance tau moves by tau / (tau + b) in "log".
    orders : int, default 10
        Random orders that are averaged: who comes last has more say.
    truth : array-like of int, shape (sample,), optional
        What happened, for payments.
    mixing : {"log", "linear"}, default "log"
        p' ~ p^(1-lam) P_i^lam, or (1-lam) p + lam P_i.
    missing : {"raise", "abstain"}, default "raise"
        Whether NaN rows are errors or do not trade.
    seed : int, default 0
        Of the orders.

    Returns
    -------
    PredictionMarket

    Raises
    ------
    PanelError
        If a parameter is out of range or rows are no probabilities.

    Notes
    -----
    Moving p to p' pays b (log p'_y - log p_y): payments telescope, so the loss is b log(price_y K) and at most
    b log K. See `theory.log_market` for shares and costs of a single sample.

    References
    ----------
    Hanson (2003), Combinatorial information market design, section 3.

    Examples
    --------
    >>> found = prediction_market([[[0.8, 0.2], [0.8, 0.2]]], step=1.0, orders=1, truth=[0])
    >>> found.price.round(2).tolist(), sorted(found.payments[0].round(2).tolist())
    ([[0.8, 0.2]], [0.0, 0.47])
    """
    values, wrap = as_panel(panel)
    if values.ndim != 3:
        raise PanelError(f"a market needs (sample, specialist, output); got shape {values.shape}.")
    if not 0.0 < liquidity < np.inf or not 0.0 < step <= 1.0:
        raise PanelError(f"liquidity must be positive and step in (0, 1]; got {liquidity!r}, {step!r}.")
    if mixing not in ("log", "linear") or isinstance(orders, bool) or orders < 1:
        raise PanelError(f"mixing is 'log' or 'linear' and orders >= 1; got {mixing!r}, {orders!r}.")
    absent = check_probabilities(values, wrap.names, None, missing=missing)
    n, m, k = values.shape
    belief = np.log(np.maximum(np.nan_to_num(values, nan=1.0 / k), _FLOOR))
    belief -= _log_total(belief)
    rng = np.random.default_rng(seed)
    price, payments = np.zeros((n, k)), np.zeros((n, m))
    rows = np.arange(n)
    code = None
    if truth is not None:
        code = np.asarray(truth)
        if code.shape != (n,) or code.dtype.kind not in "iu" or (n and not 0 <= code.min() <= code.max() < k):
            raise PanelError(f"truth must be one code from 0 to {k - 1} per sample ({n}).")
    for _ in range(orders):
        now = np.full((n, k), -np.log(k))
        for i in rng.permutation(m):
            if mixing == "log":
                new = (1.0 - step) * now + step * belief[:, i]
                new -= _log_total(new)
            else:
                new = np.log((1.0 - step) * np.exp(now) + step * np.exp(belief[:, i]))
            if absent is not None:
                new = np.where(absent[:, i, None], now, new)
            if code is not None:
                payments[:, i] += liquidity * (new - now)[rows, code]
            now = new
        price += np.exp(now)
    if code is None:
        return PredictionMarket(price / orders, None, None)
    return PredictionMarket(price / orders, payments / orders, payments.sum(axis=1) / orders)


def _log_total(logs: Floats) -> Floats:
    top = logs.max(axis=-1, keepdims=True)
    return np.asarray(top + np.log(np.exp(logs - top).sum(axis=-1, keepdims=True)))
