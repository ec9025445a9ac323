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
