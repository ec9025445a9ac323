"""Exact searches for the best n - f of n specialists, on their squared distances."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

_OPTIONS = {"nogil": True, "error_model": "numpy"}


def _jit(function: Callable[..., Any]) -> Callable[..., Any]:
    try:
        ready: Callable[..., Any] = njit(cache=True, **_OPTIONS)(function)
    except RuntimeError:
        # No folder can be written to, as in some containers: compile once per process.
        ready = njit(**_OPTIONS)(function)
    return ready


@_jit
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


@_jit
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


@_jit
def spread(
    square: NDArray[np.float64],
    mass: NDArray[np.float64],
    kept: NDArray[np.bool_],
    spectral: bool,
) -> float:
    """Give the variance of the kept rows about their mean: along the worst direction, or in all.

    Parameters
    ----------
    square : ndarray of float64, shape (n, n)
        Squared distances.
    mass : ndarray of float64, shape (n,)
        Weights of the rows.
    kept : ndarray of bool, shape (n,)
        The subset.
    spectral : bool
        Whether the top eigenvalue of the covariance is meant, or its trace.

    Returns
    -------
    float
        The weighted scatter, not divided by the mass of the subset.
    """
    n = square.shape[0]
    rows = np.empty(n, np.int64)
    k = 0
    total = 0.0
    for v in range(n):
        if kept[v]:
            rows[k] = v
            total += mass[v]
            k += 1
    mean = np.zeros(k)
    grand = 0.0
    for i in range(k):
        for j in range(k):
            mean[i] += mass[rows[j]] * square[rows[i], rows[j]] / total
    for i in range(k):
        grand += mass[rows[i]] * mean[i] / total
    if not spectral or k < 3:
        return 0.5 * grand * total
    # Distances centred twice are inner products about the mean; rows that are left out play no part.
    gram = np.empty((k, k))
    for i in range(k):
        for j in range(k):
            product = -0.5 * (square[rows[i], rows[j]] - mean[i] - mean[j] + grand)
            gram[i, j] = product * np.sqrt(mass[rows[i]] * mass[rows[j]])
    top: float = max(np.linalg.eigvalsh(gram)[-1], 0.0)
    return top


@_jit
def least_spread(
    square: NDArray[np.float64],
    mass: NDArray[np.float64],
    budget: int,
    rank: int,
    spectral: bool,
    max_nodes: int,
    kept: NDArray[np.bool_],
) -> int:
    """Find the subset of n - budget rows of least spread, the first one within 1e-9 of the least.

    Branch and bound: scatter only grows when a row is added.

    Parameters
    ----------
    square : ndarray of float64, shape (n, n)
        Squared distances.
    mass : ndarray of float64, shape (n,)
        Weights of the rows.
    budget : int
        How many rows are left out.
    rank : int
        Largest rank of a covariance: the number of outputs.
    spectral : bool
        As in `spread`.
    max_nodes : int
        Where to give up.
    kept : ndarray of bool, shape (n,)
        Written.

    Returns
    -------
    int
        Nodes visited; more than `max_nodes` if the search was given up.
    """
    n = square.shape[0]
    size = n - budget
    spectral = spectral and rank > 1
    ranked = np.sort(mass)
    heaviest = 0.0
    for i in range(budget, n):
        heaviest += ranked[i]
    least_diameter(square, budget, kept)
    total = 0.0
    for v in range(n):
        if kept[v]:
            total += mass[v]
    limit = spread(square, mass, kept, spectral) / total
    far = np.zeros(n)
    for v in range(n):
        for u in range(n):
            if kept[u]:
                far[v] += mass[u] * square[v, u]
    far_first = np.argsort(-far)
    in_order = np.arange(n)
    best = kept.copy()
    nodes = 0
    for stage in range(2):
        # First the least spread, dropping far rows first; then the first subset that attains it, by index.
        order = far_first if stage == 0 else in_order
        cut = limit * (1.0 - 1e-10) if stage == 0 else limit * (1.0 + 1e-9)
        choice = np.zeros(n + 1, np.int64)
        member = np.zeros(n, np.bool_)
        cross = np.zeros((n + 1, n))
        pairs = np.zeros(n + 1)
        weight = np.zeros(n + 1)
        rest = np.empty(n)
        dropped = 0
        count = 0
        at = 0
        done = False
        while at >= 0 and not done:
            v = order[at]
            # 0: not looked at; 1 and 2: the two ways. Rows are dropped first in stage 0, kept first in stage 1.
            if choice[at] > 0:
                if member[v]:
                    member[v] = False
                    count -= 1
                else:
                    dropped -= 1
            choice[at] += 1
            if choice[at] == 3:
                choice[at] = 0
                at -= 1
                continue
            if (choice[at] == 1) == (stage == 0):
                dropped += 1
                if dropped <= budget:
                    at += 1
                continue
            nodes += 1
            if nodes > max_nodes:
                return nodes
            member[v] = True
            count += 1
            weight[count] = weight[count - 1] + mass[v]
            pairs[count] = pairs[count - 1] + mass[v] * cross[count - 1, v]
            for u in range(n):
                cross[count, u] = cross[count - 1, u] + mass[v] * square[v, u]
            scatter = pairs[count] / weight[count]
            if count == size:
                value = scatter / weight[count]
                # No direction holds less than its share of the trace.
                if spectral and value / rank <= cut:
                    value = spread(square, mass, member, True) / weight[count]
                if stage == 0 and value < cut:
                    cut = value * (1.0 - 1e-10)
                    limit = value
                    best[:] = member
                elif stage == 1 and value <= cut:
                    best[:] = member
                    done = True
                continue
            for place in range(at + 1, n):
                rest[place - at - 1] = mass[order[place]] * cross[count, order[place]]
            nearest = np.sort(rest[: n - at - 1])
            reach = pairs[count]
            for i in range(size - count):
                reach += nearest[i]
            bound = max(scatter / heaviest, reach / heaviest**2)
            if spectral:
                bound /= rank
                if bound < cut <= scatter / heaviest:
                    bound = max(bound, spread(square, mass, member, True) / heaviest)
            if bound < cut or (stage == 1 and bound == cut):
                at += 1
    kept[:] = best
    return nodes


@_jit
def choose_subsets(
    square: NDArray[np.float64],
    mass: NDArray[np.float64],
    budget: int,
    rank: int,
    measure: int,
    max_nodes: int,
    kept: NDArray[np.bool_],
) -> int:
    """Choose n - budget rows in every sample.

    Parameters
    ----------
    square : ndarray of float64, shape (sample, n, n)
        Squared distances, finite.
    mass : ndarray of float64, shape (sample, n)
        Weights of the rows.
    budget, rank, max_nodes : int
        As in `least_spread`.
    measure : int
        0 diameter, 1 trace, 2 top eigenvalue.
    kept : ndarray of bool, shape (sample, n)
        Written.

    Returns
    -------
    int
        The first sample that was given up, or -1.
    """
    for s in range(square.shape[0]):
        if measure == 0 or budget == 0:
            least_diameter(square[s], budget, kept[s])
        elif least_spread(square[s], mass[s], budget, rank, measure == 2, max_nodes, kept[s]) > max_nodes:
            return s
    return -1
