"""Naive twins of learned fusions, written like the papers: one sample, one specialist, one candidate at a time."""

from __future__ import annotations

from math import log

import numpy as np


def average(row, team):
    """Mean of one sample's answers (specialist, output) over a team with repetitions; of all, if it is away."""
    heard = [row[j] for j in team if not np.isnan(row[j]).all()]
    heard = heard or [answer for answer in row if not np.isnan(answer).all()]
    return np.mean([np.nan_to_num(answer) for answer in heard], axis=0)


def team_loss(panel, y, team, loss):
    """Loss of the average of a team; samples without any answer left out."""
    total = []
    for row, truth in zip(panel, y, strict=True):
        if np.isnan(row).all():
            continue
        mean = average(row, team)
        if loss == "mse":
            total.append(float(((mean - truth) ** 2).sum()))
        elif loss == "log_loss":
            total.append(-log(max(mean[truth], np.finfo(float).eps)))
        elif loss == "brier":
            total.append(float(((mean - np.eye(len(mean))[truth]) ** 2).sum()))
        else:
            total.append(float(np.argmax(np.round(mean, 12)) != truth))
    return sum(total) / len(total)


def greedy(panel, y, size, loss):
    """Caruana et al. 2004, section 2: with replacement; ties to the chosen, then to the first."""
    team, path = [], []
    m = panel.shape[1]
    scale = max(team_loss(panel, y, [j], loss) for j in range(m))
    for _ in range(size):
        losses = [team_loss(panel, y, [*team, j], loss) for j in range(m)]
        tied = [j for j in range(m) if losses[j] <= min(losses) + 1e-12 * scale]
        again = [j for j in tied if j in team]
        team.append((again or tied)[0])
        path.append(losses[team[-1]])
    kept = next(i for i, value in enumerate(path) if value <= min(path) + 1e-12 * scale)
    return team[: kept + 1], path


def free_precision(matrix, team):
    """1'S^-1 1 of a team."""
    return float(np.linalg.inv(matrix[np.ix_(team, team)]).sum())


def equal_variance(matrix, team):
    """Squared error of the plain average of a team."""
    return float(matrix[np.ix_(team, team)].mean())


def dawid_skene(codes, n_classes, smoothing, n_iter, floor=1e-10):
    """Dawid & Skene 1979: start at the shares of the votes, then M and E steps, answer by answer.

    Labels that a specialist never gave have no count, as in crowd-kit, and so no part in its sum.
    """
    n, m = codes.shape
    q = np.zeros((n, n_classes))
    for t in range(n):
        for k in range(m):
            if codes[t, k] >= 0:
                q[t, codes[t, k]] += 1
        q[t] /= q[t].sum()
    path = []
    for _ in range(n_iter + 1):
        prior = q.mean(axis=0)
        theta = np.zeros((m, n_classes, n_classes))
        for k in range(m):
            for j in range(n_classes):
                for c in range(n_classes):
                    answers = [q[t, j] for t in range(n) if codes[t, k] == c]
                    theta[k, j, c] = max(sum(answers) + smoothing, floor) if answers else smoothing
                theta[k, j] /= theta[k, j].sum()
        if len(path) == n_iter:
            return q, theta, prior, path
        fresh = np.zeros_like(q)
        for t in range(n):
            for j in range(n_classes):
                fresh[t, j] = log(max(prior[j], floor)) if prior[j] > 0 else -np.inf
                fresh[t, j] += sum(log(theta[k, j, codes[t, k]]) for k in range(m) if codes[t, k] >= 0)
            fresh[t] = np.exp(fresh[t] - fresh[t].max())
            fresh[t] /= fresh[t].sum()
        q = fresh
        path.append(expected_likelihood(codes, q, theta, prior, smoothing))


def expected_likelihood(codes, q, theta, prior, smoothing):
    """Objective sum q (ln prior + sum ln theta) + H(q), with the smoothing as a prior of theta."""
    value = 0.0
    for t in range(len(codes)):
        for j in range(q.shape[1]):
            if q[t, j] > 0:
                said = sum(log(theta[k, j, c]) for k, c in enumerate(codes[t]) if c >= 0)
                value += q[t, j] * (log(prior[j]) + said - log(q[t, j]))
    return value + smoothing * float(np.log(np.where(theta > 0, theta, 1e-10)).sum())


def kappa(a, b):
    """Cohen's kappa of two specialists on the samples that both answered."""
    both = [(x, y) for x, y in zip(a, b, strict=True) if x >= 0 and y >= 0]
    agree = sum(x == y for x, y in both) / len(both)
    chance = sum(
        (sum(x == c for x, _ in both) / len(both)) * (sum(y == c for _, y in both) / len(both))
        for c in set(a) | set(b)
    )
    return (agree - chance) / (1 - chance)


def residual_correlation(codes, q, theta):
    """Correlation of what is said beyond the error rates, given the truth, sample by sample."""
    n, m = codes.shape
    classes = range(q.shape[1])
    moments = np.zeros((m, m))
    for k in range(m):
        for i in range(m):
            common = [t for t in range(n) if codes[t, k] >= 0 and codes[t, i] >= 0]
            total = sum(
                q[t, j] * ((codes[t, k] == c) - theta[k, j, c]) * ((codes[t, i] == c) - theta[i, j, c])
                for t in common
                for j in classes
                for c in classes
            )
            moments[k, i] = total / len(common)
    spread = np.sqrt(moments.diagonal())
    return moments / np.outer(spread, spread)
