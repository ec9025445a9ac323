"""Rules on the order statistics of each output: median and trimmed mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fusion._arguments import Floats, heaviest
from fusion._faults import Rule, Unclean, cached_rule
from fusion._operator import Operator
from fusion._run import ordered_sum, run
from fusion.late._ranks import mean_of_ranks


def median(panel: Any, *, weights: Any = None, missing: str = "fault", excess: str = "raise") -> Any:
    """Take the median of the specialists, output by output.

    Parameters
    ----------
    panel : array-like, shape (..., specialist, output)
        What the specialists said.
    weights : array-like of shape (specialist,) or (..., specialist), optional
        Trust in each specialist: the weighted median is the smallest value whose cumulative weight
        reaches one half, or the mean of it and the next where it is exactly one half (within 1e-12).
    missing : {"fault", "abstain", "raise"}, default "fault"
        A non-finite answer is a fault (up to (n-1)//2 of them are removed), NaN is an abstention, or an error.
    excess : {"raise", "nan"}, default "raise"
        Too many faults raise, or give NaN and one FaultWarning.

    Returns
    -------
    array of shape (..., output)
        In the panel's kind and dtype. Even n: the mean of the two middle values.

    Raises
    ------
    BudgetError
        If more than (n-1)//2 answers of a sample are not finite.
    PanelError
        If the panel or the weights cannot be read.

    Notes
    -----
    NaN is never selected. With m = (n-1)//2 and N = n - f the squared error against the mean of any N honest
    specialists is at most m/(N-m) times their variance, for every f < n/2.

    References
    ----------
    Yin, Chen, Ramchandran, Bartlett (2018), Byzantine-robust distributed learning, Definition 1.

    Examples
    --------
    >>> import numpy as np
    >>> median(np.array([[1.0, 4.0], [2.0, 5.0], [900.0, 6.0]]))
    array([2., 5.])
    """
    return run(panel, _median_rule(), "fused", weights=weights, missing=missing, excess=excess)


def trimmed_mean(
    panel: Any,
    *,
    n_byzantine: int | float,
    weights: Any = None,
    missing: str = "fault",
    excess: str = "raise",
) -> Any:
    """Average each output without its `n_byzantine` lowest and highest values.

    Parameters
    ----------
    panel : array-like, shape (..., specialist, output)
        What the specialists said.
    n_byzantine : int or float
        How many specialists may be wrong in any way (papers write f), or a share of them in [0, 1/2).
    weights : array-like of shape (specialist,) or (..., specialist), optional
        Trust in each specialist. The weight of the `n_byzantine` heaviest is then trimmed on each side.
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
        If the panel, the weights or `n_byzantine` cannot be read.

    Notes
    -----
    NaN is never averaged. The squared error against the mean of any N = n - f honest specialists is at
    most f/(n-2f) times their variance; no rule can promise less. Non-negative, but not on the simplex.

    References
    ----------
    Yin, Chen, Ramchandran, Bartlett (2018), Byzantine-robust distributed learning, Definition 2.

    Examples
    --------
    >>> import numpy as np
    >>> trimmed_mean(np.array([[1.0], [2.0], [3.0], [4.0], [1e6]]), n_byzantine=1)
    array([3.])
    """
    rule = _trimmed_rule(n_byzantine)
    return run(panel, rule, "fused", weights=weights, missing=missing, excess=excess)


@dataclass(eq=False)
class Median(Operator):
    """Coordinate-wise median; see `median`.

    Examples
    --------
    >>> Median()([[1.0, 4.0], [2.0, 5.0], [900.0, 6.0]])
    array([2., 5.])
    """

    name: ClassVar[str] = "median"

    def _rule(self) -> Rule:
        return _median_rule()


@dataclass(eq=False)
class TrimmedMean(Operator):
    """Coordinate-wise trimmed mean; see `trimmed_mean`.

    Parameters
    ----------
    n_byzantine : int or float, default 1
        How many specialists may be wrong in any way (papers write f), or a share of them.

    Examples
    --------
    >>> TrimmedMean(n_byzantine=1)([[1.0], [2.0], [3.0], [4.0], [1e6]])
    array([3.])
    """

    name: ClassVar[str] = "trimmed_mean"
    n_byzantine: int | float = 1

    def _rule(self) -> Rule:
        return _trimmed_rule(self.n_byzantine)


@cached_rule
def _median_rule() -> Rule:
    return Rule(
        name="median",
        withstands=lambda n: max(n - 1, 0) // 2,
        fuse=_median_core,
        share=_median_share,
        coordinatewise=True,
        twin=("median", {}),
    )


@cached_rule
def _trimmed_rule(n_byzantine: Any) -> Rule:
    return Rule(
        name="trimmed_mean",
        minimum=lambda f: 2 * f + 1,
        n_byzantine=n_byzantine,
        fuse=_trimmed_core,
        share=_trimmed_share,
        coordinatewise=True,
        twin=("trimmed_mean", {}),
    )


def _median_core(rows: NDArray[Any], f: int, alpha: Floats | None) -> tuple[NDArray[Any], Unclean]:
    n = rows.shape[1]
    if alpha is None:
        return mean_of_ranks(rows, (n - 1) // 2, n // 2 + 1)
    order = np.argsort(rows, axis=1, kind="stable")
    values = np.take_along_axis(rows, order, axis=1)
    low, high = _middle(alpha, order)
    one = np.take_along_axis(values, low[:, None], axis=1)[:, 0]
    other = np.take_along_axis(values, high[:, None], axis=1)[:, 0]
    with np.errstate(invalid="ignore", over="ignore"):
        total = one.astype(np.result_type(rows.dtype, np.float64)) + other
    return (total / 2.0).astype(rows.dtype), _unclean(rows)


def _middle(alpha: Floats, order: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Sorted places of the lower and the upper weighted median."""
    mass = np.take_along_axis(np.broadcast_to(alpha[:, :, None], order.shape), order, axis=1)
    reached = np.cumsum(mass, axis=1)
    low = np.argmax(reached >= 0.5 - 1e-12, axis=1)
    at = np.take_along_axis(reached, low[:, None], axis=1)[:, 0]
    high = np.where(at <= 0.5 + 1e-12, np.minimum(low + 1, order.shape[1] - 1), low)
    return low, high


def _trimmed_core(rows: NDArray[Any], f: int, alpha: Floats | None) -> tuple[NDArray[Any], Unclean]:
    n = rows.shape[1]
    if alpha is None:
        return mean_of_ranks(rows, f, n - f)
    trim = heaviest(alpha, f)[:, None, None]
    order = np.argsort(rows, axis=1, kind="stable")
    values = np.take_along_axis(rows, order, axis=1)
    mass = np.take_along_axis(np.broadcast_to(alpha[:, :, None], order.shape), order, axis=1)
    reached = np.cumsum(mass, axis=1)
    kept = np.clip(np.minimum(reached, 1.0 - trim) - np.maximum(reached - mass, trim), 0.0, None)
    with np.errstate(invalid="ignore", over="ignore"):
        total = ordered_sum(np.where(kept > 0.0, kept * values, 0.0), 1) / ordered_sum(kept, 1)
    return total.astype(rows.dtype), _unclean(rows)


def _unclean(rows: NDArray[Any]) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = ~np.isfinite(rows).all(axis=(1, 2))
    return found


def _median_share(rows: NDArray[Any], f: int, alpha: Floats | None) -> tuple[NDArray[Any], Unclean]:
    n = rows.shape[1]
    if alpha is None:
        return _shares(rows, np.ones((1, n)), float((n - 1) // 2), float(n // 2 + 1)), _unclean(rows)
    order = np.argsort(rows, axis=1, kind="stable")
    values = np.take_along_axis(rows, order, axis=1)
    result = np.zeros(rows.shape)
    for place in _middle(alpha, order):
        chosen = rows == np.take_along_axis(values, place[:, None], axis=1)
        mass = np.where(chosen, alpha[:, :, None], 0.0)
        result += 0.5 * mass / np.maximum(mass.sum(axis=1, keepdims=True), np.finfo(float).tiny)
    return result, _unclean(rows)


def _trimmed_share(rows: NDArray[Any], f: int, alpha: Floats | None) -> tuple[NDArray[Any], Unclean]:
    n = rows.shape[1]
    if alpha is None:
        return _shares(rows, np.ones((1, n)), float(f), float(n - f)), _unclean(rows)
    trim = heaviest(alpha, f)[:, None, None]
    return _shares(rows, alpha, trim, 1.0 - trim), _unclean(rows)


def _shares(rows: NDArray[Any], mass: Floats, low: Any, high: Any) -> Floats:
    """Share of every row in the mass between `low` and `high`; equal values share what they keep."""
    n_samples, n, d = rows.shape
    result = np.empty(rows.shape)
    step = max(1, 2_000_000 // (n * d))
    for start in range(0, n_samples, step):
        block = rows[start : start + step]
        part = slice(start, start + step)
        weight = mass if mass.shape[0] == 1 else mass[part]
        lowest = low if np.ndim(low) == 0 or len(low) == 1 else low[part]
        highest = high if np.ndim(high) == 0 or len(high) == 1 else high[part]
        for i in range(n):
            below = np.einsum(
                "sjd,sj->sd", block < block[:, i, None], np.broadcast_to(weight, block.shape[:2])
            )
            equal = np.einsum(
                "sjd,sj->sd", block == block[:, i, None], np.broadcast_to(weight, block.shape[:2])
            )
            lo = lowest if np.ndim(lowest) == 0 else lowest[:, 0]
            hi = highest if np.ndim(highest) == 0 else highest[:, 0]
            kept = np.clip(np.minimum(below + equal, hi) - np.maximum(below, lo), 0.0, None)
            safe = np.where(equal > 0.0, equal, 1.0)
            result[part, i] = kept * weight[:, i, None] / safe / (hi - lo)
    return result
