"""Panels with specialists that may be swapped: coalitions are told apart by how many they take of each kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from theory.pricing._order_games import binomials

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
# Relative; the rounding of a matrix that was built symmetric.
_EQUAL = 1e-12


def exchangeable_groups(matrix: Floats, shift: Floats) -> Ints:
    """Code of every specialist; two share one where swapping them changes nothing."""
    m = len(matrix)
    codes = np.full(m, -1, dtype=np.int64)
    first: list[int] = []
    room = _EQUAL * float(matrix.diagonal().max())
    reach = _EQUAL * float(np.abs(shift).max(initial=0.0))
    for j in range(m):
        for code, i in enumerate(first):
            differs = np.abs(matrix[i] - matrix[j]) > room
            differs[[i, j]] = False
            same = abs(matrix[i, i] - matrix[j, j]) <= room and abs(shift[i] - shift[j]) <= reach
            if same and not differs.any():
                codes[j] = code
                break
        else:
            codes[j] = len(first)
            first.append(j)
    return codes


def composition_prices(
    matrix: Floats, shift: Floats, codes: Ints, loss_at: Callable[[Any, Any], Any], law: Floats
) -> tuple[Floats, float]:
    """Prices and their total when coalitions matter through their counts by group only.

    Members of a group share one entry x_g of C_SS^-1 shift_S, so that precisions come from systems as small as
    the number of groups: (d_g + (k_g - 1) c_gg) x_g + sum_h c_gh k_h x_h = shift_g.
    """
    sizes = np.bincount(codes)
    g = len(sizes)
    first = np.array([int(np.flatnonzero(codes == code)[0]) for code in range(g)])
    last = np.array([int(np.flatnonzero(codes == code)[-1]) for code in range(g)])
    between = matrix[np.ix_(first, last)]  # of two members of a group, where it has two
    own, moved = matrix[first, first], shift[first]
    shape = tuple(int(size) + 1 for size in sizes)
    counts = np.indices(shape).reshape(g, -1).T.astype(np.float64)
    p = np.empty(len(counts))
    step = max(1, 2_000_000 // (g * g))
    for start in range(0, len(counts), step):
        k = counts[start : start + step]
        system = between[None] * k[:, None, :]
        diagonal = np.where(k > 0, own + (k - 1.0) * between.diagonal(), 1.0)
        system[:, np.arange(g), np.arange(g)] = diagonal
        x = np.linalg.solve(system, np.broadcast_to(moved[:, None], (len(k), g, 1)))[:, :, 0]
        p[start : start + step] = (k * moved * x).sum(axis=1)
    size = counts.sum(axis=1)
    losses = np.asarray(loss_at(p, size)).reshape(shape)
    m = len(codes)
    table = binomials(m)
    share = law / table[m - 1, :m]
    value = np.zeros(g)
    for group in range(g):
        lower = [slice(None)] * g
        upper = [slice(None)] * g
        lower[group], upper[group] = slice(0, shape[group] - 1), slice(1, shape[group])
        ways = np.ones(())
        for h in range(g):
            top = int(sizes[h]) - (h == group)
            ways = np.multiply.outer(ways, table[top, : top + 1])
        joined = np.indices(ways.shape).sum(axis=0)
        gain = losses[tuple(lower)] - losses[tuple(upper)]
        value[group] = float((ways * share[joined] * gain).sum())
    return value[codes], float(losses.flat[0] - losses.flat[-1])
