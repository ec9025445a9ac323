"""What a resilience coefficient promises: radii for a panel, and which budget to assume."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb, inf, isnan
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theory._checks import read_count
from theory._exceptions import BudgetError, PanelError
from theory._results import add_warnings
from theory.panel import as_panel

Floats = NDArray[np.float64]

# Subsets up to this many are tried one by one.
_SUBSETS = 2_000
_BLOCK = 1_000_000


def resilience_lower_bound(n: int, n_byzantine: int) -> float:
    """Give the least resilience coefficient that any rule can have.

    Parameters
    ----------
    n : int
        Number of specialists.
    n_byzantine : int
        How many may be wrong in any way (papers write f).

    Returns
    -------
    float
        f / (n - 2f); infinite from n = 2f on.

    Raises
    ------
    PanelError
        If a number is negative or not whole.

    Notes
    -----
    Put n - f specialists at 0 and f at 1: if those at 0 are honest and agree, the answer must be 0; if 2f of
    them are not, it should have been f/(n-f). The trimmed mean attains the bound. NaN cannot occur.

    References
    ----------
    Allouah, Farhadkhani, Guerraoui, Gupta, Pinot, Stephan (2023), Fixing by mixing, proposition 6.

    Examples
    --------
    >>> resilience_lower_bound(10, 3)
    0.75
    """
    size, f = read_count("n", n, least=1), read_count("n_byzantine", n_byzantine)
    return f / (size - 2 * f) if size > 2 * f else inf


def certified_radius(
    panel: Any, kappa: float, n_byzantine: int, *, honest: ArrayLike | None = None
) -> Floats:
    """Say how far a fused answer can be from the mean of the honest specialists.

    Parameters
    ----------
    panel : array-like of shape (..., specialist, output)
        What the specialists said.
    kappa : float
        Resilience coefficient of the rule.
    n_byzantine : int
        How many may be wrong in any way (papers write f).
    honest : array-like of int, shape (n - f,), or of bool, shape (specialist,), optional
        Who is known to be honest. Unless given, the worst choice of n - f specialists counts.

    Returns
    -------
    ndarray of float64, shape (...)
        sqrt(kappa V), where V is the mean squared distance of the honest specialists from their mean, or the
        largest that any n - f specialists can have.

    Raises
    ------
    PanelError
        If the panel or a number cannot be read, or an honest specialist's answer is not finite.
    BudgetError
        If n <= 2f, or more than f answers of a sample are not finite.

    Notes
    -----
    Without `honest` the radius promises something whoever is honest, and so it grows with the furthest
    lies: nobody can tell from the panel alone that the far ones are the liars. Up to 2,000 subsets are tried one by
    one; beyond, V is bounded by the n - f largest distances about the best of n + 1 centres, which may be too
    large but never too small. NaN and infinite answers are wrong answers: they are left out.

    References
    ----------
    Allouah, Farhadkhani, Guerraoui, Gupta, Pinot, Stephan (2023), Fixing by mixing, definition 2.

    Examples
    --------
    >>> certified_radius([[0.0], [2.0], [90.0]], 1.0, 1, honest=[0, 1])
    array(1.)
    >>> certified_radius([[0.0], [2.0], [90.0]], 1.0, 1)
    array(45.)
    """
    values, _ = as_panel(panel)
    n, f = values.shape[-2], read_count("n_byzantine", n_byzantine)
    if isnan(kappa) or kappa < 0.0:
        raise PanelError(f"kappa must be a number >= 0; got {kappa!r}. See fusion.resilience.")
    if n <= 2 * f:
        raise BudgetError(
            f"no rule withstands {f} of {n} specialists. Lower n_byzantine to {(n - 1) // 2}, or add specialists."
        )
    rows = values.reshape(-1, *values.shape[-2:])
    if honest is not None:
        chosen = _places(honest, n, n - f)
        known = rows[:, chosen].astype(np.float64)
        if not np.isfinite(known).all():
            raise PanelError("an honest specialist's answer is not finite. Fill it, or leave honest= out.")
        variance = np.square(known - known.mean(axis=1, keepdims=True)).sum(axis=2).mean(axis=1)
    else:
        step = max(1, _BLOCK // (n * n))
        parts = [_widest(rows[s : s + step], n - f) for s in range(0, len(rows), step)]
        variance = np.concatenate(parts) if parts else np.zeros(0)
    with np.errstate(invalid="ignore"):
        radius = np.sqrt(np.where(variance == 0.0, 0.0, kappa * variance))
    return np.asarray(radius.reshape(values.shape[:-2]))


def _widest(rows: NDArray[Any], size: int) -> Floats:
    """Bound the mean squared deviation of any `size` rows of each sample."""
    finite = np.isfinite(rows).all(axis=2)
    if not finite.all():
        left = finite.sum(axis=1)
        if (left < size).any():
            sample = int(np.argmax(left < size))
            raise BudgetError(
                f"{rows.shape[1] - int(left[sample])} answers of sample {sample} are not finite; "
                f"n_byzantine={rows.shape[1] - size}. Raise n_byzantine, or drop the sample."
            )
        return np.array(
            [float(_widest(row[keep][None], size)[0]) for row, keep in zip(rows, finite, strict=True)]
        )
    n_samples, n, d = rows.shape
    square = np.zeros((n_samples, n, n))
    step = max(1, _BLOCK // (n_samples * n * n))
    # Squares that overflow make the radius infinite, which is what it then is.
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, d, step):
            part = rows[:, :, start : start + step].astype(np.float64)
            square += np.square(part[:, :, None] - part[:, None]).sum(axis=3)
        if comb(n, size) <= _SUBSETS:
            worst = np.zeros(n_samples)
            for subset in combinations(range(n), size):
                inside = square[:, subset][:, :, subset].sum(axis=(1, 2))
                worst = np.maximum(worst, inside / (2.0 * size * size))
            return worst
        about_mean = square.mean(axis=2) - square.mean(axis=(1, 2))[:, None] / 2.0
        candidates = np.concatenate([square, about_mean[:, None]], axis=1)
        largest = np.sort(candidates, axis=2)[:, :, n - size :].mean(axis=2)
    bound: Floats = np.where(np.isnan(largest), inf, largest).min(axis=1)
    return bound


@dataclass(frozen=True, eq=False)
class BudgetSuggestion:
    """How many liars to assume, and what a wrong guess costs.

    Attributes
    ----------
    n_byzantine : int
        The suggestion.
    n : int
        Number of specialists.
    exceeds : ndarray of float64, shape (budget,)
        Probability that there are more liars than 0, 1, 2, ... are assumed.
    cost : ndarray of float64, shape (budget, liars)
        Resilience coefficient f'/(n-f-f') of the trimmed mean that assumes f' where f lie; infinite where
        more lie than assumed.
    risk : float
        The probability that was asked for.
    warnings : tuple of str
        What a reader should know.
    """

    n_byzantine: int
    n: int
    exceeds: Floats
    cost: Floats
    risk: float
    warnings: tuple[str, ...] = ()

    def summary(self) -> str:
        """Return the table as text."""
        lines = [
            f"assume {self.n_byzantine} of {self.n} (exceeded with probability "
            f"{self.exceeds[self.n_byzantine]:.3g}; asked for {self.risk:g})",
            "  assumed  exceeded   kappa if nobody lies, if that many do",
        ]
        lines += [
            f"  {budget:7d}  {self.exceeds[budget]:8.3g}   {self.cost[budget, 0]:.3g}, {self.cost[budget, budget]:.3g}"
            for budget in range(len(self.exceeds))
        ]
        return add_warnings(lines, self.warnings)


def suggest_n_byzantine(
    n: int,
    *,
    probability: float | Sequence[float],
    risk: float = 0.01,
    owners: Sequence[Any] | None = None,
) -> BudgetSuggestion:
    """Choose how many specialists to assume wrong, from how likely each is to be.

    Parameters
    ----------
    n : int
        Number of specialists.
    probability : float or sequence of float
        That a specialist is wrong in any way; one for all, or one for each. With `owners`, that an owner is.
    risk : float, default 0.01
        Acceptable probability that more are wrong than assumed.
    owners : sequence of shape (specialist,), optional
        Specialists of one owner (a model family, a data source, a site) are wrong together; `probability` is
        then one number, or one per owner in order of first appearance. Without owners they are independent.

    Returns
    -------
    BudgetSuggestion
        The least budget that is exceeded with probability at most `risk`, with the table behind it.

    Raises
    ------
    PanelError
        If a number cannot be read.
    BudgetError
        If no budget below n/2 is enough.

    Notes
    -----
    The two mistakes are not alike. Assuming f' where f <= f' lie costs a coefficient f'/(n-f-f') instead of
    f/(n-2f), that is accuracy; assuming fewer than lie leaves no promise at all. NaN is refused.

    References
    ----------
    Hong (2013), On computing the distribution function for the Poisson binomial distribution, section 2.

    Examples
    --------
    >>> suggest_n_byzantine(15, probability=0.05).n_byzantine
    3
    >>> suggest_n_byzantine(15, probability=0.05, owners="aaaabbbbccccddd", risk=0.1).n_byzantine
    4
    """
    size = read_count("n", n, least=1)
    if not 0.0 < risk < 1.0:
        raise PanelError(f"risk must lie in (0, 1); got {risk!r}. Use 0.01.")
    groups = [1] * size
    if owners is not None:
        if len(owners) != size:
            raise PanelError(f"owners must name one owner for each of {size} specialists; got {len(owners)}.")
        names = list(dict.fromkeys(owners))
        groups = [sum(owner == name for owner in owners) for name in names]
    chance = np.atleast_1d(np.asarray(probability, dtype=np.float64))
    if chance.shape not in ((1,), (len(groups),)) or not ((chance >= 0.0) & (chance <= 1.0)).all():
        raise PanelError(f"probability must lie in [0, 1], one number or {len(groups)}; got {probability!r}.")
    number = np.zeros(size + 1)
    number[0] = 1.0
    for members, p in zip(groups, np.broadcast_to(chance, (len(groups),)), strict=True):
        moved = np.zeros_like(number)
        moved[members:] = number[: size + 1 - members]
        number = (1.0 - p) * number + p * moved
    largest = (size - 1) // 2
    # Summed from the far end, where the terms are smallest.
    exceeds = np.append(np.cumsum(number[::-1])[::-1][1:], 0.0)[: largest + 1]
    enough = np.flatnonzero(exceeds <= risk)
    if not enough.size:
        raise BudgetError(
            f"more than {largest} of {size} specialists are wrong with probability {exceeds[-1]:.3g} > risk={risk:g}, "
            "and no rule withstands half. Add specialists or owners, or raise risk."
        )
    assumed, true = np.arange(largest + 1)[:, None], np.arange(largest + 1)
    cost = np.where(true <= assumed, assumed / np.maximum(size - true - assumed, 1), inf)
    notes = () if owners is not None else (
        "specialists were taken to fail independently; name owners= where they share data, models or hands.",
    )  # fmt: skip
    return BudgetSuggestion(int(enough[0]), size, exceeds, cost, float(risk), notes)


def _places(honest: ArrayLike, n: int, needed: int) -> NDArray[np.intp]:
    given = np.asarray(honest)
    if given.dtype == np.bool_ and given.shape == (n,):
        given = np.flatnonzero(given)
    whole = given.ndim == 1 and given.dtype.kind in "iu"
    if (
        not whole
        or len(set(given.tolist())) != needed
        or len(given) != needed
        or (given < 0).any()
        or (given >= n).any()
    ):
        raise PanelError(
            f"honest must name {needed} different specialists (n - n_byzantine), by place 0..{n - 1} or as {n} "
            f"flags; got {honest!r}."
        )
    return given.astype(np.intp)
