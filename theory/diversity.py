"""How many independent specialists a panel is worth, and the ambiguity that averaging removes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theory._checks import (
    check_choice,
    check_level,
    is_matrix,
    read_errors,
    read_groups,
    read_matrix,
    read_weights,
)
from theory._exceptions import PanelError
from theory._influence import standard_error
from theory._moments import kept, mean_correlations, missing_notes, moments_of
from theory._results import add_warnings, with_interval
from theory.errors import panel_errors

Floats = NDArray[np.float64]
_KINDS = ("variance", "exchangeable", "participation", "entropy")


@dataclass(frozen=True, eq=False)
class EffectiveNumber:
    """How many uncorrelated specialists would do as well.

    Attributes
    ----------
    value : float
        The number of the kind that was asked for.
    se : float or None
        Standard error by influence function (kind ``"variance"`` from errors).
    ci : ndarray of shape (2,) or None
        Interval on the logarithmic scale.
    kind : str
        Which of the four numbers ``value`` is.
    all : dict of str to float
        All four.
    n : int or None
        Samples, None where a matrix came.
    exact : bool
        True for a matrix, False for an estimate from samples.
    warnings : tuple of str
        What a reader should know before using the number.
    """

    value: float
    se: float | None
    ci: Floats | None
    kind: str
    all: dict[str, float]
    n: int | None
    exact: bool
    warnings: tuple[str, ...] = ()

    def summary(self) -> str:
        """Return the number as text."""
        others = ", ".join(f"{kind} {number:.2f}" for kind, number in self.all.items() if kind != self.kind)
        return add_warnings(
            [f"effective number ({self.kind}) {with_interval(self.value, self.ci, 2)}; {others}"],
            self.warnings,
        )


def effective_number(
    source: Any,
    *,
    weights: ArrayLike | None = None,
    kind: Literal["variance", "exchangeable", "participation", "entropy"] = "variance",
    ci: float | None = 0.95,
    groups: ArrayLike | None = None,
    given: Literal["auto", "errors", "matrix"] = "auto",
    missing: Literal["raise", "abstain", "complete"] = "raise",
) -> EffectiveNumber:
    """Compute the effective number of specialists.

    Parameters
    ----------
    source : errors or matrix
        Errors (sample, specialist[, output]), centred here, or their (specialist, specialist)
        covariance.
    weights : array-like of shape (specialist,), optional
        Weights that sum to 1; equal by default. They enter ``"variance"`` only.
    kind : {"variance", "exchangeable", "participation", "entropy"}
        mean variance over the variance of the weighted mean; M / (1 + (M - 1) rho) with rho the mean
        correlation; (sum lambda)^2 / sum lambda^2 and exp of the entropy of lambda / sum lambda, over
        the eigenvalues of the covariance. The last two count directions, not what averaging gains.
    ci : float, optional
        Level of the interval; None for no interval.
    groups : array-like of shape (sample,), optional
        Labels of samples that belong together.
    given : {"auto", "errors", "matrix"}
        What a square ``source`` is.
    missing : {"raise", "abstain", "complete"}
        As in `error_correlation`; intervals need complete samples.

    Returns
    -------
    EffectiveNumber
        With a standard error and an interval when errors came and ``kind="variance"``.

    Raises
    ------
    PanelError
        If the source cannot be used, or nothing varies.

    Notes
    -----
    With centred errors e and N = vbar / V the influence of a sample is
    (mean_i e_i^2 - N (w'e)^2) / V. With missing answers no interval is given. The number exceeds M when
    errors cancel.

    Examples
    --------
    >>> effective_number([[1.0, 0.5], [0.5, 1.0]]).value
    1.3333333333333333
    """
    check_choice("kind", kind, _KINDS)
    quantile = 0.0 if ci is None else check_level(ci)
    if is_matrix(source, given):
        if groups is not None or missing != "raise":
            raise PanelError(
                "groups= and missing= need samples; a matrix came. Give errors (sample, specialist)."
            )
        matrix, _ = read_matrix(source)
        numbers = _numbers(matrix, read_weights(weights, len(matrix)))
        return EffectiveNumber(numbers[kind], None, None, kind, numbers, None, True)
    table = read_errors(source, missing=missing, least=3)
    w = read_weights(weights, table.values.shape[1])
    moments = moments_of(table, None, center=True)
    numbers = _numbers(moments.matrix, w)
    notes = missing_notes(table)
    se, interval = None, None
    if kind == "variance" and table.answered is None and ci is not None:
        e = moments.centred
        variance = float(w @ moments.matrix @ w)
        mean_square = np.einsum("nio,nio->n", e, e) / e.shape[1]
        fused = np.einsum("nio,i->no", e, w)
        psi = (mean_square - numbers[kind] * np.einsum("no,no->n", fused, fused)) / variance
        group = None if groups is None else read_groups(kept(groups, table), table.n)
        se = standard_error(psi, None, group)
        half = quantile * se / numbers[kind]
        interval = numbers[kind] * np.exp(np.array([-half, half]))
    elif kind == "variance" and ci is not None:
        notes.append("no interval: answers are missing (missing='complete' gives one)")
    return EffectiveNumber(numbers[kind], se, interval, kind, numbers, table.n, False, tuple(notes))


def _numbers(matrix: Floats, w: Floats) -> dict[str, float]:
    m = len(matrix)
    variance, trace = float(w @ matrix @ w), float(np.trace(matrix))
    if trace <= 0.0 or variance <= 1e-15 * trace:
        raise PanelError(
            f"the errors of the fused answer do not vary (variance {variance:.3g}): no effective number. "
            "Check that errors are answer minus truth."
        )
    rho = mean_correlations(matrix)[1] if m > 1 else 0.0
    # Unequal variances can cancel in the correlation matrix and not in the mean: then no number is large enough.
    left = 1.0 + (m - 1) * rho
    spectrum = np.maximum(np.linalg.eigvalsh(matrix), 0.0)
    share = spectrum[spectrum > 0] / spectrum.sum()
    return {
        "variance": trace / m / variance,
        "exchangeable": m / left if left > 1e-12 or np.isnan(rho) else float("inf"),
        "participation": float(1.0 / (share**2).sum()),
        "entropy": float(np.exp(-(share * np.log(share)).sum())),
    }


@dataclass(frozen=True, eq=False)
class Ambiguity:
    """Squared error of a weighted mean: the specialists' mean error minus their spread.

    Attributes
    ----------
    pool_loss, mean_loss, diversity : float
        Means over samples; pool_loss = mean_loss - diversity.
    per_sample : ndarray of shape (sample, 3)
        The three columns, sample by sample.
    identity_gap : float
        Largest violation of the identity over samples, 0 up to rounding.
    n : int
        Samples.
    """

    pool_loss: float
    mean_loss: float
    diversity: float
    per_sample: Floats
    identity_gap: float
    n: int

    def summary(self) -> str:
        """Return the decomposition as text."""
        return (
            f"squared error of the mean {self.pool_loss:.4g} = mean error of the specialists "
            f"{self.mean_loss:.4g} - diversity {self.diversity:.4g}"
        )


def ambiguity(panel: Any, y: ArrayLike, *, weights: ArrayLike | None = None) -> Ambiguity:
    """Split the squared error of a weighted mean into accuracy and diversity, sample by sample.

    (fbar - y)^2 = sum w_i (f_i - y)^2 - sum w_i (f_i - fbar)^2, summed over outputs.

    Parameters
    ----------
    panel : array-like, DataFrame or DataArray
        Numbers (sample, specialist) or (sample, specialist, output).
    y : array-like of shape (sample,) or (sample, output)
        The truth.
    weights : array-like of shape (specialist,), optional
        Convex weights (>= 0, sum 1); equal by default.

    Returns
    -------
    Ambiguity
        The three terms.

    Raises
    ------
    PanelError
        If weights are negative or do not sum to 1, or the panel and the truth do not fit.

    References
    ----------
    Krogh and Vedelsby, *Neural network ensembles, cross validation, and active learning*, 1995.

    Examples
    --------
    >>> result = ambiguity([[1.0, 3.0]], [1.0])
    >>> result.pool_loss, result.mean_loss, result.diversity
    (1.0, 2.0, 1.0)
    """
    values = read_errors(panel_errors(panel, y, kind="residual"), missing="raise", least=1).values
    w = read_weights(weights, values.shape[1])
    if (w < 0).any():
        raise PanelError(f"the decomposition needs weights >= 0; got {float(w.min()):.4g}.")
    fused = np.einsum("nio,i->no", values, w)
    pool = np.einsum("no,no->n", fused, fused)
    mean = np.einsum("nio,nio,i->n", values, values, w)
    apart = values - fused[:, None]
    spread = np.einsum("nio,nio,i->n", apart, apart, w)
    table = np.stack([pool, mean, spread], axis=1)
    gap = float(np.abs(pool - mean + spread).max())
    means = table.mean(axis=0)
    return Ambiguity(float(means[0]), float(means[1]), float(means[2]), table, gap, len(table))
