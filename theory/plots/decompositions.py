"""Pictures of what a panel gains, and where the gain comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from theory.plots._axes import BLUE, GREY, INK, ORANGE, axes_for

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from theory.bias_variance import BiasVarianceCovariance
    from theory.decompositions import DiversityDecomposition
    from theory.diversity import Ambiguity, EffectiveNumber
    from theory.weights import WeightingVerdict


def _waterfall(ax: Axes, steps: list[tuple[str, float]], total: tuple[str, float]) -> None:
    """Draw terms that add up: each bar begins where the one before it ended."""
    at = 0.0
    for x, (_, value) in enumerate(steps):
        ax.bar(x, value, bottom=at, color=BLUE if value < 0 else GREY, width=0.65)
        ax.text(x, at + max(value, 0.0), f"{value:+.3g}", ha="center", va="bottom", fontsize=8, color=INK)
        at += value
        ax.plot([x + 0.33, x + 0.67], [at, at], color=GREY, lw=0.8)
    ax.bar(len(steps), total[1], color=ORANGE, width=0.65)
    ax.text(
        len(steps), max(total[1], 0.0), f"{total[1]:.3g}", ha="center", va="bottom", fontsize=8, color=INK
    )
    ax.axhline(0.0, color=GREY, lw=0.8)
    ax.set_xticks(range(len(steps) + 1), [name for name, _ in steps] + [total[0]])
    ax.margins(y=0.12)


def decomposition(result: Ambiguity | DiversityDecomposition, *, ax: Axes | None = None) -> Axes:
    """Draw how a pool's loss comes from its specialists' loss and their diversity.

    Parameters
    ----------
    result : Ambiguity or DiversityDecomposition
        From `ambiguity` or `diversity_decomposition`.
    ax : matplotlib Axes, optional
        Where to draw.

    Returns
    -------
    Axes
        Bars that add up to the loss of the pool.

    Examples
    --------
    >>> from theory import ambiguity, plots
    >>> plots.decomposition(ambiguity([[1.0, 3.0]], [1.0])).get_ylabel()
    'squared error'
    """
    ax = axes_for(ax, 4.8, 3.4)
    steps = [("specialists", result.mean_loss)]
    bias, variance = getattr(result, "mean_bias", None), getattr(result, "mean_variance", None)
    if bias is not None and variance is not None:
        steps = [("bias", bias), ("variance", variance)]
    steps.append(("diversity", -result.diversity))
    remainder = getattr(result, "remainder", None)
    if getattr(result, "pool", None) == "linear" and remainder is not None:
        steps.append(("remainder", remainder))
    _waterfall(ax, steps, ("pool", result.pool_loss))
    ax.set_ylabel("squared error" if remainder is None else "cross-entropy (nats)")
    return ax


def bias_variance(result: BiasVarianceCovariance, *, ax: Axes | None = None) -> Axes:
    """Draw squared bias, variance and covariance as they add up to the error of the mean.

    Parameters
    ----------
    result : BiasVarianceCovariance
        From `bias_variance_covariance`.
    ax : matplotlib Axes, optional
        Where to draw.

    Returns
    -------
    Axes
        Bars that add up to the mean squared error.

    Examples
    --------
    >>> from theory import bias_variance_covariance, plots
    >>> plots.bias_variance(bias_variance_covariance([[[1.0, 3.0]], [[1.0, -1.0]]], [0.0])).get_ylabel()
    'squared error of the mean'
    """
    ax = axes_for(ax, 4.8, 3.4)
    m = result.n_specialists
    steps = [
        ("bias", result.bias),
        ("variance / M", result.variance / m),
        ("covariance\n(1 - 1/M)", (1.0 - 1.0 / m) * result.covariance),
    ]
    _waterfall(ax, steps, (f"mean of {m}", result.loss))
    ax.set_ylabel("squared error of the mean")
    return ax


def effective_numbers(result: EffectiveNumber, *, ax: Axes | None = None) -> Axes:
    """Draw the four effective numbers side by side.

    Parameters
    ----------
    result : EffectiveNumber
        From `effective_number`.
    ax : matplotlib Axes, optional
        Where to draw.

    Returns
    -------
    Axes
        Bars, that of the kind asked for in blue with its interval.

    Examples
    --------
    >>> from theory import effective_number, plots
    >>> plots.effective_numbers(effective_number([[1.0, 0.5], [0.5, 1.0]])).get_xlabel()
    'effective number of specialists'
    """
    ax = axes_for(ax, 5.2, 2.2)
    kinds = list(result.all)[::-1]
    values = np.array([result.all[kind] for kind in kinds])
    finite = np.where(np.isfinite(values), values, np.nan)
    at = np.arange(len(kinds))
    ax.barh(
        at, np.nan_to_num(finite), height=0.6, color=[BLUE if kind == result.kind else GREY for kind in kinds]
    )
    for y, v in enumerate(values):
        ax.text(v if np.isfinite(v) else 0.0, y, f"  {v:.2f}", va="center", fontsize=8, color=INK)
    if result.ci is not None:
        above = kinds.index(result.kind) + 0.36
        ax.plot(result.ci, [above, above], color=INK, lw=1.5, marker="|")
    ax.set_yticks(at, kinds)
    ax.margins(x=0.12)
    ax.set_xlabel("effective number of specialists")
    return ax


def weighting(result: WeightingVerdict, *, ax: Axes | None = None) -> Axes:
    """Draw the variance of equal, of estimated and of perfect weights.

    Parameters
    ----------
    result : WeightingVerdict
        From `is_weighting_worth_it`.
    ax : matplotlib Axes, optional
        Where to draw.

    Returns
    -------
    Axes
        Three bars: what perfect weights would gain, and what estimating them costs.

    Examples
    --------
    >>> import numpy as np
    >>> from theory import is_weighting_worth_it, plots
    >>> plots.weighting(is_weighting_worth_it(np.diag([1.0, 1.0, 9.0]), n=100)).get_title()
    'weighting pays'
    """
    ax = axes_for(ax, 4.4, 3.2)
    values = [result.equal_variance, result.expected_variance, result.optimal_variance]
    colours = [GREY, BLUE if result.worth_it else ORANGE, "#cfd6dd"]
    ax.bar(range(3), values, color=colours, width=0.65)
    for x, value in enumerate(values):
        ax.text(x, value, f"{value:.3g}", ha="center", va="bottom", fontsize=8, color=INK)
    ax.set_xticks(range(3), ["equal", f"estimated\n(n = {result.n:g})", "perfect"])
    ax.set_ylabel("variance out of sample")
    ax.set_title(f"weighting {'pays' if result.worth_it else 'does not pay'}", fontsize=10)
    ax.margins(y=0.12)
    return ax
