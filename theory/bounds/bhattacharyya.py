"""The Bhattacharyya bound on the Bayes error: what the best possible fusion reaches."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theory._checks import check_choice, check_level
from theory.bounds._class_laws import ClassLaws, read_class_laws, redrawn_tables
from theory.bounds._overlap import best_exponent, bound_of_value, combine_pairs
from theory.bounds.result import BAYES, Bound

Floats = NDArray[np.float64]


def bhattacharyya(
    *,
    means: ArrayLike | None = None,
    covariance: ArrayLike | None = None,
    confusion: ArrayLike | None = None,
    posterior: ArrayLike | None = None,
    y: ArrayLike | None = None,
    priors: ArrayLike | None = None,
    assume: Literal["joint", "independent"] = "joint",
    smoothing: float = 0.5,
    ci: float = 0.95,
    n_bootstrap: int = 200,
    seed: int = 0,
) -> Bound:
    """Bound the Bayes error of optimal fusion by the overlap of the classes.

    **It bounds the Bayes error of the best possible fusion of these answers, not the error of any given
    rule.** With BC the integral of sqrt(p0 p1), two classes have
    (1 - sqrt(1 - 4 pi0 pi1 BC^2)) / 2 <= P_e <= sqrt(pi0 pi1) BC. Give exactly one source: ``means`` with
    ``covariance``, ``confusion``, or ``posterior``.

    Parameters
    ----------
    means : array-like of shape (class, specialist), optional
        Mean answer of every specialist under every class; answers are assumed jointly normal.
    covariance : array-like of shape (specialist, specialist) or (class, specialist, specialist), optional
        Covariance of the answers, common to all classes or one per class.
    confusion : array-like of shape (specialist, class, answer) or (class, answer), optional
        Counts; rows are the true class. Several specialists need ``assume="independent"``, since their
        separate tables say nothing of their joint law; one table may count joint answers.
    posterior : array-like of shape (sample, class), optional
        Fused class probabilities on samples that nothing was fitted on. The bound holds only if
        they are calibrated.
    y : array-like of shape (sample,), optional
        True codes beside ``posterior``: its calibration error is then reported.
    priors : array-like of shape (class,), optional
        Class probabilities. Default: equal for ``means``; the shares of the counts of the first
        specialist for ``confusion``; the mean posterior for ``posterior``, where it cannot be given.
    assume : {"joint", "independent"}
        Use the full covariance or joint table, or treat specialists as independent given the class.
    smoothing : float
        Added to every count; 0.5 is Jeffreys' prior. The plug-in estimate with 0 is optimistic.
    ci : float
        Level of the interval of estimated bounds.
    n_bootstrap : int
        Confusion tables drawn anew for the interval, 0 for none. With few samples per answer (30 for 8
        answers) a nominal 95 % covers about 90 %.
    seed : int
        Seed of those draws.

    Returns
    -------
    Bound
        ``value`` is the Bhattacharyya upper bound; ``parts`` adds the Chernoff bound (two classes; `chernoff` has
        all its forms), the Bayes error (posterior), and joint against independent distances (normal answers).

    Raises
    ------
    PanelError
        If not exactly one source came, shapes do not fit, a prior is not positive, a covariance is
        singular or no covariance, or a confusion table holds shares where counts are needed.

    Notes
    -----
    More than two classes: the sum of pairwise bounds, clipped at 1 - max prior; below, 2 / K times
    the sum of pairwise lower bounds. For normal answers with D = -ln BC and d the difference of means,
    -ln of the integral of p0^(1-t) p1^t is t (1 - t) / 2 d'S_t^-1 d
    + (ln|S_t| - t ln|S0| - (1 - t) ln|S1|) / 2 with S_t = t S0 + (1 - t) S1; D is the case t = 1/2.

    References
    ----------
    Bhattacharyya, 1943; Kailath, *The divergence and Bhattacharyya distance measures*, 1967; Fukunaga,
    *Introduction to statistical pattern recognition*, 1990, section 3.4.

    Examples
    --------
    >>> bound = bhattacharyya(means=[[0.0], [2.0]], covariance=[[1.0]])
    >>> round(bound.value, 4), round(bound.lower, 4), round(bound.distance, 4)
    (0.3033, 0.1025, 0.5)
    """
    check_choice("assume", assume, ("joint", "independent"))
    quantile = check_level(ci)
    laws = read_class_laws(means, covariance, confusion, posterior, y, priors, assume, smoothing, n_bootstrap)
    pairs, overlap = _overlaps(laws)
    upper, lower = combine_pairs(overlap, laws.prior)
    best = 1.0 - float(laws.prior.max())
    k = len(laws.prior)
    parts = {"bhattacharyya": upper, "best_prior": best, **laws.numbers}
    if k == 2 and (laws.prior > 0).all():
        t, log_bound = best_exponent(laws.exponent, 0, 1, laws.prior)
        parts["chernoff"], parts["chernoff_t"] = min(float(np.exp(log_bound)), best), t
    value = min(upper, best)
    se, interval = _uncertainty(laws, value, smoothing, ci, quantile, n_bootstrap, seed)
    coefficient = float(pairs[0, 1]) if k == 2 else None
    return Bound(
        value=value,
        lower=lower,
        method="Bhattacharyya",
        bounds=BAYES,
        assume=laws.law,
        exact=False,
        parts=parts,
        coefficient=coefficient,
        distance=None if not coefficient else float(-np.log(min(coefficient, 1.0))),
        pairs=pairs,
        se=se,
        ci=interval,
        n=laws.n,
        warnings=laws.warnings,
    )


def _overlaps(laws: ClassLaws) -> tuple[Floats, Floats]:
    """Return BC_ij and sqrt(pi_i pi_j) BC_ij of all pairs of classes."""
    root = np.sqrt(laws.prior[:, None] * laws.prior[None, :])
    if laws.eta is not None:
        rooted = np.sqrt(laws.eta)
        overlap = (rooted.T @ rooted) / len(rooted)
        pairs = np.divide(overlap, root, out=np.zeros_like(overlap), where=root > 0)
        np.fill_diagonal(pairs, 1.0)
        return pairs, overlap
    k = len(laws.prior)
    pairs = np.eye(k)
    for a in range(k):
        for b in range(a + 1, k):
            pairs[a, b] = pairs[b, a] = np.exp(-max(laws.exponent(a, b, 0.5), 0.0))
    return pairs, pairs * root


def _uncertainty(
    laws: ClassLaws, value: float, smoothing: float, ci: float, quantile: float, n_bootstrap: int, seed: int
) -> tuple[float | None, Floats | None]:
    if laws.eta is not None:
        # Sum over pairs of sqrt(eta_i eta_j), sample by sample.
        psi = (np.sqrt(laws.eta).sum(axis=1) ** 2 - laws.eta.sum(axis=1)) / 2.0
        se = float(psi.std(ddof=1) / np.sqrt(len(psi)))
        return se, np.clip(np.array([value - quantile * se, value + quantile * se]), 0.0, 1.0)
    draws = [
        bound_of_value(theta, laws.prior) for theta in redrawn_tables(laws, smoothing, n_bootstrap, seed)
    ]
    if not draws:
        return None, None
    tail = (1.0 - ci) / 2.0
    se_tables = float(np.std(draws, ddof=1)) if len(draws) > 1 else None
    return se_tables, np.quantile(np.array(draws), [tail, 1.0 - tail])
