"""Geometric medians of many small samples at once."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

# Samples handled together; measured against 32 and 128 on (11, 10) panels.
LANES = 64
GEOMETRIC_WEIGHTS = "p3 w2 i2 x n f2 f1 b1"


def geometric_weights(
    panel: NDArray[Any],
    alpha: NDArray[np.float64],
    pairs: NDArray[np.int64],
    tolerance: float,
    max_steps: int,
    weights: NDArray[np.float64],
    residual: NDArray[np.float64],
    unclean: NDArray[np.uint8],
) -> None:
    """Weights of the geometric median by relaxed Vardi-Zhang steps from the coordinate median.

    A lane is frozen once converged, so that no sample depends on its neighbours in the block. What
    has a residual above the tolerance afterwards needs Newton steps. Marks samples as `krum_scores`
    does. `pairs` brings the middle of n values into place.
    """
    n_samples, n, d = panel.shape
    lanes = LANES
    # Eight more than used: a stride of 512 bytes would crowd a few sets of the cache.
    rows = np.empty((n * d, lanes + 8), np.float64)
    mass = np.empty((n, lanes), np.float64)
    share = np.empty((n, lanes), np.float64)
    near = np.empty((n, lanes), np.float64)
    column = np.empty((n, lanes), np.float64)
    point = np.empty((d, lanes), np.float64)
    pull = np.empty((d, lanes), np.float64)
    before = np.empty((d, lanes), np.float64)
    total = np.empty(lanes, np.float64)
    gap = np.empty(lanes, np.float64)
    cross = np.empty(lanes, np.float64)
    length_before = np.empty(lanes, np.float64)
    held = np.empty(lanes, np.float64)
    stretch = np.empty(lanes, np.float64)
    rho = np.empty(lanes, np.float64)
    nearest = np.empty(lanes, np.int64)
    active = np.empty(lanes, np.uint8)
    for first in range(0, n_samples, lanes):
        samples = min(lanes, n_samples - first)
        for k in range(lanes):
            # Idle lanes of the last block repeat its first sample: their arithmetic must stay harmless.
            s = first + (k if k < samples else 0)
            shared = 0 if alpha.shape[0] == 1 else s
            for i in range(n):
                mass[i, k] = alpha[shared, i]
                for o in range(d):
                    rows[i * d + o, k] = panel[s, i, o]
        for k in range(lanes):
            total[k] = 0.0
            gap[k] = 0.0
        for a in range(n * d):
            for k in range(lanes):
                size = abs(rows[a, k])
                total[k] = size if size > total[k] else total[k]
                gap[k] += size - size
        for k in range(samples):
            if gap[k] != 0.0 or total[k] > 1e140 or 0.0 < total[k] < 1e-120:
                unclean[first + k] = 1

        # About the coordinate median no honest row is large, whatever the others say.
        for o in range(d):
            for i in range(n):
                for k in range(lanes):
                    column[i, k] = rows[i * d + o, k]
            for pair in range(pairs.shape[0]):
                a = pairs[pair, 0]
                b = pairs[pair, 1]
                for k in range(lanes):
                    x = column[a, k]
                    y = column[b, k]
                    column[a, k] = x if x < y else y
                    column[b, k] = y if x < y else x
            for k in range(lanes):
                gap[k] = 0.5 * column[(n - 1) // 2, k] + 0.5 * column[n // 2, k]
            for i in range(n):
                for k in range(lanes):
                    rows[i * d + o, k] -= gap[k]
            for k in range(lanes):
                point[o, k] = 0.0
                before[o, k] = 0.0
        for k in range(lanes):
            active[k] = 1
            rho[k] = np.inf
            stretch[k] = 1.0
            length_before[k] = 0.0
            nearest[k] = 0  # a lane whose distances are not numbers never sets it
        for i in range(n):
            for k in range(lanes):
                share[i, k] = 0.0

        for step in range(max_steps):
            running = 0
            for k in range(lanes):
                running += active[k]
            if running == 0:
                break
            # The fifth step looks at the nearest row instead: only there can a row be the answer.
            visit = step == 4
            if visit:
                for o in range(d):
                    for k in range(lanes):
                        column[0, k] = point[o, k]
                        point[o, k] = rows[nearest[k] * d + o, k]
                        before[o, k] = column[0, k] if active[k] == 1 else before[o, k]
            for k in range(lanes):
                total[k] = 0.0
                held[k] = 0.0
                cross[k] = np.inf
            for o in range(d):
                for k in range(lanes):
                    pull[o, k] = 0.0
            for i in range(n):
                for k in range(lanes):
                    gap[k] = 0.0
                for o in range(d):
                    for k in range(lanes):
                        move = rows[i * d + o, k] - point[o, k]
                        gap[k] += move * move
                if step == 3:
                    for k in range(lanes):
                        if gap[k] < cross[k]:
                            cross[k] = gap[k]
                            nearest[k] = i
                for k in range(lanes):
                    apart = gap[k] if gap[k] > 0.0 else np.inf
                    held[k] += 0.0 if gap[k] > 0.0 else mass[i, k]
                    near[i, k] = mass[i, k] / np.sqrt(apart)
                    total[k] += near[i, k]
                for o in range(d):
                    for k in range(lanes):
                        pull[o, k] += near[i, k] * rows[i * d + o, k]
            for k in range(lanes):
                gap[k] = 0.0
                cross[k] = 0.0
                total[k] = total[k] if total[k] > 0.0 else 1.0
            for o in range(d):
                for k in range(lanes):
                    move = pull[o, k] / total[k] - point[o, k]
                    pull[o, k] = move
                    gap[k] += move * move
                    cross[k] += move * before[o, k]
            for k in range(lanes):
                force = total[k] * np.sqrt(gap[k])
                if active[k] == 1 and held[k] > 0.0 and force <= held[k] + tolerance:
                    # The rows at this point outweigh the pull of all others: it is the answer.
                    rho[k] = 0.0
                    active[k] = 0
                    for i in range(n):
                        share[i, k] = 0.0 if near[i, k] > 0.0 else mass[i, k] / held[k]
                elif active[k] == 1 and held[k] == 0.0 and not visit:
                    rho[k] = force
                    for i in range(n):
                        share[i, k] = near[i, k] / total[k]
                    if force <= tolerance:
                        active[k] = 0
            if visit:
                for o in range(d):
                    for k in range(lanes):
                        point[o, k] = before[o, k]
                        before[o, k] = 0.0
                for k in range(lanes):
                    length_before[k] = 0.0
                    stretch[k] = 1.0
                continue
            # Barzilai-Borwein relaxation; any factor in (0, 2) lowers the objective.
            for k in range(lanes):
                gain = length_before[k] - cross[k]
                factor = stretch[k] * length_before[k] / gain if gain > 0.0 else 1.0
                factor = 1.0 if factor < 1.0 else factor
                factor = 1.8 if factor > 1.8 else factor
                force = total[k] * np.sqrt(gap[k])
                # Off a row that is not the answer, by Vardi and Zhang's shortened step.
                factor = factor if held[k] == 0.0 else max(0.0, 1.0 - held[k] / max(force, held[k]))
                stretch[k] = factor
                length_before[k] = gap[k]
            for o in range(d):
                for k in range(lanes):
                    before[o, k] = pull[o, k]
                    point[o, k] += stretch[k] * pull[o, k]
        for k in range(samples):
            residual[first + k] = rho[k]
            for i in range(n):
                weights[first + k, i] = share[i, k]
