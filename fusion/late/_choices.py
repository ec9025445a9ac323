"""What the rules that choose specialists share: distances in blocks, lengths, the nearest ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion._arguments import Floats, heaviest
from fusion._faults import Unclean
from fusion.late._distances import out_of_range, square_distances
from theory._exceptions import PanelError

# (squared distances (sample, n, n), alpha (sample, n) or None) -> weights (sample, n)
Choose = Callable[[Floats, Floats | None], Floats]
_BLOCK = 200_000


def alpha_of(alpha: Floats | None, part: slice) -> Floats | None:
    """Give the weights of a slice of samples."""
    return alpha if alpha is None or len(alpha) == 1 else alpha[part]


def by_distances(rows: NDArray[Any], alpha: Floats | None, choose: Choose) -> tuple[Floats, Unclean]:
    """Choose specialists by their squared distances, a block of samples at a time.

    Parameters
    ----------
    rows : ndarray, shape (sample, specialist, output)
        C-contiguous panel.
    alpha : ndarray of float64, shape (1 or sample, specialist), or None
        Weights of the specialists.
    choose : callable
        From finite distances, zero on the diagonal, to weights.

    Returns
    -------
    weights : ndarray of float64, shape (sample, specialist)
    unclean : ndarray of bool, shape (sample,)
        Samples with a value that is not finite, or too large or small to be squared.
    """
    n_samples, n, _ = rows.shape
    weights = np.empty((n_samples, n))
    unclean = np.zeros(n_samples, dtype=bool)
    step = max(1, _BLOCK // (n * n))
    for start in range(0, n_samples, step):
        part = slice(start, start + step)
        square, bad = clean_distances(rows[part])
        weights[part] = choose(square, alpha_of(alpha, part))
        unclean[part] = bad
    return weights, unclean


def clean_distances(rows: NDArray[Any]) -> tuple[Floats, NDArray[np.bool_]]:
    """Give squared distances, zero for samples whose distances are no good, and mark those."""
    n = rows.shape[1]
    with np.errstate(over="ignore", invalid="ignore"):
        square = square_distances(rows)
    square[:, np.arange(n), np.arange(n)] = 0.0
    largest = square.max(axis=(1, 2), initial=0.0)
    # So far below the largest double that n of them can be added, multiplied by weights and compared.
    bad: NDArray[np.bool_] = ~(largest <= 1e280)
    # Rows that are equal, distances that underflowed, or NaN.
    tiny = np.flatnonzero(~(largest >= 1e-240))
    bad[tiny] |= out_of_range(rows[tiny])
    square[bad] = 0.0
    return square, bad


def not_finite(apart: Floats) -> NDArray[np.bool_]:
    """Mark samples with a length that is not finite."""
    return np.asarray(~np.isfinite(apart).all(axis=1))


def nearest_weights(scores: Floats, alpha: Floats | None, f: int) -> Floats:
    """Average the n - f specialists of least score; weighted, the least scores up to the mass 1 - b.

    Parameters
    ----------
    scores : ndarray of float64, shape (sample, specialist)
        The less, the better; NaN is worst.
    alpha : ndarray of float64, shape (1 or sample, specialist), or None
        Weights of the specialists.
    f : int
        How many may be wrong; b is the weight of the f heaviest.

    Returns
    -------
    ndarray of float64, shape (sample, specialist)
        Sums to 1. The first specialist on ties; the last one taken in part where weights say so.
    """
    n = scores.shape[1]
    order = np.argsort(scores, axis=1, kind="stable")
    weights = np.zeros(scores.shape)
    if alpha is None:
        np.put_along_axis(weights, order[:, : n - f], 1.0 / (n - f), axis=1)
        return weights
    mass = 1.0 - heaviest(alpha, f)[:, None]
    ranked = np.take_along_axis(np.broadcast_to(alpha, scores.shape), order, axis=1)
    reached = np.cumsum(ranked, axis=1)
    taken = np.clip(np.minimum(reached, mass) - (reached - ranked), 0.0, None) / mass
    np.put_along_axis(weights, order, taken, axis=1)
    return weights


def read_centre(center: Any, n_outputs: int) -> Floats | None:
    """Read a fixed centre: a number, or one per output.

    Parameters
    ----------
    center : float or array-like of shape (output,)
        As the user gave it.
    n_outputs : int
        Outputs of the panel.

    Returns
    -------
    ndarray of float64, shape (1, output), or None for the origin

    Raises
    ------
    PanelError
        If it is not finite, or has another shape.
    """
    try:
        values = np.asarray(center, dtype=np.float64)
    except (TypeError, ValueError):
        values = np.full(1, np.nan)
    if values.shape not in ((), (n_outputs,)) or not np.isfinite(values).all():
        raise PanelError(
            f"center must be a finite number, or one per output ({n_outputs} of them); got {center!r}."
        )
    return np.broadcast_to(values, (1, n_outputs)) if values.any() else None
