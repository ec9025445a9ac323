"""Compiled cores, imported at the first large call only; each has a NumPy twin that is its test oracle."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

LANES = 4  # classes at a time: sums of four doubles stay in one register, and any number of classes is some of these


@njit(cache=True, nogil=True)
def log_posteriors(
    start: NDArray[np.int64],
    cell: NDArray[np.uint32],
    log_rates: NDArray[np.float64],
    log_prior: NDArray[np.float64],
    fixed: NDArray[np.int64],
    logs: NDArray[np.float64],
    most: NDArray[np.float64],
) -> None:
    """Fill logs[t, j], the log-likelihoods of sample t less their largest, and most[t], that one.

    Answers of sample t are start[t] .. start[t + 1], each a cell (specialist, said); log_rates is (cell, true) and
    log_prior (true,), padded to whole lanes by -inf in the prior. Where fixed[t] >= 0 that truth is sure.
    """
    width = len(log_prior)
    for t in range(len(start) - 1):
        for j in range(0, width, LANES):
            a, b, c, d = log_prior[j], log_prior[j + 1], log_prior[j + 2], log_prior[j + 3]
            for i in range(start[t], start[t + 1]):
                k = cell[i]
                a += log_rates[k, j]
                b += log_rates[k, j + 1]
                c += log_rates[k, j + 2]
                d += log_rates[k, j + 3]
            logs[t, j], logs[t, j + 1], logs[t, j + 2], logs[t, j + 3] = a, b, c, d
        if fixed[t] >= 0:
            most[t] = logs[t, fixed[t]]
            logs[t, :] = -np.inf
            logs[t, fixed[t]] = 0.0
        else:
            largest = logs[t, 0]
            for j in range(1, width):
                largest = max(largest, logs[t, j])
            most[t] = largest
            for j in range(width):
                logs[t, j] -= largest


@njit(cache=True, nogil=True)
def normalise_and_count(
    start: NDArray[np.int64],
    cell: NDArray[np.uint32],
    mass: NDArray[np.float64],
    q: NDArray[np.float64],
    norm: NDArray[np.float64],
    counts: NDArray[np.float64],
) -> None:
    """Divide q[t] by norm[t], its sum, and add mass[t] q[t] to counts[cell] of each answer of sample t."""
    width = q.shape[1]
    for t in range(len(start) - 1):
        total = 0.0
        for j in range(width):
            total += q[t, j]
        norm[t] = total
        for j in range(width):
            q[t, j] *= 1.0 / total
        for j in range(0, width, LANES):
            a, b = mass[t] * q[t, j], mass[t] * q[t, j + 1]
            c, d = mass[t] * q[t, j + 2], mass[t] * q[t, j + 3]
            for i in range(start[t], start[t + 1]):
                k = cell[i]
                counts[k, j] += a
                counts[k, j + 1] += b
                counts[k, j + 2] += c
                counts[k, j + 3] += d
