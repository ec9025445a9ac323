"""Pictures of markets and votes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from theory.plots._axes import BLUE, GREY, INK, ORANGE, axes_for

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike

    from theory.decompositions import VoteGain
    from theory.pricing.markets import Clearing, LogMarket


def market(result: LogMarket, *, ax: Axes | None = None) -> Axes:
    """Draw what every report to a log market earned, in order of time.

    Parameters
    ----------
    result : LogMarket
        From `log_market`.
    ax : matplotlib Axes, optional
        Where to draw.

    Returns
    -------
    Axes
        One bar per report, losses orange; the step is what the market maker has lost so far.

    Examples
    --------
    >>> from theory import log_market, plots
    >>> plots.market(log_market([[0.8, 0.2], [0.5, 0.5]], 0)).get_xlabel()
    'report'
    """
    ax = axes_for(ax)
    at = np.arange(1, len(result.value) + 1)
    ax.bar(at, result.value, color=[BLUE if gain >= 0 else ORANGE for gain in result.value], width=0.6)
    ax.step(at, np.cumsum(result.value), where="mid", color=INK, lw=1.5, label="market maker's loss so far")
    ax.axhline(result.bound, color=GREY, ls="--", label="most it can lose")
    ax.axhline(0.0, color=GREY, lw=0.8)
    ax.set_xticks(at)
    ax.set_xlabel("report")
    ax.set_ylabel("gain")
    ax.legend(frameon=False)
    return ax


def clearing(result: Clearing, bids: ArrayLike, asks: ArrayLike, *, ax: Axes | None = None) -> Axes:
    """Draw demand, supply and the price at which they were matched.

    Parameters
    ----------
    result : Clearing
        From `clear_uniform_price`.
    bids, asks : array-like
        What it was called with.
    ax : matplotlib Axes, optional
        Where to draw.

    Returns
    -------
    Axes
        Bids falling, asks rising; the traded units are shaded.

    Examples
    --------
    >>> from theory import clear_uniform_price, plots
    >>> bids, asks = [9, 7, 5], [2, 4, 6]
    >>> plots.clearing(clear_uniform_price(bids, asks), bids, asks).get_title()
    '2 units at 5.5'
    """
    ax = axes_for(ax)
    falling, rising = np.sort(np.asarray(bids, dtype=float))[::-1], np.sort(np.asarray(asks, dtype=float))
    for values, colour, name in ((falling, BLUE, "bids"), (rising, ORANGE, "asks")):
        ax.stairs(values, np.arange(len(values) + 1), color=colour, lw=1.8, label=name, baseline=None)
    if result.n_trades:
        ax.axvspan(0, result.n_trades, color=GREY, alpha=0.2, lw=0)
        for level in {result.buy_price, result.sell_price}:
            ax.axhline(level, color=INK, ls="--", lw=1)
    price = (
        f"{result.buy_price:.4g}"
        if result.buy_price == result.sell_price
        else f"{result.buy_price:.4g}, sellers get {result.sell_price:.4g}"
    )
    ax.set_title(f"{result.n_trades} units at {price}" if result.n_trades else "no trade", fontsize=10)
    ax.set_xlabel("unit")
    ax.set_ylabel("price")
    ax.legend(frameon=False)
    return ax


def vote(result: VoteGain, *, ax: Axes | None = None) -> Axes:
    """Draw the error of a vote beside that of its average and its best voter.

    Parameters
    ----------
    result : VoteGain
        From `vote_gain`.
    ax : matplotlib Axes, optional
        Where to draw.

    Returns
    -------
    Axes
        Three bars; the whisker on the vote is the interval of its gain over the average voter.

    Examples
    --------
    >>> from theory import plots, vote_gain
    >>> plots.vote(vote_gain([[0, 0, 1], [1, 0, 1], [1, 1, 1]], [0, 1, 1])).get_xlabel()
    'error'
    """
    ax = axes_for(ax, 5.2, 2.0)
    errors = [result.vote_error + result.over_best, result.vote_error, result.mean_error]
    ax.barh([0, 1, 2], errors, color=[GREY, BLUE, GREY], height=0.6)
    ax.plot(result.mean_error - np.asarray(result.ci), [1, 1], color=INK, lw=1.5, marker="|")
    for y, error in enumerate(errors):
        ax.text(error, y + 0.32, f" {error:.3f}", va="center", fontsize=8, color=INK)
    ax.set_yticks([0, 1, 2], ["best voter", "the vote", "average voter"])
    ax.margins(x=0.12)
    ax.set_xlabel("error")
    return ax
