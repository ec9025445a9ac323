"""Pictures of pairs of specialists."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from theory._checks import check_choice
from theory._moments import standardise
from theory.plots._axes import INK, heat_map

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from theory.agreement import Agreement
    from theory.correlation import ErrorMatrix
    from theory.pair_tests import PairTests
    from theory.pricing.clones import Clones


def error_matrix(result: ErrorMatrix, *, ax: Axes | None = None) -> Axes:
    """Draw the correlations of errors, specialists who err alike side by side.

    Parameters
    ----------
    result : ErrorMatrix
        From `error_covariance` or `error_correlation`; a covariance is standardised for the picture.
    ax : matplotlib Axes, optional
        Where to draw.

    Returns
    -------
    Axes
        The axes, titled with the mean correlation.

    Examples
    --------
    >>> from theory import error_correlation, plots
    >>> ax = plots.error_matrix(error_correlation([[1.0, 0.5], [-1.0, 0.0], [0.5, 1.0]]))
    >>> ax.get_title()
    'mean error correlation 0.72'
    """
    value = result.value if result.kind == "correlation" else standardise(result.value)
    label = "error correlation" if result.kind != "second_moment" else "correlation of errors, bias inside"
    ax = heat_map(value, result.names, label, ax)
    ax.set_title(f"mean error correlation {result.rho_mean:.2f}", fontsize=10)
    return ax


def agreement(
    result: Agreement,
    *,
    statistic: Literal[
        "phi", "q", "kappa", "cohen", "capa", "double_fault", "same_wrong", "q_strata"
    ] = "kappa",
    ax: Axes | None = None,
) -> Axes:
    """Draw one statistic of agreement for all pairs.

    Parameters
    ----------
    result : Agreement
        From `error_agreement`.
    statistic : str
        Which one.
    ax : matplotlib Axes, optional
        Where to draw.

    Returns
    -------
    Axes
        The axes, titled with the mean over pairs.

    Raises
    ------
    PanelError
        If the result does not hold that statistic.

    Examples
    --------
    >>> from theory import error_agreement, plots
    >>> ax = plots.agreement(error_agreement([[0, 0], [1, 1], [1, 2], [2, 2]], [0, 0, 0, 2]), statistic="phi")
    >>> ax.get_title()
    'phi: mean over pairs 1.00'
    """
    known = ("phi", "q", "kappa", "cohen", "capa", "double_fault", "same_wrong")
    check_choice("statistic", statistic, known if result.q_strata is None else (*known, "q_strata"))
    words = statistic.replace("_", " ")
    ax = heat_map(getattr(result, statistic), result.names, words, ax)
    title = f"{words}: mean over pairs {result.mean[statistic]:.2f}"
    if statistic == "same_wrong":
        title += f", chance {result.mean['same_wrong_chance']:.2f}"
    ax.set_title(title, fontsize=10)
    return ax


def pair_tests(result: PairTests, *, ax: Axes | None = None) -> Axes:
    """Draw the correlations of all pairs, a dot on those found.

    Parameters
    ----------
    result : PairTests
        From `correlated_pairs`.
    ax : matplotlib Axes, optional
        Where to draw.

    Returns
    -------
    Axes
        The axes, titled with the count.

    Examples
    --------
    >>> import numpy as np
    >>> from theory import correlated_pairs, plots
    >>> e = np.random.default_rng(0).normal(size=(50, 3))
    >>> plots.pair_tests(correlated_pairs(e)).get_title()
    '0 of 3 pairs err together (FDR 0.05)'
    """
    ax = heat_map(result.correlation, result.names, "error correlation", ax, result.found)
    ax.set_title(
        f"{result.n_found} of {result.n_pairs} pairs err together (FDR {result.fdr:g})",
        fontsize=10,
    )
    return ax


def clones(result: Clones, *, ax: Axes | None = None) -> Axes:
    """Draw the correlations of errors with a dot on every pair of copies.

    Parameters
    ----------
    result : Clones
        From `find_clones`.
    ax : matplotlib Axes, optional
        Where to draw.

    Returns
    -------
    Axes
        The axes, titled with the count of clusters.

    Examples
    --------
    >>> import numpy as np
    >>> from theory import find_clones, plots
    >>> e = np.random.default_rng(0).normal(size=(50, 3))
    >>> plots.clones(find_clones(np.column_stack([e, e[:, 0]]))).get_title()
    '1 cluster of copies above 0.95'
    """
    same = (result.labels[:, None] == result.labels[None, :]) & ~np.eye(len(result.labels), dtype=bool)
    ax = heat_map(result.correlation, result.names, "error correlation", ax, same)
    count = len(result.clusters)
    ax.set_title(
        f"{count} cluster{'' if count == 1 else 's'} of copies above {result.threshold:g}",
        fontsize=10,
        color=INK,
    )
    return ax
