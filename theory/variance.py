"""The variance argument: what correlated errors leave of the gain from averaging."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theory._checks import read_matrix, read_weights, refuse_correlation
from theory._exceptions import PanelError
from theory._moments import mean_correlations
from theory._results import add_warnings, labelled

if TYPE_CHECKING:
    import xarray

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class VarianceReport:
    """The variance of a weighted mean of specialists, and where it comes from.

    Attributes
    ----------
    value : float
        V = w'Cw. From a second moment it is the mean squared error.
    mean_variance : float
        vbar, the mean of the diagonal of C.
    rho_pooled : float
        Mean off-diagonal covariance over vbar; NaN for one specialist.
    rho_mean : float
        Mean of the pairwise correlations; it misstates V where variances differ.
    limit : float
        vbar rho_pooled: what is left when the panel grows without end at this correlation.
    independent : float
        The variance if the same specialists were uncorrelated, sum w_i^2 C_ii.
    ratio : float
        value / independent; near 1 + (M - 1) rho for equal weights.
    n_specialists : int
        M.
    weights : ndarray of shape (n_specialists,)
        w.
    beta : ndarray of shape (n_specialists,)
        (Cw)_i / V: more weight on i lowers the variance if and only if beta_i < 1.
    identity_gap : float
        V - vbar (1/M + (1 - 1/M) rho_pooled), 0 up to rounding; NaN for unequal weights.
    names : tuple of str
        Names of the specialists.
    warnings : tuple of str
        What a reader should know before using the numbers.
    """

    value: float
    mean_variance: float
    rho_pooled: float
    rho_mean: float
    limit: float
    independent: float
    ratio: float
    n_specialists: int
    weights: Floats
    beta: Floats
    identity_gap: float
    names: tuple[str, ...]
    warnings: tuple[str, ...] = ()

    def to_xarray(self) -> xarray.Dataset:
        """Return a Dataset over specialist with the report's numbers as attrs."""
        numbers = ("value", "mean_variance", "rho_pooled", "rho_mean", "limit", "independent", "ratio")
        attrs = {key: getattr(self, key) for key in numbers}
        return labelled({"weight": self.weights, "beta": self.beta}, self.names, attrs)

    def summary(self) -> str:
        """Return the report as text."""
        lines = [
            f"{self.n_specialists} specialists of mean variance {self.mean_variance:.4g}: the mean has "
            f"{self.value:.4g}, {self.ratio:.2f} times the independent case",
            f"pooled correlation {self.rho_pooled:.3f}, limit for endless panels {self.limit:.4g}",
        ]
        return add_warnings(lines, self.warnings)


def ensemble_variance(matrix: Any, *, weights: ArrayLike | None = None) -> VarianceReport:
    """Compute the variance of the weighted mean of specialists.

    For equal weights V = vbar (1/M + (1 - 1/M) rho_pooled), an identity and not an approximation: the
    first term falls with M, the second does not.

    Parameters
    ----------
    matrix : ErrorMatrix, array-like or DataArray of shape (specialist, specialist)
        Covariance (variance) or second moment (mean squared error) of errors.
    weights : array-like of shape (specialist,), optional
        Weights that sum to 1; equal by default.

    Returns
    -------
    VarianceReport
        The variance, its parts, and every specialist's beta.

    Raises
    ------
    PanelError
        If the matrix is not symmetric positive semi-definite, or the weights do not sum to 1.

    References
    ----------
    Ueda and Nakano, *Generalization error of ensemble estimators*, 1996.

    Examples
    --------
    >>> report = ensemble_variance([[1.0, 0.5], [0.5, 1.0]])
    >>> report.value, report.rho_pooled, report.ratio
    (0.75, 0.5, 1.5)
    """
    values, names = read_matrix(matrix)
    w = read_weights(weights, len(values))
    m = len(values)
    total = float(w @ values @ w)
    vbar = float(np.trace(values)) / m
    pooled, mean, notes = mean_correlations(values)
    if getattr(matrix, "kind", None) == "correlation":
        notes.append("from a correlation: these are variances of errors scaled to variance 1")
    independent = float(w**2 @ values.diagonal())
    uniform = bool(np.allclose(w, 1.0 / m, rtol=0, atol=1e-15))
    expected = vbar / m if m == 1 else vbar * (1.0 / m + (1.0 - 1.0 / m) * (pooled if vbar > 0 else 0.0))
    return VarianceReport(
        value=total,
        mean_variance=vbar,
        rho_pooled=pooled,
        rho_mean=mean,
        limit=vbar * pooled,
        independent=independent,
        ratio=total / independent if independent > 0 else float("nan"),
        n_specialists=m,
        weights=w,
        beta=_beta(values, w),
        identity_gap=total - expected if uniform else float("nan"),
        names=names,
        warnings=tuple(notes),
    )


def variance_curve(mean_variance: ArrayLike, rho: ArrayLike, n_specialists: ArrayLike) -> Floats:
    """Compute the variance of the mean of M specialists, vbar (1/M + (1 - 1/M) rho).

    Parameters
    ----------
    mean_variance : array-like
        vbar >= 0.
    rho : array-like
        Pooled error correlation, at least -1/(M - 1).
    n_specialists : array-like of int
        M >= 1; the three arguments broadcast.

    Returns
    -------
    ndarray of float64
        The variances.

    Raises
    ------
    PanelError
        If a panel of that size cannot have that correlation, or the shapes do not broadcast.

    Examples
    --------
    >>> variance_curve(1.0, 0.42, [1, 5, 1000]).round(4)
    array([1.    , 0.536 , 0.4206])
    """
    vbar = np.asarray(mean_variance, dtype=np.float64)
    m = np.asarray(n_specialists)
    r = np.asarray(rho, dtype=np.float64)
    if m.dtype.kind not in "iu" or m.size == 0 or (m < 1).any():
        raise PanelError(f"n_specialists must be whole numbers >= 1; got {n_specialists!r}.")
    if not np.isfinite(vbar).all() or (vbar < 0).any():
        raise PanelError(f"mean_variance must be finite and >= 0; got {mean_variance!r}.")
    if not np.isfinite(r).all():
        raise PanelError(f"rho must be finite; got {rho!r}.")
    try:
        each_v, each_r, each_m = np.broadcast_arrays(vbar, r, m)
    except ValueError:
        raise PanelError(
            f"mean_variance, rho and n_specialists must broadcast; got shapes {vbar.shape}, {r.shape}, {m.shape}."
        ) from None
    if each_v.size == 0:
        return np.zeros(each_v.shape)
    # The largest panel sets the lowest correlation, the largest correlation is 1 for all.
    refuse_correlation(float(r.max()), int(m.min()))
    worst = int(np.argmin(each_r + 1.0 / np.maximum(each_m - 1.0, 1e-300)))
    refuse_correlation(float(each_r.flat[worst]), int(each_m.flat[worst]))
    return np.asarray(each_v * (1.0 / each_m + (1.0 - 1.0 / each_m) * each_r))


def panel_beta(matrix: Any, *, weights: ArrayLike | None = None) -> Floats:
    """Compute every specialist's beta: its covariance with the panel over the panel's variance.

    Parameters
    ----------
    matrix : ErrorMatrix, array-like or DataArray of shape (specialist, specialist)
        Covariance or second moment of errors.
    weights : array-like of shape (specialist,), optional
        Weights that sum to 1; equal by default.

    Returns
    -------
    ndarray of shape (specialist,)
        (Cw)_i / V. Moving eps of weight to i changes V by 2 V (beta_i - 1) eps, so more of i helps if
        and only if beta_i < 1; the weighted mean of betas is 1. NaN if V = 0.

    Raises
    ------
    PanelError
        As `ensemble_variance`.

    Examples
    --------
    >>> panel_beta([[1.0, 0.0], [0.0, 3.0]])
    array([0.5, 1.5])
    """
    values, _ = read_matrix(matrix)
    return _beta(values, read_weights(weights, len(values)))


def diversification_ratio(matrix: Any, *, weights: ArrayLike | None = None) -> float:
    """Compute the diversification ratio: the weighted mean of standard deviations over that of the mean.

    Parameters
    ----------
    matrix : ErrorMatrix, array-like or DataArray of shape (specialist, specialist)
        Covariance of errors.
    weights : array-like of shape (specialist,), optional
        Weights that sum to 1; equal by default.

    Returns
    -------
    float
        sum w_i sigma_i / sqrt(w'Cw): 1 when all errors move together, sqrt(M) for M uncorrelated specialists of one
        variance. NaN if the mean does not vary.

    Raises
    ------
    PanelError
        As `ensemble_variance`.

    References
    ----------
    Choueifaty and Coignard, *Toward maximum diversification*, 2008.

    Examples
    --------
    >>> round(diversification_ratio([[1.0, 0.0], [0.0, 1.0]]) ** 2, 12)
    2.0
    """
    values, _ = read_matrix(matrix)
    w = read_weights(weights, len(values))
    total = float(w @ values @ w)
    return float(w @ np.sqrt(values.diagonal()) / np.sqrt(total)) if total > 0.0 else float("nan")


def _beta(values: Floats, w: Floats) -> Floats:
    total = float(w @ values @ w)
    if total <= 0.0:
        return np.full(len(values), np.nan)
    return np.asarray(values @ w / total)


@dataclass(frozen=True)
class Newcomer:
    """Whether a newcomer lowers the variance of a uniform panel.

    Attributes
    ----------
    helps : bool
        Whether the variance falls.
    change : float
        after - before.
    before, after : float
        Variance of the mean without and with the newcomer.
    """

    helps: bool
    change: float
    before: float
    after: float

    def summary(self) -> str:
        """Return the answer as text."""
        verb = "helps" if self.helps else "does not help"
        return f"the newcomer {verb}: {self.before:.4g} -> {self.after:.4g}"


def newcomer_helps(matrix: Any, cross: ArrayLike, variance: float) -> Newcomer:
    """Say whether a newcomer lowers the variance of an equally weighted panel.

    It does if and only if 2 sum_i C_ij + C_jj < (2 s + 1) V for a panel of s with variance V.

    Parameters
    ----------
    matrix : ErrorMatrix, array-like or DataArray of shape (specialist, specialist)
        Covariance or second moment of the panel's errors.
    cross : array-like of shape (specialist,)
        The newcomer's covariance with every member.
    variance : float
        The newcomer's own variance.

    Returns
    -------
    Newcomer
        Whether it helps, and by how much.

    Raises
    ------
    PanelError
        If shapes do not fit, or no joint law has these moments.

    Examples
    --------
    >>> newcomer_helps([[1.0, 0.0], [0.0, 1.0]], [0.0, 0.0], 2.4).helps
    True
    """
    values, _ = read_matrix(matrix)
    s = len(values)
    column = np.asarray(cross, dtype=np.float64)
    if column.shape != (s,):
        raise PanelError(f"cross must be one covariance per member ({s}); got shape {column.shape}.")
    joint = np.block([[values, column[:, None]], [column[None, :], np.array([[float(variance)]])]])
    read_matrix(joint, what="covariance with the newcomer")
    before = float(values.sum()) / s**2
    after = float(joint.sum()) / (s + 1) ** 2
    return Newcomer(after < before, after - before, before, after)
