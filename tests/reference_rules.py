"""Naive twins of the rules beyond the first ones: subsets by enumeration, everything else in plain loops.

As in `reference`: rows of shape (specialist, output), float64, finite; written like the papers.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np


def normalised(weights, n):
    if weights is None:
        return np.full(n, 1.0 / n)
    weights = np.asarray(weights, dtype=float)
    return weights / weights.sum()


def heaviest(alpha, f):
    return sum(sorted(alpha)[len(alpha) - f :])


def middle(values, alpha):
    """Weighted median: smallest value with half of the weight; at exactly one half the mean with the next."""
    order = sorted(range(len(values)), key=lambda i: values[i])
    reached = 0.0
    for place, i in enumerate(order):
        reached += alpha[i]
        if abs(reached - 0.5) <= 1e-12 and place + 1 < len(order):
            return (values[i] + values[order[place + 1]]) / 2
        if reached >= 0.5 - 1e-12:
            return values[i]
    raise AssertionError("weights do not reach one half")


def medians(rows, weights=None):
    return np.array([middle(column, normalised(weights, len(rows))) for column in rows.T])


def winsorized_mean(rows, n_byzantine, weights=None):
    """Raise what lies in the lowest mass beta to the next value above it, lower the top, and average."""
    alpha = normalised(weights, len(rows))
    beta = n_byzantine / len(rows) if weights is None else heaviest(alpha, n_byzantine)
    fused = []
    for column in rows.T:
        low = min(x for x in column if alpha[column <= x].sum() > beta + 1e-12)
        high = max(x for x in column if alpha[column >= x].sum() > beta + 1e-12)
        fused.append(sum(a * min(max(x, low), high) for a, x in zip(alpha, column, strict=True)))
    return np.array(fused)


def nearest_values(column, centre, alpha, mass):
    """Mean of the nearest mass; everything as far as the last value needed shares what is left."""
    apart = np.abs(column - centre)
    slack = 4 * np.finfo(float).eps * (abs(centre) + apart)
    reached = total = 0.0
    done = np.zeros(len(column), dtype=bool)
    while reached < mass - 1e-12:
        level = min(apart[~done])
        here = ~done & (np.abs(apart - level) <= slack)
        held = alpha[here].sum()
        part = min(1.0, (mass - reached) / held)
        total += part * sum(alpha[here] * column[here])
        reached += part * held
        done |= here
    return total / reached


def kept_mass(alpha, f, weights):
    return (len(alpha) - f) / len(alpha) if weights is None else 1 - heaviest(alpha, f)


def mean_around_median(rows, n_byzantine, weights=None):
    alpha = normalised(weights, len(rows))
    mass = kept_mass(alpha, n_byzantine, weights)
    return np.array([nearest_values(column, middle(column, alpha), alpha, mass) for column in rows.T])


def trimmed(column, alpha, beta):
    total = reached = 0.0
    for i in sorted(range(len(column)), key=lambda i: column[i]):
        total += max(min(reached + alpha[i], 1 - beta) - max(reached, beta), 0.0) * column[i]
        reached += alpha[i]
    return total / (1 - 2 * beta)


def phocas(rows, n_byzantine, weights=None):
    alpha = normalised(weights, len(rows))
    mass = kept_mass(alpha, n_byzantine, weights)
    fused = []
    for column in rows.T:
        if weights is None:
            centre = np.mean(np.sort(column)[n_byzantine : len(rows) - n_byzantine])
        else:
            centre = trimmed(column, alpha, heaviest(alpha, n_byzantine))
        fused.append(nearest_values(column, centre, alpha, mass))
    return np.array(fused)


def squared(one, other):
    return float(sum((a - b) ** 2 for a, b in zip(one, other, strict=True)))


def subset_spread(rows, alpha, subset, measure):
    part = rows[list(subset)]
    if measure == "diameter":
        return max((squared(one, other) for one, other in combinations(part, 2)), default=0.0)
    share = alpha[list(subset)] / alpha[list(subset)].sum()
    about = part - share @ part
    covariance = (share[:, None] * about).T @ about
    return np.trace(covariance) if measure == "trace" else np.linalg.eigvalsh(covariance)[-1]


def best_subset(rows, n_byzantine, weights, measure):
    """First of all subsets, in lexicographic order, that is within 1e-9 of the least spread."""
    alpha = normalised(weights, len(rows))
    subsets = list(combinations(range(len(rows)), len(rows) - n_byzantine))
    spreads = [subset_spread(rows, alpha, subset, measure) for subset in subsets]
    # Rounding of a mean leaves a covariance of equal rows a little above 0.
    floor = (4 * np.finfo(float).eps * np.abs(rows).max()) ** 2
    chosen = list(
        next(s for s, v in zip(subsets, spreads, strict=True) if v <= min(spreads) * (1 + 1e-9) + floor)
    )
    return alpha[chosen] @ rows[chosen] / alpha[chosen].sum()


def minimum_diameter_averaging(rows, n_byzantine, weights=None):
    return best_subset(rows, n_byzantine, weights, "diameter")


def minimum_variance_averaging(rows, n_byzantine, weights=None):
    return best_subset(rows, n_byzantine, weights, "trace")


def smea(rows, n_byzantine, weights=None):
    return best_subset(rows, n_byzantine, weights, "spectrum")


def nearest_rows(rows, scores, n_byzantine, weights):
    alpha = normalised(weights, len(rows))
    left = mass = kept_mass(alpha, n_byzantine, weights)
    total = np.zeros(rows.shape[1])
    for i in sorted(range(len(rows)), key=lambda i: scores[i]):
        part = min(alpha[i], left)
        total += part * rows[i]
        left = max(left - part, 0.0) if left - part > 1e-15 else 0.0
    return total / mass


def monna(rows, n_byzantine, pivot=0, weights=None):
    scores = [-1.0 if i == pivot else squared(row, rows[pivot]) for i, row in enumerate(rows)]
    return nearest_rows(rows, scores, n_byzantine, weights)


def aksel(rows, n_byzantine, weights=None):
    centre = medians(rows, weights)
    return nearest_rows(rows, [squared(row, centre) for row in rows], n_byzantine, weights)


def cge(rows, n_byzantine, center=0.0, weights=None):
    return nearest_rows(
        rows, [squared(row, np.zeros(len(row)) + center) for row in rows], n_byzantine, weights
    )


def medoid_scores(rows, weights=None):
    alpha = normalised(weights, len(rows))
    return np.array(
        [sum(a * squared(row, other) ** 0.5 for a, other in zip(alpha, rows, strict=True)) for row in rows]
    )


def medoid(rows, weights=None):
    scores = medoid_scores(rows, weights)
    return rows[np.argmax(scores <= scores.min() * (1 + 1e-12))]


def bulyan(rows, n_byzantine, variant="krum", weights=None):
    assert weights is None
    n, f = len(rows), n_byzantine
    left, picks = list(range(n)), []

    def score(i, k):
        return sum(sorted(squared(rows[i], rows[j]) for j in left if j != i)[:k])

    if variant == "krum":
        while len(picks) < n - 2 * f:
            best = min(left, key=lambda i: score(i, max(1, len(left) - f - 2)))
            picks.append(best)
            left.remove(best)
    else:
        picks = sorted(left, key=lambda i: score(i, max(1, n - f - 2)))[: n - 2 * f - 2]
    chosen = rows[picks]
    even = np.full(len(picks), 1 / len(picks))
    mass = (len(picks) - 2 * f) / len(picks)
    return np.array([nearest_values(column, middle(column, even), even, mass) for column in chosen.T])


def centered_clipping(rows, radius=None, center="median", n_iter=1, weights=None):
    alpha = normalised(weights, len(rows))
    v = medians(rows, weights) if isinstance(center, str) else np.zeros(rows.shape[1]) + center
    for _ in range(n_iter):
        apart = np.array([squared(row, v) ** 0.5 for row in rows])
        if radius is None:
            radius = min(r for r in apart if alpha[apart <= r].sum() >= 0.5 - 1e-12)
        step = np.zeros(len(v))
        for a, row, r in zip(alpha, rows, apart, strict=True):
            step += a * (row - v) * (1.0 if r <= radius else radius / r)
        v = v + step
    return v


def caf(rows, n_byzantine, weights=None):
    """Literally the paper's loop, on d x d covariances; the maximum only over rows of positive weight."""
    n = len(rows)
    alpha = normalised(weights, n)
    c = n * alpha
    beta = n_byzantine / n if weights is None else heaviest(alpha, n_byzantine)
    if n_byzantine == 0:
        return alpha @ rows
    best, least, steps = None, np.inf, 0
    # About one row, so that a large common part does not drown the differences.
    origin, rows = rows[0], rows - rows[0]
    while c.sum() > n * (1 - 2 * beta) * (1 + 1e-12):
        mu = c @ rows / c.sum()
        about = rows - mu
        values, vectors = np.linalg.eigh((c[:, None] * about).T @ about / c.sum())
        if values[-1] < least:
            best, least = mu, values[-1]
        tau = (about @ vectors[:, -1]) ** 2
        top = max(tau[c > 0])
        if top <= (4 * np.finfo(float).eps * np.abs(rows).max()) ** 2:
            break
        c = np.where(c > 0, c * (1 - tau / top), 0.0)
        steps += 1
        assert steps <= n
    return origin + best


def dnc(rows, n_byzantine, filter_factor=1.0, n_iter=1, n_coordinates=10_000, seed=0, weights=None):
    assert weights is None
    assert n_coordinates >= rows.shape[1]
    about = rows - rows.mean(axis=0)
    along = np.abs(about @ np.linalg.svd(about)[2][0]) ** 2
    along = np.round(along / max(along.max(), 1e-300), 9)
    keep = len(rows) - int(np.ceil(filter_factor * n_byzantine - 1e-9))
    return rows[sorted(range(len(rows)), key=lambda i: along[i])[:keep]].mean(axis=0)


def fltrust(rows, pivot=0, weights=None):
    alpha = normalised(weights, len(rows))
    length = np.linalg.norm(rows, axis=1)
    total, trust = np.zeros(rows.shape[1]), 0.0
    for i, row in enumerate(rows):
        if i != pivot and length[i] > 0:
            t = alpha[i] * max(0.0, row @ rows[pivot] / (length[i] * length[pivot]))
            total += t * length[pivot] / length[i] * row
            trust += t
    return total / trust


def inverse_covariance_mean(rows, covariance=None, nonnegative=False, max_weight=1.0, weights=None):
    assert weights is None
    assert not nonnegative
    covariance = np.eye(len(rows)) if covariance is None else np.asarray(covariance)
    raw = np.linalg.inv(covariance) @ np.ones(len(rows))
    return raw @ rows / raw.sum()


def approval_ballot(row, threshold=0.5, top=None):
    if top is None:
        return [float(x >= threshold) for x in row]
    best = sorted(range(len(row)), key=lambda k: -row[k])[:top]
    return [float(k in best) for k in range(len(row))]


def borda_ballot(row):
    return [sum((x > y) + 0.5 * (x == y) for l, y in enumerate(row) if l != k) for k, x in enumerate(row)]


def approval_vote(rows, threshold=0.5, top=None, weights=None):
    alpha = normalised(weights, len(rows))
    return alpha @ np.array([approval_ballot(row, threshold, top) for row in rows])


def borda_count(rows, weights=None):
    k = rows.shape[1]
    if k == 1:
        return np.ones(1)
    return normalised(weights, len(rows)) @ np.array([borda_ballot(row) for row in rows]) / (k * (k - 1) / 2)


TWINS = {
    "winsorized_mean": winsorized_mean,
    "mean_around_median": mean_around_median,
    "phocas": phocas,
    "bulyan": bulyan,
    "minimum_diameter_averaging": minimum_diameter_averaging,
    "minimum_variance_averaging": minimum_variance_averaging,
    "smea": smea,
    "monna": monna,
    "aksel": aksel,
    "cge": cge,
    "medoid": medoid,
    "centered_clipping": centered_clipping,
    "caf": caf,
    "dnc": dnc,
    "fltrust": fltrust,
    "inverse_covariance_mean": inverse_covariance_mean,
    "approval_vote": approval_vote,
    "borda_count": borda_count,
}
