"""The Chernoff bound on the Bayes error: the Bhattacharyya bound with its exponent set free."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theory._checks import check_choice, check_level
from theory._exceptions import PanelError
from theory.bounds._class_laws import ClassLaws, read_class_laws, redrawn_tables, table_exponent
from theory.bounds._overlap import best_exponent, combine_pairs
from theory.bounds.result import BAYES, Bound

Floats = NDArray[np.float64]


def chernoff(
    *,
    means: ArrayLike | None = None,
    covariance: ArrayLike | None = None,
    confusion: ArrayLike | None = None,
    posterior: ArrayLike | None = None,
    y: ArrayLike | None = None,
    priors: ArrayLike | None = None,
    assume: Literal["joint", "independent"] = "joint",
    t: float | None = None,
    smoothing: float = 0.5,
    ci: float = 0.95,
    n_bootstrap: int = 200,
    seed: int = 0,
) -> Bound:
    """Bound the Bayes error of optimal fusion by pi_0^(1-t) pi_1^t times the integral of p_0^(1-t) p_1^t.

    **It bounds the Bayes error of the best possible fusion of these answers, not the error of any given
    rule.** Never above the Bhattacharyya bound, which is the case t = 1/2. Sources as in `bhattacharyya`:
    give exactly one.

    Parameters
    ----------
    means : array-like of shape (class, specialist), optional
        Mean answer of every specialist under every class; answers are assumed jointly normal.
    covariance : array-like of shape (specialist, specialist) or (class, specialist, specialist), optional
        Covariance of the answers, common to all classes or one per class.
    confusion : array-like of shape (specialist, class, answer) or (class, answer), optional
        Counts; rows are the true class. Several specialists need ``assume="independent"``.
    posterior : array-like of shape (sample, class), optional
        Fused class probabilities on samples that nothing was fitted on, calibrated.
    y : array-like of shape (sample,), optional
        True codes beside ``posterior``: its calibration error is then reported.
    priors : array-like of shape (class,), optional
        Class probabilities; defaults as in `bhattacharyya`.
    assume : {"joint", "independent"}
        Use the full covariance or joint table, or treat specialists as independent given the class.
    t : float, optional
        Exponent in (0, 1) for all pairs of classes. Default: the best one of each pair.
    smoothing : float
        Added to every count; 0.5 is Jeffreys' prior.
    ci : float
        Level of the interval of estimated bounds.
    n_bootstrap : int
        Confusion tables drawn anew for the interval, 0 for none.
    seed : int
        Seed of those draws.

    Returns
    -------
    Bound
        For two classes ``parts`` holds ``t`` and ``information``, the largest exponent over t: the rate at which
        the error falls when independent looks of this kind are repeated.

    Raises
    ------
    PanelError
        If not exactly one source came, t lies outside (0, 1), or the source cannot be read.

    Notes
    -----
    The bound is log-convex in t: a bounded scalar search finds the best. Exponents of independent specialists add
    **at a common t**; adding each specialist's own best exponent would claim too much. More than two
    classes: the sum over pairs, each at its own t, clipped at 1 - max prior; ``lower`` is the Bhattacharyya
    lower bound. The interval keeps the t found: a bound at any t is a bound.

    References
    ----------
    Chernoff, 1952; Fukunaga, *Introduction to statistical pattern recognition*, 1990, section 3.4.

    Examples
    --------
    >>> bound = chernoff(means=[[0.0], [0.0]], covariance=[[[1.0]], [[9.0]]])
    >>> round(bound.value, 4), round(bound.parts["t"], 2), round(bound.parts["bhattacharyya"], 4)
    (0.3766, 0.67, 0.3873)
    """
    check_choice("assume", assume, ("joint", "independent"))
    quantile = check_level(ci)
    if t is not None and not 0.0 < t < 1.0:
        raise PanelError(f"t lies strictly between 0 and 1 (1/2 is Bhattacharyya's); got {t!r}.")
    laws = read_class_laws(means, covariance, confusion, posterior, y, priors, assume, smoothing, n_bootstrap)
    k = len(laws.prior)
    at, exponents, half = np.full((k, k), 0.5), np.zeros((k, k)), np.zeros((k, k))
    for a in range(k):
        for b in range(a + 1, k):
            if laws.prior[a] <= 0 or laws.prior[b] <= 0:
                exponents[a, b] = half[a, b] = np.inf
                continue
            at[a, b] = best_exponent(laws.exponent, a, b, laws.prior)[0] if t is None else float(t)
            exponents[a, b] = max(laws.exponent(a, b, float(at[a, b])), 0.0)
            half[a, b] = max(laws.exponent(a, b, 0.5), 0.0)
    best = 1.0 - float(laws.prior.max())
    upper = _sum_of_pairs(exponents, at, laws.prior)
    root = np.sqrt(laws.prior[:, None] * laws.prior[None, :])
    bhattacharyya, lower = combine_pairs(np.exp(-half) * root, laws.prior)
    parts = {"chernoff": upper, "bhattacharyya": bhattacharyya, "best_prior": best, **laws.numbers}
    if k == 2:
        parts["t"] = float(at[0, 1])
        if np.isfinite(exponents[0, 1]):
            # With equal weights the log of the bound is log(1/2) minus the exponent.
            parts["information"] = max(
                -best_exponent(laws.exponent, 0, 1, np.full(2, 0.5))[1] - float(np.log(2.0)), 0.0
            )
    value = min(upper, best)
    se, interval = _uncertainty(laws, value, at, smoothing, ci, quantile, n_bootstrap, seed)
    distance = float(exponents[0, 1]) if k == 2 else None
    filled = exponents + exponents.T
    return Bound(
        value=value,
        lower=lower,
        method="Chernoff",
        bounds=BAYES,
        assume=laws.law,
        exact=False,
        parts=parts,
        coefficient=None if distance is None else float(np.exp(-distance)),
        distance=distance if distance is not None and np.isfinite(distance) else None,
        pairs=np.exp(-filled),
        se=se,
        ci=interval,
        n=laws.n,
        warnings=laws.warnings,
    )


def _sum_of_pairs(exponents: Floats, at: Floats, prior: Floats) -> float:
    total = 0.0
    for a, b in zip(*np.triu_indices(len(prior), 1), strict=True):
        if np.isfinite(exponents[a, b]):
            t = float(at[a, b])
            total += float(prior[a] ** (1.0 - t) * prior[b] ** t * np.exp(-exponents[a, b]))
    return total


def _uncertainty(
    laws: ClassLaws,
    value: float,
    at: Floats,
    smoothing: float,
    ci: float,
    quantile: float,
    n_bootstrap: int,
    seed: int,
) -> tuple[float | None, Floats | None]:
    k = len(laws.prior)
    pairs = list(zip(*np.triu_indices(k, 1), strict=True))
    if laws.eta is not None:
        psi = np.zeros(len(laws.eta))
        for a, b in pairs:
            t = float(at[a, b])
            psi += laws.eta[:, a] ** (1.0 - t) * laws.eta[:, b] ** t
        se = float(psi.std(ddof=1) / np.sqrt(len(psi)))
        return se, np.clip(np.array([value - quantile * se, value + quantile * se]), 0.0, 1.0)
    draws = []
    for theta in redrawn_tables(laws, smoothing, n_bootstrap, seed):
        exponent = table_exponent(theta)
        drawn = np.full((k, k), np.inf)
        for a, b in pairs:
            drawn[a, b] = exponent(int(a), int(b), float(at[a, b]))
        draws.append(min(_sum_of_pairs(drawn, at, laws.prior), 1.0 - float(laws.prior.max())))
    if not draws:
        return None, None
    tail = (1.0 - ci) / 2.0
    se_tables = float(np.std(draws, ddof=1)) if len(draws) > 1 else None
    return se_tables, np.quantile(np.array(draws), [tail, 1.0 - tail])
