"""Rules that average the most compact n - f specialists: by diameter, by variance, by the worst direction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fusion._arguments import Floats, check_choice, heaviest
from fusion._faults import Rule, Unclean, cached_rule
from fusion._operator import Operator
from fusion._run import ordered_sum, run
from fusion.late._choices import by_distances
from theory._exceptions import BudgetError, PanelError


def minimum_diameter_averaging(
    panel: Any,
    *,
    n_byzantine: int | float,
    weights: Any = None,
    scope: str = "sample",
    missing: str = "fault",
    excess: str = "raise",
) -> Any:
    """Average the n - f specialists of least diameter (MDA).

    Parameters
    ----------
    panel : array-like, shape (..., specialist, output)
        What the specialists said.
    n_byzantine : int or float
        How many specialists may be wrong in any way (papers write f), or a share of them in [0, 1/2).
    weights : array-like of shape (specialist,) or (..., specialist), optional
        Trust in each specialist: weighs the mean of the n - f chosen, not the choice.
    scope : {"sample", "batch"}, default "sample"
        One choice per sample, or one for all samples by distances summed over them.
    missing : {"fault", "abstain", "raise"}, default "fault"
        A non-finite answer is a fault and uses up the budget, NaN is an abstention, or an error.
    excess : {"raise", "nan"}, default "raise"
        Too many faults raise, or give NaN and one FaultWarning.

    Returns
    -------
    array of shape (..., output)
        In the panel's kind and dtype; sums are taken in float64.

    Raises
    ------
    BudgetError
        If there are fewer than 2 n_byzantine + 1 specialists, more faults than n_byzantine, or the
        heaviest n_byzantine weights hold one half or more.
    PanelError
        If the panel, the weights or an option cannot be read.

    Notes
    -----
    NaN is never averaged. Ties: the subset that comes first in lexicographic order. Subsets with the same widest
    pair do tie, so that the answer can depend on the order of the specialists. The search is exact: the least
    diameter whose conflict graph has a vertex cover of n_byzantine. With t = n - 2f and N = n - f the
    squared error against the mean of any N honest specialists is at most (sqrt(2f^2/N) + sqrt(f/t))^2 times
    their variance.

    References
    ----------
    El Mhamdi, Guerraoui, Rouault (2018), The hidden vulnerability of distributed learning in Byzantium,
    section 4 (brute).

    Examples
    --------
    >>> minimum_diameter_averaging([[1.0, 2.0], [1.5, 2.0], [3.5, 2.0], [90.0, -90.0]], n_byzantine=1)
    array([2., 2.])
    """
    rule = _subset_rule("minimum_diameter_averaging", n_byzantine, scope, None)
    return run(panel, rule, "fused", weights=weights, missing=missing, excess=excess)


def minimum_variance_averaging(
    panel: Any,
    *,
    n_byzantine: int | float,
    max_nodes: int = 1_000_000,
    weights: Any = None,
    scope: str = "sample",
    missing: str = "fault",
    excess: str = "raise",
) -> Any:
    """Average the n - f specialists of least variance.

    Parameters
    ----------
    panel : array-like, shape (..., specialist, output)
        What the specialists said.
    n_byzantine : int or float
        How many specialists may be wrong in any way (papers write f), or a share of them in [0, 1/2).
    max_nodes : int, default 1_000_000
        Where the search of a sample is given up.
    weights : array-like of shape (specialist,) or (..., specialist), optional
        Trust in each specialist: weighs the variance and the mean of n - f specialists.
    scope : {"sample", "batch"}, default "sample"
        As in `minimum_diameter_averaging`.
    missing : {"fault", "abstain", "raise"}, default "fault"
        As in `minimum_diameter_averaging`.
    excess : {"raise", "nan"}, default "raise"
        As in `minimum_diameter_averaging`.

    Returns
    -------
    array of shape (..., output)
        In the panel's kind and dtype; sums are taken in float64.

    Raises
    ------
    BudgetError
        As in `minimum_diameter_averaging`, or if the search needs more than `max_nodes`.
    PanelError
        As in `minimum_diameter_averaging`.

    Notes
    -----
    NaN is never averaged. Ties: the first subset in lexicographic order among those within 1e-9 of the least
    variance. The search is exact, by branch and bound. The squared error against the mean of any n - f honest
    specialists is at most 4f/(n-2f) times their variance, and can come as near to it as one likes.

    References
    ----------
    Rousseeuw (1985), Multivariate estimation with high breakdown point: least trimmed squares for the mean.

    Examples
    --------
    >>> minimum_variance_averaging([[1.0, 2.0], [1.5, 2.0], [2.5, 2.0], [90.0, -90.0]], n_byzantine=1).round(3)
    array([1.667, 2.   ])
    """
    rule = _subset_rule("minimum_variance_averaging", n_byzantine, scope, max_nodes)
    return run(panel, rule, "fused", weights=weights, missing=missing, excess=excess)


def smea(
    panel: Any,
    *,
    n_byzantine: int | float,
    max_nodes: int = 1_000_000,
    weights: Any = None,
    scope: str = "sample",
    missing: str = "fault",
    excess: str = "raise",
) -> Any:
    """Average the n - f specialists whose covariance has the least top eigenvalue (SMEA).

    Parameters
    ----------
    panel : array-like, shape (..., specialist, output)
        What the specialists said.
    n_byzantine : int or float
        How many specialists may be wrong in any way (papers write f), or a share of them in [0, 1/2).
    max_nodes : int, default 1_000_000
        Where the search of a sample is given up; `caf` needs no search.
    weights : array-like of shape (specialist,) or (..., specialist), optional
        Trust in each specialist: weighs the covariance and the mean of n - f specialists.
    scope : {"sample", "batch"}, default "sample"
        As in `minimum_diameter_averaging`.
    missing : {"fault", "abstain", "raise"}, default "fault"
        As in `minimum_diameter_averaging`.
    excess : {"raise", "nan"}, default "raise"
        As in `minimum_diameter_averaging`.

    Returns
    -------
    array of shape (..., output)
        In the panel's kind and dtype; sums are taken in float64.

    Raises
    ------
    BudgetError
        As in `minimum_diameter_averaging`, or if the search needs more than `max_nodes`.
    PanelError
        As in `minimum_diameter_averaging`.

    Notes
    -----
    NaN is never averaged. Ties: the first subset in lexicographic order among those within 1e-9 of the least
    eigenvalue. The search is exact, by branch and bound from the subset of least diameter. The squared error
    against the mean of any n - f honest specialists is at most 4f/(n-2f) times the top eigenvalue of their
    covariance, which is stronger than the same multiple of their variance.

    References
    ----------
    Allouah, Guerraoui, Gupta, Pinot, Stephan (2023), On the privacy-robustness-utility trilemma in
    distributed learning, section 4.

    Examples
    --------
    >>> smea([[1.0, 2.0], [1.5, 2.0], [2.5, 2.0], [90.0, -90.0]], n_byzantine=1).round(3)
    array([1.667, 2.   ])
    """
    rule = _subset_rule("smea", n_byzantine, scope, max_nodes)
    return run(panel, rule, "fused", weights=weights, missing=missing, excess=excess)


@dataclass(eq=False)
class MinimumDiameterAveraging(Operator):
    """Mean of the subset of least diameter; see `minimum_diameter_averaging`.

    Parameters
    ----------
    n_byzantine : int or float, default 1
        How many specialists may be wrong in any way (papers write f), or a share of them.
    scope : {"sample", "batch"}, default "sample"
        One choice per sample, or one for all.

    Examples
    --------
    >>> MinimumDiameterAveraging(1).weights([[1.0, 2.0], [1.5, 2.0], [90.0, -90.0]])
    array([0.5, 0.5, 0. ])
    """

    name: ClassVar[str] = "minimum_diameter_averaging"
    n_byzantine: int | float = 1
    scope: str = "sample"

    def _rule(self) -> Rule:
        return _subset_rule(self.name, self.n_byzantine, self.scope, None)


@dataclass(eq=False)
class MinimumVarianceAveraging(Operator):
    """Mean of the subset of least variance; see `minimum_variance_averaging`.

    Parameters
    ----------
    n_byzantine : int or float, default 1
        How many specialists may be wrong in any way (papers write f), or a share of them.
    max_nodes : int, default 1_000_000
        Where the search of a sample is given up.
    scope : {"sample", "batch"}, default "sample"
        One choice per sample, or one for all.

    Examples
    --------
    >>> MinimumVarianceAveraging(1).weights([[1.0, 2.0], [1.5, 2.0], [90.0, -90.0]])
    array([0.5, 0.5, 0. ])
    """

    name: ClassVar[str] = "minimum_variance_averaging"
    n_byzantine: int | float = 1
    max_nodes: int = 1_000_000
    scope: str = "sample"

    def _rule(self) -> Rule:
        return _subset_rule(self.name, self.n_byzantine, self.scope, self.max_nodes)


@dataclass(eq=False)
class Smea(Operator):
    """Smallest maximum eigenvalue averaging; see `smea`.

    Parameters
    ----------
    n_byzantine : int or float, default 1
        How many specialists may be wrong in any way (papers write f), or a share of them.
    max_nodes : int, default 1_000_000
        Where the search of a sample is given up.
    scope : {"sample", "batch"}, default "sample"
        One choice per sample, or one for all.

    Examples
    --------
    >>> Smea(1).weights([[1.0, 2.0], [1.5, 2.0], [90.0, -90.0]])
    array([0.5, 0.5, 0. ])
    """

    name: ClassVar[str] = "smea"
    n_byzantine: int | float = 1
    max_nodes: int = 1_000_000
    scope: str = "sample"

    def _rule(self) -> Rule:
        return _subset_rule(self.name, self.n_byzantine, self.scope, self.max_nodes)


_MEASURES = ("minimum_diameter_averaging", "minimum_variance_averaging", "smea")


@cached_rule
def _subset_rule(name: str, n_byzantine: Any, scope: str, max_nodes: int | None) -> Rule:
    check_choice("scope", scope, ("sample", "batch"))
    if max_nodes is not None and (isinstance(max_nodes, bool) or not max_nodes >= 1):
        raise PanelError(f"max_nodes must be a whole number >= 1; got {max_nodes!r}. Use 1_000_000.")

    def weigh(rows: NDArray[Any], f: int, alpha: Floats | None) -> tuple[NDArray[Any], Unclean]:
        from fusion._kernels.spread import choose_subsets

        n = rows.shape[1]
        rank = max(min(rows.shape[2], n - f - 1), 1)
        if alpha is not None:
            heaviest(alpha, f)

        def choose(square: Floats, mass: Floats | None) -> Floats:
            shares = np.broadcast_to(np.full((1, n), 1.0 / n) if mass is None else mass, square.shape[:2])
            kept = np.empty(square.shape[:2], dtype=np.bool_)
            measure = _MEASURES.index(name)
            given_up = choose_subsets(
                square, np.ascontiguousarray(shares), f, rank, measure, int(max_nodes or 1), kept
            )
            if given_up >= 0:
                raise BudgetError(
                    f"{name} with n_byzantine={f} searched max_nodes={max_nodes} subsets of {n} specialists in "
                    "vain. Raise max_nodes, lower n_byzantine, or use caf, which needs no search."
                )
            if mass is None:
                return np.asarray(kept / float(n - f))
            held = np.where(kept, shares, 0.0)
            return np.asarray(held / ordered_sum(held, 1)[:, None])

        return by_distances(rows, alpha, choose)

    return Rule(
        name=name,
        minimum=lambda f: 2 * f + 1,
        n_byzantine=n_byzantine,
        weigh=weigh,
        euclidean=True,
        scope=scope,
    )
