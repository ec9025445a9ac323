"""How accurate specialists are when nobody knows the truth: what their agreement says, and when it does not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from theory._exceptions import PanelError
from theory._results import add_warnings, labelled
from theory.labels import as_labels

if TYPE_CHECKING:
    import xarray

Floats = NDArray[np.float64]
# The largest gap over so many standard errors: below it in 99 of 100 panels that satisfy the assumption.
_MISFIT = 5.0
# Estimates so far outside [0, 1] are worth a warning; sampling error alone leaves it by less.
_OUTSIDE = 0.05


@dataclass(frozen=True, eq=False)
class LabelFreeAccuracy:
    """Balanced accuracies estimated from agreement alone.

    Attributes
    ----------
    value : ndarray of shape (n_specialists,)
        Balanced accuracies, the mean of the two rates of being right; may leave [0, 1] by sampling error.
    se : ndarray of shape (n_specialists,)
        Bootstrap standard errors. They do not cover a broken assumption.
    loading : ndarray of shape (n_specialists,)
        v with covariance v_i v_j off the diagonal: sqrt(1 - b^2) (2 value - 1). Its order ranks the specialists
        without ``mean_truth``.
    mean_truth : float
        b, the mean of the truth coded -1, +1: given, or estimated from third moments.
    misfit : float
        Largest gap between a covariance and v_i v_j, in standard errors.
    names : tuple of str
        Names of the specialists.
    n : int
        Samples.
    warnings : tuple of str
        Always says what was assumed.
    """

    value: Floats
    se: Floats
    loading: Floats
    mean_truth: float
    misfit: float
    names: tuple[str, ...]
    n: int
    warnings: tuple[str, ...] = ()

    def to_xarray(self) -> xarray.Dataset:
        """Return a Dataset over specialist."""
        variables = {"value": self.value, "standard_error": self.se, "loading": self.loading}
        return labelled(variables, self.names, {"mean_truth": self.mean_truth, "misfit": self.misfit})

    def summary(self) -> str:
        """Return the estimates as text, best first."""
        lines = [
            f"balanced accuracies without labels, {self.n} samples, mean truth {self.mean_truth:+.3f}, "
            f"largest misfit {self.misfit:.1f} standard errors"
        ]
        lines += [
            f"  {self.names[i]}  {self.value[i]:.3f} +- {self.se[i]:.3f}"
            for i in np.argsort(-self.loading, kind="stable")
        ]
        return add_warnings(lines, self.warnings)


def accuracy_without_labels(
    votes: Any, *, mean_truth: float | None = None, n_bootstrap: int = 100, seed: int = 0
) -> LabelFreeAccuracy:
    """Estimate balanced accuracies from how yes-no answers agree, without any truth.

    **It assumes what the rest of this package measures and doubts: that specialists are conditionally independent
    given the truth.** Specialists who share mistakes agree, and agreement is read as accuracy.

    Parameters
    ----------
    votes : array-like, DataFrame or DataArray of shape (sample, specialist)
        Codes 0 and 1, no abstentions; at least three specialists.
    mean_truth : float, optional
        b in (-1, 1), share of ones minus share of zeros in the truth. Default: estimated from third
        moments, which needs many samples; 0 stands for balanced classes.
    n_bootstrap : int
        Draws for the standard errors, at least 2.
    seed : int
        Seed of the draws.

    Returns
    -------
    LabelFreeAccuracy
        Estimates, a measure of misfit, and a warning that is always there.

    Raises
    ------
    PanelError
        On fewer than three specialists, other codes, or answers that never vary.

    Notes
    -----
    With votes coded -1, +1 the covariance of two conditionally independent specialists is
    (1 - b^2) (2 pi_i - 1) (2 pi_j - 1): rank one off the diagonal, fitted here by least squares over the pairs,
    one coordinate at a time. Third central moments are -2 b / sqrt(1 - b^2) times v_i v_j v_k. The sign is fixed by
    taking most specialists to be better than chance. ``misfit`` finds some violations, but not a mistake
    that all share.

    References
    ----------
    Parisi, Strino, Nadler and Kluger, *Ranking and combining multiple predictors without labeled data*, PNAS,
    2014 (rank one); Jaffe, Nadler and Kluger, *Estimating the accuracies of multiple classifiers without labeled
    data*, 2015 (third moments).

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> truth = rng.random(20_000) < 0.5
    >>> right = rng.random((20_000, 4)) < [0.9, 0.8, 0.7, 0.6]
    >>> found = accuracy_without_labels(np.where(right, truth[:, None], ~truth[:, None]).astype(int), mean_truth=0.0)
    >>> bool(np.abs(found.value - [0.9, 0.8, 0.7, 0.6]).max() < 0.02)
    True
    """
    codes, names = as_labels(votes)
    if codes.ndim != 2 or codes.shape[1] < 3 or len(codes) < 4:
        raise PanelError(
            "three or more specialists and four or more samples are needed: two specialists who agree may both be "
            f"right or both be wrong. Got shape {codes.shape}."
        )
    if ((codes != 0) & (codes != 1)).any():
        raise PanelError(
            "votes must be codes 0 and 1, without abstentions. Leave out specialists or samples with missing votes, "
            "and code one class against the rest."
        )
    if mean_truth is not None and not -1.0 < mean_truth < 1.0:
        raise PanelError(f"mean_truth lies strictly between -1 and 1; got {mean_truth!r}.")
    if not isinstance(n_bootstrap, int | np.integer) or n_bootstrap < 2:
        raise PanelError(f"n_bootstrap is a whole number >= 2; got {n_bootstrap!r}.")
    flat = np.flatnonzero(np.ptp(codes, axis=0) == 0)
    if len(flat):
        raise PanelError(
            f"the votes of {names[flat[0]]!r} never vary, and agreement with a constant says nothing. Drop it."
        )
    # Few patterns of votes stand for many samples: everything below goes through patterns and their shares.
    n = len(codes)
    patterns, counts = np.unique(codes, axis=0, return_counts=True)
    f, share = 2.0 * patterns.astype(np.float64) - 1.0, counts / n
    value, loading, b = _estimate(f, share, mean_truth)
    rng = np.random.default_rng(seed)
    draws = [_estimate(f, rng.multinomial(n, share) / n, mean_truth)[0] for _ in range(n_bootstrap)]
    se = np.std(draws, axis=0, ddof=1)
    centred = f - share @ f
    covariance = centred.T @ (centred * share[:, None])
    fourth = (centred**2).T @ (centred**2 * share[:, None])
    spread = np.sqrt(np.maximum(fourth - covariance**2, 1e-300) / n)
    gap = np.abs(covariance - np.outer(loading, loading)) / spread
    np.fill_diagonal(gap, 0.0)
    misfit = float(gap.max())
    warnings: tuple[str, ...] = (
        "conditional independence given the truth is assumed; mistakes that specialists share count as accuracy",
    )
    if misfit > _MISFIT:
        i, j = np.unravel_index(int(gap.argmax()), gap.shape)
        warnings += (
            f"the assumption does not hold: {names[int(i)]!r} and {names[int(j)]!r} agree {misfit:.0f} standard errors "
            "away from what it allows",
        )
    outside = np.maximum(-value, value - 1.0)
    if outside.max() > _OUTSIDE:
        worst = int(outside.argmax())
        warnings += (
            f"{names[worst]!r} is estimated at {value[worst]:.3g}, which no accuracy can be: too few samples, or too few "
            "specialists that agree more than by chance",
        )
    return LabelFreeAccuracy(value, se, loading, b, misfit, names, n, warnings)


def _estimate(f: Floats, w: Floats, mean_truth: float | None) -> tuple[Floats, Floats, float]:
    centred = f - w @ f
    covariance = centred.T @ (centred * w[:, None])
    v = _rank_one(covariance)
    b = _mean_truth(centred, w, v) if mean_truth is None else float(mean_truth)
    return 0.5 + v / (2.0 * np.sqrt(1.0 - b**2)), v, b


def _rank_one(covariance: Floats) -> Floats:
    """Fit v v' to the off-diagonal entries by least squares, one coordinate at a time."""
    off = covariance.copy()
    np.fill_diagonal(off, 0.0)
    v = np.linalg.eigh(off)[1][:, -1] * np.sqrt(max(float(np.linalg.eigvalsh(off)[-1]), 1e-12))
    for _ in range(1000):
        before = v.copy()
        square = float(v @ v)
        for i in range(len(v)):
            left = square - v[i] ** 2
            new = float(off[i] @ v) / left if left > 1e-15 else 0.0
            square = left + new**2
            v[i] = new
        if np.abs(v - before).max() <= 1e-12 * max(float(np.abs(v).max()), 1e-12):
            break
    return np.asarray(v if v.sum() >= 0 else -v)


def _mean_truth(centred: Floats, w: Floats, v: Floats) -> float:
    """Regress third central moments of distinct triples on v_i v_j v_k; the slope is -2 b / sqrt(1 - b^2)."""

    def triples(x: Floats, y: Floats, z: Floats) -> Floats:
        # Sum over i < j < k of x_i x_j x_k from power sums: (p1^3 - 3 p1 p2 + 2 p3) / 6.
        return np.asarray((x**3 - 3.0 * x * y + 2.0 * z) / 6.0)

    weighted = centred * v
    sums = triples(weighted.sum(axis=1), (weighted**2).sum(axis=1), (weighted**3).sum(axis=1))
    square = v**2
    below = float(triples(square.sum(), (square**2).sum(), (square**3).sum()))
    if below <= 1e-15:
        return 0.0
    slope = float(w @ sums) / below
    return float(np.clip(-slope / np.sqrt(4.0 + slope**2), -0.999, 0.999))
