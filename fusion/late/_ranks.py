"""Means of order statistics, output by output, by the fastest of three ways that give the same bits."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion._run import ordered_sum
from fusion._vectors import whole_vectors

# Beyond this many specialists sorting each coordinate beats a network of comparators.
NETWORK = 128
# Below this many numbers NumPy's sort costs less than reaching the compiled core.
TINY = 4096
# A straight-line network takes about .2 ns per comparator and sample, copying samples into lanes 1.2 ns per
# number: with so few outputs that most lanes would be idle, the copies are cheaper.
_COMPARATORS_PER_NUMBER = 6


def mean_of_ranks(rows: NDArray[Any], low: int, high: int) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Average the order statistics low <= rank < high of every coordinate.

    Parameters
    ----------
    rows : ndarray, shape (sample, specialist, output)
        C-contiguous panel.
    low, high : int
        Ranks, counted from 0.

    Returns
    -------
    fused : ndarray, shape (sample, output)
    unclean : ndarray of bool, shape (sample,)
        Samples that hold a non-finite value, or whose sum overflowed.
    """
    n = rows.shape[1]
    if rows.dtype not in (np.float32, np.float64) or n > NETWORK or rows.size < TINY:
        return _sorted(rows, low, high)
    from fusion._kernels.compiled import worth_specialising
    from fusion._kernels.networks import comparators

    pairs = comparators(n, low, high)
    dense = len(pairs) <= _COMPARATORS_PER_NUMBER * n * rows.shape[2]
    if dense and worth_specialising((rows.dtype, n, low, high), rows.size):
        return straight(rows, low, high)
    return _tiled(rows, pairs, low, high)


def _sorted(rows: NDArray[Any], low: int, high: int) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    n_samples, n, d = rows.shape
    wide = np.result_type(rows.dtype, np.float64)
    out = np.empty((n_samples, d), dtype=rows.dtype)
    step = max(1, 4_000_000 // (n * d))
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, n_samples, step):
            block = rows[start : start + step]
            ranked = np.sort(block, axis=1)[:, low:high].astype(wide)
            out[start : start + step] = ordered_sum(ranked, 1) / (high - low)
        unclean = ~np.isfinite(rows.reshape(n_samples, -1)).all(axis=1) | ~np.isfinite(out).all(axis=1)
    return out, unclean


def _tiled(
    rows: NDArray[Any], pairs: NDArray[np.int64], low: int, high: int
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    from fusion._kernels.compiled import core
    from fusion._kernels.order import KEPT_MEAN, LANES, LANES_OF_A_VECTOR, kept_mean

    n_samples, _, d = rows.shape
    out = np.empty((n_samples, d), dtype=rows.dtype)
    marks = np.zeros(n_samples, dtype=np.uint8)
    lanes = LANES if d < LANES else LANES_OF_A_VECTOR
    core(kept_mean, KEPT_MEAN, rows.dtype, work=rows.size * 8)(rows, pairs, low, high, lanes, out, marks)
    unclean = marks.view(np.bool_)
    if rows.dtype == np.float64:
        unclean |= ~np.isfinite(out).all(axis=1)
    return out, unclean


def straight(
    rows: NDArray[Any], low: int, high: int, *, wide: bool = False
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Do what `mean_of_ranks` does by specialised code; `wide` results are float64, whatever the panel is."""
    from fusion._kernels.vectors import kept_mean_of

    d = rows.shape[2]
    kernel = kept_mean_of(rows.dtype, rows.shape[1], low, high, wide)
    return whole_vectors(
        rows,
        lambda first, panel, out, marks, begin, end: kernel(panel, out, marks, d, begin, end),
        np.float64 if wide else None,
    )
