"""The error of a vote: exact where the law is known, bounded where only moments are."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theory._checks import check_choice, read_accuracies, read_weights, read_zero_one
from theory._exceptions import PanelError
from theory.bounds.result import Bound

Floats = NDArray[np.float64]
_VOTE = "error of the majority vote"


def vote_error(
    accuracy: ArrayLike,
    *,
    n_specialists: int | None = None,
    rho: float | None = None,
    weights: ArrayLike | None = None,
) -> Bound:
    """Compute the exact error of a two-way majority vote; ties count one half.

    Without ``rho`` the specialists are independent given the truth (Poisson-binomial, or a dynamic
    programme over integer weights). With ``rho`` they are exchangeable with that correlation of
    being right, by a beta-binomial law: shared difficulty.

    Parameters
    ----------
    accuracy : float or array-like of shape (specialist,)
        Probability of being right.
    n_specialists : int, optional
        Size of the panel when one accuracy holds for all.
    rho : float, optional
        Correlation in [0, 1) of every two specialists' being right; all accuracies must be equal.
    weights : array-like of int, shape (specialist,), optional
        Whole numbers of votes; independent specialists only.

    Returns
    -------
    Bound
        ``exact`` is True. With ``rho``, ``parts["limit"]`` is the error of an endless panel.

    Raises
    ------
    PanelError
        If accuracies lie outside [0, 1], weights are no whole numbers, or ``rho`` comes with unequal
        accuracies.

    References
    ----------
    Condorcet, 1785; Ladha, *The Condorcet jury theorem, free speech, and correlated votes*, 1992.

    Examples
    --------
    >>> round(vote_error(0.72, n_specialists=11, rho=0.05).value, 3)
    0.103
    >>> round(vote_error([0.9, 0.6, 0.6]).value, 3)
    0.208
    """
    p = read_accuracies(accuracy)
    if n_specialists is not None:
        if len(p) != 1 or not isinstance(n_specialists, int | np.integer) or n_specialists < 1:
            raise PanelError(
                f"n_specialists={n_specialists!r} with {len(p)} accuracies: give one accuracy and a size (a whole "
                "number >= 1), or one accuracy per specialist and no size."
            )
        p = np.full(n_specialists, p[0])
    m = len(p)
    if rho is not None:
        return _exchangeable(p, float(rho), weights)
    if weights is None:
        law = np.ones(1)
        for q in p:
            law = np.convolve(law, [1.0 - q, q])
        sums = 2 * np.arange(m + 1) - m
        method = "Poisson-binomial"
    else:
        w = np.asarray(weights, dtype=np.float64)
        if (
            w.shape != (m,)
            or not np.isfinite(w).all()
            or (w < 0).any()
            or (w != np.floor(w)).any()
            or not w.any()
        ):
            raise PanelError(
                f"weights of an exact vote are {m} whole numbers >= 0, not all 0; got "
                f"{np.array2string(w, threshold=6)}. Multiply and round them, or use vote_bounds."
            )
        total = int(w.sum())
        law = np.zeros(total + 1)
        law[0] = 1.0
        for q, votes in zip(p, w.astype(int), strict=True):
            moved = np.zeros_like(law)
            moved[votes:] = law[: total + 1 - votes]
            law = (1.0 - q) * law + q * moved
        sums = 2 * np.arange(total + 1) - total
        method = "dynamic programme over integer weights"
    error = float(law[sums < 0].sum() + 0.5 * law[sums == 0].sum())
    return _exact(error, method, "independence given the truth", {})


def _exchangeable(p: Floats, rho: float, weights: ArrayLike | None) -> Bound:
    if weights is not None:
        raise PanelError(
            "rho= describes exchangeable specialists, whose votes weigh the same: leave weights out."
        )
    if np.ptp(p) > 0:
        raise PanelError(
            "rho= describes exchangeable specialists: give one accuracy for all, or leave rho out. "
            "vote_bounds takes unequal, correlated specialists."
        )
    if not 0.0 <= rho < 1.0:
        raise PanelError(f"rho of a beta-binomial vote lies in [0, 1); got {rho!r}.")
    from scipy.special import betainc, gammaln

    m, q = len(p), float(p[0])
    right = np.arange(m + 1)
    # Factors of Polya's urn. Differences of log beta functions lose all digits as rho tends to 0.
    drawn = rho * np.arange(m)
    with np.errstate(divide="ignore"):
        won, lost, any_ = (np.log(start + drawn) for start in (q * (1 - rho), (1 - q) * (1 - rho), 1 - rho))
    ways = gammaln(m + 1.0) - gammaln(right + 1.0) - gammaln(m - right + 1.0)
    law = np.exp(ways + _running(won) + _running(lost)[::-1] - any_.sum())
    if rho < 1e-12 or q in (0.0, 1.0):
        limit = 0.0 if q > 0.5 else 0.5 if q == 0.5 else 1.0
    else:
        size = (1.0 - rho) / rho
        limit = float(betainc(q * size, (1.0 - q) * size, 0.5))
    error = float(law[2 * right < m].sum() + 0.5 * law[2 * right == m].sum())
    return _exact(error, "beta-binomial", f"exchangeable specialists, rho = {rho:g}", {"limit": limit})


def _running(terms: Floats) -> Floats:
    return np.concatenate([[0.0], np.cumsum(terms)])


def _exact(error: float, method: str, assume: str, parts: dict[str, float]) -> Bound:
    error = min(max(error, 0.0), 1.0)
    return Bound(error, error, method, _VOTE, assume, True, parts)


def vote_bounds(
    correct: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    assume: Literal["any", "independent"] = "any",
) -> Bound:
    """Bound the error of a weighted majority or plurality vote from moments of being right.

    **Under ``assume="any"`` it bounds the error of the vote with these fixed weights whatever the
    correlation**: Cantelli (the C-bound), tandem and first order, from the mean and the second
    moment of the weighted share of wrong votes. A tie counts as an error. The bounds hold for
    plurality among many options too, since an error there needs at least half the weight against
    the truth. **Under ``assume="independent"`` it adds bounds that are wrong when errors are
    correlated.**

    Parameters
    ----------
    correct : array-like of shape (sample, specialist) or (specialist,)
        1 where right, 0 where wrong; or accuracies, with ``assume="independent"``.
    weights : array-like of shape (specialist,), optional
        Weights >= 0 that sum to 1, fixed before these samples; equal by default.
    assume : {"any", "independent"}
        Nothing about correlation, or independence given the truth.

    Returns
    -------
    Bound
        ``value`` is the smallest bound that applies to these weights; ``parts`` holds all. From
        samples, ``se`` is the standard error of ``value``.

    Raises
    ------
    PanelError
        If the table does not hold 0 and 1, or the weights are negative or do not sum to 1.

    Notes
    -----
    R is the mean weighted share of wrong votes, T its second moment, V = T - R^2: first order 2R,
    tandem 4T, Cantelli V / (V + (1/2 - R)^2) for R < 1/2, which is the C-bound
    1 - (1 - 2R)^2 / (1 - 2d) with d = 2 (R - T) and never above the tandem bound. Moments are
    plugged in: ``se`` says how uncertain that is, and `certificate` bounds with confidence.
    Independent parts: ``hoeffding`` for these weights; ``optimal_product``, ``optimal_upper`` and
    ``optimal_lower`` for the optimal weights ln(p / (1 - p)).

    References
    ----------
    Masegosa et al., *Second order PAC-Bayesian bounds for the weighted majority vote*, 2020; Wu et al., 2021;
    Berend and Kontorovich, *A finite sample analysis of the naive Bayes classifier*, 2015.

    Examples
    --------
    >>> bound = vote_bounds([[1, 1, 0], [1, 0, 1], [0, 1, 1], [1, 1, 1]])
    >>> bound.method, round(bound.value, 3), round(bound.parts["first_order"], 3)
    ('cantelli', 0.25, 0.5)
    """
    check_choice("assume", assume, ("any", "independent"))
    if np.ndim(correct) == 1:
        if assume != "independent":
            raise PanelError(
                "accuracies alone do not say how errors are correlated: give the (sample, specialist) table, "
                "or assume='independent'."
            )
        p, n = read_accuracies(correct), None
        w = _convex(weights, len(p))
        wrong = None
    else:
        table = read_zero_one(correct, "correct")
        n = len(table)
        p, w = table.mean(axis=0), _convex(weights, table.shape[1])
        wrong = 1.0 - table @ w
    parts: dict[str, float] = {}
    risk = float(1.0 - p @ w)
    warnings: tuple[str, ...] = ()
    if wrong is None or assume == "independent":
        second = float((w**2 * p * (1.0 - p)).sum()) + risk**2
    else:
        second = float(np.mean(wrong**2))
    variance = max(second - risk**2, 0.0)
    parts["cantelli"] = _cantelli(risk, variance)
    parts["tandem"] = min(4.0 * second, 1.0)
    parts["first_order"] = min(2.0 * risk, 1.0)
    candidates = ["cantelli", "tandem", "first_order"]
    if assume == "independent":
        edge = 0.5 - risk
        parts["hoeffding"] = float(np.exp(-2.0 * edge**2 / (w**2).sum())) if edge > 0 else 1.0
        candidates.append("hoeffding")
        parts |= _optimal_weights(p)
        warnings = ("independence given the truth is assumed; real specialists share hard samples",)
    method = min(candidates, key=parts.__getitem__)
    se = None
    if wrong is not None and n is not None and n > 1 and assume == "any":
        se = _vote_se(wrong, risk, second, method)
    return Bound(
        value=parts[method],
        lower=0.0,
        method=method,
        bounds=_VOTE + ", ties as errors",
        assume="nothing about correlation" if assume == "any" else "independence given the truth",
        exact=False,
        parts=parts,
        se=se,
        n=n,
        warnings=warnings,
    )


def _convex(weights: ArrayLike | None, m: int) -> Floats:
    w = read_weights(weights, m)
    if (w < 0).any():
        raise PanelError(f"votes need weights >= 0; got {float(w.min()):.4g}.")
    return w


def _cantelli(risk: float, variance: float) -> float:
    edge = 0.5 - risk
    return variance / (variance + edge**2) if edge > 0 else 1.0


def _optimal_weights(p: Floats) -> dict[str, float]:
    inner = np.clip(p, 1e-12, 1.0 - 1e-12)
    potential = float(((inner - 0.5) * np.log(inner / (1.0 - inner))).sum())
    return {
        "optimal_product": 0.5 * float(np.prod(2.0 * np.sqrt(inner * (1.0 - inner)))),
        "optimal_upper": float(np.exp(-potential / 2.0)),
        "optimal_lower": 0.0
        if potential > 300.0
        else 3.0 / (8.0 * (1.0 + float(np.exp(2.0 * potential + 4.0 * np.sqrt(potential))))),
    }


def _vote_se(wrong: Floats, risk: float, second: float, method: str) -> float:
    """Delta method on the mean and the second moment of the share of wrong votes."""
    first_part, second_part = wrong - risk, wrong**2 - second
    if method == "first_order":
        psi = 2.0 * first_part
    elif method == "tandem":
        psi = 4.0 * second_part
    else:
        edge, variance = 0.5 - risk, second - risk**2
        below = (variance + edge**2) ** 2
        if below == 0.0:
            return 0.0
        # Derivatives of V / (V + edge^2) with dV = dT - 2 R dR and d(edge^2) = -2 edge dR.
        psi = (edge**2 * (second_part - 2.0 * risk * first_part) + 2.0 * variance * edge * first_part) / below
    return float(psi.std(ddof=1) / np.sqrt(len(psi)))
