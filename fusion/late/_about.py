"""Long rows about a point: the median as one, lengths, products with a trusted row, clipped steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion._arguments import Floats
from fusion._run import ordered_sum
from fusion._threads import in_threads, n_threads
from fusion.late._choices import alpha_of
from fusion.late._coordinates import blocks, widened
from fusion.late._ranks import NETWORK, TINY, straight
from fusion.late.order import _median_core

_BLOCK = 200_000
# Rows of more outputs are added up by compiled loops; so few are added one after the other.
_SHORT = 256
# Outputs per partial sum; fixed, so that the order of addition does not depend on the number of threads.
_PIECE = 1 << 16


def double_median(rows: NDArray[Any], alpha: Floats | None) -> NDArray[Any]:
    """Take the median of every coordinate in at least double precision.

    Parameters
    ----------
    rows : ndarray, shape (sample, specialist, output)
        C-contiguous panel.
    alpha : ndarray of float64, shape (1 or sample, specialist), or None
        Weights of the specialists.

    Returns
    -------
    ndarray of float64 or wider, shape (sample, output)
        Halves of an even median are not rounded to the panel's precision; finite for any finite numbers.
        Anything in samples that hold a value that is not finite.
    """
    n_samples, n, d = rows.shape
    if alpha is None and rows.dtype in (np.float32, np.float64) and n <= NETWORK and rows.size >= TINY:
        from fusion._kernels.compiled import worth_specialising

        if worth_specialising((rows.dtype, n, "double"), rows.size):
            found = straight(rows, (n - 1) // 2, n // 2 + 1, wide=True)[0]
            # The sum of two values near the largest double overflows.
            if rows.dtype == np.float32 or np.isfinite(found).all():
                return found
    out = np.empty((n_samples, d), dtype=np.result_type(rows.dtype, np.float64))
    for part, columns in blocks(rows.shape):
        with np.errstate(invalid="ignore"):
            block = 0.25 * widened(rows[part, :, columns])
            out[part, columns] = 4.0 * _median_core(block, 0, alpha_of(alpha, part))[0]
    return out


def lengths(rows: NDArray[Any], centre: NDArray[Any] | None) -> Floats:
    """Give the distance of every specialist from a centre; of any magnitude.

    Parameters
    ----------
    rows : ndarray, shape (sample, specialist, output)
        Panel, C-contiguous.
    centre : ndarray, shape (1 or sample, output), or None
        None for the origin.

    Returns
    -------
    ndarray of float64, shape (sample, specialist)
        A quarter of the distances, which are finite for finite numbers; NaN and infinity as they come.
    """
    if not compiled(rows):
        return _exact_lengths(rows, centre)
    square = squares(rows, centre)
    result: Floats = 0.25 * np.sqrt(square)
    # Squares that left the range of doubles are taken again on numbers near 1.
    for s, i in zip(*np.nonzero((square < 1e-240) | np.isinf(square)), strict=True):
        own = None if centre is None else centre[s if len(centre) > 1 else 0][None]
        result[s, i] = _exact_lengths(rows[s : s + 1, i : i + 1], own)[0, 0]
    return result


def squares(rows: NDArray[Any], centre: NDArray[Any] | None) -> Floats:
    """Give squared distances from a centre (1 or sample, output) where `compiled` says so, overflowing as they do."""
    from fusion._kernels import centred as kernels
    from fusion._kernels.compiled import core

    kernel = core(kernels.gap_squares, kernels.GAP_SQUARES, rows.dtype, work=0, reassociate=True)
    point = np.zeros((1, rows.shape[2])) if centre is None else np.ascontiguousarray(centre, dtype=np.float64)
    found: Floats = _in_pieces(rows, 1, lambda begin, end, part: kernel(rows, point, begin, end, part[0]))[0]
    return found


def products(rows: NDArray[Any]) -> tuple[Floats, Floats] | None:
    """Give squared norms, and inner products with row 0, where doubles hold them.

    Parameters
    ----------
    rows : ndarray, shape (sample, specialist, output)
        Panel, C-contiguous.

    Returns
    -------
    square, product : ndarray of float64, shape (sample, specialist)
        Or None for short rows, and where a square leaves the range of doubles.
    """
    if not compiled(rows):
        return None
    from fusion._kernels import centred as kernels
    from fusion._kernels.compiled import core

    kernel = core(kernels.row_products, kernels.ROW_PRODUCTS, rows.dtype, work=0, reassociate=True)
    square, product = _in_pieces(rows, 2, lambda begin, end, part: kernel(rows, begin, end, part[0], part[1]))
    return None if ((square < 1e-240) | np.isinf(square)).any() else (square, product)


def clipped_step(rows: NDArray[Any], point: NDArray[Any], step: Floats) -> NDArray[Any]:
    """Move points by a weighted sum of the ways to the rows.

    Parameters
    ----------
    rows : ndarray, shape (sample, specialist, output)
        Panel, C-contiguous.
    point : ndarray of float64 or wider, shape (sample, output)
        Where the ways begin.
    step : ndarray of float64, shape (sample, specialist)
        Weights of the ways; rows of weight 0 are left out.

    Returns
    -------
    ndarray, shape and dtype of `point`
    """
    if rows.dtype in (np.float32, np.float64) and rows.size >= TINY:
        from fusion._kernels import centred as kernels
        from fusion._kernels.compiled import core

        kernel = core(kernels.clipped_steps, kernels.CLIPPED_STEPS, rows.dtype, work=3 * rows.size)
        moved = np.empty(point.shape)
        cuts = _pieces(rows.shape[2])
        in_threads(lambda begin, end: kernel(rows, point, step, begin, end, moved), cuts)
        # Differences of numbers near the largest double overflow.
        if rows.dtype == np.float32 or np.isfinite(moved).all():
            return moved
    moved = np.empty(point.shape, dtype=point.dtype)
    for part, columns in blocks(rows.shape):
        with np.errstate(invalid="ignore", over="ignore"):
            gap = 0.25 * widened(rows[part, :, columns]) - 0.25 * point[part, None, columns]
            ways = np.where(step[part, :, None] == 0.0, 0.0, step[part, :, None] * gap)
            moved[part, columns] = point[part, columns] + 4.0 * ordered_sum(ways, 1)
    return moved


def compiled(rows: NDArray[Any]) -> bool:
    """Whether compiled loops add up the rows: by the shape of one sample, so that a batch equals its loop."""
    return rows.dtype in (np.float32, np.float64) and rows.shape[2] > _SHORT


def _pieces(d: int) -> list[tuple[int, int]]:
    return [(begin, min(begin + _PIECE, d)) for begin in range(0, d, _PIECE)]


def _in_pieces(rows: NDArray[Any], count: int, kernel: Callable[[int, int, Floats], None]) -> Floats:
    """Add what a kernel gives for pieces of the outputs, in an order that depends on the shape alone."""
    sums = np.zeros((count, *rows.shape[:2]))
    cuts = _pieces(rows.shape[2])

    def piece(begin: int, end: int) -> Floats:
        part = np.zeros(sums.shape)
        kernel(begin, end, part)
        return part

    step = n_threads(rows.nbytes)
    for first in range(0, len(cuts), step):
        for part in in_threads(piece, cuts[first : first + step]):
            sums += part
    return sums


def _exact_lengths(rows: NDArray[Any], centre: NDArray[Any] | None) -> Floats:
    n_samples, n, d = rows.shape
    result = np.empty((n_samples, n))
    step = max(1, _BLOCK // (n * min(d, 4096)))
    for start in range(0, n_samples, step):
        part = slice(start, start + step)
        total = np.zeros((len(rows[part]), n))
        peak = np.zeros(total.shape)
        with np.errstate(over="ignore", invalid="ignore"):
            for gap in _gaps(rows[part], centre, part):
                total += row_sums(gap * gap)
                peak = np.maximum(peak, np.abs(gap).max(axis=2))
        # Squares that left the range of doubles are taken again on numbers near 1.
        again = ~((peak <= 1e140) & ((peak >= 1e-120) | (peak == 0.0)))
        if again.any():
            exponent = np.frexp(np.where(np.isfinite(peak), peak, 1.0))[1]
            scaled = np.zeros(total.shape)
            with np.errstate(over="ignore", invalid="ignore"):
                for gap in _gaps(rows[part], centre, part):
                    scaled += row_sums(np.ldexp(gap, -exponent[:, :, None]) ** 2)
            result[part] = np.where(again, np.ldexp(np.sqrt(scaled), exponent), np.sqrt(total))
        else:
            result[part] = np.sqrt(total)
    return result


def _gaps(rows: NDArray[Any], centre: NDArray[Any] | None, part: slice) -> Any:
    """Give a quarter of (rows - centre), in float64, tile of columns by tile of columns."""
    d = rows.shape[2]
    middle = None if centre is None else (centre if len(centre) == 1 else centre[part])
    for first in range(0, d, 4096):
        columns = slice(first, first + 4096)
        gap = 0.25 * rows[:, :, columns].astype(np.float64)
        if middle is not None:
            gap -= 0.25 * middle[:, None, columns].astype(np.float64)
        yield gap


def row_sums(values: NDArray[Any]) -> NDArray[Any]:
    """Sum over the last of three axes with the same bits for a sample whatever the others are."""
    if values.shape[2] <= 256:
        return ordered_sum(values, 2)
    return np.stack([one.sum(axis=1) for one in values])
