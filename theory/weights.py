"""Weights that minimise the variance of the fused answer, and whether estimating them pays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from theory._checks import check_choice, is_matrix, read_matrix
from theory._exceptions import PanelError
from theory._results import add_warnings, labelled
from theory._simplex import kkt_residual, simplex_weights
from theory.correlation import error_covariance

if TYPE_CHECKING:
    import xarray

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Weights:
    """Weights over specialists that minimise w'Cw.

    Attributes
    ----------
    value : ndarray of shape (n_specialists,)
        The weights, sum 1.
    variance : float
        w'Cw on the matrix they were computed from: too low out of sample.
    equal_variance : float
        The same for equal weights.
    shrinkage : float
        Weight of the equal weights in ``value``.
    kkt_residual : float
        Largest violation of the optimality conditions before shrinking, relative to w'Cw.
    constraint : str
        ``"simplex"`` or ``"none"``.
    cap : float
        Largest weight allowed.
    names : tuple of str
        Names of the specialists.
    n : float or None
        Samples behind the matrix.
    warnings : tuple of str
        What a reader should know before using the weights.
    """

    value: Floats
    variance: float
    equal_variance: float
    shrinkage: float
    kkt_residual: float
    constraint: str
    cap: float
    names: tuple[str, ...]
    n: float | None
    warnings: tuple[str, ...] = ()

    def to_xarray(self) -> xarray.Dataset:
        """Return a Dataset over specialist."""
        attrs = {"variance": self.variance, "shrinkage": self.shrinkage, "constraint": self.constraint}
        return labelled({"weight": self.value}, self.names, attrs)

    def summary(self) -> str:
        """Return the weights as text, largest first."""
        lines = [
            f"weights ({self.constraint}, shrinkage {self.shrinkage:.3f}): variance {self.variance:.4g}, "
            f"equal weights {self.equal_variance:.4g}"
        ]
        lines += [f"  {self.names[i]}  {self.value[i]:+.4f}" for i in np.argsort(-self.value, kind="stable")]
        return add_warnings(lines, self.warnings)


def min_variance_weights(
    source: Any,
    *,
    constraint: Literal["simplex", "none"] = "simplex",
    cap: float = 1.0,
    shrink: Literal["auto"] | float | None = "auto",
    n: int | None = None,
    kind: Literal["second_moment", "covariance"] = "second_moment",
    given: Literal["auto", "errors", "matrix"] = "auto",
) -> Weights:
    """Find the weights of the weighted mean with the least variance.

    Parameters
    ----------
    source : errors or matrix
        Errors (sample, specialist[, output]) or their (specialist, specialist) matrix. Pass a shrunken
        ``error_covariance(errors, shrink="constant_correlation")`` when samples are few.
    constraint : {"simplex", "none"}
        Weights in [0, cap], or of any sign: w = C^-1 1 / (1'C^-1 1).
    cap : float
        Largest weight on the simplex; cap * M >= 1.
    shrink : {"auto"}, float or None
        How far to move towards equal weights: by the estimate below, by a given share in [0, 1], or
        not at all.
    n : int, optional
        Samples behind a plain matrix, for ``shrink="auto"``.
    kind : {"second_moment", "covariance"}
        Which matrix to take from errors, or which one a plain matrix is. A covariance costs one more sample.
    given : {"auto", "errors", "matrix"}
        What a square ``source`` is.

    Returns
    -------
    Weights
        With their in-sample variance and that of equal weights.

    Raises
    ------
    PanelError
        If the matrix is singular without a constraint, the cap is too small, or n is missing.

    Notes
    -----
    ``"auto"`` estimates, with k weights fitted, s2 = V_in n / (n - k), the cost of estimating
    kappa = s2 k / (n - k - 1), and moves by kappa / (kappa + max(V_equal - s2, 0)). k is M - 1
    without a constraint; on the simplex it is one less than the number of weights inside their
    bounds, a heuristic: out of sample it was better than M - 1 in five simulated settings of five, and within
    6 % of not moving at all (M = 5 to 28, n = 20 to 200).
    Exact copies share their weight equally.

    References
    ----------
    Bates and Granger, *The combination of forecasts*, 1969.

    Examples
    --------
    >>> min_variance_weights([[1.0, 0.0], [0.0, 3.0]], shrink=None).value
    array([0.75, 0.25])
    """
    check_choice("constraint", constraint, ("simplex", "none"))
    matrix, names, size, centred = _matrix_and_n(source, n, kind, given)
    m = len(matrix)
    if not (np.isfinite(cap) and cap > 0) or cap * m < 1.0 - 1e-12:
        raise PanelError(
            f"cap={cap!r} with {m} specialists: weights cannot sum to 1. Use at least {1.0 / m:.4g}."
        )
    if constraint == "none":
        if cap != 1.0:
            raise PanelError("cap= belongs to constraint='simplex'; leave it out.")
        w = _free_weights(matrix, size)
        fitted = m - 1
        gradient = matrix @ w
        residual = float(np.ptp(gradient) / max(float(w @ gradient), np.finfo(float).tiny))
    else:
        # The active set leaves -2e-16 where a weight is 0, and a vote refuses that.
        w = np.clip(simplex_weights(matrix, float(cap)), 0.0, cap)
        fitted = max(int(((w > 1e-12) & (w < cap - 1e-12)).sum()) - 1, 0)
        residual = kkt_residual(matrix, w, float(cap))
    equal = np.full(m, 1.0 / m)
    v_in, v_equal = float(w @ matrix @ w), float(matrix.mean())
    notes: list[str] = []
    if residual > 1e-9:
        notes.append(f"optimality conditions hold to {residual:.1g} only: the matrix is ill-conditioned")
    # An estimated mean costs one sample, and a covariance is divided by all of them.
    used = size if size is None or not centred else size - 1.0
    scale = 1.0 if size is None or not used else size / used
    amount = _equal_share(shrink, v_in * scale, v_equal * scale, fitted, used)
    value = (1.0 - amount) * w + amount * equal
    return Weights(
        value=value,
        variance=float(value @ matrix @ value),
        equal_variance=v_equal,
        shrinkage=amount,
        kkt_residual=residual,
        constraint=constraint,
        cap=float(cap),
        names=names,
        n=size,
        warnings=tuple(notes),
    )


def _equal_share(
    shrink: str | float | None, v_in: float, v_equal: float, fitted: int, n: float | None
) -> float:
    if shrink is None:
        return 0.0
    if isinstance(shrink, str):
        check_choice("shrink", shrink, ("auto",))
        if n is None:
            raise PanelError(
                "shrink='auto' needs n, the samples behind the matrix: give n=, an ErrorMatrix, or the "
                "errors; or shrink=None."
            )
        if fitted == 0:
            return 0.0
        if n <= fitted + 1:
            return 1.0
        s2 = v_in * n / (n - fitted)
        cost = s2 * fitted / (n - fitted - 1.0)
        gain = max(v_equal - s2, 0.0)
        return float(np.clip(cost / (cost + gain), 0.0, 1.0)) if cost > 0 else 0.0
    if not 0.0 <= float(shrink) <= 1.0:
        raise PanelError(f"shrink is a share between 0 and 1, 'auto' or None; got {shrink!r}.")
    return float(shrink)


def _free_weights(matrix: Floats, n: float | None) -> Floats:
    m = len(matrix)
    samples = "" if n is None else f"n={n:g}, "
    singular = (
        f"the matrix is singular ({samples}M={m}): weights of any sign are not determined. Use "
        "error_covariance(errors, shrink='constant_correlation'), or constraint='simplex'."
    )
    try:
        factor = np.linalg.cholesky(matrix)
    except np.linalg.LinAlgError:
        raise PanelError(singular) from None
    if (factor.diagonal() ** 2 <= 1e-12 * matrix.diagonal()).any():
        raise PanelError(singular)
    solution = np.linalg.solve(matrix, np.ones(m))
    return np.asarray(solution / solution.sum())


def _matrix_and_n(
    source: Any, n: int | None, kind: str, given: str
) -> tuple[Floats, tuple[str, ...], float | None, bool]:
    """Return the matrix, names, samples, and whether a mean was estimated with it."""
    check_choice("kind", kind, ("second_moment", "covariance"))
    if n is not None and (not np.isfinite(n) or n < 1):
        raise PanelError(f"n is a number of samples; got {n!r}.")
    if is_matrix(source, given):
        found = getattr(source, "kind", kind)
        if found == "correlation":
            raise PanelError(
                "weights need a covariance or second moment; got a correlation. Use error_covariance(errors)."
            )
        matrix, names = read_matrix(source, what=str(found).replace("_", " "))
        size = getattr(source, "n_effective", None) if n is None else float(n)
        return matrix, names, size, found == "covariance"
    if n is not None:
        raise PanelError("n= belongs to a matrix; errors bring their own number of samples.")
    estimated = error_covariance(source, kind="covariance" if kind == "covariance" else "second_moment")
    return estimated.value, estimated.names, estimated.n_effective, kind == "covariance"


@dataclass(frozen=True)
class WeightingVerdict:
    """Whether weights of any sign, estimated on these samples, beat equal weights out of sample.

    Attributes
    ----------
    worth_it : bool
        ratio > threshold.
    ratio : float
        V_equal / V*, what perfect weights would gain.
    threshold : float
        (n - 1) / (n - M), what estimating them costs.
    equal_variance : float
        V_equal.
    optimal_variance : float
        V*, estimated without the optimism of the in-sample minimum.
    expected_variance : float
        Variance to expect out of sample with the estimated weights.
    n : float
        Samples.
    n_specialists : int
        M.
    """

    worth_it: bool
    ratio: float
    threshold: float
    equal_variance: float
    optimal_variance: float
    expected_variance: float
    n: float
    n_specialists: int

    def summary(self) -> str:
        """Return the verdict as text."""
        verb = "pays" if self.worth_it else "does not pay"
        return (
            f"weighting {verb}: perfect weights gain a factor {self.ratio:.3f}, estimating "
            f"{self.n_specialists} of them from {self.n:g} samples costs {self.threshold:.3f}"
        )


def is_weighting_worth_it(
    source: Any,
    *,
    n: int | None = None,
    kind: Literal["second_moment", "covariance"] = "second_moment",
    given: Literal["auto", "errors", "matrix"] = "auto",
) -> WeightingVerdict:
    """Say whether estimated weights of any sign can be expected to beat equal weights.

    Parameters
    ----------
    source : errors or matrix
        Errors (sample, specialist[, output]) or their matrix, estimated without shrinkage.
    n : int, optional
        Samples behind a plain matrix.
    kind : {"second_moment", "covariance"}
        Which matrix to take from errors, or which one a plain matrix is. A covariance costs one more sample.
    given : {"auto", "errors", "matrix"}
        What a square ``source`` is.

    Returns
    -------
    WeightingVerdict
        The verdict and the numbers behind it.

    Raises
    ------
    PanelError
        If there are not more samples than specialists, or the matrix is singular or was shrunk.

    Notes
    -----
    For normal errors of mean zero and n samples the in-sample minimum is V* (n - M + 1) / n on average,
    and its weights have variance V* (n - 1) / (n - M) out of sample: weighting pays if and only if
    V_equal / V* > (n - 1) / (n - M). With an estimated mean read n - 1 for n.

    Examples
    --------
    >>> import numpy as np
    >>> verdict = is_weighting_worth_it(np.diag([1.0, 1.0, 9.0]), n=100)
    >>> verdict.worth_it, round(verdict.threshold, 3)
    (True, 1.021)
    """
    matrix, _, size, centred = _matrix_and_n(source, n, kind, given)
    m = len(matrix)
    if float(getattr(source, "shrinkage", 0.0)) > 0.0:
        raise PanelError(
            f"the matrix was shrunk by {source.shrinkage:.3g}, and the cost of estimating weights is not known for "
            "it. Use error_covariance(errors, shrink=None)."
        )
    if size is None:
        raise PanelError("give n=, the samples behind the matrix, or pass an ErrorMatrix or the errors.")
    used = size - 1.0 if centred else size
    if used <= m:
        raise PanelError(
            f"second moment singular: n={size:g}, M={m}; more samples than specialists are needed. Equal "
            "weights, or shrink='constant_correlation', are the way out."
        )
    w = _free_weights(matrix, size)
    # A covariance divided by n is (n - 1) / n of the unbiased one.
    inflate = size / used
    v_in, v_equal = float(w @ matrix @ w) * inflate, float(matrix.mean()) * inflate
    best = v_in * used / (used - m + 1.0)
    threshold = (used - 1.0) / (used - m)
    ratio = v_equal / best
    return WeightingVerdict(ratio > threshold, ratio, threshold, v_equal, best, best * threshold, size, m)
