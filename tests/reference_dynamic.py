"""Naive twins of dynamic selection, written from the table of rules: one query, one specialist at a time."""

from __future__ import annotations

from math import ceil, exp, log

import numpy as np
from scipy.stats import beta

BEST = ("ola", "rank", "lca", "mla", "a_priori", "a_posteriori", "mcb")
POTENTIAL = ("rrc", "logarithmic", "exponential", "min_difference", "kl")


def source(rule, p, y):
    """Source competence of one answer p (class,) where y is right."""
    n_classes = len(p)
    if rule == "exponential":
        return 1.0 if p[y] == 1 else 1 - 2 ** (1 - (n_classes - 1) * p[y] / (1 - p[y]))
    if rule == "logarithmic":
        return 2 * p[y] ** (log(2) / log(n_classes)) - 1
    if rule == "min_difference":
        return p[y] - max(p[c] for c in range(n_classes) if c != y)
    if rule == "kl":
        return -sum(v * log(v) for v in p if v > 0) / log(n_classes) + 2 * (np.argmax(p) == y) - 1
    x = np.linspace(0, 1, 20)
    total = 0.0
    cdf = [beta.cdf(x, n_classes * v, n_classes - n_classes * v) for v in p]
    for i in range(19):
        part = cdf[y][i + 1] - cdf[y][i]
        for c in range(n_classes):
            if c != y:
                part *= (cdf[c][i] + cdf[c][i + 1]) / 2
        total += part
    return total


def competence(rule, j, labels, order, weights, known):
    """Competence of specialist j for one query from its neighbours in order of distance."""
    right, proba, said, truth = known
    h = [float(right[t, j]) for t in order]
    same = [t for t in range(len(order)) if truth[order[t]] == labels[j]]
    if rule in ("ola", "des_p", "des_knn"):
        return sum(h) / len(h)
    if rule in ("rank", "knora_e"):
        return next((i for i, hit in enumerate(h) if not hit), len(h))
    if rule in ("knora_u", "knop"):
        return sum(h)
    if rule == "lca":
        return sum(h[t] for t in same) / len(same) if same else 0.0
    if rule == "mla":
        return sum(weights[t] * h[t] for t in same) / sum(weights[t] for t in same) if same else 0.0
    if rule == "a_priori":
        return sum(w * proba[t, j] for w, t in zip(weights, order, strict=True)) / sum(weights)
    if rule == "a_posteriori":
        if not same:
            return 0.0
        return sum(weights[t] * proba[order[t], j] for t in same) / sum(weights[t] for t in same)
    m = len(labels)
    alike = [i for i, t in enumerate(order) if 10 * sum(said[t] == labels) > 7 * m]
    alike = alike or list(range(len(order)))
    return sum(h[i] for i in alike) / len(alike)


def vote(weights, labels, n_classes):
    """Label with the largest weighted vote; everybody's if nobody weighs anything."""
    if not any(weights):
        weights = [1] * len(labels)
    sums = [sum(w for w, s in zip(weights, labels, strict=True) if s == c) for c in range(n_classes)]
    return int(np.argmax(sums))


def predict(rule, panel, y, place, new_panel, new_place, k):
    """Label of each query; nobody absent."""
    n, m, n_classes = panel.shape
    said = panel.argmax(axis=2)
    right = said == y[:, None]
    proba = np.array([[panel[t, j, y[t]] for j in range(m)] for t in range(n)])
    result = []
    for row, here in zip(new_panel, new_place, strict=True):
        labels = row.argmax(axis=1)
        distance = np.sqrt(((place - here) ** 2).sum(axis=1))
        order = list(np.argsort(distance, kind="stable")[:k])
        weights = [1 / max(distance[t], 1e-10) for t in order]
        if rule in POTENTIAL:
            near = [exp(-(distance[t] ** 2)) for t in range(n)]
            c = [
                sum(near[t] * source(rule, panel[t, j], y[t]) for t in range(n)) / sum(near) for j in range(m)
            ]
            least = 1 / n_classes if rule in ("rrc", "logarithmic") else 0
            result.append(vote([float(value > least) for value in c], labels, n_classes))
            continue
        c = [competence(rule, j, labels, order, weights, (right, proba, said, y)) for j in range(m)]
        if rule in BEST:
            result.append(int(labels[int(np.argmax(c))]))
        elif rule in ("knora_u", "knop"):
            result.append(vote(c, labels, n_classes))
        elif rule == "knora_e":
            result.append(vote([float(value == max(c)) for value in c], labels, n_classes))
        elif rule == "des_p":
            result.append(vote([float(value > 1 / n_classes) for value in c], labels, n_classes))
        else:
            half = sorted(range(m), key=lambda j: -c[j])[: max(m // 2, 1)]
            faults = [
                sum(not right[t, i] and not right[t, j] for t in order for j in range(m) if j != i)
                for i in range(m)
            ]
            few = sorted(half, key=lambda j: faults[j])[: ceil(0.3 * m)]
            result.append(vote([float(j in few) for j in range(m)], labels, n_classes))
    return np.array(result)


def predict_numbers(rule, panel, y, place, new_panel, new_place, k):
    """Fused number of each query; nobody absent."""
    result = []
    for row, here in zip(new_panel, new_place, strict=True):
        distance = np.sqrt(((place - here) ** 2).sum(axis=1))
        order = np.argsort(distance, kind="stable")[:k]
        w = 1 / np.maximum(distance[order], 1e-10) if rule == "a_priori" else np.ones(len(order))
        local = [
            sum(w[i] * ((panel[t, j] - y[t]) ** 2).sum() for i, t in enumerate(order)) / w.sum()
            for j in range(panel.shape[1])
        ]
        if rule in ("ola", "a_priori"):
            result.append(row[int(np.argmin(local))])
        elif rule == "knora_u":
            share = 1 / np.array(local)
            result.append(share @ row / share.sum())
        else:
            result.append(np.mean([row[j] for j in range(len(row)) if local[j] <= np.mean(local)], axis=0))
    return np.array(result)
