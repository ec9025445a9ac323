"""Distances between specialists, and which samples they are no good for."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion._arguments import Floats
from fusion._run import ordered_sum

# Up to these sizes many samples are handled side by side; beyond, each sample is large enough alone.
LANES_UP_TO = (64, 256)


def out_of_range(rows: NDArray[Any]) -> NDArray[np.bool_]:
    """Mark samples with a value that is not finite, or whose largest one is no good to square."""
    with np.errstate(invalid="ignore"):
        peak = np.abs(rows).max(axis=(1, 2), initial=0.0).astype(np.float64)
    found: NDArray[np.bool_] = ~(peak <= 1e140) | ((peak > 0.0) & (peak < 1e-120))
    return found


def krum_scores(rows: NDArray[Any], neighbors: int) -> tuple[Floats, NDArray[np.bool_]]:
    """Sum the `neighbors` smallest squared distances of every specialist.

    Parameters
    ----------
    rows : ndarray, shape (sample, specialist, output)
        C-contiguous panel.
    neighbors : int
        0 <= neighbors < n.

    Returns
    -------
    scores : ndarray of float64, shape (sample, specialist)
    unclean : ndarray of bool, shape (sample,)
        Samples with a value that is not finite, or too large or small to be squared.
    """
    n_samples, n, d = rows.shape
    if rows.dtype not in (np.float32, np.float64):
        rows = rows.astype(np.float64)
    if n <= LANES_UP_TO[0] and d <= LANES_UP_TO[1]:
        from fusion._kernels.compiled import core
        from fusion._kernels.distance import KRUM_SCORES
        from fusion._kernels.distance import krum_scores as kernel
        from fusion._kernels.networks import comparators

        if rows.size < 4096:
            return _scores(square_distances(rows), neighbors), out_of_range(rows)
        scores = np.empty((n_samples, n))
        marks = np.zeros(n_samples, dtype=np.uint8)
        pairs = comparators(n - 1, 0, neighbors)
        core(kernel, KRUM_SCORES, rows.dtype, work=rows.size * n)(rows, pairs, neighbors, scores, marks)
        return scores, marks.view(np.bool_)
    square = square_distances(rows)
    unclean = unclean_distances(rows, square)
    return _scores(square, neighbors), unclean


def unclean_distances(rows: NDArray[Any], square: Floats) -> NDArray[np.bool_]:
    """Mark samples as `krum_scores` does, from their distances: large rows are not read again."""
    if rows.shape[1] == 1:
        return out_of_range(rows)
    largest = square.max(axis=(1, 2))
    # Distances that underflowed, or rows that are equal.
    unclean: NDArray[np.bool_] = ~np.isfinite(largest)
    tiny = np.flatnonzero(largest < 1e-240)
    if tiny.size:
        unclean[tiny] = out_of_range(rows[tiny])
    return unclean


def _scores(square: Floats, neighbors: int) -> Floats:
    n = square.shape[1]
    square[:, np.arange(n), np.arange(n)] = -1.0
    # NaN sorts last, as the infinities it stands for would.
    return ordered_sum(np.sort(square, axis=2)[:, :, 1 : neighbors + 1], 2)


def square_distances(rows: NDArray[Any]) -> Floats:
    """Give the squared distance of every pair of specialists.

    Parameters
    ----------
    rows : ndarray, shape (sample, specialist, output)
        C-contiguous panel.

    Returns
    -------
    ndarray of float64, shape (sample, specialist, specialist)
        Sums of squared differences: nothing cancels.
    """
    n_samples, n, d = rows.shape
    if rows.dtype not in (np.float32, np.float64):
        rows = rows.astype(np.float64)
    if n <= LANES_UP_TO[0] and d <= LANES_UP_TO[1]:
        wide = rows.astype(np.float64, copy=False).transpose(2, 0, 1)
        square = np.zeros((n_samples, n, n))
        with np.errstate(over="ignore", invalid="ignore"):
            for column in wide:
                gap = column[:, :, None] - column[:, None, :]
                square += gap * gap
        return square
    from fusion._kernels import distance as kernels
    from fusion._kernels.compiled import core

    square = np.empty((n_samples, n, n))
    rows = np.ascontiguousarray(rows)
    core(kernels.square_distances, kernels.SQUARE_DISTANCES, rows.dtype, work=0, reassociate=True)(
        rows, square
    )
    return square
