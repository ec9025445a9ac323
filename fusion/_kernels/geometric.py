"""Geometric medians of many small samples at once."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

# Samples handled together; measured against 32 and 128 on (11, 10) panels.
LANES = 64
# A row this near to a point, in squared distance, is at it.
LEAST_GAP = 1e-290
# Share of the weight from which a row may be the answer.
SUSPECT = 0.3
# Of 1 / sqrt(x): first guess by halving the exponent, at most 3.5 % off (Lomont 2003, Fast inverse square root),
# then Newton steps: .0018, 5e-6, 4e-11 and rounding. Division and square root take 40 cycles, this 9.
ROOT_GUESS = 0x5FE6EB50C7B537A9
ROOT_STEPS = 4
GEOMETRIC_WEIGHTS = "p3 w2 i2 x n f2 f1 b1"


def side_by_side(
    panel: NDArray[Any],
    first: int,
    samples: int,
    rows: NDArray[np.float64],
    fault: NDArray[np.float64],
    peak: NDArray[np.float64],
) -> None:
    """Give every sample a lane of `rows`; compiled code runs `steps`' version instead.

    `fault` becomes 0, or NaN where a number is not finite, `peak` the largest size. Idle lanes repeat the
    first sample.
    """
    lanes = len(fault)
    flat = panel.reshape(len(panel), -1)
    chosen = flat[[first + (k if k < samples else 0) for k in range(lanes)]].astype(np.float64)
    rows[:, :lanes] = chosen.T
    fault[:] = (chosen * 0.0).sum(axis=1)
    peak[:] = np.abs(chosen).max(axis=1)


def pulls(
    rows: NDArray[np.float64],
    point: NDArray[np.float64],
    mass: NDArray[np.float64],
    gaps: NDArray[np.float64],
    near: NDArray[np.float64],
    pull: NDArray[np.float64],
    total: NDArray[np.float64],
    held: NDArray[np.float64],
    active: NDArray[np.uint8],
) -> None:
    """Sum the rows over their distances from a point; compiled code runs `steps.pulls_of_lanes` instead.

    Writes squared distances to `gaps`, mass over distance to `near` and its sum to `total`, the mass of rows
    at the point to `held`, and the sum of near times row to `pull`.
    """
    n, d = near.shape[0], point.shape[0]
    total[:] = 0.0
    held[:] = 0.0
    pull[:] = 0.0
    for i in range(n):
        gap = np.zeros(total.shape)
        for o in range(d):
            move = rows[i * d + o, : len(total)] - point[o]
            gap += move * move
        gaps[i] = gap
        apart = gap > LEAST_GAP
        held += np.where(apart, 0.0, mass[i])
        near[i] = mass[i] * np.where(apart, _over_root(gap), 0.0)
        total += near[i]
        for o in range(d):
            pull[o] += near[i] * rows[i * d + o, : len(total)]


def _over_root(x: NDArray[np.float64]) -> NDArray[np.float64]:
    y: NDArray[np.float64] = (ROOT_GUESS - (x.view(np.int64) >> 1)).view(np.float64)
    for _ in range(ROOT_STEPS):
        y = y * (1.5 - ((0.5 * x) * y) * y)
    return y


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
    left = np.empty((d, lanes), np.float64)
    total = np.empty(lanes, np.float64)
    rest = np.empty(lanes, np.float64)
    gap = np.empty(lanes, np.float64)
    cross = np.empty(lanes, np.float64)
    length_before = np.empty(lanes, np.float64)
    held = np.empty(lanes, np.float64)
    stretch = np.empty(lanes, np.float64)
    rho = np.empty(lanes, np.float64)
    nearest = np.empty(lanes, np.int64)
    active = np.empty(lanes, np.uint8)
    suspect = np.empty(lanes, np.uint8)
    for first in range(0, n_samples, lanes):
        samples = min(lanes, n_samples - first)
        for k in range(lanes):
            # Idle lanes of the last block repeat its first sample: their arithmetic must stay harmless.
            shared = 0 if alpha.shape[0] == 1 else first + (k if k < samples else 0)
            for i in range(n):
                mass[i, k] = alpha[shared, i]
        side_by_side(panel, first, samples, rows, gap, total)
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
                gap[k] = (column[(n - 1) // 2, k] + column[n // 2, k]) / 2.0
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
            suspect[k] = 0
            nearest[k] = 0  # a lane whose distances are not numbers never sets it
        for i in range(n):
            for k in range(lanes):
                share[i, k] = 0.0

        step = 0
        visited = False
        while step < max_steps:
            running = 0
            for k in range(lanes):
                running += active[k]
            if running == 0:
                break
            # Once, the nearest row is looked at where it holds much of the weight: only there can a row be the
            # answer. That does not count as a step: other lanes must not notice.
            visit = False
            if step == 4 and not visited:
                for k in range(lanes):
                    visit = visit or suspect[k] == 1
                visited = True
            if visit:
                for o in range(d):
                    for k in range(lanes):
                        left[o, k] = point[o, k]
                        if suspect[k] == 1:
                            point[o, k] = rows[nearest[k] * d + o, k]
            pulls(rows, point, mass, column, near, pull, total, held, active)
            if step == 3:
                for k in range(lanes):
                    cross[k] = np.inf
                for i in range(n):
                    for k in range(lanes):
                        if column[i, k] < cross[k]:
                            cross[k] = column[i, k]
                            nearest[k] = i
                for k in range(lanes):
                    large = near[nearest[k], k] > SUSPECT * total[k]
                    suspect[k] = 1 if large and active[k] == 1 else 0
            for k in range(lanes):
                gap[k] = 0.0
                cross[k] = 0.0
                total[k] = total[k] if total[k] > 0.0 else 1.0
                rest[k] = 1.0 / total[k]
            for o in range(d):
                for k in range(lanes):
                    move = pull[o, k] * rest[k] - point[o, k]
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
                    if force <= tolerance or step == max_steps - 1:
                        active[k] = 0
                        for i in range(n):
                            share[i, k] = near[i, k] * rest[k]
                elif active[k] == 1 and step == max_steps - 1 and not visit:
                    rho[k] = np.inf  # ended at a row that is not the answer: Newton steps settle it
            if visit:
                for o in range(d):
                    for k in range(lanes):
                        point[o, k] = left[o, k]
                        before[o, k] = 0.0 if suspect[k] == 1 else before[o, k]
                for k in range(lanes):
                    length_before[k] = 0.0 if suspect[k] == 1 else length_before[k]
                    stretch[k] = 1.0 if suspect[k] == 1 else stretch[k]
                continue
            step += 1
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
