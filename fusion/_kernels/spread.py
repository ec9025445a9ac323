"""Exact search for the n - f of n specialists of least spread, on their squared distances."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fusion._kernels.subsets import jit, least_diameter


@jit
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


@jit
def _eliminated(
    square: NDArray[np.float64],
    mass: NDArray[np.float64],
    rows: NDArray[np.int64],
    count: int,
    open_: NDArray[np.int64],
    level: float,
    left: NDArray[np.float64],
) -> bool:
    """Eliminate row rows[count - 1] from left[count - 1] into left[count]; say whether its pivot is positive.

    About row r the weighted scatter of some rows is below `level` in every direction if and only if
    level (I + w w') - diag(s) G diag(s) is positive definite, with G the inner products of the other rows
    about r, s the roots of their masses and w = s / s_r. Elimination meets positive pivots alone exactly then.
    """
    new = rows[count - 1]
    after = left[count]
    if count == 1:
        base = level / mass[new]
        for a in range(open_.size):
            v = open_[a]
            for b in range(a, open_.size):
                u = open_[b]
                product = 0.5 * (square[v, new] + square[u, new] - square[v, u])
                value = (base - product) * np.sqrt(mass[v] * mass[u])
                after[v, u] = value
                after[u, v] = value
            after[v, v] += level
        return level > 0.0
    before = left[count - 1]
    pivot = before[new, new]
    if not pivot > 0.0:
        return False
    for a in range(open_.size):
        v = open_[a]
        scale = before[v, new] / pivot
        for b in range(open_.size):
            u = open_[b]
            after[v, u] = before[v, u] - scale * before[new, u]
    return True


@jit
def _most_removed(
    gain: NDArray[np.float64], least: NDArray[np.float64], open_: NDArray[np.int64], q: int
) -> float:
    """Bound what leaving out q of the open rows takes from the sum of pairs."""
    if q == 0:
        return 0.0
    top = np.empty(q)
    held = 0
    for a in range(open_.size):
        v = open_[a]
        value = gain[v] - least[v, q - 1]
        at = held
        if held == q:
            if value <= top[q - 1]:
                continue
            at = q - 1
        else:
            held += 1
        while at > 0 and top[at - 1] < value:
            top[at] = top[at - 1]
            at -= 1
        top[at] = value
    total = 0.0
    for k in range(held):
        total += top[k]
    return total


@jit
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

    Branch and bound over rows left out and kept. What leaving out more rows takes from the sum of squared
    distances is at most their largest sums to all others, less half of the least distances among as many
    rows. The top eigenvalue only grows when a row is kept: elimination tells at once which open rows would
    bring it above the best.

    Parameters
    ----------
    square : ndarray of float64, shape (n, n)
        Squared distances.
    mass : ndarray of float64, shape (n,)
        Weights of the rows.
    budget : int
        How many rows are left out.
    rank : int
        Largest rank of a covariance.
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
    if limit == 0.0:
        return 0
    # A pair this far apart is in no subset as good as the first one; without the cap, one far row would hide
    # the distances of all others in the sums.
    share = float(rank) if spectral else 1.0
    cap = 4.0 * share * limit * heaviest**2
    pair = np.empty((n, n))
    sums = np.zeros(n)
    whole = 0.0
    for v in range(n):
        for u in range(n):
            pair[v, u] = min(mass[v] * mass[u] * square[v, u], cap)
            sums[v] += pair[v, u]
        whole += 0.5 * sums[v]
    # Half of the k least distances of every row.
    least = np.zeros((n, budget + 1))
    far = np.zeros(n)
    for v in range(n):
        near = np.sort(pair[v])
        for k in range(1, budget + 1):
            least[v, k] = least[v, k - 1] + 0.5 * near[k]
        for u in range(n):
            if kept[u]:
                far[v] += mass[u] * square[v, u]
    far_first = np.argsort(-far)
    best = kept.copy()
    nodes = 0
    alone = True
    choice = np.zeros(n, np.int64)
    member = np.zeros(n, np.bool_)
    rows = np.empty(n, np.int64)
    left = np.empty((size + 1 if spectral else 1, n, n))
    gain = np.empty((budget + 1, n))
    removed = np.zeros(budget + 1)
    weight = np.zeros(budget + 1)
    for stage in range(2):
        # First the least spread, leaving far rows out first; then, if others are as good, the first of them.
        order = far_first if stage == 0 else np.arange(n)
        cut = limit * (1.0 + 1e-9)
        gain[0] = sums
        choice[:] = 0
        member[:] = False
        dropped = 0
        count = 0
        at = 0
        stale = False
        while at >= 0:
            v = order[at]
            if choice[at] > 0:
                if member[v]:
                    member[v] = False
                    count -= 1
                else:
                    dropped -= 1
            # 0: not looked at; 1 and 2: the two ways. Rows are left out first in stage 0, kept first in stage 1.
            choice[at] += 1
            if choice[at] == 3:
                choice[at] = 0
                at -= 1
                continue
            open_ = order[at + 1 :]
            if (choice[at] == 1) == (stage == 0):
                dropped += 1
                if dropped > budget:
                    continue
                removed[dropped] = removed[dropped - 1] + gain[dropped - 1, v]
                weight[dropped] = weight[dropped - 1] + mass[v]
                for u in range(n):
                    gain[dropped, u] = gain[dropped - 1, u] - pair[v, u]
            else:
                member[v] = True
                rows[count] = v
                count += 1
                if count > size:
                    continue
            nodes += 1
            if nodes > max_nodes:
                return nodes
            if spectral and count > 0:
                if stale:
                    # The best has changed: what was eliminated so far is eliminated again.
                    fine = True
                    for k in range(1, count + 1):
                        fine = fine and _eliminated(square, mass, rows, k, order, cut * heaviest, left)
                    if not fine:
                        continue
                    stale = False
                elif member[v] and not _eliminated(square, mass, rows, count, open_, cut * heaviest, left):
                    continue
                above = 0
                for a in range(open_.size):
                    above += 0 if left[count, open_[a], open_[a]] > 0.0 else 1
                if above > budget - dropped:
                    continue
            taken = _most_removed(gain[dropped], least, open_, budget - dropped)
            if (whole - removed[dropped] - taken) / heaviest**2 > cut * share:
                continue
            if at + 1 < n:
                at += 1
                continue
            if spectral:
                value = spread(square, mass, member, True) / (1.0 - weight[budget])
            else:
                value = (whole - removed[budget]) / (1.0 - weight[budget]) ** 2
            if value > cut:
                continue
            if stage == 1:
                best[:] = member
                break
            if value > limit * (1.0 - 1e-9) and (member != best).any():
                alone = False
            if value < limit:
                limit = value
                best[:] = member
            # Once there are ties, only what is better is looked for here.
            cut = limit * (1.0 + 1e-9 if alone else 1.0 - 1e-10)
            stale = True
        if alone:
            break
    kept[:] = best
    return nodes


@jit
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
