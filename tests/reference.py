"""Naive twins of the rules: one sample at a time, in float64, written like the paper, without numba.

Each takes rows of shape (specialist, output), all finite, and the parameters of the rule. `TWINS` maps the
registry's names to them; a row without a twin fails the contract test.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
import reference_rules


def normalised(weights, n):
    if weights is None:
        return np.full(n, 1.0 / n)
    weights = np.asarray(weights, dtype=float)
    return weights / weights.sum()


def mean(rows, weights=None):
    """Sum of alpha_i x_i."""
    total = np.zeros(rows.shape[1])
    for alpha, row in zip(normalised(weights, len(rows)), rows, strict=True):
        total += alpha * row
    return total


def log_pool(rows, weights=None, floor=1e-6, sharpness=1.0, from_logits=False):
    """p_k proportional to exp(a sum_i alpha_i log p_ik)."""
    k = rows.shape[1]
    total = np.zeros(k)
    for alpha, row in zip(normalised(weights, len(rows)), rows, strict=True):
        total += alpha * (row if from_logits else np.log((1 - k * floor) * row + floor))
    shares = np.exp(sharpness * (total - total.max()))
    return shares / shares.sum()


def weighted_median(values, alpha):
    """Smallest value with cumulative weight >= 1/2; if equal to 1/2, the mean with the next."""
    order = np.argsort(values, kind="stable")
    reached = 0.0
    for place, i in enumerate(order):
        reached += alpha[i]
        if abs(reached - 0.5) <= 1e-12 and place + 1 < len(order):
            return (values[i] + values[order[place + 1]]) / 2
        if reached >= 0.5 - 1e-12:
            return values[i]
    raise AssertionError("weights do not reach one half")


def median(rows, weights=None):
    alpha = normalised(weights, len(rows))
    return np.array([weighted_median(column, alpha) for column in rows.T])


def trimmed_mean(rows, n_byzantine, weights=None):
    """(1 / (1 - 2 beta)) times the integral of the quantile function from beta to 1 - beta."""
    alpha = normalised(weights, len(rows))
    beta = sum(sorted(alpha)[len(rows) - n_byzantine :])
    fused = []
    for column in rows.T:
        total = reached = 0.0
        for i in np.argsort(column, kind="stable"):
            low, high = max(reached, beta), min(reached + alpha[i], 1 - beta)
            total += max(high - low, 0.0) * column[i]
            reached += alpha[i]
        fused.append(total / (1 - 2 * beta))
    return np.array(fused)


def krum_score(rows, i, n_byzantine, neighbors, alpha=None):
    n = len(rows)
    square = [float(np.sum((rows[i] - rows[j]) ** 2)) for j in range(n)]
    if alpha is None:
        k = n - n_byzantine - (1 if neighbors == "n-f-1" else 2)
        return sum(sorted(square[j] for j in range(n) if j != i)[:k])
    left = 1 - sum(sorted(alpha)[n - n_byzantine :])
    score = 0.0
    for j in sorted(range(n), key=lambda j: (j != i, square[j])):
        part = min(alpha[j], left)
        score += part * square[j]
        left -= part
        if left <= 0:
            break
    return score


def krum_scores(rows, n_byzantine, neighbors="n-f-1", weights=None):
    alpha = None if weights is None else normalised(weights, len(rows))
    return np.array([krum_score(rows, i, n_byzantine, neighbors, alpha) for i in range(len(rows))])


def krum(rows, n_byzantine, neighbors="n-f-1", weights=None):
    return rows[int(np.argmin(krum_scores(rows, n_byzantine, neighbors, weights)))]


def multi_krum(rows, n_byzantine, m=None, neighbors="n-f-1", weights=None):
    scores = krum_scores(rows, n_byzantine, neighbors, weights)
    order = sorted(range(len(rows)), key=lambda i: scores[i])
    if weights is None:
        return np.mean(rows[order[: m or len(rows) - n_byzantine]], axis=0)
    alpha = normalised(weights, len(rows))
    mass = left = 1 - sum(sorted(alpha)[len(rows) - n_byzantine :])
    total = np.zeros(rows.shape[1])
    for i in order:
        part = min(alpha[i], left)
        total += part * rows[i]
        left -= part
    return total / mass


def summed_distance(point, rows, alpha):
    return float(sum(a * np.linalg.norm(row - point) for a, row in zip(alpha, rows, strict=True)))


def geometric_median(rows, weights=None):
    """Least summed distance: a data point if its pull test says so, else Newton steps with backtracking.

    On a line the minimiser may be a segment; with one output the median is returned, as the rule says.
    """
    alpha = normalised(weights, len(rows))
    if rows.shape[1] == 1:
        return median(rows, weights)
    best = rows[int(np.argmin([summed_distance(row, rows, alpha) for row in rows]))]
    rows = rows - best
    apart = np.linalg.norm(rows, axis=1)
    away = apart > 0
    pull = (alpha[away, None] * rows[away] / apart[away, None]).sum(axis=0)
    if np.linalg.norm(pull) <= alpha[~away].sum():
        return best
    # Off the best row along its pull, as far as the objective falls.
    step = float(apart.max())
    lowest = summed_distance(np.zeros_like(best), rows, alpha)
    while summed_distance(step * pull, rows, alpha) >= lowest and step > 1e-300:
        step /= 2
    point = step * pull
    for _ in range(300):
        gap = rows - point
        apart = np.linalg.norm(gap, axis=1)
        omega, unit = alpha / apart, gap / apart[:, None]
        pull = (alpha[:, None] * unit).sum(axis=0)
        hessian = np.eye(rows.shape[1]) * omega.sum() - (omega[:, None] * unit).T @ unit
        newton, weiszfeld = np.linalg.lstsq(hessian, pull)[0], pull / omega.sum()
        moves = [
            size * move for move, sizes in ((newton, (1, 0.5, 0.1)), (weiszfeld, (1, 0.1))) for size in sizes
        ]
        values = [summed_distance(point + move, rows, alpha) for move in moves]
        if min(values) >= summed_distance(point, rows, alpha):
            break
        point = point + moves[int(np.argmin(values))]
    return best + point


def plurality_vote(rows, weights=None):
    shares = np.zeros(rows.shape[1])
    for alpha, row in zip(normalised(weights, len(rows)), rows, strict=True):
        shares[int(np.argmax(row))] += alpha
    return shares


def project_to_simplex(row):
    """Nearest point of the simplex, over all supports."""
    k = len(row)
    best, found = np.inf, None
    for size in range(1, k + 1):
        for support in combinations(range(k), size):
            point = np.zeros(k)
            point[list(support)] = row[list(support)] + (1 - row[list(support)].sum()) / size
            if (point >= 0).all() and np.sum((point - row) ** 2) < best:
                best, found = np.sum((point - row) ** 2), point
    return found


TWINS = {
    "mean": mean,
    "linear_pool": mean,
    "log_pool": log_pool,
    "median": median,
    "trimmed_mean": trimmed_mean,
    "krum": krum,
    "multi_krum": multi_krum,
    "geometric_median": geometric_median,
    "plurality_vote": plurality_vote,
    **reference_rules.TWINS,
}
