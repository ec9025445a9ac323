"""The precision game over all coalitions, by depth-first Schur complements."""

from __future__ import annotations

from math import exp, log1p

import numpy as np
from numba import njit
from numpy.typing import NDArray


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _loss(p: float, code: int, constant: float, v0: float) -> float:
    if code == 0:
        return v0 - p
    if code == 1:
        return 1.0 / (p + constant)
    if code == 2:
        return v0 - 0.5 * log1p(constant * p)
    return v0 * exp(-p / 8.0)


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def schur_prices(
    matrix: NDArray[np.float64],
    shift: NDArray[np.float64],
    with_member: NDArray[np.float64],
    any_set: NDArray[np.float64],
    code: int,
    constant: float,
    v0: float,
    quorum: int,
    out: NDArray[np.float64],
) -> None:
    """Fill out with the loss attributed to every specialist; the twin is ``schur_prices_numpy``.

    with_member[s] and any_set[s] weigh the loss of a coalition of size s in the sum over coalitions that hold
    the specialist and over all. Both sums are added up from the leaves, which keeps their rounding small.
    """
    m = len(matrix)
    k = np.empty((m + 1, m, m))
    u = np.empty((m + 1, m))
    p = np.zeros(m + 1)
    following = np.zeros(m + 1, np.int64)
    path = np.zeros(m + 1, np.int64)
    held, every = np.zeros(m + 1), np.zeros(m + 1)
    k[0] = matrix
    u[0] = shift
    every[0] = any_set[0] * v0
    out[:] = 0.0
    level = 0
    while True:
        i = following[level]
        if i == m:
            if level == 0:
                break
            out[path[level]] += held[level]
            held[level - 1] += held[level]
            every[level - 1] += every[level]
            level -= 1
            continue
        following[level] = i + 1
        here, now = k[level], u[level]
        ratio = now[i] / here[i, i]
        reached = p[level] + now[i] * ratio
        size = level + 1
        loss = v0 if size < quorum else _loss(reached, code, constant, v0)
        if i == m - 1:
            out[i] += with_member[size] * loss
            held[level] += with_member[size] * loss
            every[level] += any_set[size] * loss
            continue
        level += 1
        below, then = k[level], u[level]
        inverse = 1.0 / here[i, i]
        for j in range(i + 1, m):
            factor = here[i, j] * inverse
            then[j] = now[j] - here[i, j] * ratio
            for c in range(j, m):
                below[j, c] = here[j, c] - factor * here[i, c]
        p[level] = reached
        following[level] = i + 1
        path[level] = i
        held[level] = with_member[size] * loss
        every[level] = any_set[size] * loss
    for i in range(m):
        out[i] -= every[0]
