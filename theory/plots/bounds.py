"""Pictures of bounds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from theory.plots._axes import BLUE, GREY, INK, ORANGE, axes_for

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from theory.bounds.consistency import Consistency
    from theory.bounds.result import Bound

# The parts of a Bound that are bounds on the same error; its other parts are numbers behind them.
_UPPER = (
    "bhattacharyya", "chernoff", "best_prior", "cantelli", "tandem", "first_order", "second_order", "hoeffding",
)  # fmt: skip
_MEASURED = ("bayes_error", "observed_error", "observed")


def bound(result: Bound, *, error: float | None = None, ax: Axes | None = None) -> Axes:
    """Draw every upper bound that was computed, smallest on top, and the error where it is known.

    Parameters
    ----------
    result : Bound
        From `bhattacharyya`, `chernoff`, `vote_bounds`, `vote_error` or `certificate`.
    error : float, optional
        Measured error to draw beside the bounds; that of the result, if it holds one, by default.
    ax : matplotlib Axes, optional
        Where to draw.

    Returns
    -------
    Axes
        Bars for bounds, a line for the measured error, a shade from the lower to the upper bound.

    Examples
    --------
    >>> from theory import plots, vote_bounds
    >>> plots.bound(vote_bounds([[1, 1, 0], [1, 0, 1], [0, 1, 1], [1, 1, 1]]), error=0.0).get_title()
    'assumes nothing about correlation'
    """
    # In a PAC-Bayes certificate "tandem" is a certified moment, not a bound.
    moments = "observed_tandem" in result.parts
    parts = {k: v for k, v in result.parts.items() if k in _UPPER and not (moments and k == "tandem")}
    if not parts:
        parts = {result.method: result.value}
    order = sorted(parts, key=parts.__getitem__, reverse=True)
    ax = axes_for(ax, 5.6, 0.35 * len(order) + 1.4)
    at = np.arange(len(order))
    values = [parts[key] for key in order]
    best = min(values)
    ax.barh(at, values, height=0.6, color=[BLUE if v == best else GREY for v in values])
    for y, v in enumerate(values):
        ax.text(v, y, f" {v:.3g}", va="center", fontsize=8, color=INK)
    known = (
        error if error is not None else next((result.parts[k] for k in _MEASURED if k in result.parts), None)
    )
    if result.lower > 0 and not result.exact:
        ax.axvspan(result.lower, result.value, color=BLUE, alpha=0.08, lw=0)
    if known is not None:
        ax.axvline(known, color=ORANGE, lw=1.6, label=f"measured {known:.3g}")
        ax.legend(framealpha=0.9, edgecolor="none", loc="lower right")
    ax.set_yticks(at, [key.replace("_", " ") for key in order])
    ax.set_xlim(0.0, max(values) * 1.15 if max(values) > 0 else 1.0)
    ax.set_xlabel(result.bounds)
    ax.set_title(f"assumes {result.assume}", fontsize=9, wrap=True)
    return ax


def consistency(result: Consistency, *, ax: Axes | None = None) -> Axes:
    """Draw the bound on the error as views are added, on a logarithmic scale.

    Parameters
    ----------
    result : Consistency
        From `consistency_bound`.
    ax : matplotlib Axes, optional
        Where to draw.

    Returns
    -------
    Axes
        The bound with the first k views, and where it stops if that is known.

    Examples
    --------
    >>> from theory import consistency_bound, plots
    >>> plots.consistency(consistency_bound(d=10, rho=0.9)).get_yscale()
    'log'
    """
    ax = axes_for(ax)
    views = np.arange(1, result.n_views + 1)
    ax.plot(views, result.curve, "o-", color=BLUE, ms=4, label="bound on the Bayes error")
    if result.limit is not None:
        ax.axhline(result.limit, color=ORANGE, ls=":", label=f"stops at {result.limit:.3g}")
    ax.set_yscale("log")
    ax.set_xlabel("views")
    ax.set_ylabel("error of telling authentic from fake")
    ax.set_title("saturates" if result.saturates else "falls on", fontsize=10)
    ax.legend(frameon=False)
    return ax
