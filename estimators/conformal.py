"""Intervals and sets of answers that hold the truth with a stated frequency."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from theory import PanelError

_LEAST = 1e-12  # of the mean squared error: the smallest predicted one


def conformal_quantile(scores: Any, alpha: float, *, sample_weight: Any = None) -> float:
    """Give the score that a new one exceeds with probability alpha at most.

    Parameters
    ----------
    scores : array-like of shape (sample,)
        How far off the answer was, on samples that nothing was fitted on.
    alpha : float
        Between 0 and 1.
    sample_weight : array-like of shape (sample,), optional
        Counts of the samples.

    Returns
    -------
    float
        The ceil((n + 1)(1 - alpha))-th smallest score; infinite if n is too small for alpha.

    Raises
    ------
    PanelError
        If alpha is not between 0 and 1, or scores and weights do not fit or hold NaN.

    Notes
    -----
    With exchangeable samples the coverage is at least 1 - alpha. Scores of specialists that are refitted
    on all samples afterwards are only nearly so; with ``cv="prefit"`` and fresh samples they are.

    References
    ----------
    .. [1] Angelopoulos & Bates, A gentle introduction to conformal prediction, 2021, section 1.

    Examples
    --------
    >>> conformal_quantile([0.1, 0.2, 0.3, 0.4], 0.4)
    0.3
    >>> conformal_quantile([0.1, 0.2, 0.3, 0.4], 0.1)
    inf
    """
    if not (np.isscalar(alpha) and 0.0 < float(alpha) < 1.0):
        raise PanelError(f"alpha must be between 0 and 1; got {alpha!r}.")
    values = np.asarray(scores, dtype=np.float64)
    weight = np.ones(len(values)) if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
    if values.ndim != 1 or weight.shape != values.shape or np.isnan(values).any():
        raise PanelError(
            f"scores must be one number per sample, none of them NaN; got {values.shape}, weights {weight.shape}."
        )
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weight[order])
    count = float(reached[-1]) if len(reached) else 0.0
    # 1e-9: (n + 1)(1 - alpha) is often whole but for rounding
    rank = np.ceil((count + 1.0) * (1.0 - float(alpha)) - 1e-9)
    if rank > count:
        return float("inf")
    return float(values[order[np.searchsorted(reached, rank - 1e-9)]])


@dataclass(frozen=True, eq=False)
class ResidualScale:
    """Predicted size of the error of a fused number: s^2 = a + b D, D the specialists' disagreement.

    Attributes
    ----------
    a, b : ndarray of shape (output,)
        Not negative.
    scores : ndarray of shape (sample, output)
        |error| / s on unseen samples.
    sample_weight : ndarray of shape (sample,), or None
        Counts of these samples.
    least : ndarray of shape (output,)
        Smallest predicted squared error.
    """

    a: NDArray[np.float64]
    b: NDArray[np.float64]
    scores: NDArray[np.float64]
    sample_weight: NDArray[np.float64] | None
    least: NDArray[np.float64]

    def variance(self, spread: NDArray[np.float64]) -> NDArray[np.float64]:
        """Predict the squared error from the disagreement, both of shape (sample, output)."""
        return np.asarray(np.maximum(self.a + self.b * spread, self.least))

    def q(self, alpha: float) -> NDArray[np.float64]:
        """Give the factor on s that makes intervals of coverage 1 - alpha, of shape (output,)."""
        return np.array(
            [conformal_quantile(column, alpha, sample_weight=self.sample_weight) for column in self.scores.T]
        )


def fit_residual_scale(
    errors: NDArray[np.float64], spread: NDArray[np.float64], *, sample_weight: Any = None
) -> ResidualScale:
    """Learn how the squared error of the fused answer grows with the disagreement.

    Parameters
    ----------
    errors : ndarray of shape (sample, output)
        Fused answer minus truth, on samples that nothing was fitted on.
    spread : ndarray of shape (sample, output)
        Their disagreement D, as :func:`estimators.result.number_spread` gives it.
    sample_weight : array-like of shape (sample,), optional
        Counts of the samples.

    Returns
    -------
    ResidualScale

    Notes
    -----
    a and b by non-negative least squares of the squared errors on (1, D). D alone, divided by M - 1 as if
    specialists erred independently, covered .82, .59, .33, .13 of a nominal .90 at error correlations
    0, .3, .7, .95 with five specialists.
    """
    from scipy.optimize import nnls

    weight = np.ones(len(errors)) if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
    root = np.sqrt(weight)
    found = []
    for error, apart in zip(errors.T, spread.T, strict=True):
        unit = float(np.average(error**2, weights=weight)) or 1.0
        reach = float(np.average(apart, weights=weight)) or 1.0
        table = np.column_stack([np.ones(len(error)), apart / reach]) * root[:, None]
        (a, b), _ = nnls(table, root * error**2 / unit)
        found.append((a * unit, b * unit / reach, _LEAST * unit))
    a, b, least = np.array(found).T
    plain = ResidualScale(a, b, np.zeros((0, len(a))), None, least)
    scores = np.abs(errors) / np.sqrt(plain.variance(spread))
    return ResidualScale(a, b, scores, None if sample_weight is None else weight, least)


def class_scores(proba: NDArray[np.float64], codes: NDArray[Any]) -> NDArray[np.float64]:
    """Score unseen samples by 1 minus the probability of the truth."""
    return np.asarray(1.0 - proba[np.arange(len(codes)), codes])


def sets_at(proba: NDArray[np.float64], q: float) -> NDArray[np.bool_]:
    """List the classes whose score reaches at most q; never none of them.

    Parameters
    ----------
    proba : ndarray of shape (sample, output)
        Fused probabilities.
    q : float
        From :func:`conformal_quantile` of :func:`class_scores`.

    Returns
    -------
    ndarray of bool, shape (sample, output)
        The most probable class is always in it.
    """
    sets = 1.0 - proba <= q
    sets[np.arange(len(proba)), proba.argmax(axis=1)] = True
    return np.asarray(sets)
