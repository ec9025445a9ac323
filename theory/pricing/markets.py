"""Markets among specialists: a market maker for beliefs, a pool of wealth, and a cleared double auction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theory._checks import check_choice, read_truth
from theory._exceptions import PanelError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
# Sums of probabilities in single precision are off by less.
_SUM = 1e-6


@dataclass(frozen=True, eq=False)
class LogMarket:
    """The outcome of a market with a logarithmic market maker.

    Attributes
    ----------
    value : ndarray of shape (n_reports,)
        Gain of every report: b times the logarithm by which it raised the probability of what happened.
    loss : float
        What the market maker loses: the sum of gains.
    bound : float
        Most that it can lose, whatever is reported: -b ln(smallest prior); b ln K when uniform.
    shares : ndarray of shape (n_reports, n_outcomes)
        What every report buys (or sells) of each outcome.
    cost : ndarray of shape (n_reports,)
        What it pays for them.
    """

    value: Floats
    loss: float
    bound: float
    shares: Floats
    cost: Floats


def log_market(
    reports: ArrayLike, outcome: int, *, liquidity: float = 1.0, prior: ArrayLike | None = None
) -> LogMarket:
    """Pay reports that follow each other by how much each improved on the one before.

    Parameters
    ----------
    reports : array-like of shape (n_reports, n_outcomes)
        Probabilities, positive and summing to 1, in the order in which they were made.
    outcome : int
        What happened.
    liquidity : float
        b > 0: how much a given change of the probabilities costs and pays.
    prior : array-like of shape (n_outcomes,), optional
        Where the market starts; uniform by default.

    Returns
    -------
    LogMarket
        Gains, purchases and the market maker's loss.

    Raises
    ------
    PanelError
        If probabilities are not positive or do not sum to 1, or the outcome does not exist.

    Notes
    -----
    The market maker's cost is b ln sum_k e^(q_k / b) with q the shares outstanding; its prices are the
    probabilities, and moving them from p to p' buys b ln(p'_k / p_k) of each outcome up to a constant. Later
    copies earn 0. In expectation over honest reports, gains are the information each adds to those before it.

    References
    ----------
    Hanson, *Logarithmic market scoring rules for modular combinatorial information aggregation*, 2007.

    Examples
    --------
    >>> market = log_market([[0.8, 0.2], [0.8, 0.2], [0.5, 0.5]], 0)
    >>> market.value.round(3), round(market.loss, 3), round(market.bound, 3)
    (array([ 0.47,  0.  , -0.47]), 0.0, 0.693)
    """
    p = _read_rows("reports", reports)
    if p.ndim != 2:
        raise PanelError(f"reports need the axes (report, outcome); got shape {p.shape}.")
    k = p.shape[1]
    start = np.full(k, 1.0 / k) if prior is None else _read_rows("prior", prior)
    if start.shape != (k,):
        raise PanelError(f"prior must be one probability per outcome ({k}); got shape {start.shape}.")
    # True would be an index too, but as a mask.
    if not isinstance(outcome, int | np.integer) or isinstance(outcome, bool) or not 0 <= outcome < k:
        raise PanelError(f"outcome is a number from 0 to {k - 1}; got {outcome!r}.")
    if not 0.0 < liquidity < np.inf:
        raise PanelError(f"liquidity is a positive number; got {liquidity!r}.")
    logs = np.log(np.vstack([start, p]))
    moved = liquidity * np.diff(logs, axis=0)
    # Shares are bought only, never sold short: the constant that leaves the smallest at 0.
    shares = moved - moved.min(axis=1, keepdims=True)
    cost = shares[:, outcome] - moved[:, outcome]
    value = moved[:, outcome]
    return LogMarket(value, float(value.sum()), float(-liquidity * np.log(start.min())), shares, cost)


def _read_rows(name: str, rows: ArrayLike) -> Floats:
    values = np.asarray(rows, dtype=np.float64)
    if values.ndim < 1 or 0 in values.shape or not (values > 0.0).all() or not np.isfinite(values).all():
        raise PanelError(
            f"{name} must hold positive probabilities: one of 0 would cost everything when it happens. Mix in a "
            "little of the uniform."
        )
    sums = values.sum(axis=-1)
    away = np.abs(sums - 1.0)
    if (away > _SUM).any():
        raise PanelError(
            f"{name} must sum to 1 over outcomes, to within {_SUM:g}; one sum is {float(sums.flat[away.argmax()]):.8g}. "
            "Divide by the sums."
        )
    return values


@dataclass(frozen=True, eq=False)
class KellyPool:
    """A pool of specialists that bet all they have on their beliefs.

    Attributes
    ----------
    wealth : ndarray of shape (sample + 1, specialist)
        Wealth before every sample and at the end; each row sums to the first one's sum.
    pool : ndarray of shape (sample, output)
        The market's probabilities: beliefs weighted by wealth.
    log_loss : float
        Sum over samples of the pool's log loss.
    regret : float
        log_loss minus that of the best specialist; at most -ln of the smallest initial share.
    """

    wealth: Floats
    pool: Floats
    log_loss: float
    regret: float


def kelly_pool(probabilities: ArrayLike, y: ArrayLike, *, wealth: ArrayLike | None = None) -> KellyPool:
    """Let wealth flow to the specialists whose beliefs come true.

    Parameters
    ----------
    probabilities : array-like of shape (sample, specialist, output)
        Beliefs, positive and summing to 1, in order of time.
    y : array-like of int, shape (sample,)
        What happened.
    wealth : array-like of shape (specialist,), optional
        To start with, > 0; equal shares of 1 by default.

    Returns
    -------
    KellyPool
        Wealth over time and the pool's probabilities.

    Raises
    ------
    PanelError
        If probabilities or wealth are not positive, or shapes do not fit.

    Notes
    -----
    w_i <- w_i p_i(y) / sum_j w_j p_j(y) sum_j w_j: Bayes' rule over specialists. Nothing is added or lost, the
    order of samples does not matter for the end, and splitting one's wealth over copies changes nothing.

    References
    ----------
    Kelly, 1956; Beygelzimer, Langford and Pennock, *Learning performance of prediction markets with Kelly
    bettors*, 2012.

    Examples
    --------
    >>> result = kelly_pool([[[0.8, 0.2], [0.5, 0.5]]] * 2, [0, 0])
    >>> result.wealth[-1].round(3), round(result.regret, 3)
    (array([0.719, 0.281]), 0.363)
    """
    p = _read_rows("probabilities", probabilities)
    if p.ndim != 3:
        raise PanelError(f"probabilities need the axes (sample, specialist, output); got shape {p.shape}.")
    n, m, k = p.shape
    truth = read_truth(y, n)
    if truth.max(initial=0) >= k:
        raise PanelError(f"y holds code {int(truth.max())}, but there are {k} outputs.")
    start = np.full(m, 1.0 / m) if wealth is None else np.asarray(wealth, dtype=np.float64)
    if start.shape != (m,) or not ((start > 0.0) & (start < np.inf)).all():
        raise PanelError(f"wealth must be one positive number per specialist ({m}); got shape {start.shape}.")
    likelihood = np.log(p[np.arange(n), :, truth])
    logs = np.vstack([np.log(start), np.log(start) + np.cumsum(likelihood, axis=0)])
    top = logs.max(axis=1, keepdims=True)
    weights = np.exp(logs - top)
    weights /= weights.sum(axis=1, keepdims=True)
    pool = np.einsum("nm,nmk->nk", weights[:-1], p)
    loss = float(-np.log(pool[np.arange(n), truth]).sum())
    best = float((-likelihood.sum(axis=0)).min())
    return KellyPool(weights * start.sum(), pool, loss, loss - best)


@dataclass(frozen=True, eq=False)
class Clearing:
    """Who trades, and at what prices.

    Attributes
    ----------
    buyers, sellers : ndarray of int
        Indices of the bids and asks that trade one unit each, best first.
    buy_price, sell_price : float
        What each buyer pays and each seller gets; NaN without a trade.
    n_trades : int
        Units traded.
    gain : float
        Sum of bids minus asks over the trades.
    surplus : float
        What is left over: n_trades (buy_price - sell_price), never negative.
    """

    buyers: Ints
    sellers: Ints
    buy_price: float
    sell_price: float
    n_trades: int
    gain: float
    surplus: float


def clear_uniform_price(
    bids: ArrayLike, asks: ArrayLike, *, rule: Literal["mcafee", "uniform"] = "mcafee", position: float = 0.5
) -> Clearing:
    """Match bids for one unit with asks for one unit, at one price for all.

    Parameters
    ----------
    bids, asks : array-like
        What each buyer pays at most and each seller takes at least, one unit each.
    rule : {"mcafee", "uniform"}
        ``"uniform"``: all k = #{b_k >= a_k} profitable trades (bids falling, asks rising) at one price in
        [max(a_k, b_{k+1}), min(b_k, a_{k+1})]; leaves out no trade, and the last traders can move the price.
        ``"mcafee"``: (b_{k+1} + a_{k+1}) / 2 where it lies in [a_k, b_k], else k - 1 trades at which buyers pay
        b_k and sellers get a_k; nobody gains by a false bid, and at most the least profitable trade is lost.
    position : float
        Where in the interval the price of ``"uniform"`` lies: 0 the lowest, 1 the highest.

    Returns
    -------
    Clearing
        Trades and prices.

    Raises
    ------
    PanelError
        If bids or asks are not finite numbers, or the position lies outside [0, 1].

    Notes
    -----
    Ties go to the bid or ask that comes first.

    References
    ----------
    McAfee, *A dominant strategy double auction*, 1992.

    Examples
    --------
    >>> cleared = clear_uniform_price([9, 7, 5], [2, 4, 6])
    >>> cleared.n_trades, cleared.buy_price, cleared.buyers
    (2, 5.5, array([0, 1]))
    """
    check_choice("rule", rule, ("mcafee", "uniform"))
    b, a = (np.asarray(values, dtype=np.float64) for values in (bids, asks))
    if b.ndim != 1 or a.ndim != 1 or not (np.isfinite(b).all() and np.isfinite(a).all()):
        raise PanelError("bids and asks are lists of finite numbers, one per unit.")
    if not 0.0 <= position <= 1.0:
        raise PanelError(f"position lies between 0 and 1; got {position!r}.")
    buyers, sellers = np.argsort(-b, kind="stable"), np.argsort(a, kind="stable")
    falling, rising = b[buyers], a[sellers]
    most = min(len(b), len(a))
    k = int((falling[:most] >= rising[:most]).sum())
    if k == 0:
        none = np.zeros(0, dtype=np.int64)
        return Clearing(none, none, float("nan"), float("nan"), 0, 0.0, 0.0)
    last_bid, last_ask = float(falling[k - 1]), float(rising[k - 1])
    next_bid = float(falling[k]) if k < len(b) else -np.inf
    next_ask = float(rising[k]) if k < len(a) else np.inf
    if rule == "uniform":
        low, high = max(last_ask, next_bid), min(last_bid, next_ask)
        buy = sell = low + position * (high - low)
    else:
        middle = (next_bid + next_ask) / 2.0 if np.isfinite(next_bid) and np.isfinite(next_ask) else np.nan
        if last_ask <= middle <= last_bid:
            buy = sell = middle
        else:
            k, buy, sell = k - 1, last_bid, last_ask
            if k == 0:
                buy = sell = float("nan")
    gain = float((falling[:k] - rising[:k]).sum())
    surplus = k * (buy - sell) if k else 0.0
    return Clearing(buyers[:k], sellers[:k], buy, sell, k, gain, surplus)
