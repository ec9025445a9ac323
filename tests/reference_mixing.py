"""Naive twins of the pre-aggregators: one sample at a time, in float64, written like the papers."""

from __future__ import annotations

import numpy as np
from reference import normalised


def heaviest(alpha, f):
    return sum(sorted(alpha)[len(alpha) - f :])


def nearest_neighbor_mixing(rows, n_byzantine=1, weights=None, scope="sample"):
    """y_i = the mean of the n - f rows nearest to x_i, itself included."""
    n = len(rows)
    alpha = normalised(weights, n)
    kept = (n - n_byzantine) / n if weights is None else 1 - heaviest(alpha, n_byzantine)
    mixed = []
    for i in range(n):
        square = [float(np.sum((rows[i] - rows[j]) ** 2)) for j in range(n)]
        square[i] = -1.0
        left, total = kept, np.zeros(rows.shape[1])
        for j in np.argsort(square, kind="stable"):
            part = min(alpha[j], left)
            total += part * rows[j]
            left -= part
        mixed.append(total / kept)
    return np.array(mixed)


def bucketing(rows, size=2, rng=0, weights=None):
    """Random permutation, consecutive groups, their means."""
    order = np.random.default_rng(rng).permutation(len(rows))
    alpha = normalised(weights, len(rows))
    groups = [order[start : start + size] for start in range(0, len(rows), size)]
    return np.array([(alpha[g, None] * rows[g]).sum(axis=0) / alpha[g].sum() for g in groups])


def clip_norms(rows, radius=1.0, center=0.0, weights=None, scope="sample"):
    """c + (x - c) min(1, radius / |x - c|)."""
    mixed = []
    for row in rows:
        length = np.linalg.norm(row - center)
        mixed.append(row if length <= radius else center + (row - center) * radius / length)
    return np.array(mixed)


def adaptive_clipping(rows, n_byzantine=1, center=0.0, weights=None, scope="sample"):
    """Clip the k = floor(2 f (n - f) / n) longest rows to the next one's length."""
    n = len(rows)
    length = [np.linalg.norm(row - center) for row in rows]
    order = sorted(range(n), key=lambda i: -length[i])
    k = 2 * n_byzantine * (n - n_byzantine) // n
    if weights is not None:
        alpha = normalised(weights, n)
        b = heaviest(alpha, n_byzantine)
        k, reached = 0, alpha[order[0]]
        while reached <= 2 * b * (1 - b) + 1e-12:
            k += 1
            reached += alpha[order[k]]
    return clip_norms(rows, max(length[order[k]], 1e-300), center)


TWINS = {
    "nearest_neighbor_mixing": nearest_neighbor_mixing,
    "bucketing": bucketing,
    "clip_norms": clip_norms,
    "adaptive_clipping": adaptive_clipping,
}
