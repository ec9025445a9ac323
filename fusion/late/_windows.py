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
# Columns whose sums overflow that are handled together.
_EXTREME = 200_000
# As in the compiled code: distances that differ by less may be a tie, and are one.
_TIED, _SAME = 16.0, 4.0


def inner_mean(
    rows: NDArray[Any], trim: int, kind: Kind, extreme: Callable[[NDArray[Any]], NDArray[Any]] | None
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
    extreme : callable, optional
        Shares (1, specialist, output) of values of that shape in at least double precision, for the columns
        in which sums overflow.

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
    if extreme is not None and not np.isfinite(out).all():
        # Rounding to the panel's dtype cannot overflow: a mean lies between the values.
        samples, outputs = np.nonzero(~np.isfinite(out) & ~unclean[:, None])
        step = max(1, _EXTREME // rows.shape[1])
        for start in range(0, samples.size, step):
            s, o = samples[start : start + step], outputs[start : start + step]
            wide = np.result_type(rows.dtype, np.float64)
            block = np.ascontiguousarray(rows[s, :, o].T[None], dtype=wide)
            out[s, o] = ordered_sum(extreme(block) * block, 1)[0]
    return out, unclean


def _straight(rows: NDArray[Any], trim: int, kind: Kind) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    out, unclean = _vectors(rows, trim, kind, ties=False)
    lost = np.isnan(out)
    lost[unclean] = False
    if kind != "winsorized" and lost.any():
        _share_ties(rows, trim, kind, out, lost)
    return out, unclean


def _vectors(
    rows: NDArray[Any], trim: int, kind: Kind, *, ties: bool
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    from fusion._kernels.windows import inner_means_of

    d = rows.shape[2]
    kernel = inner_means_of(rows.dtype, rows.shape[1], trim, _KINDS.index(kind), ties)
    return whole_vectors(
        rows, lambda first, panel, out, marks, begin, end: kernel(panel, out, marks, d, begin, end)
    )


def _share_ties(
    rows: NDArray[Any], trim: int, kind: Kind, out: NDArray[Any], lost: NDArray[np.bool_]
) -> None:
    """Write the means of the columns in which values tie, by whichever way copies least."""
    from fusion._kernels.compiled import worth_specialising

    samples = np.flatnonzero(lost.any(axis=1))
    columns = np.flatnonzero(lost.any(axis=0)) if samples.size == 1 else np.arange(rows.shape[2])
    part = rows
    if samples.size < len(rows):
        part = rows[samples]
    # Picking columns one by one costs as much as averaging ten times as many.
    if 10 * columns.size < rows.shape[2]:
        part = np.ascontiguousarray(part[:, :, columns])
    else:
        columns = np.arange(rows.shape[2])
    if worth_specialising((kind, "ties", rows.dtype, rows.shape[1], trim), part.size):
        found = _vectors(part, trim, kind, ties=True)[0]
    else:
        found = _sorted(part, trim, kind, ties=True)[0]
    if found.shape == out.shape:
        np.copyto(out, found, where=lost)
        return
    at = np.ix_(samples, columns)
    out[at] = np.where(lost[at], found, out[at])


def _sorted(
    rows: NDArray[Any], trim: int, kind: Kind, *, ties: bool = False
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    n_samples, n, d = rows.shape
    out = np.empty((n_samples, d), dtype=rows.dtype)
    unclean = np.zeros(n_samples, dtype=bool)
    columns = max(1, min(d, 2_000_000 // n))
    step = max(1, 2_000_000 // (n * columns))
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        for start in range(0, n_samples, step):
            for first in range(0, d, columns):
                block = rows[start : start + step, :, first : first + columns]
                mean = _window(np.sort(block, axis=1), trim, kind, ties)
                out[start : start + step, first : first + columns] = mean
                unclean[start : start + step] |= ~np.isfinite(block).all(axis=(1, 2))
        if kind == "winsorized":
            unclean |= ~np.isfinite(out).all(axis=1)
    return out, unclean


def _window(ranked: NDArray[Any], trim: int, kind: Kind, ties: bool) -> NDArray[Any]:
    """Do what `fusion._kernels.windows` does, in its order; with `ties` for columns that have them alone."""
    n = ranked.shape[1]
    kept = n - trim
    wide = np.result_type(ranked.dtype, np.float64)
    ranked = ranked.astype(wide, copy=False)
    total = ordered_sum(ranked[:, trim:kept], 1) if trim < kept else np.zeros_like(ranked[:, 0])
    mean: NDArray[Any]
    if kind == "winsorized":
        mean = (total + trim * ranked[:, trim] + trim * ranked[:, kept - 1]) / n
        return mean
    middle = ranked[:, (n - 1) // 2 : n // 2 + 1]
    centre = ordered_sum(middle, 1) / middle.shape[1] if kind == "around_median" else total / (n - 2 * trim)
    if ties:
        return _shared(ranked, trim, centre)
    tied = np.zeros(total.shape, dtype=bool)
    for first in range(min(trim, kept)):
        low = ranked[:, first]
        for place in range(first + kept, n, kept):
            high = ranked[:, place]
            below, above = np.abs(centre - low), np.abs(high - centre)
            upper = above < below
            slack = _TIED * np.finfo(wide).eps * (np.abs(centre) + np.where(upper, above, below))
            tied |= ~(np.abs(below - above) > slack) & ~(high - low <= slack)
            low = np.where(upper, high, low)
        total = total + low
    mean = total / kept
    if tied.any():
        samples, outputs = np.nonzero(tied)
        mean[samples, outputs] = _shared(ranked[samples, :, outputs].T[None], trim, centre[tied][None])[0]
    return mean


def _shared(ranked: NDArray[Any], trim: int, centre: NDArray[Any]) -> NDArray[Any]:
    """Average what is nearer than the last place, all values as far as that one sharing what is left."""
    kept = ranked.shape[1] - trim
    ends = [np.maximum(centre - ranked[:, a], ranked[:, a + kept - 1] - centre) for a in range(trim + 1)]
    reach = np.min(ends, axis=0)
    slack = _SAME * np.finfo(ranked.dtype).eps * (np.abs(centre) + reach)
    apart = np.abs(ranked - centre[:, None])
    near = apart < (reach - slack)[:, None]
    tied = np.abs(apart - reach[:, None]) <= slack[:, None]
    inside, beside = near.sum(axis=1), tied.sum(axis=1)
    rest = np.maximum(kept - inside, 0) / beside
    total = ordered_sum(np.where(near, ranked, 0.0), 1) + rest * ordered_sum(np.where(tied, ranked, 0.0), 1)
    mean: NDArray[Any] = total / (inside + rest * beside)
    return mean
