"""Distances between the specialists of every sample, and the scores of Krum."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

# Samples handled together: (11, 10) panels then fit the first-level cache in float64.
LANES = 64
KRUM_SCORES = "p3 i2 n f2 b1"
SQUARE_DISTANCES = "p3 f3"
CENTRED_GRAM = "p2 n f2"
LEAST_SCORES = "w2 n f2"


def krum_scores(
    panel: NDArray[Any],
    pairs: NDArray[np.int64],
    neighbors: int,
    scores: NDArray[np.float64],
    unclean: NDArray[np.uint8],
) -> None:
    """Sum every row's `neighbors` smallest squared distances; `pairs` sorts n-1 values.

    Marks samples with a non-finite value, or whose largest value is outside [1e-120, 1e140].
    """
    n_samples, n, d = panel.shape
    lanes = LANES
    rows = np.zeros((n * d, lanes), panel.dtype)
    square = np.zeros((n * n, lanes), np.float64)
    others = np.empty((max(n - 1, 1), lanes), np.float64)
    peak = np.empty(lanes, np.float64)
    fault = np.empty(lanes, np.float64)
    for first in range(0, n_samples, lanes):
        samples = min(lanes, n_samples - first)
        for s in range(samples):
            for i in range(n):
                for o in range(d):
                    rows[i * d + o, s] = panel[first + s, i, o]
        for k in range(lanes):
            peak[k] = 0.0
            fault[k] = 0.0
        for a in range(n * d):
            for k in range(lanes):
                size = abs(rows[a, k])
                peak[k] = size if size > peak[k] else peak[k]
                fault[k] += size - size
        for k in range(samples):
            if fault[k] != 0.0 or peak[k] > 1e140 or 0.0 < peak[k] < 1e-120:
                unclean[first + k] = 1
        for i in range(n):
            for j in range(i + 1, n):
                cell = i * n + j
                for k in range(lanes):
                    square[cell, k] = 0.0
                for o in range(d):
                    a = i * d + o
                    b = j * d + o
                    for k in range(lanes):
                        gap = np.float64(rows[a, k]) - np.float64(rows[b, k])
                        square[cell, k] += gap * gap
                for k in range(lanes):
                    square[j * n + i, k] = square[cell, k]
        for i in range(n):
            for j in range(n - 1):
                cell = i * n + j + (1 if j >= i else 0)
                for k in range(lanes):
                    others[j, k] = square[cell, k]
            for pair in range(pairs.shape[0]):
                a = pairs[pair, 0]
                b = pairs[pair, 1]
                for k in range(lanes):
                    x = others[a, k]
                    y = others[b, k]
                    others[a, k] = x if x < y else y
                    others[b, k] = y if x < y else x
            for k in range(lanes):
                peak[k] = 0.0
            for j in range(neighbors):
                for k in range(lanes):
                    peak[k] += others[j, k]
            for k in range(samples):
                scores[first + k, i] = peak[k]


def square_distances(panel: NDArray[Any], square: NDArray[np.float64]) -> None:
    """Sum squared differences of every pair of rows in float64, in tiles of columns."""
    n_samples, n, d = panel.shape
    width = 1024
    for s in range(n_samples):
        for i in range(n):
            for j in range(n):
                square[s, i, j] = 0.0
        for column in range(0, d, width):
            end = min(column + width, d)
            for i in range(n):
                one = panel[s, i, column:end]
                for j in range(i + 1, n):
                    other = panel[s, j, column:end]
                    total = 0.0
                    for o in range(end - column):
                        gap = np.float64(one[o]) - np.float64(other[o])
                        total += gap * gap
                    square[s, i, j] += total
        for i in range(n):
            for j in range(i):
                square[s, i, j] = square[s, j, i]


def centred_gram(rows: NDArray[Any], pivot: int, gram: NDArray[np.float64]) -> None:
    """Inner products of one sample's rows about row `pivot` in float64, in tiles of columns."""
    n, d = rows.shape
    width = 512
    tile = np.empty((n, width), np.float64)
    for i in range(n):
        for j in range(n):
            gram[i, j] = 0.0
    for column in range(0, d, width):
        size = min(width, d - column)
        centre = rows[pivot, column : column + size]
        for i in range(n):
            source = rows[i, column : column + size]
            for o in range(size):
                tile[i, o] = np.float64(source[o]) - np.float64(centre[o])
        for i in range(n):
            for j in range(i, n):
                total = 0.0
                for o in range(size):
                    total += tile[i, o] * tile[j, o]
                gram[i, j] += total
    for i in range(n):
        for j in range(i):
            gram[i, j] = gram[j, i]


def least_scores(scores: NDArray[np.float64], m: int, weights: NDArray[np.float64]) -> None:
    """Give weight 1/m to the m least scores of every sample, the first ones on ties; `weights` starts at 0."""
    n_samples, n = scores.shape
    share = 1.0 / m
    for s in range(n_samples):
        if m == 1:
            best = 0
            for i in range(1, n):
                best = i if scores[s, i] < scores[s, best] else best
            weights[s, best] = 1.0
            continue
        for i in range(n):
            better = 0
            for j in range(i):
                better += 1 if scores[s, j] <= scores[s, i] else 0
            for j in range(i + 1, n):
                better += 1 if scores[s, j] < scores[s, i] else 0
            weights[s, i] = share if better < m else 0.0
