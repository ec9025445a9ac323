"""Pre-aggregation in distances: which convex mixtures of the specialists stand for them, and chains of such."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion._arguments import Floats, read_budget
from fusion._threads import in_threads, n_threads, split
from fusion.late._about import compiled, squares
from fusion.late._distances import centred_gram, square_distances, unclean_distances

# Relative to the squared length of a row; below it a row lies in the span of those before it.
_DEPENDENT = 1e-13
# Shares of a mixed row that add up to 1 within this do not leave anything to the centre.
_WHOLE = 1e-12
# Outputs of a row that are scaled together: their float64 temporaries stay in the first two levels of cache.
_STRIP = 8192
# Numbers held beside the panel, a few times over.
_BLOCK = 200_000
# Multiplications of one matrix product. (100, 100) by (100, columns) takes half as long per column with 128 to
# 384 columns as with 500 to 4096, which BLAS copies into another layout first.
_PRODUCTS = 3_000_000


@dataclass(frozen=True)
class View:
    """What a pre-aggregator sees of finite rows.

    Attributes
    ----------
    n_samples, n : int
        Samples, and rows in each.
    alpha : ndarray of float64, shape (1 or sample, row), or None
        Weights that sum to 1; None if all are equal.
    unit : ndarray of float64, shape (sample,)
        What a length of 1 is in `lengths`.
    square : ndarray of float64, shape (sample, row, row), or None
        Squared distances, where asked for.
    lengths : ndarray of float64, shape (sample, row), or None
        Distances from the centre, where asked for.
    """

    n_samples: int
    n: int
    alpha: Floats | None
    unit: Floats
    square: Floats | None = None
    lengths: Floats | None = None


# Gives the matrix (sample, new row, row) and the weights of the new rows, for a number of liars.
Mixer = Callable[[View, int], tuple[Floats, Floats | None]]


@dataclass(frozen=True)
class Mixing:
    """One call of a pre-aggregator.

    Attributes
    ----------
    name : str
        Name in the registry.
    mix : Mixer
        Gives the matrix whose rows are the new specialists. Rows that sum to less than 1 leave the rest to
        the centre.
    minimum : callable
        Fewest specialists as a function of the number of liars and the fewest that come out.
    n_byzantine : int, float or None
        As the user gave it; None where there is none.
    count : callable
        How many rows come out of n.
    center : ndarray of shape () or (output,), or None
        The centre of a clipping pre-aggregator.
    needs : str
        ``"distances"``, ``"lengths"`` (a clipping pre-aggregator) or ``"nothing"`` (buckets).
    radius : float or None
        What a clipping pre-aggregator clips to; None where that is the longest row it leaves alone.
    scope : str or None
        ``"sample"``, ``"batch"`` or None where it makes no difference.
    """

    name: str
    mix: Mixer
    minimum: Callable[[int, int], int]
    n_byzantine: Any = None
    count: Callable[[int], int] = lambda n: n
    center: Floats | None = None
    needs: str = "distances"
    radius: float | None = None
    scope: str | None = None

    def __post_init__(self) -> None:
        # As for rules: None would mean to trust everyone.
        if self.n_byzantine is None and self.minimum(1000, 1) > self.minimum(0, 1):
            read_budget(None, None)


def mix_rows(
    rows: NDArray[Any],
    stages: tuple[Mixing, ...],
    budgets: tuple[int, ...],
    alpha: Floats | None,
    center: Floats | None,
) -> tuple[Floats, Floats | None, Callable[[], NDArray[Any]]]:
    """Put the matrices of several pre-aggregators together.

    Parameters
    ----------
    rows : ndarray, shape (sample, specialist, output)
        Finite, except in samples whose result does not matter.
    stages : tuple of Mixing
        The first one is applied first.
    budgets : tuple of int
        Liars that each stage assumes.
    alpha : ndarray of float64, shape (1 or sample, specialist), or None
        Weights of the specialists.
    center : ndarray of float64, shape (output,), or None
        The centre of the clipping stages, if there are any.

    Returns
    -------
    matrix : ndarray of float64, shape (sample, new row, specialist)
        ``matrix @ rows + (1 - matrix.sum(axis=2)) * center`` are the mixed rows.
    alpha : ndarray of float64 or None
        Weights of the mixed rows.
    seen : callable
        Gives the mixed rows up to a shift and a rotation, shape (sample, new row, coordinate): as good as
        they are to any rule on distances, and with hardly more coordinates than specialists where the
        outputs are many.
    """
    n, d = rows.shape[1:]
    middle = None if center is None else np.broadcast_to(center, (len(rows), d))
    total: Floats | None = None
    # Distances of many outputs are taken once; what is behind works on the coordinates found from them.
    small = d <= 4 * n or n * d <= 8192
    points: tuple[NDArray[Any], Floats | None] = (rows, middle)
    known: Floats | None = None

    def now(where: tuple[NDArray[Any], Floats | None]) -> NDArray[Any]:
        return where[0] if total is None else _apply(total, *where)

    for stage, f in zip(stages, budgets, strict=True):
        if total is not None and not small and points[0] is rows and stage.needs != "nothing":
            points = embed(rows, middle, known)
        square = None
        if stage.needs == "distances":
            square, plain = safe_distances(now(points))
            known = square if total is None and plain else known
        lengths, unit = None, np.ones(len(rows))
        if stage.needs == "lengths":
            at = points[1]
            assert at is not None
            lengths, unit = _lengths(now(points), at)
        size = n if total is None else total.shape[1]
        matrix, alpha = stage.mix(View(len(rows), size, alpha, unit, square, lengths), f)
        total = matrix if total is None else np.matmul(matrix, total)

    def seen() -> NDArray[Any]:
        return now(points if small or points[0] is not rows else embed(rows, middle, known))

    return np.broadcast_to(np.eye(n), (len(rows), n, n)) if total is None else total, alpha, seen


def apply_mixing(
    matrix: Floats, rows: NDArray[Any], center: Floats | None, n_outputs: int | None = None
) -> NDArray[Any]:
    """Form the mixed rows, in the dtype of `rows`; `n_outputs` is given where these are a part of them."""
    about = None if center is None else np.broadcast_to(center, (len(rows), rows.shape[2]))
    many = rows.shape[1] * (rows.shape[2] if n_outputs is None else n_outputs) >= _BLOCK
    if not many or rows.dtype not in (np.float32, np.float64):
        return _apply(matrix, rows, about, rows.dtype)
    mixed = np.empty((len(rows), matrix.shape[1], rows.shape[2]), dtype=rows.dtype)
    for s in range(len(rows)):
        if _stands_alone(matrix[s]):
            _scale_rows(np.diagonal(matrix[s]), rows[s], None if about is None else about[s], mixed[s])
            continue
        share = float(matrix[s].max())
        alike = bool(((matrix[s] == 0.0) | (matrix[s] == share)).all())
        if alike and (center is None or bool((np.abs(1.0 - matrix[s].sum(axis=1)) < _WHOLE).all())):
            _add_rows(matrix[s] != 0.0, share, rows[s], mixed[s])
            # Sums of float64 numbers may overflow where their mean does not.
            if rows.dtype == np.float32 or np.isfinite(mixed[s]).all():
                continue
        own = None if about is None else about[s : s + 1]
        mixed[s] = _apply(matrix[s : s + 1], rows[s : s + 1], own, rows.dtype)[0]
    return mixed


def _stands_alone(matrix: Floats) -> bool:
    """Say whether every row stands for itself, as after clipping."""
    square = matrix.shape[0] == matrix.shape[1]
    return square and bool(np.count_nonzero(matrix) == np.count_nonzero(np.diagonal(matrix)))


def _scale_rows(shares: Floats, rows: NDArray[Any], center: Floats | None, mixed: NDArray[Any]) -> None:
    """Write every row of one long sample times its share, and the rest of 1 times the centre."""
    for i, share in enumerate(shares.tolist()):
        left = 1.0 - share
        for start in range(0, rows.shape[1], _STRIP):
            part = slice(start, start + _STRIP)
            block = np.multiply(rows[i, part], share, dtype=np.float64)
            if center is not None and abs(left) >= _WHOLE:
                block += left * center[part]
            mixed[i, part] = block


def _add_rows(chosen: NDArray[np.bool_], share: float, rows: NDArray[Any], mixed: NDArray[Any]) -> None:
    """Write `share` times the sums of chosen rows of one long sample."""
    from fusion._kernels.mixing import picks_of, subset_means_of
    from fusion._kernels.vectors import lanes_of

    n, d = rows.shape
    kernel = subset_means_of(rows.dtype)
    panel, picks, out = (
        np.ascontiguousarray(rows).reshape(-1),
        picks_of(chosen, rows.dtype),
        mixed.reshape(-1),
    )

    def some(begin: int, end: int) -> None:
        kernel(panel, picks, share, out, n, len(chosen), d, begin, end)

    in_threads(some, split(d, n_threads(rows.nbytes), lanes_of(rows.dtype)))


def _apply(
    matrix: Floats, rows: NDArray[Any], center: Floats | None, dtype: Any = np.float64
) -> NDArray[Any]:
    n_samples, n, d = rows.shape
    mixed = np.empty((n_samples, matrix.shape[1], d), dtype=dtype)
    step = max(1, min(_BLOCK // (n_samples * n), max(_PRODUCTS // (n * matrix.shape[1]), 64)))
    left = 1.0 - matrix.sum(axis=2)
    # What rounding leaves of a row that sums to 1 is no share of the centre.
    left[np.abs(left) < _WHOLE] = 0.0
    with np.errstate(invalid="ignore", over="ignore"):
        for start in range(0, d, step):
            part = slice(start, start + step)
            block = np.matmul(matrix, rows[:, :, part].astype(np.float64, copy=False))
            if center is not None and left.any():
                block += left[:, :, None] * center[:, None, part]
            mixed[:, :, part] = block
    return mixed


def _lengths(rows: NDArray[Any], center: Floats) -> tuple[Floats, Floats]:
    """Give the distances from the centre, and the unit they are in."""
    n_samples, n, d = rows.shape
    square = np.zeros((n_samples, n))
    with np.errstate(invalid="ignore", over="ignore"):
        if d <= 256:
            gap = rows - center[:, None]
            # One row after the other: the same bits, however many samples stand beside it.
            square += np.square(gap, out=gap).reshape(-1, d).sum(axis=1).reshape(square.shape)
        elif compiled(rows):
            square = squares(np.ascontiguousarray(rows), center)
        else:
            for s, i in np.ndindex(n_samples, n):
                for start in range(0, d, _BLOCK // 8):
                    part = slice(start, start + _BLOCK // 8)
                    row = rows[s, i, part] - center[s, part]
                    square[s, i] += row @ row
    lengths, unit = np.sqrt(square), np.ones(len(rows))
    odd = ~((square < 1e300) & (square > 1e-240))
    where = np.nonzero(square == 0.0)
    if where[0].size:
        odd[where] = (rows[where] != center[where[0]]).any(axis=1)
    for s in np.flatnonzero(odd.any(axis=1)):
        # Squares that overflow or vanish: measured in units of the largest number of each row.
        unit[s] = 2.0 ** -(3 + rows.shape[2].bit_length())
        with np.errstate(invalid="ignore", over="ignore"):
            gap = rows[s].astype(np.float64) * unit[s] - center[s] * unit[s]
            peak = np.abs(gap).max(axis=1, keepdims=True)
            peak = np.where(peak > 0.0, peak, 1.0)
            lengths[s] = np.sqrt(np.square(gap / peak).sum(axis=1)) * peak[:, 0]
    return lengths, unit


def safe_distances(rows: NDArray[Any]) -> tuple[Floats, bool]:
    """Give squared distances, each sample's in a unit of its own where squares overflow or vanish.

    Also says whether that was needed nowhere.
    """
    rows = np.ascontiguousarray(rows)
    with np.errstate(invalid="ignore", over="ignore"):
        square = square_distances(rows)
        bad = np.flatnonzero(unclean_distances(rows, square))
        if bad.size and rows.dtype != np.float32:
            square[bad] = square_distances(in_range(rows[bad]))
            return square, False
    return square, True


def in_range(rows: NDArray[Any]) -> Floats:
    """Shift and scale samples so that their squares neither overflow nor vanish; clamp what stays too far.

    Parameters
    ----------
    rows : ndarray, shape (sample, specialist, output)
        The panel.

    Returns
    -------
    ndarray of float64, shape (sample, specialist, output)
        Zero for samples that are not finite.
    """
    found = np.zeros(rows.shape)
    for s in np.flatnonzero(np.isfinite(rows).all(axis=(1, 2))):
        block = rows[s].astype(np.float64) * 0.25
        block = block - np.median(block, axis=0)
        reach = np.abs(block).max(axis=1)
        scale = float(np.median(reach)) or float(reach.max())
        with np.errstate(over="ignore"):
            found[s] = np.clip(np.ldexp(block, -int(np.frexp(scale)[1])), -1e140, 1e140)
    return found


def embed(
    rows: NDArray[Any], center: Floats | None, square: Floats | None = None
) -> tuple[Floats, Floats | None]:
    """Find n coordinates for n rows of many outputs that keep all distances.

    Parameters
    ----------
    rows : ndarray, shape (sample, specialist, output)
        Finite rows.
    center : ndarray of float64, shape (sample, output), or None
        One more point of each sample.
    square : ndarray of float64, shape (sample, specialist, specialist), optional
        The squared distances of rows that can be squared, where they are known.

    Returns
    -------
    rows : ndarray of float64, shape (sample, specialist, specialist + 1)
        The Cholesky factor of the Gram matrix about the medoid.
    center : ndarray of float64, shape (sample, specialist + 1), or None
        The centre in the same coordinates.

    Notes
    -----
    A block with a sample whose squares overflow or vanish is given back as it is. Rows enter the
    factorisation from the shortest to the longest, so that what a far row loses to rounding is relative to
    its own length: rows near the medoid keep theirs. Equal rows stay equal.
    """
    n_samples, n, _ = rows.shape
    rows = np.ascontiguousarray(rows)
    known = square is not None
    square = square_distances(rows) if square is None else square
    if not known and rows.dtype != np.float32 and unclean_distances(rows, square).any():
        # Too large or too small to be squared: rare, and slow.
        return rows.astype(np.float64), center
    with np.errstate(invalid="ignore"):
        medoid = np.argmin(np.sqrt(square).sum(axis=2), axis=1)
    full = np.zeros((n_samples, n + 1, n + 1))
    full[:, :n, :n] = centred_gram(rows, medoid, square)
    if center is not None:
        step = max(1, _BLOCK // n)
        for s in range(n_samples):
            for start in range(0, rows.shape[2], step):
                part = slice(start, start + step)
                pivot = rows[s, medoid[s], part].astype(np.float64)
                gap = center[s, part] - pivot
                full[s, n, :n] += (rows[s, :, part] - pivot) @ gap
                full[s, n, n] += gap @ gap
        full[:, :n, n] = full[:, n, :n]
    same = np.tril(square == 0.0, -1)
    twin = np.where(same.any(axis=2), np.argmax(same, axis=2), -1)
    factor = _graded_cholesky(full)
    for i in range(n):
        copy = np.flatnonzero(twin[:, i] >= 0)
        factor[copy, i] = factor[copy, twin[copy, i]]
    return factor[:, :n], None if center is None else factor[:, n]


def _graded_cholesky(gram: Floats) -> Floats:
    n_samples, n, _ = gram.shape
    at = np.arange(n_samples)[:, None]
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        order = np.argsort(np.einsum("sii->si", gram), axis=1, kind="stable")
        work = gram[at[:, :, None], order[:, :, None], order[:, None, :]]
        factor = np.zeros_like(work)
        for k in range(n):
            rest = work[:, k, k] - np.square(factor[:, k, :k]).sum(axis=1)
            root = np.sqrt(np.where(rest > _DEPENDENT * work[:, k, k], rest, np.inf))
            known = np.matmul(factor[:, k + 1 :, :k], factor[:, k, :k, None])[:, :, 0]
            factor[:, k + 1 :, k] = (work[:, k + 1 :, k] - known) / root[:, None]
            factor[:, k, k] = np.where(np.isfinite(root), root, 0.0)
    back = np.empty_like(factor)
    back[at, order] = factor
    return back
