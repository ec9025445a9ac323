"""Compiled cores, imported at the first large call only; each has a NumPy twin that is its test oracle."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray


@njit(cache=True, nogil=True)
def confusion_step(
    start: NDArray[np.int64],
    who: NDArray[np.int64],
    said: NDArray[np.int64],
    log_rates: NDArray[np.float64],
    log_prior: NDArray[np.float64],
    fixed: NDArray[np.int64],
    mass: NDArray[np.float64],
    q: NDArray[np.float64],
    counts: NDArray[np.float64],
) -> float:
    """Fill q[t, j] and counts[k, said, true] in one pass over the answers; return the log-likelihood.

    Answers of sample t are start[t] .. start[t + 1]; log_rates is (specialist, said, true); a sample with
    fixed >= 0 has that truth. The twin is ``estimators.truth_em.confusion_step_numpy``.
    """
    n_classes = len(log_prior)
    counts[:] = 0.0
    total = 0.0
    logs = np.empty(n_classes)
    for t in range(len(start) - 1):
        for j in range(n_classes):
            logs[j] = log_prior[j]
        for i in range(start[t], start[t + 1]):
            k, c = who[i], said[i]
            for j in range(n_classes):
                logs[j] += log_rates[k, c, j]
        if fixed[t] >= 0:
            total += mass[t] * logs[fixed[t]]
            for j in range(n_classes):
                q[t, j] = 0.0
            q[t, fixed[t]] = 1.0
        else:
            most = logs[0]
            for j in range(1, n_classes):
                most = max(most, logs[j])
            norm = 0.0
            for j in range(n_classes):
                logs[j] = 1.0 if logs[j] == most else np.exp(logs[j] - most)
                norm += logs[j]
            inverse = 1.0 / norm
            for j in range(n_classes):
                q[t, j] = logs[j] * inverse
            total += mass[t] * (most + np.log(norm))
        for j in range(n_classes):
            logs[j] = mass[t] * q[t, j]
        for i in range(start[t], start[t + 1]):
            k, c = who[i], said[i]
            for j in range(n_classes):
                counts[k, c, j] += logs[j]
    return total
