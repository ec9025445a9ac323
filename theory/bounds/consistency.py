"""What agreement among many views proves: the error of telling authentic from fake, as views are added.

**Theorem.** Views x_1 .. x_d have law p (authentic) or q (fake). If for k = 2 .. d and almost all x_<k the
affinity of the conditional laws is at most exp(-c / 2), then
P_e <= sqrt(pi0 pi1) BC(p_1, q_1) exp(-(d - 1) c / 2) < exp(-(d - 1) c / 2).
*Proof*: P_e is the integral of min(pi0 p, pi1 q), at most sqrt(pi0 pi1) times that of sqrt(p q). Integrate x_d
first, which leaves a factor of at most exp(-c / 2), then x_{d-1} down to x_2; the prefactor is at most 1/2.
Neither independence nor a normal law is used. The statement and its proof are this library's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theory._checks import check_level, read_matrix, read_truth, refuse_correlation
from theory._exceptions import PanelError
from theory._results import add_warnings, with_interval
from theory.bounds._class_laws import read_priors
from theory.bounds._overlap import calibration_error

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Consistency:
    """A bound on the error of telling authentic from fake by how views agree.

    Attributes
    ----------
    value : float
        Upper bound on the Bayes error with all views.
    lower : float
        Lower bound on the Bayes error.
    distance : float
        D, minus the log of the affinity of the two joint laws.
    exponents : ndarray of shape (d - 1,)
        c_2 .. c_d: view k multiplies the bound by exp(-c_k / 2).
    curve : ndarray of shape (d,)
        The bound with the first k views.
    rate : float
        The exponent of one more view in the end: c of the theorem, or the last of ``exponents``.
    saturates : bool
        Whether the bound stops falling: further views add less and less.
    limit : float or None
        Where it stops, if known.
    method : str
        How the exponents were had.
    assume : str
        What was assumed.
    exact : bool
        False for exponents estimated from samples. The value is a bound in any case.
    n_views : int
        d.
    priors : ndarray of shape (2,)
        Probabilities of fake and authentic.
    exponents_se : ndarray of shape (d - 1,) or None
        Standard errors of the exponents.
    se : float or None
        Standard error of ``value``.
    ci : ndarray of shape (2,) or None
        Interval of ``value``.
    calibration_error : ndarray of shape (d,) or None
        Expected calibration error of the posterior after each view, if truths came.
    n : int or None
        Samples behind the estimate.
    warnings : tuple of str
        What a reader should know before using the bound.
    """

    value: float
    lower: float
    distance: float
    exponents: Floats
    curve: Floats
    rate: float
    saturates: bool
    limit: float | None
    method: str
    assume: str
    exact: bool
    n_views: int
    priors: Floats
    exponents_se: Floats | None = None
    se: float | None = None
    ci: Floats | None = None
    calibration_error: Floats | None = None
    n: int | None = None
    warnings: tuple[str, ...] = ()

    def summary(self) -> str:
        """Return the bound as text."""
        lines = [
            f"Bayes error with {self.n_views} views <= {with_interval(self.value, self.ci, 4)} ({self.method}; "
            f"assumes {self.assume})",
            f"  and >= {self.lower:.4g}; exponents c_2 .. c_{self.n_views}: "
            f"{np.array2string(self.exponents, precision=3, threshold=8)}",
        ]
        if self.saturates:
            where = "" if self.limit is None else f" at {self.limit:.4g}"
            lines.append(f"  it saturates{where}: further views add less and less")
        else:
            lines.append(f"  it falls on: one more view multiplies the bound by {np.exp(-self.rate / 2):.3f}")
        return add_warnings(lines, self.warnings)


def consistency_bound(
    *,
    d: int | None = None,
    c: ArrayLike | None = None,
    rho: float | None = None,
    matrix: Any = None,
    shift: float | None = None,
    posteriors: ArrayLike | None = None,
    y: ArrayLike | None = None,
    priors: ArrayLike | None = None,
    first_affinity: float = 1.0,
    ci: float = 0.95,
) -> Consistency:
    """Bound the error of telling authentic from fake by whether views agree.

    **It bounds the Bayes error, that of the best possible use of all views, not that of a given rule.** Give one
    of: ``c`` (the theorem), ``rho`` with ``d`` or ``matrix`` (normal views), ``posteriors`` (an estimate).

    Parameters
    ----------
    d : int, optional
        Number of views, at least 2; with ``rho``, or with one number ``c``.
    c : float or array-like of shape (d - 1,), optional
        Worst-case exponents: the affinity of the conditional laws of view k is at most exp(-c_k / 2).
    rho : float, optional
        Correlation of every two of ``d`` views, in (-1/(d - 1), 1).
    matrix : ErrorMatrix, array-like or DataArray of shape (view, view), optional
        Correlation of authentic views; with ``shift``, the covariance of views under both laws.
    shift : float, optional
        With ``rho`` or ``matrix``: fake views have the same covariance, and their mean is moved by so much, where
        otherwise fake views are independent with the authentic views' own margins.
    posteriors : array-like of shape (sample, d), optional
        Probability of authentic given the first 1, 2 .. d views, calibrated, on samples nothing was fitted on.
    y : array-like of shape (sample,), optional
        1 authentic, 0 fake, beside ``posteriors``: their calibration error is then reported.
    priors : array-like of shape (2,), optional
        Probabilities of fake and authentic; equal by default, from the mean with ``posteriors``.
    first_affinity : float
        BC(p_1, q_1) of the first view, with ``c``; 1 when one view alone is useless.
    ci : float
        Level of the interval with ``posteriors``.

    Returns
    -------
    Consistency
        The bound after each view, and whether it saturates.

    Raises
    ------
    PanelError
        If not exactly one source came, or no such views exist.

    Notes
    -----
    *Agreement.* Normal views, equal margins, correlation R if authentic and independent if fake:
    D = 1/2 sum ln((1 + lambda) / (2 sqrt(lambda))) over the eigenvalues of R, zero if and only if R = I; for a
    common rho, D = 1/2 ((d - 1) c + ln((1 + (d - 1) rho / 2) / sqrt(1 + (d - 1) rho))) with
    c = ln((1 - rho / 2) / sqrt(1 - rho)). One view alone is useless, and the error falls without end.
    *Shift.* D = delta^2 1'C^-1 1 / 8, and the k-th exponent delta^2 z_k^2 / 4 with L z = 1, C = LL'. For rho > 0
    their sum is finite: D tends to delta^2 / (8 rho) for unit variances, and the error stops there. *Posteriors.*
    B_k = mean of sqrt(eta_k (1 - eta_k)), c_k = -2 ln(B_k / B_{k-1}); the product of these average factors is the
    bound itself, though single c_k may be negative by sampling error. The theorem needs c_k for almost all
    earlier views, which averages cannot show: do not extrapolate them to other views.

    Examples
    --------
    >>> [round(consistency_bound(d=d, rho=0.9).value, 3) for d in (2, 5, 10)]
    [0.37, 0.145, 0.032]
    >>> round(consistency_bound(d=10, c=0.5535).value, 3)
    0.041
    >>> stuck = consistency_bound(d=50, rho=0.42, shift=1.0)
    >>> stuck.saturates, round(stuck.limit, 3)
    (True, 0.371)
    """
    quantile = check_level(ci)
    sources = {"c": c, "rho": rho, "matrix": matrix, "posteriors": posteriors}
    given = [name for name, value in sources.items() if value is not None]
    if len(given) != 1:
        raise PanelError(f"give exactly one of c=, rho=, matrix= or posteriors=; got {given or 'none'}.")
    if shift is not None and (given[0] not in ("rho", "matrix") or not np.isfinite(shift)):
        raise PanelError("shift= is a finite number beside rho= or matrix=.")
    if y is not None and posteriors is None:
        raise PanelError("y= belongs to posteriors=: it measures their calibration.")
    if first_affinity != 1.0 and (c is None or not 0.0 <= first_affinity <= 1.0):
        raise PanelError("first_affinity lies in [0, 1] and belongs to c=; other sources know it.")
    if posteriors is not None:
        if d is not None or priors is not None:
            raise PanelError("posteriors= hold the number of views and the priors: leave d and priors out.")
        return _estimated(posteriors, y, quantile)
    prior = read_priors(priors, 2)
    if c is not None:
        return _theorem(c, d, prior, float(first_affinity))
    if rho is not None:
        views = _read_views(d)
        refuse_correlation(float(rho), views)
        if not -1.0 / (views - 1) < rho < 1.0:
            raise PanelError(
                f"rho must lie strictly between -1/(d-1) and 1; got {rho!r}: views that are copies of each other, or "
                "cancel, tell authentic from fake with certainty."
            )
        full = np.full((views, views), float(rho))
        np.fill_diagonal(full, 1.0)
        return _normal(full, None if shift is None else float(shift), prior, float(rho))
    if d is not None:
        raise PanelError("matrix= holds the number of views: leave d out.")
    values, _ = read_matrix(matrix, what="correlation" if shift is None else "covariance")
    if len(values) < 2:
        raise PanelError("two or more views are needed; got a matrix of one.")
    if shift is None and np.abs(values.diagonal() - 1.0).max() > 1e-8:
        raise PanelError(
            "matrix= must be a correlation, with ones on its diagonal; divide a covariance by its standard deviations "
            "(error_correlation(errors).value), or give shift=."
        )
    return _normal(values, None if shift is None else float(shift), prior, None)


def _read_views(d: int | None) -> int:
    if not isinstance(d, int | np.integer) or d < 2:
        raise PanelError(f"d is the number of views, a whole number >= 2; got {d!r}.")
    return int(d)


def _theorem(c: ArrayLike, d: int | None, prior: Floats, affinity: float) -> Consistency:
    values = np.asarray(c, dtype=np.float64)
    if values.ndim == 0:
        values = np.full(_read_views(d) - 1, float(values))
    elif d is not None and len(values) != _read_views(d) - 1:
        raise PanelError(
            f"c must be one number, or one per view after the first ({d - 1}); got {values.shape}."
        )
    if values.ndim != 1 or not len(values) or not np.isfinite(values).all() or (values < 0).any():
        raise PanelError("c must hold finite numbers >= 0: an affinity is at most 1.")
    logs = np.concatenate([[0.0], np.cumsum(values) / 2.0])
    with np.errstate(divide="ignore"):
        distance = float(-np.log(affinity) + logs[-1])
    return _assembled(
        affinity * np.exp(-logs), prior, distance, values, "theorem", "conditional affinities of at most exp(-c/2)",
        rate=float(values[-1]), saturates=False, limit=None, lower=0.0,
    )  # fmt: skip


def _normal(matrix: Floats, shift: float | None, prior: Floats, rho: float | None) -> Consistency:
    d = len(matrix)
    try:
        root = np.linalg.cholesky(matrix)
    except np.linalg.LinAlgError:
        raise PanelError(
            "the matrix is singular: some combination of views never varies, and tells authentic from fake with "
            "certainty. Shrink the matrix, or drop copies."
        ) from None
    if shift is not None:
        # Rows of the Cholesky factor do not change when views are added, so neither do the z_k.
        z = np.empty(d)
        for k in range(d):
            z[k] = (1.0 - root[k, :k] @ z[:k]) / root[k, k]
        distances = np.cumsum((shift * z) ** 2) / 8.0
        limit = None
        stops = rho is not None and rho > 0
        if rho is not None and rho > 0:
            limit = float(np.sqrt(prior[0] * prior[1]) * np.exp(-(shift**2) / (8.0 * rho)))
            limit = min(limit, float(prior.min()))
        exponents = 2.0 * np.diff(distances)
        stops = stops or (rho is None and d > 2 and exponents[-1] < 0.5 * exponents.mean())
        return _assembled(
            np.exp(-distances), prior, float(distances[-1]), exponents, "mean shift, closed form",
            "normal views of one covariance, means apart", rate=float(exponents[-1]), saturates=bool(stops),
            limit=limit, lower=None,
        )  # fmt: skip
    # Affinity of N(0, R) and N(0, I): |R|^(1/4) / |(R + I) / 2|^(1/2), for every leading block at once.
    mixed = np.linalg.cholesky((matrix + np.eye(d)) / 2.0)
    distances = np.cumsum(np.log(mixed.diagonal()) - 0.5 * np.log(root.diagonal()))
    exponents = 2.0 * np.diff(distances)
    rate = float(np.log((1.0 - rho / 2.0) / np.sqrt(1.0 - rho))) if rho is not None else float(exponents[-1])
    return _assembled(
        np.exp(-distances), prior, float(distances[-1]), exponents, "agreement, closed form",
        "normal views, correlated if authentic, independent if fake", rate=rate,
        saturates=rho is None and d > 2 and bool(exponents[-1] < 0.5 * exponents.mean()), limit=None, lower=None,
    )  # fmt: skip


def _assembled(
    affinity: Floats,
    prior: Floats,
    distance: float,
    exponents: Floats,
    method: str,
    assume: str,
    *,
    rate: float,
    saturates: bool,
    limit: float | None,
    lower: float | None,
) -> Consistency:
    product = float(prior[0] * prior[1])
    curve = np.minimum(np.sqrt(product) * affinity, float(prior.min()))
    last = float(affinity[-1])
    least = 0.5 * (1.0 - np.sqrt(max(1.0 - 4.0 * product * last**2, 0.0))) if lower is None else lower
    return Consistency(
        value=float(curve[-1]),
        lower=float(least),
        distance=distance,
        exponents=exponents,
        curve=curve,
        rate=rate,
        saturates=saturates,
        limit=limit,
        method=method,
        assume=assume,
        exact=True,
        n_views=len(curve),
        priors=prior,
    )


def _estimated(posteriors: ArrayLike, y: ArrayLike | None, quantile: float) -> Consistency:
    eta = np.asarray(posteriors, dtype=np.float64)
    if eta.ndim != 2 or eta.shape[1] < 2 or len(eta) < 2:
        raise PanelError(
            f"posteriors must have shape (sample, d), two or more of each: one column per number of views seen. Got "
            f"{eta.shape}."
        )
    if not np.isfinite(eta).all() or (eta < 0).any() or (eta > 1).any():
        raise PanelError("posteriors must be probabilities of authentic: finite, in [0, 1].")
    n, d = eta.shape
    share = float(eta[:, -1].mean())
    prior = np.array([1.0 - share, share])
    b = np.sqrt(eta * (1.0 - eta))
    mean = b.mean(axis=0)
    if (mean <= 0).any():
        raise PanelError(
            "some posterior is 0 or 1 on every sample: no finite sample shows that. Calibrate them on held-out samples."
        )
    exponents = -2.0 * np.diff(np.log(mean))
    influence = -2.0 * np.diff(b / mean, axis=1)
    exponents_se = influence.std(axis=0, ddof=1) / np.sqrt(n)
    se = float(b[:, -1].std(ddof=1) / np.sqrt(n))
    value = min(float(mean[-1]), float(prior.min()))
    upper = exponents[-1] + quantile * exponents_se[-1]
    stops = bool(d > 2 and upper < 0.5 * exponents.mean())
    notes: list[str] = []
    calibration = None
    if y is None:
        notes.append(
            "no y given: the bound holds only if the posteriors are calibrated, which was not measured"
        )
    else:
        codes = read_truth(y, n)
        if codes.max(initial=0) > 1:
            raise PanelError("y must be 1 for authentic and 0 for fake.")
        both = np.stack([1.0 - eta, eta], axis=2)
        calibration = np.array([calibration_error(both[:, k], codes) for k in range(d)])
    if stops:
        notes.append(
            f"the last view's exponent is {exponents[-1]:.3f} (at most {upper:.3f}), below half the mean of "
            f"{exponents.mean():.3f}: views are running out of news"
        )
    affinity = float(mean[-1] / np.sqrt(prior[0] * prior[1])) if prior.min() > 0 else 0.0
    product = float(prior[0] * prior[1])
    return Consistency(
        value=value,
        lower=float(0.5 * (1.0 - np.sqrt(max(1.0 - 4.0 * product * affinity**2, 0.0)))),
        distance=float(-np.log(min(affinity, 1.0))) if affinity > 0 else float("inf"),
        exponents=exponents,
        curve=np.minimum(mean, float(prior.min())),
        rate=float(exponents[-1]),
        saturates=stops,
        limit=None,
        method="estimated from posteriors",
        assume="calibrated posteriors on samples nothing was fitted on",
        exact=False,
        n_views=d,
        priors=prior,
        exponents_se=exponents_se,
        se=se,
        ci=np.clip(np.array([value - quantile * se, value + quantile * se]), 0.0, 1.0),
        calibration_error=calibration,
        n=n,
        warnings=tuple(notes),
    )
