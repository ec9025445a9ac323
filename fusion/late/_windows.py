"""Winsorised means and means around a centre, output by output: two ways that give the same bits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fusion._run import ordered_sum
from fusion._vectors import whole_vectors

Kind = Literal["winsorized", "around_median", "around_trimmed"]
_KINDS: tuple[Kind, ...] = ("winsorized", "around_median", "around_trimmed")
# The straight-line network of more specialists than this takes seconds to compile.
_NETWORK = 128
# Below this many numbers NumPy's sort costs less than reaching the compiled core.
_TINY = 4096
# Columns with ties that are handled together.
_TIES = 200_000
# As in the compiled code: distances that differ by less may be a tie.
_TIED = 16.0


def inner_mean(
    rows: NDArray[Any], trim: int, kind: Kind, tie: Callable[[NDArray[Any]], NDArray[Any]] | None
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Average the winsorised values of every coordinate, or those nearest to its middle.

    Parameters
    ----------
    rows : ndarray, shape (sample, specialist, output)
        C-contiguous panel.
    trim : int
        Values that are moved on each side, or the number of those that are left out.
    kind : {"winsorized", "around_median", "around_trimmed"}
        What is averaged.
    tie : callable, optional
        Shares (1, specialist, output) of values of that shape in at least double precision, for the columns
        in which values left and right of the centre tie for the last place, or sums overflow.

    Returns
    -------
    fused : ndarray, shape (sample, output)
    unclean : ndarray of bool, shape (sample,)
        Samples that hold a non-finite value, or whose mean overflowed.
    """
    straight = False
    if rows.dtype in (np.float32, np.float64) and rows.shape[1] <= _NETWORK and rows.size >= _TINY:
        from fusion._kernels.compiled import worth_specialising

        straight = worth_specialising((kind, rows.dtype, rows.shape[1], trim), rows.size)
    out, unclean = _straight(rows, trim, kind) if straight else _sorted(rows, trim, kind)
    if tie is not None and not np.isfinite(out).all():
        # Rounding to the panel's dtype cannot overflow: a mean lies between the values.
        samples, outputs = np.nonzero(~np.isfinite(out) & ~unclean[:, None])
        step = max(1, _TIES // rows.shape[1])
        for start in range(0, samples.size, step):
            s, o = samples[start : start + step], outputs[start : start + step]
            wide = np.result_type(rows.dtype, np.float64)
            block = np.ascontiguousarray(rows[s, :, o].T[None], dtype=wide)
            out[s, o] = ordered_sum(tie(block) * block, 1)[0]
    return out, unclean


def _straight(rows: NDArray[Any], trim: int, kind: Kind) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    from fusion._kernels.windows import inner_means_of

    d = rows.shape[2]
    kernel = inner_means_of(rows.dtype, rows.shape[1], trim, _KINDS.index(kind))
    return whole_vectors(
        rows, lambda first, panel, out, marks, begin, end: kernel(panel, out, marks, d, begin, end)
    )


def _sorted(rows: NDArray[Any], trim: int, kind: Kind) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    n_samples, n, d = rows.shape
    out = np.empty((n_samples, d), dtype=rows.dtype)
    unclean = np.zeros(n_samples, dtype=bool)
    columns = max(1, min(d, 2_000_000 // n))
    step = max(1, 2_000_000 // (n * columns))
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, n_samples, step):
            for first in range(0, d, columns):
                block = rows[start : start + step, :, first : first + columns]
                mean = _window(np.sort(block, axis=1), trim, kind)
                out[start : start + step, first : first + columns] = mean
                unclean[start : start + step] |= ~np.isfinite(block).all(axis=(1, 2))
        if kind == "winsorized":
            unclean |= ~np.isfinite(out).all(axis=1)
    return out, unclean


def _window(ranked: NDArray[Any], trim: int, kind: Kind) -> NDArray[Any]:
    """Do what `fusion._kernels.windows` does, in its order."""
    n = ranked.shape[1]
    wide = np.result_type(ranked.dtype, np.float64)
    ranked = ranked.astype(wide, copy=False)
    total = ordered_sum(ranked[:, trim : n - trim], 1)
    mean: NDArray[Any]
    if kind == "winsorized":
        mean = (total + trim * ranked[:, trim] + trim * ranked[:, n - trim - 1]) / n
        return mean
    middle = ranked[:, (n - 1) // 2 : n // 2 + 1]
    centre = ordered_sum(middle, 1) / middle.shape[1] if kind == "around_median" else total / (n - 2 * trim)
    tied = np.zeros(total.shape, dtype=bool)
    for a in range(trim):
        low, high = ranked[:, a], ranked[:, n - trim + a]
        below, above = centre - low, high - centre
        upper = above < below
        total = total + np.where(upper, high, low)
        slack = _TIED * np.finfo(wide).eps * (np.abs(centre) + np.where(upper, above, below))
        tied |= ~(np.abs(below - above) > slack) & ~(high - low <= slack)
    mean = np.where(tied, np.nan, total / (n - trim))
    return mean
