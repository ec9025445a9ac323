"""Panels that are not complete: which budget is left, and how far a rule that heard a part can be off."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf, isnan, sqrt

from theory._checks import check_choice, read_count
from theory._exceptions import PanelError


@dataclass(frozen=True)
class SettledBudget:
    """How many of the admitted answers are assumed wrong, and whether that is as promised.

    Attributes
    ----------
    n_byzantine : int
        Budget for the rule that fuses the admitted answers; -1 if they are too few even for 0.
    guaranteed : bool
        Whether at most so many of the admitted can be wrong, as at most the declared number of all are.
    """

    n_byzantine: int
    guaranteed: bool


def settle_budget(
    n_byzantine: int,
    *,
    admitted: int,
    charged: int,
    minimum: Callable[[int], int],
    spend: str = "cautious",
) -> SettledBudget:
    """Decide how many liars to withstand among those who answered.

    Parameters
    ----------
    n_byzantine : int
        How many of all specialists may be wrong in any way (papers write f).
    admitted : int
        How many answers are to be fused.
    charged : int
        How many specialists were found faulty and left out.
    minimum : callable
        Fewest specialists that the rule needs for a budget; must not fall as the budget grows.
    spend : {"cautious", "declared"}, default "cautious"
        ``"declared"``: a fault that was found is one liar less, so f - charged are left. ``"cautious"``: the
        largest budget from there to f that the rule accepts, as an exception over a network is weak
        proof that its sender was one of the f.

    Returns
    -------
    SettledBudget
        Where nothing is guaranteed: the largest budget from 0 to f that the rule accepts.

    Raises
    ------
    PanelError
        If a number is negative or not whole, or `spend` is unknown.

    Notes
    -----
    At most f - charged of the admitted are wrong, so every budget from there on keeps the promise; a larger
    one costs accuracy, see `partial_panel_bound`. NaN is refused.

    References
    ----------
    Yin, Chen, Ramchandran, Bartlett (2018), Byzantine-robust distributed learning, section 4, for rules that need
    2f + 1.

    Examples
    --------
    >>> settle_budget(4, admitted=11, charged=2, minimum=lambda f: 2 * f + 1)
    SettledBudget(n_byzantine=4, guaranteed=True)
    >>> settle_budget(4, admitted=6, charged=2, minimum=lambda f: 2 * f + 1)
    SettledBudget(n_byzantine=2, guaranteed=True)
    >>> settle_budget(4, admitted=6, charged=0, minimum=lambda f: 2 * f + 1)
    SettledBudget(n_byzantine=2, guaranteed=False)
    """
    f, heard = read_count("n_byzantine", n_byzantine), read_count("admitted", admitted)
    left = read_count("charged", charged)
    check_choice("spend", spend, ("cautious", "declared"))
    least = max(f - left, 0)
    most = f if spend == "cautious" else least
    if left <= f:
        for budget in range(most, least - 1, -1):
            if minimum(budget) <= heard:
                return SettledBudget(budget, True)
    for budget in range(f, -1, -1):
        if minimum(budget) <= heard:
            return SettledBudget(budget, False)
    return SettledBudget(-1, False)


def partial_panel_bound(kappa: float, n: int, n_byzantine: int, *, admitted: int, charged: int = 0) -> float:
    """Bound the error of a rule that heard only a part of the panel.

    Parameters
    ----------
    kappa : float
        Resilience coefficient of the rule on the `admitted` answers, at most n_byzantine - charged of which
        are wrong.
    n : int
        How many specialists were asked.
    n_byzantine : int
        How many of them may be wrong in any way (papers write f).
    admitted : int
        How many answers were fused.
    charged : int, default 0
        How many were found faulty and left out.

    Returns
    -------
    float
        Distance from the fused answer to the mean of all n - f honest specialists, in root mean squared
        distances of these from their mean; infinite where no honest specialist need be among the admitted.

    Raises
    ------
    PanelError
        If a number is negative or not whole, or the numbers do not fit together.

    Notes
    -----
    With H = n - f and A = admitted - (f - charged): sqrt(kappa H / A) + sqrt((H - A) / A). Holds whichever
    honest specialists are absent; that they are absent for a reason harms accuracy, not the bound.

    References
    ----------
    Cauchy's inequality for the mean of a part: the mean of A of H points is within
    sqrt((H - A) / A) root mean squared distances of the mean of all.

    Examples
    --------
    >>> round(partial_panel_bound(4 / 5, 15, 4, admitted=11, charged=2), 3)
    1.46
    """
    size, f = read_count("n", n, least=1), read_count("n_byzantine", n_byzantine)
    heard, left = read_count("admitted", admitted), read_count("charged", charged)
    if isnan(kappa) or kappa < 0.0:
        raise PanelError(f"kappa must be a number >= 0; got {kappa!r}. See fusion.resilience.")
    if heard + left > size or f >= size:
        raise PanelError(
            f"of n={size} specialists, n_byzantine={f} may be wrong, {heard} were admitted and {left} charged; "
            "admitted and charged must not exceed n, and somebody must be honest."
        )
    honest, among = size - f, min(heard - max(f - left, 0), size - f)
    return inf if among <= 0 else sqrt(subset_resilience(kappa, honest, among))


def subset_resilience(kappa: float, honest: int, among: int) -> float:
    """Give the coefficient for `honest` specialists of a promise about any `among` of them.

    Parameters
    ----------
    kappa : float
        |F - m_A|^2 <= kappa V_A for every set A of `among` honest specialists.
    honest : int
        How many honest ones there are.
    among : int
        How many the promise is about.

    Returns
    -------
    float
        (sqrt(kappa H / A) + sqrt((H - A) / A))^2.

    Raises
    ------
    PanelError
        If not 1 <= among <= honest.

    Notes
    -----
    From V_A <= (H / A) V_H and |m_A - m_H|^2 <= ((H - A) / A) V_H. This is what a rule costs that assumes
    more liars than there are. NaN gives NaN.

    References
    ----------
    Cauchy's inequality.

    Examples
    --------
    >>> round(subset_resilience(0.5, 8, 8), 12)
    0.5
    """
    if not 1 <= among <= honest:
        raise PanelError(f"among must lie in 1..{honest}, the number of honest specialists; got {among}.")
    return (sqrt(kappa * honest / among) + sqrt((honest - among) / among)) ** 2
