"""Overlaps of pairs of classes, combined into bounds; and the calibration of posteriors."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def combine_pairs(overlap: Floats, prior: Floats) -> tuple[float, float]:
    """Combine the overlaps sqrt(pi_i pi_j) BC_ij of all pairs into an upper and a lower bound.

    Parameters
    ----------
    overlap : ndarray of shape (class, class)
        Overlaps; the diagonal is not used.
    prior : ndarray of shape (class,)
        Class probabilities.

    Returns
    -------
    upper, lower : float
        Sum over pairs, and (2 / K) sum over pairs of the two-class lower bounds.
    """
    k = len(prior)
    i, j = np.triu_indices(k, 1)
    both = prior[i] + prior[j]
    inside = np.sqrt(np.maximum(both**2 - 4.0 * overlap[i, j] ** 2, 0.0))
    return float(overlap[i, j].sum()), float((both - inside).sum()) / k


def best_exponent(
    exponent: Callable[[int, int, float], float], a: int, b: int, prior: Floats
) -> tuple[float, float]:
    """Minimise the Chernoff bound of two classes over its exponent.

    Parameters
    ----------
    exponent : callable
        (a, b, t) to minus the log of the integral of p_a^(1-t) p_b^t.
    a, b : int
        The classes.
    prior : ndarray of shape (class,)
        Their positive weights; equal ones give the Chernoff information.

    Returns
    -------
    t, log_bound : float
        The best exponent, and the log of pi_a^(1-t) pi_b^t times the integral there.
    """
    from scipy.optimize import minimize_scalar

    weights = np.log(prior)

    def log_bound(t: float) -> float:
        return float((1.0 - t) * weights[a] + t * weights[b]) - exponent(a, b, t)

    # Log-convex in t, so a bounded scalar search finds the minimum. Classes that never overlap have
    # -inf everywhere, which the search cannot compare.
    middle = log_bound(0.5)
    if not np.isfinite(middle):
        return 0.5, middle
    found = minimize_scalar(log_bound, bounds=(1e-9, 1.0 - 1e-9), method="bounded", options={"xatol": 1e-9})
    at = float(found.x)
    return (at, log_bound(at)) if log_bound(at) <= middle else (0.5, middle)


def bound_of_value(theta: Floats, prior: Floats) -> float:
    """Bhattacharyya upper bound of independent answer tables, clipped at the best prior.

    Parameters
    ----------
    theta : ndarray of shape (specialist, class, answer)
        Probabilities of answers given the class.
    prior : ndarray of shape (class,)
        Class probabilities.

    Returns
    -------
    float
        The bound.
    """
    root = np.sqrt(theta)
    pairs = np.prod(np.einsum("mal,mbl->mab", root, root), axis=0)
    upper, _ = combine_pairs(pairs * np.sqrt(prior[:, None] * prior[None, :]), prior)
    return min(upper, 1.0 - float(prior.max()))


def calibration_error(eta: Floats, codes: NDArray[np.int64], bins: int = 15) -> float:
    """Compute the expected calibration error of the top class over equal-width bins."""
    top, right = eta.max(axis=1), eta.argmax(axis=1) == codes
    at = np.minimum((top * bins).astype(int), bins - 1)
    gap = np.bincount(at, weights=top - right, minlength=bins)
    return float(np.abs(gap).sum() / len(top))
