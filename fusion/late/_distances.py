"""Distances between specialists, and which samples they are no good for."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion._arguments import Floats
from fusion._run import ordered_sum
from fusion._threads import in_threads, n_threads, split

# Up to these sizes many samples are handled side by side; beyond, each sample is large enough alone.
LANES_UP_TO = (64, 256)
# Mean squared differences below this have lost terms to underflow in float32, whose least normal number is 1e-38.
_LEAST = 1e-30
# Outputs per partial sum; fixed, so that the order of addition does not depend on the number of threads.
_PIECE = 1 << 16


def out_of_range(rows: NDArray[Any]) -> NDArray[np.bool_]:
    """Mark samples with a value that is not finite, or whose largest one is no good to square."""
    if len(rows) == 1 and rows.size:
        one = float(np.abs(rows).max())
        return np.array([not one <= 1e140 or 0.0 < one < 1e-120])
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
        if _in_lanes(rows, neighbors):
            return _scores_in_lanes(rows, neighbors)
        scores = np.empty((n_samples, n))
        marks = np.zeros(n_samples, dtype=np.uint8)
        pairs = comparators(n - 1, 0, neighbors)
        core(kernel, KRUM_SCORES, rows.dtype, work=rows.size * n)(rows, pairs, neighbors, scores, marks)
        return scores, marks.view(np.bool_)
    square = square_distances(rows)
    unclean = unclean_distances(rows, square)
    return _scores(square, neighbors), unclean


def krum_picks(rows: NDArray[Any], neighbors: int) -> tuple[Floats | None, NDArray[np.bool_]]:
    """Give 1 to the first row of least score and 0 to the others, where lanes do it; else None."""
    if rows.dtype in (np.float32, np.float64) and _in_lanes(rows, neighbors):
        return _scores_in_lanes(rows, neighbors, single=True)
    return None, np.zeros(0, dtype=bool)


def _in_lanes(rows: NDArray[Any], neighbors: int) -> bool:
    n, d = rows.shape[1:]
    if rows.size < 4096 or not 1 < n <= LANES_UP_TO[0] or not n * d >= 8 or d > LANES_UP_TO[1]:
        return False
    from fusion._kernels.compiled import worth_specialising

    return worth_specialising(("krum", rows.dtype, n, neighbors), rows.size)


def _scores_in_lanes(
    rows: NDArray[Any], neighbors: int, *, single: bool = False
) -> tuple[Floats, NDArray[np.bool_]]:
    from fusion._kernels.lanes import krum_of
    from fusion._kernels.vectors import lanes_of

    n_samples, n, d = rows.shape
    kernel = krum_of(rows.dtype, n, neighbors, single)
    lanes = lanes_of(np.dtype(np.float64))
    scores = np.empty((n_samples, n))
    marks = np.zeros(n_samples, dtype=np.uint8)
    whole = n_samples - n_samples % lanes

    def some(begin: int, end: int) -> None:
        kernel(rows[begin:end].reshape(-1), d, scores[begin:end], marks[begin:end])

    in_threads(some, split(whole, n_threads(rows.nbytes), lanes))
    if whole < n_samples:
        rest = np.zeros((lanes, n, d), dtype=rows.dtype)
        rest[: n_samples - whole] = rows[whole:]
        last, found = np.empty((lanes, n)), np.zeros(lanes, dtype=np.uint8)
        kernel(rest.reshape(-1), d, last, found)
        scores[whole:], marks[whole:] = last[: n_samples - whole], found[: n_samples - whole]
    return scores, marks.view(np.bool_)


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
    square.reshape(len(square), -1)[:, :: n + 1] = -1.0
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
        if rows.size * n <= 16384:
            with np.errstate(over="ignore", invalid="ignore"):
                # Outputs first: adding along the first axis adds from first to last.
                columns = rows.transpose(2, 0, 1).astype(np.float64, order="C")
                gap = columns[:, :, :, None] - columns[:, :, None, :]
                gap *= gap
                sums: Floats = np.add.reduce(gap, axis=0) if n > 1 else np.zeros((n_samples, 1, 1))
                return sums
        wide = rows.astype(np.float64, copy=False).transpose(2, 0, 1)
        square = np.zeros((n_samples, n, n))
        with np.errstate(over="ignore", invalid="ignore"):
            for column in wide:
                gap = column[:, :, None] - column[:, None, :]
                square += gap * gap
        return square
    square = _pair_sums(rows, None)
    square += square.transpose(0, 2, 1)
    if rows.dtype == np.float32:
        _mend(rows, square)
    return square


def centred_gram(rows: NDArray[Any], pivots: NDArray[np.intp], square: Floats) -> Floats:
    """Give the inner products of the specialists about one of them.

    Parameters
    ----------
    rows : ndarray, shape (sample, specialist, output)
        C-contiguous panel.
    pivots : ndarray of int, shape (sample,)
        The specialist in the origin.
    square : ndarray of float64, shape (sample, specialist, specialist)
        Squared distances.

    Returns
    -------
    ndarray of float64, shape (sample, specialist, specialist)
    """
    n_samples, n, d = rows.shape
    if rows.dtype not in (np.float32, np.float64):
        rows = rows.astype(np.float64)
    if n <= LANES_UP_TO[0] and d <= LANES_UP_TO[1]:
        wide = rows.astype(np.float64)
        wide -= wide[np.arange(n_samples), pivots][:, None]
        products: Floats = np.einsum("sid,sjd->sij", wide, wide)
        return products
    gram = _pair_sums(rows, pivots)
    gram += np.triu(gram, 1).transpose(0, 2, 1)
    if rows.dtype == np.float32:
        from fusion._kernels import distance as kernels
        from fusion._kernels.compiled import core

        apart = square[np.arange(n_samples), pivots]
        own = np.einsum("sii->si", gram)
        with np.errstate(invalid="ignore"):
            small = ((own < _LEAST * d) & (apart > 0.0)).any(axis=1)
        for s in np.flatnonzero(small | ~np.isfinite(gram).all(axis=(1, 2))):
            kernel = core(kernels.centred_gram, kernels.CENTRED_GRAM, rows.dtype, work=0, reassociate=True)
            kernel(rows[s], int(pivots[s]), gram[s])
    return gram


def _pair_sums(rows: NDArray[Any], pivots: NDArray[np.intp] | None) -> Floats:
    """Upper triangles of sums over the outputs, cut into pieces that depend on the shape alone."""
    from fusion._kernels.pairs import pair_sums_of

    n_samples, n, d = rows.shape
    kernel = pair_sums_of(rows.dtype, n, centred=pivots is not None)
    flat = np.ascontiguousarray(rows).reshape(-1)
    origin = np.zeros(n_samples, dtype=np.int64) if pivots is None else pivots.astype(np.int64)
    sums = np.zeros((n_samples, n, n))

    def piece(begin: int, end: int) -> Floats:
        part = sums if d <= _PIECE else np.zeros(sums.shape)
        kernel(flat, d, begin, end, origin, part)
        return part

    cuts = [(begin, min(begin + _PIECE, d)) for begin in range(0, d, _PIECE)]
    if len(cuts) == 1:
        piece(0, d)
        return sums
    step = n_threads(rows.nbytes)
    for first in range(0, len(cuts), step):
        for part in in_threads(piece, cuts[first : first + step]):
            sums += part
    return sums


def _mend(rows: NDArray[Any], square: Floats) -> None:
    """Take in float64 the distances that float32 squares are too narrow for."""
    n, d = rows.shape[1:]
    doubtful = ~(square >= _LEAST * d) | ~np.isfinite(square)
    doubtful[:, np.arange(n), np.arange(n)] = False
    for s in np.flatnonzero(doubtful.any(axis=(1, 2))):
        involved = doubtful[s].any(axis=1)
        if not np.isfinite(rows[s, involved]).all():
            continue  # a sample the fault policy looks at again
        copies = doubtful[s] & (square[s] == 0.0)
        if not (doubtful[s] & ~copies).any():
            # Rows at distance 0 share the first row they are at distance 0 from.
            later = [j for j in range(n) if copies[j, :j].any()]
            if all(np.array_equal(rows[s, j], rows[s, int(np.argmax(copies[j]))]) for j in later):
                continue
        from fusion._kernels import distance as kernels
        from fusion._kernels.compiled import core

        wide = np.empty((1, n, n))
        kernel = core(
            kernels.square_distances, kernels.SQUARE_DISTANCES, rows.dtype, work=0, reassociate=True
        )
        kernel(rows[s : s + 1], wide)
        square[s][doubtful[s]] = wide[0][doubtful[s]]
