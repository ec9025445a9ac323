"""Rules on each output by itself, told by the share that every specialist has in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion._arguments import Floats
from fusion._faults import Rule, Unclean
from fusion._run import ordered_sum
from fusion.late._ranks import mean_of_ranks

# (values (sample, specialist, output), budget, alpha (1 or sample, specialist) or None) -> shares of that shape
Shares = Callable[[NDArray[Any], int, Floats | None], NDArray[Any]]
# Numbers handled together: temporaries then stay in the second-level cache, and far below the panel in size.
_BLOCK = 120_000


# (values (sample, specialist, output), budget) -> fused (sample, output), unclean (sample,)
Direct = Callable[[NDArray[Any], int], tuple[NDArray[Any], Unclean]]


def coordinate_rule(name: str, n_byzantine: Any, shares: Shares, direct: Direct | None = None) -> Rule:
    """Make a rule of n_byzantine liars from its shares.

    Parameters
    ----------
    name : str
        Name in the registry.
    n_byzantine : int or float
        As the user gave it.
    shares : callable
        Shares that sum to 1 over the specialists, for finite values.
    direct : callable, optional
        The fused answers of equally trusted specialists, found without their shares.

    Returns
    -------
    Rule
    """

    def fuse(rows: NDArray[Any], f: int, alpha: Floats | None) -> tuple[NDArray[Any], Unclean]:
        if alpha is None and direct is not None:
            return direct(rows, f)
        out = np.empty((rows.shape[0], rows.shape[2]), dtype=rows.dtype)
        unclean = np.zeros(len(rows), dtype=bool)
        for part, columns in blocks(rows.shape):
            block = np.ascontiguousarray(widened(rows[part, :, columns]))
            with np.errstate(over="ignore", invalid="ignore"):
                total = ordered_sum(shares(block, f, _part(alpha, part)) * block, 1)
                out[part, columns] = total
            # A rule may give weight 0 to a NaN: it has to be looked for.
            unclean[part] |= ~(np.isfinite(block).all(axis=(1, 2)) & np.isfinite(total).all(axis=1))
        return out, unclean

    def share(rows: NDArray[Any], f: int, alpha: Floats | None) -> tuple[NDArray[Any], Unclean]:
        result = np.empty(rows.shape)
        unclean = np.zeros(len(rows), dtype=bool)
        for part, columns in blocks(rows.shape):
            block = np.ascontiguousarray(widened(rows[part, :, columns]))
            with np.errstate(over="ignore", invalid="ignore"):
                result[part, :, columns] = shares(block, f, _part(alpha, part))
            unclean[part] |= ~np.isfinite(block).all(axis=(1, 2))
        return result, unclean

    return Rule(
        name=name,
        minimum=lambda f: 2 * f + 1,
        n_byzantine=n_byzantine,
        fuse=fuse,
        share=share,
        coordinatewise=True,
    )


def blocks(shape: tuple[int, ...]) -> Iterator[tuple[slice, slice]]:
    """Cut (sample, specialist, output) into slices of samples and outputs of bounded size."""
    n_samples, n, d = shape
    columns = max(1, min(d, _BLOCK // max(n, 1)))
    step = max(1, _BLOCK // max(n * columns, 1))
    for start in range(0, n_samples, step):
        for first in range(0, d, columns):
            yield slice(start, start + step), slice(first, first + columns)


def widened(block: NDArray[Any]) -> NDArray[Any]:
    """Give numbers in at least double precision."""
    return block.astype(np.result_type(block.dtype, np.float64), copy=False)


def _part(alpha: Floats | None, part: slice) -> Floats | None:
    return alpha if alpha is None or len(alpha) == 1 else alpha[part]


def nearest_shares(
    values: NDArray[Any], centre: NDArray[Any], alpha: Floats | None, kept: int | Floats
) -> NDArray[Any]:
    """Share of every value in the mean of those nearest to a centre, output by output.

    Values nearer than the last one that is needed count fully; all values as far as that one share what
    is left.

    Parameters
    ----------
    values : ndarray of at least double precision, shape (sample, specialist, output)
        Finite values.
    centre : ndarray, shape (sample, output)
        The centres.
    alpha : ndarray of float64, shape (1 or sample, specialist), or None
        Mass of each specialist; 1 unless given.
    kept : int, or ndarray of float64 of shape (1 or sample,)
        How many values are averaged; with `alpha`, their mass.

    Returns
    -------
    ndarray, shape of `values`
        Non-negative, sums to 1 over the specialists.
    """
    apart = np.abs(0.25 * values - 0.25 * centre[:, None])
    if alpha is None:
        last = int(np.max(kept)) - 1
        mass: NDArray[Any] = np.ones((1, 1, 1))
        reach = mean_of_ranks(apart, last, last + 1)[0]
        left: Any = kept
    else:
        mass, left = alpha[:, :, None], np.asarray(kept)[:, None]
        order = np.argsort(apart, axis=1, kind="stable")
        reached = np.cumsum(np.take_along_axis(np.broadcast_to(mass, apart.shape), order, axis=1), axis=1)
        place = np.argmax(reached >= left[:, None] - 1e-12, axis=1)
        reach = np.take_along_axis(np.take_along_axis(apart, order, axis=1), place[:, None], axis=1)[:, 0]
    # The centre is rounded, and with it the distances: values on both its sides tie within that.
    slack = 4.0 * np.finfo(apart.dtype).eps * (np.abs(0.25 * centre) + reach)
    near = mass * (apart < (reach - slack)[:, None])
    tied = mass * (np.abs(apart - reach[:, None]) <= slack[:, None])
    inside, beside = ordered_sum(near, 1), ordered_sum(tied, 1)
    # Only values that are no numbers have no ties; their samples are looked at again.
    with np.errstate(divide="ignore", invalid="ignore"):
        rest = np.maximum(left - inside, 0.0) / beside
        shares: NDArray[Any] = (near + tied * rest[:, None]) / (inside + rest * beside)[:, None]
    return shares
