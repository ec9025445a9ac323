"""How correlated the errors of a panel are: moments, shrinkage, intervals that hold off the normal law."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theory._checks import check_choice, check_level, read_errors, read_groups
from theory._influence import correlation_influence, correlation_interval, correlation_se, standard_error
from theory._moments import (
    decayed_weight,
    kept,
    mean_correlations,
    missing_notes,
    moments_of,
    shrunk_matrix,
    standardise,
)
from theory._results import add_warnings, labelled, with_interval

if TYPE_CHECKING:
    import xarray

Floats = NDArray[np.float64]
Shrink = Literal["constant_correlation", "identity", "oas"] | float | None
Missing = Literal["raise", "abstain", "complete"]


@dataclass(frozen=True, eq=False)
class ErrorMatrix:
    """A (specialist, specialist) matrix of errors, with what is known about it.

    Attributes
    ----------
    value : ndarray of shape (n_specialists, n_specialists)
        The matrix itself.
    kind : str
        ``"second_moment"``, ``"covariance"`` or ``"correlation"``.
    names : tuple of str
        Names of the specialists.
    n : int
        Samples used.
    n_effective : float
        (sum w)^2 / sum w^2 under sample weights, else ``n``.
    n_pair : ndarray or None
        Samples that both specialists answered, when some answers are missing.
    mean : ndarray of shape (n_specialists,) or (n_specialists, n_outputs)
        Mean error (bias) of every specialist.
    variance : ndarray of shape (n_specialists,)
        Diagonal of the matrix before it was standardised.
    se, ci : ndarray or None
        Standard errors, and intervals (lower, upper) along the first axis; of the estimate without shrinkage.
    shrinkage : float
        Weight of the shrinkage target, 0 for none.
    rho_pooled : float
        Mean off-diagonal covariance over mean variance: the correlation that enters the variance of the
        mean exactly.
    rho_mean : float
        Mean of the pairwise correlations.
    rho_pooled_se, rho_mean_se : float or None
        Standard errors by influence functions.
    rho_pooled_ci, rho_mean_ci : ndarray of shape (2,) or None
        Their intervals.
    method : str
        How the matrix was made.
    exact : bool
        Always False: the matrix is estimated from samples.
    warnings : tuple of str
        What a reader should know before using the numbers.
    """

    value: Floats
    kind: str
    names: tuple[str, ...]
    n: int
    n_effective: float
    n_pair: NDArray[np.int64] | None
    mean: Floats
    variance: Floats
    se: Floats | None
    ci: Floats | None
    shrinkage: float
    rho_pooled: float
    rho_mean: float
    rho_pooled_se: float | None
    rho_mean_se: float | None
    rho_pooled_ci: Floats | None
    rho_mean_ci: Floats | None
    method: str
    exact: bool = False
    warnings: tuple[str, ...] = ()

    @property
    def mean_variance(self) -> float:
        """Mean of the diagonal before standardising."""
        return float(self.variance.mean())

    def to_xarray(self) -> xarray.Dataset:
        """Return a Dataset with the dims specialist and specialist_."""
        attrs = {
            "kind": self.kind,
            "method": self.method,
            "n": self.n,
            "shrinkage": self.shrinkage,
            "rho_pooled": self.rho_pooled,
            "rho_mean": self.rho_mean,
        }
        return labelled(
            {"value": self.value, "se": self.se, "ci": self.ci, "n_pair": self.n_pair}, self.names, attrs
        )

    def summary(self) -> str:
        """Return the main numbers as text."""
        lines = [
            f"error {self.kind.replace('_', ' ')} of {len(self.names)} specialists on {self.n} samples "
            f"({self.method})",
            f"mean correlation {with_interval(self.rho_mean, self.rho_mean_ci)}, "
            f"pooled {with_interval(self.rho_pooled, self.rho_pooled_ci)}, shrinkage {self.shrinkage:.3f}",
        ]
        return add_warnings(lines, self.warnings)


def error_covariance(
    errors: Any,
    *,
    kind: Literal["second_moment", "covariance"] = "second_moment",
    shrink: Shrink = None,
    sample_weight: ArrayLike | None = None,
    halflife: float | None = None,
    missing: Missing = "raise",
) -> ErrorMatrix:
    """Estimate the second moment or the covariance of the errors of a panel.

    The second moment E[ee'] has the bias inside, so the mean squared error of a weighted mean is
    w'Sw; the covariance S - bb' describes variance only. A bias that all specialists share vanishes
    from the covariance but not from the error.

    Parameters
    ----------
    errors : array-like, DataFrame or DataArray
        Shape (sample, specialist) or (sample, specialist, output), answer minus truth. Outputs are
        summed: C = sum of C_o.
    kind : {"second_moment", "covariance"}
        Which of the two matrices.
    shrink : {"constant_correlation", "identity", "oas"} or float, optional
        Target to shrink to. The two Ledoit-Wolf targets and OAS choose their own intensity; a float
        in [0, 1] is the intensity towards the constant-correlation target. None leaves the sample
        matrix.
    sample_weight : array-like of shape (sample,), optional
        Non-negative weights of samples.
    halflife : float, optional
        Samples after which the weight of a sample has halved, counted back from the last; samples then stand
        in order of time.
    missing : {"raise", "abstain", "complete"}
        What to do with NaN: refuse; use the samples that both specialists answered, with a repair
        to a positive semi-definite matrix; or use the samples that all answered.

    Returns
    -------
    ErrorMatrix
        ``value`` is float64 of shape (specialist, specialist), divided by n, not n - 1.

    Raises
    ------
    PanelError
        On non-finite errors, fewer than two usable samples, or bad options.

    Notes
    -----
    Answers missing because a sample is hard bias every entry; no estimator here repairs that.

    References
    ----------
    Ledoit and Wolf, *Honey, I shrunk the sample covariance matrix*, 2004 (constant correlation);
    Ledoit and Wolf, *A well-conditioned estimator*, 2004 (identity); Chen et al., 2010, eq. 23 (OAS).

    Examples
    --------
    >>> result = error_covariance([[1.0, 1.0], [-1.0, 1.0]])
    >>> result.value
    array([[1., 0.],
           [0., 1.]])
    >>> error_covariance([[1.0, 1.0], [-1.0, 1.0]], kind="covariance").value
    array([[1., 0.],
           [0., 0.]])
    """
    check_choice("kind", kind, ("second_moment", "covariance"))
    table = read_errors(errors, missing=missing)
    weight = decayed_weight(sample_weight, halflife, table)
    moments = moments_of(table, weight, center=kind == "covariance")
    value, shrinkage, notes = shrunk_matrix(moments, shrink)
    u2 = moments.fourth()
    se = np.sqrt(np.maximum(u2 - moments.matrix**2, 0.0) / moments.n_eff_pair)
    rho_pooled, rho_mean, more = mean_correlations(value)
    notes += missing_notes(table) + more
    return ErrorMatrix(
        value=value,
        kind=kind,
        names=table.names,
        n=table.n,
        n_effective=moments.n_eff,
        n_pair=moments.n_pair,
        mean=moments.mean[:, 0] if moments.mean.shape[1] == 1 else moments.mean,
        variance=value.diagonal().copy(),
        se=se,
        ci=None,
        shrinkage=shrinkage,
        rho_pooled=rho_pooled,
        rho_mean=rho_mean,
        rho_pooled_se=None,
        rho_mean_se=None,
        rho_pooled_ci=None,
        rho_mean_ci=None,
        method="sample" if shrink is None else f"shrink={shrink!r}",
        warnings=tuple(notes),
    )


def error_correlation(
    errors: Any,
    *,
    shrink: Shrink = None,
    ci: float = 0.95,
    groups: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    halflife: float | None = None,
    missing: Missing = "raise",
) -> ErrorMatrix:
    """Estimate the correlation of errors, with intervals that do not assume the normal law.

    Parameters
    ----------
    errors : array-like, DataFrame or DataArray
        Shape (sample, specialist) or (sample, specialist, output). With several outputs, errors are
        vectors and the correlation is that of their inner products.
    shrink : {"constant_correlation", "identity", "oas"} or float, optional
        Shrink the covariance first, as in `error_covariance`. Standard errors and intervals always
        describe the estimate without shrinkage, which alone is centred on the truth.
    ci : float
        Level of the intervals.
    groups : array-like of shape (sample,), optional
        Labels of samples that belong together (one document, one patient): influence is summed
        within groups before it is squared.
    sample_weight : array-like of shape (sample,), optional
        Non-negative weights of samples.
    halflife : float, optional
        Samples after which the weight of a sample has halved, counted back from the last; samples then stand
        in order of time.
    missing : {"raise", "abstain", "complete"}
        As in `error_covariance`.

    Returns
    -------
    ErrorMatrix
        ``value`` holds the correlations, ``variance`` the error variances; ``rho_pooled`` and
        ``rho_mean`` come with intervals.

    Raises
    ------
    PanelError
        On non-finite errors, fewer than three usable samples, or bad options.

    Notes
    -----
    With standardised errors z the influence of a sample on r is z_i z_j - r (z_i^2 + z_j^2) / 2; its
    standard deviation over sqrt(n) is the standard error, and the interval is
    tanh(atanh r -+ q SE / (1 - r^2)). Fisher's z, which assumes normal errors, covers 55 % instead
    of 95 % for two classifiers that err on 5 % of samples.

    A specialist whose errors never vary has correlation NaN, is left out of the means, and is named
    in ``warnings``. With missing answers the intervals assume that they are missing at random.

    References
    ----------
    Hampel, *The influence curve and its role in robust estimation*, 1974; Steiger and Hakstian, 1982.

    Examples
    --------
    >>> import numpy as np
    >>> e = np.random.default_rng(0).normal(size=(500, 3)) + np.random.default_rng(1).normal(size=(500, 1))
    >>> result = error_correlation(e)
    >>> bool(result.rho_mean_ci[0] < 0.5 < result.rho_mean_ci[1])
    True
    """
    quantile = check_level(ci)
    table = read_errors(errors, missing=missing, least=3)
    weight = decayed_weight(sample_weight, halflife, table)
    group = None if groups is None else read_groups(kept(groups, table), table.n)
    moments = moments_of(table, weight, center=True)
    shrunk, shrinkage, notes = shrunk_matrix(moments, shrink)
    raw = standardise(moments.matrix)
    value = raw if shrink is None else standardise(shrunk)
    variance = moments.matrix.diagonal().copy()
    flat = np.flatnonzero(np.isnan(raw.diagonal()))
    if len(flat):
        quoted = ", ".join(repr(table.names[i]) for i in flat)
        notes.append(f"zero variance: the errors of {quoted} never vary; their correlations are NaN")

    scale = np.sqrt(np.where(np.isnan(raw.diagonal()), np.inf, variance))
    z = moments.centred / scale[None, :, None]
    se = correlation_se(z, raw, table.answered, weight, group)
    se[np.isnan(raw)] = np.nan
    interval = correlation_interval(raw, se, quantile)
    np.einsum("bii->bi", interval)[:] = np.where(np.isnan(raw.diagonal()), np.nan, 1.0)

    psi_mean, psi_pooled = correlation_influence(
        z, raw, moments.centred, moments.matrix, table.answered, weight
    )
    rho_pooled, rho_mean, more = mean_correlations(shrunk)
    raw_pooled, raw_mean, _ = mean_correlations(moments.matrix)
    se_mean = standard_error(psi_mean, weight, group)
    se_pooled = standard_error(psi_pooled, weight, group)
    notes += missing_notes(table) + more
    return ErrorMatrix(
        value=value,
        kind="correlation",
        names=table.names,
        n=table.n,
        n_effective=moments.n_eff,
        n_pair=moments.n_pair,
        mean=moments.mean[:, 0] if moments.mean.shape[1] == 1 else moments.mean,
        variance=variance,
        se=se,
        ci=interval,
        shrinkage=shrinkage,
        rho_pooled=rho_pooled,
        rho_mean=rho_mean,
        rho_pooled_se=se_pooled,
        rho_mean_se=se_mean,
        rho_pooled_ci=correlation_interval(np.array(raw_pooled), np.array(se_pooled), quantile),
        rho_mean_ci=correlation_interval(np.array(raw_mean), np.array(se_mean), quantile),
        method="sample" if shrink is None else f"shrink={shrink!r}",
        warnings=tuple(notes),
    )
