"""Pictures with one row per specialist."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from theory.plots._axes import BLUE, GREY, ORANGE, axes_for, rows, short
from theory.variance import variance_curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from theory.information import InformationChain
    from theory.label_free import LabelFreeAccuracy
    from theory.pricing.result import Prices
    from theory.variance import VarianceReport
    from theory.weights import Weights


def prices(result: Prices, *, ax: Axes | None = None) -> Axes:
    """Draw what every specialist is worth, dearest on top, with intervals.

    Parameters
    ----------
    result : Prices
        From `price`.
    ax : matplotlib Axes, optional
        Where to draw.

    Returns
    -------
    Axes
        The axes; specialists who cost the panel are orange.

    Examples
    --------
    >>> from theory import plots, price
    >>> plots.prices(price([[1.0, 0.0], [0.0, 2.0]], v0=1.0)).get_xlabel()
    'shapley price, mean game'
    """
    ax = rows(result.value, result.names, f"{result.rule} price, {result.game} game", ax, ci=result.ci)
    ax.set_title(
        f"the panel takes the loss from {result.v0:.3g} to {result.v0 - result.total:.3g}", fontsize=10
    )
    return ax


def weights(result: Weights, *, ax: Axes | None = None) -> Axes:
    """Draw the weights, largest on top, beside equal weights.

    Parameters
    ----------
    result : Weights
        From `min_variance_weights`.
    ax : matplotlib Axes, optional
        Where to draw.

    Returns
    -------
    Axes
        The axes; the dashed line is the equal weight.

    Examples
    --------
    >>> from theory import min_variance_weights, plots
    >>> plots.weights(min_variance_weights([[1.0, 0.0], [0.0, 3.0]], shrink=None)).get_xlabel()
    'weight (dashed: equal)'
    """
    ax = rows(result.value, result.names, "weight (dashed: equal)", ax, reference=1.0 / len(result.value))
    ax.set_title(
        f"variance {result.variance:.3g}, equal weights {result.equal_variance:.3g}; shrinkage "
        f"{result.shrinkage:.2f}",
        fontsize=10,
    )
    return ax


def variance_report(result: VarianceReport, *, ax: Axes | None = None) -> Axes:
    """Draw the variance of the mean against the number of specialists, and where this panel stands.

    Parameters
    ----------
    result : VarianceReport
        From `ensemble_variance`.
    ax : matplotlib Axes, optional
        Where to draw.

    Returns
    -------
    Axes
        The curve at this correlation, that of independent errors, and the limit.

    Examples
    --------
    >>> from theory import ensemble_variance, plots
    >>> plots.variance_report(ensemble_variance([[1.0, 0.5], [0.5, 1.0]])).get_ylabel()
    'variance of the mean error'
    """
    ax = axes_for(ax)
    m = result.n_specialists
    rho = max(float(np.nan_to_num(result.rho_pooled)), 0.0)
    sizes = np.unique(np.round(np.geomspace(1, max(4 * m, 20), 60)).astype(int))
    vbar = result.mean_variance
    ax.plot(
        sizes,
        variance_curve(vbar, rho, sizes),
        color=BLUE,
        lw=2,
        label=f"correlated as here, rho = {rho:.2f}",
    )
    ax.plot(sizes, variance_curve(vbar, 0.0, sizes), color=GREY, ls="--", label="if errors were independent")
    ax.axhline(vbar * rho, color=ORANGE, lw=1.3, ls=":", label="limit of more of the same")
    ax.plot([m], [result.value], "o", color=ORANGE, ms=8, zorder=3, label=f"this panel of {m}")
    ax.set_xscale("log")
    ticks = [t for t in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if t <= sizes[-1]]
    ax.set_xticks(ticks, [str(t) for t in ticks])
    ax.minorticks_off()
    ax.set_ylim(0, None)
    ax.set_xlabel("number of specialists")
    ax.set_ylabel("variance of the mean error")
    ax.legend(frameon=False)
    return ax


def label_free(result: LabelFreeAccuracy, *, ax: Axes | None = None) -> Axes:
    """Draw balanced accuracies estimated without labels, best on top.

    Parameters
    ----------
    result : LabelFreeAccuracy
        From `accuracy_without_labels`.
    ax : matplotlib Axes, optional
        Where to draw.

    Returns
    -------
    Axes
        The axes, titled with the misfit of the assumption behind them.

    Examples
    --------
    >>> import numpy as np
    >>> from theory import accuracy_without_labels, plots
    >>> votes = np.random.default_rng(0).integers(0, 2, (100, 1)) ^ (np.random.default_rng(1).random((100, 3)) < 0.2)
    >>> plots.label_free(accuracy_without_labels(votes, mean_truth=0.0)).get_xlabel()
    'balanced accuracy if errors were independent'
    """
    ci = np.stack([result.value - 1.96 * result.se, result.value + 1.96 * result.se])
    label = "balanced accuracy if errors were independent"
    ax = rows(result.value, result.names, label, ax, ci=ci, reference=0.5)
    ax.set_title(f"largest misfit {result.misfit:.1f} standard errors", fontsize=10)
    return ax


def information(result: InformationChain, *, ax: Axes | None = None) -> Axes:
    """Draw what each specialist adds to those before it, in the order of joining.

    Parameters
    ----------
    result : InformationChain
        From `gaussian_information`, `information_chain` or `v_information`.
    ax : matplotlib Axes, optional
        Where to draw.

    Returns
    -------
    Axes
        Bars with intervals; the line is the running sum, on the same scale.

    Examples
    --------
    >>> from theory import gaussian_information, plots
    >>> plots.information(gaussian_information([[1.0, 0.8], [0.8, 1.0]], prior_variance=1.0)).get_ylabel()
    'information about the truth (nats)'
    """
    m = len(result.chain)
    ax = axes_for(ax, max(4.0, 0.35 * m + 1.6), 3.4)
    at = np.arange(m)
    error = None if result.ci is None else np.abs(result.ci - result.chain)
    ax.bar(
        at, result.chain, color=[BLUE if v >= 0 else ORANGE for v in result.chain], yerr=error, ecolor=GREY
    )
    ax.plot(at, np.cumsum(result.chain), color=GREY, marker="o", ms=4, label="together so far")
    ax.axhline(0.0, color=GREY, lw=0.8)
    crowded = m > 6 or max(map(len, result.names)) > 8
    ax.set_xticks(at, [short(name) for name in result.names], rotation=90 if crowded else 0)
    ax.set_ylabel("information about the truth (nats)")
    ax.legend(frameon=False)
    return ax
