"""Quadratic programme of fusion weights: minimise w'Cw, sum w = 1, 0 <= w <= cap, by an active set."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from theory._exceptions import PanelError

Floats = NDArray[np.float64]
_FREE, _LOWER, _UPPER = 0, -1, 1


def simplex_weights(matrix: Floats, cap: float) -> Floats:
    """Solve the programme exactly up to rounding.

    A primal active set: minimise over the free weights, stop at the first bound met, release the
    bound whose multiplier has the wrong sign. It ends after finitely many steps because w'Cw falls.
    """
    m = len(matrix)
    scale = max(float(matrix.diagonal().max()), np.finfo(float).tiny)
    c = matrix / scale
    w = np.full(m, 1.0 / m)
    state = np.full(m, _FREE)
    if cap * m <= 1.0 + 1e-12:
        return w
    for _ in range(100 * m + 100):
        free = np.flatnonzero(state == _FREE)
        gradient = c @ w
        step = _step(c, gradient, free)
        if len(free) and np.abs(step).max() > 1e-13:
            length, blocked = _longest(w, step, free, cap)
            w[free] += length * step
            if blocked is not None:
                at = free[blocked]
                state[at] = _LOWER if step[blocked] < 0 else _UPPER
                w[at] = 0.0 if step[blocked] < 0 else cap
                continue
            gradient = c @ w
        released = _release(gradient, state, free)
        if not len(released):
            break
        state[released] = _FREE
    else:
        raise PanelError("the weights did not settle: the matrix is too ill-conditioned. Shrink it first.")
    w[free] += (1.0 - w.sum()) / max(len(free), 1)
    return w


def _step(c: Floats, gradient: Floats, free: NDArray[np.int64]) -> Floats:
    """Newton step over the free weights that keeps their sum."""
    k = len(free)
    if k < 2:
        return np.zeros(k)
    kkt = np.ones((k + 1, k + 1))
    kkt[:k, :k] = c[np.ix_(free, free)]
    kkt[k, k] = 0.0
    rhs = np.append(-gradient[free], 0.0)
    try:
        solution = np.linalg.solve(kkt, rhs)
        if np.isfinite(solution).all() and np.abs(kkt @ solution - rhs).max() < 1e-10:
            return np.asarray(solution[:k])
    except np.linalg.LinAlgError:
        pass
    # Exact copies make the system singular but consistent: the shortest solution treats copies alike.
    return np.asarray(np.linalg.lstsq(kkt, rhs, rcond=None)[0][:k])


def _longest(w: Floats, step: Floats, free: NDArray[np.int64], cap: float) -> tuple[float, int | None]:
    with np.errstate(divide="ignore", invalid="ignore"):
        room = np.where(step < 0, -w[free] / step, np.where(step > 0, (cap - w[free]) / step, np.inf))
    room = np.where(np.abs(step) < 1e-300, np.inf, np.maximum(room, 0.0))
    first = int(np.argmin(room))
    if room[first] < 1.0:
        return float(room[first]), first
    return 1.0, None


def _release(gradient: Floats, state: NDArray[np.int64], free: NDArray[np.int64]) -> NDArray[np.int64]:
    lower, upper = np.flatnonzero(state == _LOWER), np.flatnonzero(state == _UPPER)
    if len(free):
        level = float(gradient[free].mean())
        gain = np.full(len(state), -np.inf)
        gain[lower] = level - gradient[lower]
        gain[upper] = gradient[upper] - level
        worst = int(np.argmax(gain))
        return np.array([worst]) if gain[worst] > 1e-12 else np.array([], dtype=np.int64)
    if not len(lower) or not len(upper):
        return np.array([], dtype=np.int64)
    down, up = upper[int(np.argmax(gradient[upper]))], lower[int(np.argmin(gradient[lower]))]
    return np.array([down, up]) if gradient[down] - gradient[up] > 1e-12 else np.array([], dtype=np.int64)


def kkt_residual(matrix: Floats, w: Floats, cap: float) -> float:
    """Largest violation of the optimality conditions, relative to w'Cw.

    Where the minimum is 0 (fewer directions than specialists), rounding would be all there is to divide
    by: then relative to a share of the mean variance.
    """
    gradient = matrix @ w
    variance = float(w @ gradient)
    free = (w > 1e-12) & (w < cap - 1e-12)
    at_cap = w >= cap - 1e-12
    level = float(gradient[free].mean()) if free.any() else float(gradient[at_cap].max(initial=variance))
    violation = np.where(free, np.abs(gradient - level), np.maximum(level - gradient, 0.0))
    violation = np.where(at_cap & ~free, np.maximum(gradient - level, 0.0), violation)
    feasible = max(abs(float(w.sum()) - 1.0), float(np.maximum(-w, w - cap).max()), 0.0)
    least = max(1e-6 * float(np.trace(matrix)) / len(matrix), float(np.finfo(float).tiny))
    return max(float(violation.max()) / max(variance, least), feasible)
