"""Size laws: how likely a coalition of each size is when a specialist's contribution is measured."""

from __future__ import annotations

from functools import lru_cache
from math import comb, lgamma
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from theory._checks import check_choice
from theory._exceptions import PanelError

Floats = NDArray[np.float64]
RULES = ("shapley", "banzhaf", "leave_one_out", "solo", "beta")


class MeanGameLaw(NamedTuple):
    """Coefficients of the mean game for one number of specialists (theory of `mean_game`)."""

    own: float
    with_others: float
    crowd_own: float
    crowd_pairs: float
    reference: float
    opening: float
    exaggeration: float
    h_all: float


def check_rule(rule: str, beta: tuple[float, float] | None) -> tuple[float, float] | None:
    """Refuse unknown rules, and Beta parameters that do not fit the rule."""
    check_choice("rule", rule, RULES)
    if (rule == "beta") != (beta is not None):
        raise PanelError(
            f"rule={rule!r} with beta={beta!r}: rule='beta' needs beta=(a, b), two positive numbers (a "
            "large: small coalitions), the other rules none."
        )
    if beta is None:
        return None
    a, b = float(beta[0]), float(beta[1])
    if not (0 < a < float("inf") and 0 < b < float("inf")):
        raise PanelError(f"beta=(a, b) needs two positive finite numbers; got {beta!r}.")
    return a, b


@lru_cache(maxsize=512)
def size_law(n_specialists: int, rule: str, beta: tuple[float, float] | None = None) -> Floats:
    """Probability of every size s = 0 .. M-1 of the coalition that a specialist joins.

    Parameters
    ----------
    n_specialists : int
        M, at least 1.
    rule : {"shapley", "banzhaf", "leave_one_out", "solo", "beta"}
        The semivalue.
    beta : tuple of two floats, optional
        Parameters (a, b) of ``"beta"``; (1, 1) is Shapley.

    Returns
    -------
    ndarray of shape (n_specialists,)
        Read-only, sums to 1.

    References
    ----------
    Dubey, Neyman and Weber, *Value theory without efficiency*, 1981; Kwon and Zou, *Beta Shapley*, 2022.

    Examples
    --------
    >>> size_law(4, "shapley")
    array([0.25, 0.25, 0.25, 0.25])
    >>> size_law(3, "banzhaf")
    array([0.25, 0.5 , 0.25])
    """
    m = n_specialists
    if rule == "shapley":
        law = np.full(m, 1.0 / m)
    elif rule == "banzhaf":
        law = np.array([comb(m - 1, s) / 2 ** (m - 1) for s in range(m)])
    elif rule == "leave_one_out":
        law = np.eye(m)[m - 1]
    elif rule == "solo":
        law = np.eye(m)[0]
    elif beta is not None:
        a, b = beta
        # A coalition of size s has the beta-binomial law with parameters (b, a): a large means small s.
        logs = [
            lgamma(m) - lgamma(s + 1) - lgamma(m - s)
            + lgamma(s + b) + lgamma(m - 1 - s + a) - lgamma(m - 1 + a + b)
            + lgamma(a + b) - lgamma(a) - lgamma(b)
            for s in range(m)
        ]  # fmt: skip
        law = np.exp(np.array(logs))
        law /= law.sum()
    else:
        raise PanelError("rule='beta' needs beta=(a, b).")
    law.setflags(write=False)
    return law


@lru_cache(maxsize=4096)
def mean_game_law(
    n_specialists: int, rule: str, beta: tuple[float, float] | None, quorum: int, baseline: float | None
) -> MeanGameLaw:
    """Coefficients A, B, G, U of the mean game, and its exaggeration factor.

    Parameters
    ----------
    n_specialists : int
        M, at least 1.
    rule, beta
        The semivalue, as in `size_law`.
    quorum : int
        Least size at which the panel speaks.
    baseline : float or None
        Weight of a baseline that is always present.
    """
    m = n_specialists
    p = size_law(m, rule, beta)
    s = np.arange(m, dtype=np.float64)
    k = np.arange(m + 1, dtype=np.float64)
    if baseline is None:
        h = np.where(k >= quorum, 1.0 / np.maximum(k, 1.0) ** 2, 0.0)
        h[0] = 0.0
    else:
        h = 1.0 / (k + baseline) ** 2
    rise = h[1:] - h[:-1]
    one, two = max(m - 1, 1), max((m - 1) * (m - 2), 1)
    above = float((p * h[1:]).sum())
    far = float((p * s * h[1:]).sum())
    return MeanGameLaw(
        own=above,
        with_others=far / one,
        crowd_own=float((p * s * rise).sum()) / one,
        crowd_pairs=float((p * s * (s - 1.0) * rise).sum()) / two,
        reference=float(p[quorum - 1]) if baseline is None and quorum <= m else 0.0,
        opening=float((p * rise).sum()),
        exaggeration=far / above if above > 0 else float("nan"),
        h_all=float(h[m]),
    )
