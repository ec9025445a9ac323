"""Exact search for the n - f of n specialists of least diameter, on their squared distances."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

_OPTIONS = {"nogil": True, "error_model": "numpy"}


def jit(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile on the first call, and keep the code on disk where that is possible."""
    try:
        ready: Callable[..., Any] = njit(cache=True, **_OPTIONS)(function)
    except RuntimeError:
        # No folder can be written to, as in some containers: compile once per process.
        ready = njit(**_OPTIONS)(function)
    return ready


@jit
def has_cover(conflict: NDArray[np.bool_], start: NDArray[np.int8], budget: int) -> bool:
    """Say whether removing `budget` vertices in all can leave no conflict.

    Parameters
    ----------
    conflict : ndarray of bool, shape (n, n)
        Symmetric, False on the diagonal.
    start : ndarray of int8, shape (n,)
        0 open, 1 removed, 2 kept with every neighbour removed.
    budget : int
        How many may be removed, those of `start` included.

    Returns
    -------
    bool
    """
    n = conflict.shape[0]
    state = start.copy()
    trail = np.empty(2 * n + 1, np.int64)
    chosen = np.empty(n + 1, np.int64)
    mark = np.empty(n + 1, np.int64)
    seen = np.zeros(n, np.bool_)
    removed = 0
    for v in range(n):
        if state[v] == 1:
            removed += 1
    length = 0
    depth = 0
    while True:
        branch = -1
        while removed <= budget:
            top = 0
            pendant = -1
            edges = 0
            for v in range(n):
                if state[v] == 0:
                    degree = 0
                    for u in range(n):
                        if state[u] == 0 and conflict[v, u]:
                            degree += 1
                    edges += degree
                    if degree > top:
                        top = degree
                        branch = v
                    if degree == 1:
                        pendant = v
            edges //= 2
            if edges == 0:
                return True
            left = budget - removed
            if edges > left * top:
                branch = -1
                break
            victim = -1
            if top > left:
                victim = branch  # its neighbours alone would be too many
            elif pendant >= 0:
                for u in range(n):  # removing the neighbour instead is never worse
                    if state[u] == 0 and conflict[pendant, u]:
                        victim = u
            elif top == 2:
                # Circles only are left: one of k vertices needs half of them, rounded up.
                needed = 0
                for v in range(n):
                    seen[v] = False
                for v in range(n):
                    if state[v] == 0 and not seen[v]:
                        size = 0
                        at = v
                        while at >= 0:
                            seen[at] = True
                            size += 1
                            onward = -1
                            for u in range(n):
                                if state[u] == 0 and not seen[u] and conflict[at, u]:
                                    onward = u
                            at = onward
                        if size > 1:
                            needed += (size + 1) // 2
                if needed <= left:
                    return True
                branch = -1
                break
            else:
                break
            state[victim] = 1
            trail[length] = victim
            length += 1
            removed += 1
            branch = -1
        if removed <= budget and branch >= 0:
            chosen[depth] = branch
            mark[depth] = length
            depth += 1
            state[branch] = 1
            trail[length] = branch
            length += 1
            removed += 1
            continue
        if depth == 0:
            return False
        # The other choice: keep the vertex and remove its neighbours.
        depth -= 1
        v = chosen[depth]
        while length > mark[depth]:
            length -= 1
            if state[trail[length]] == 1:
                removed -= 1
            state[trail[length]] = 0
        state[v] = 2
        trail[length] = v
        length += 1
        for u in range(n):
            if state[u] == 0 and conflict[v, u]:
                state[u] = 1
                trail[length] = u
                length += 1
                removed += 1


@jit
def least_diameter(square: NDArray[np.float64], budget: int, kept: NDArray[np.bool_]) -> None:
    """Find the subset of n - budget rows of least diameter, the first one in lexicographic order.

    Parameters
    ----------
    square : ndarray of float64, shape (n, n)
        Squared distances.
    budget : int
        How many rows are left out.
    kept : ndarray of bool, shape (n,)
        Written.
    """
    n = square.shape[0]
    values = np.zeros(n * (n - 1) // 2 + 1)
    at = 1
    for i in range(n):
        for j in range(i + 1, n):
            values[at] = square[i, j]
            at += 1
    values.sort()
    none = np.zeros(n, np.int8)
    low, high = 0, len(values) - 1
    while low < high:
        middle = (low + high) // 2
        if has_cover(square > values[middle], none, budget):
            high = middle
        else:
            low = middle + 1
    conflict = square > values[low]
    state = none
    count = 0
    for v in range(n):
        if state[v] == 1:
            continue
        if count == n - budget:
            state[v] = 1
            continue
        trial = state.copy()
        trial[v] = 2
        removed = 0
        for u in range(n):
            if conflict[v, u]:
                trial[u] = 1
            if trial[u] == 1:
                removed += 1
        if removed <= budget and has_cover(conflict, trial, budget):
            state = trial
            count += 1
        else:
            state[v] = 1
    for v in range(n):
        kept[v] = state[v] == 2
