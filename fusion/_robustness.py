"""What a rule promises against liars, in numbers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import inf, isfinite
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fusion._arguments import read_budget
from fusion._compose import compose
from fusion._operator import Operator
from fusion._registry import get_operator
from fusion._resilience import NOTHING, Resilience
from theory._exceptions import PanelError
from theory.bounds.partial import subset_resilience
from theory.bounds.robustness import certified_radius, resilience_lower_bound


@dataclass(frozen=True, eq=False)
class Robustness:
    """What a rule promises where `n_byzantine` of `n` specialists may be wrong in any way.

    Attributes
    ----------
    rule : str
        The rule or chain.
    n, n_byzantine : int
        Specialists, and how many may be wrong (papers write f).
    assumed : int or None
        The rule's own budget; None if it has none.
    minimum : int
        Fewest specialists the rule accepts for n_byzantine.
    max_n_byzantine : int
        The most liars for which the rule, with that budget, promises anything among n.
    breakdown : float
        max_n_byzantine / n.
    resilience : Resilience
        kappa, and how it is known.
    lower_bound : float
        The least coefficient any rule can have, f/(n-2f).
    radius : ndarray of float64, shape (...), or None
        For a panel: how far each fused answer can be from the mean of the honest.
    promise : str
        In words.
    """

    rule: str
    n: int
    n_byzantine: int
    assumed: int | None
    minimum: int
    max_n_byzantine: int
    breakdown: float
    resilience: Resilience
    lower_bound: float
    radius: NDArray[np.float64] | None
    promise: str

    def summary(self) -> str:
        """Return the numbers as text."""
        kappa = self.resilience
        lines = [
            f"{self.rule}: {self.n_byzantine} of {self.n} may be wrong",
            f"  kappa {kappa.value:.4g} ({kappa.kind}); no rule has less than {self.lower_bound:.4g}",
            f"  needs {self.minimum} specialists; withstands up to {self.max_n_byzantine} of {self.n}",
        ]
        if self.radius is not None and self.radius.size:
            lines.append(f"  radius {np.median(self.radius):.4g} (median of {self.radius.size})")
        return "\n".join([*lines, f"  {self.promise}"])


def resilience(rule: str | Operator, n: int, n_byzantine: int, *, pre: Iterable[Any] = ()) -> Resilience:
    """Give the resilience coefficient of a rule, and how it is known.

    Parameters
    ----------
    rule : str or Operator
        A registry name, which stands for the rule with `n_byzantine` as its budget, or an operator.
    n : int
        Number of specialists.
    n_byzantine : int
        How many may be wrong in any way (papers write f).
    pre : iterable of pre-aggregators, optional
        In front of the rule, names or objects.

    Returns
    -------
    Resilience
        The least known kappa with |F - m_S|^2 <= kappa V_S for every set S of n - f honest specialists.

    Raises
    ------
    PanelError
        If the rule or a number cannot be read.

    Notes
    -----
    An operator keeps its own budget f'. If f' < f nothing is promised. If f' > f the promise is about any n - f' of
    the honest, which gives (sqrt(kappa H/A) + sqrt((H-A)/A))^2 with H = n - f and A = n - f'; for the trimmed
    mean it is f'/(n-f-f') exactly. NaN cannot occur.

    References
    ----------
    Allouah, Farhadkhani, Guerraoui, Gupta, Pinot, Stephan (2023), Fixing by mixing, definition 2.

    Examples
    --------
    >>> resilience("trimmed_mean", 10, 3)
    Resilience(value=0.75, kind='exact')
    >>> resilience("trimmed_mean", 10, 3, pre=["nearest_neighbor_mixing"]).value
    6.0
    """
    return _known(_operator(rule, n_byzantine, tuple(pre)), *_counts(n, n_byzantine))


def robustness(
    rule: str | Operator,
    n: int | None = None,
    n_byzantine: int = 1,
    *,
    panel: Any = None,
    honest: ArrayLike | None = None,
    pre: Iterable[Any] = (),
) -> Robustness:
    """Report what a rule promises against liars.

    Parameters
    ----------
    rule : str or Operator
        A registry name, which stands for the rule with `n_byzantine` as its budget, or an operator or chain.
    n : int, optional
        Number of specialists; the panel's unless given.
    n_byzantine : int, default 1
        How many may be wrong in any way (papers write f).
    panel : array-like of shape (..., specialist, output), optional
        For the certified radius.
    honest : array-like of int, shape (n - f,), or of bool, shape (specialist,), optional
        Who is known to be honest; otherwise the radius is that of the worst n - f specialists.
    pre : iterable of pre-aggregators, optional
        In front of the rule, names or objects.

    Returns
    -------
    Robustness
        Coefficient, lower bound, largest budget and, for a panel, the radius.

    Raises
    ------
    PanelError
        If an argument cannot be read, or `n` is not the panel's.
    BudgetError
        If no rule can withstand so many, and a radius is asked for.

    Notes
    -----
    The radius does not depend on what the liars say if `honest` is given; without, it must allow for the far ones
    being the honest ones, see `theory.certified_radius`. NaN answers count as liars.

    References
    ----------
    Allouah, Farhadkhani, Guerraoui, Gupta, Pinot, Stephan (2023), Fixing by mixing, definition 2.

    Examples
    --------
    >>> report = robustness("median", panel=[[0.0], [1.0], [2.0], [3.0], [90.0]], honest=[0, 1, 2, 3])
    >>> report.resilience.value, report.max_n_byzantine, round(float(report.radius), 3)
    (1.0, 2, 1.118)
    """
    if panel is not None:
        from theory.panel import as_panel

        size = as_panel(panel)[0].shape[-2]
        if n is not None and n != size:
            raise PanelError(f"n={n!r}, but the panel has {size} specialists. Leave n out.")
        n = size
    if n is None:
        raise PanelError("robustness needs n, the number of specialists, or a panel.")
    size, f = _counts(n, n_byzantine)
    operator = _operator(rule, f, tuple(pre))
    kappa = _known(operator, size, f)
    row = operator.row
    largest = max((g for g in range((size + 1) // 2) if _finite(operator, size, g)), default=0)
    radius = None
    if panel is not None:
        radius = certified_radius(panel, kappa.value, f, honest=honest)
    return Robustness(
        rule=operator.name,
        n=size,
        n_byzantine=f,
        assumed=read_budget(operator.n_byzantine, size) if row.takes_budget else None,  # type: ignore[attr-defined]
        minimum=operator.minimum(f),
        max_n_byzantine=largest,
        breakdown=largest / size,
        resilience=kappa,
        lower_bound=resilience_lower_bound(size, f),
        radius=radius,
        promise=_promise(kappa, size, f, honest is not None),
    )


def _promise(kappa: Resilience, n: int, f: int, known: bool) -> str:
    if not isfinite(kappa.value):
        return "nothing is promised: a liar may move the answer by any distance."
    whom = f"the {n - f} specialists named" if known else f"any {n - f} specialists that are honest"
    how = {
        "exact": "some panels come as near to it as one likes",
        "bound": "proved, perhaps with room",
        "literature": "published, not proved again here",
    }[kappa.kind]
    return f"the answer is within sqrt(kappa V) of the mean of {whom}, V their mean squared distance from it ({how})."


def _counts(n: Any, n_byzantine: Any) -> tuple[int, int]:
    for name, value, least in (("n", n, 1), ("n_byzantine", n_byzantine, 0)):
        whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
        if not whole or value < least:
            raise PanelError(f"{name} must be a whole number >= {least}; got {value!r}.")
    return int(n), int(n_byzantine)


def _operator(rule: str | Operator, f: int, pre: tuple[Any, ...]) -> Operator:
    from fusion._registry import get_pre_aggregator

    named = isinstance(rule, str)
    operator = get_operator(rule)
    ahead = [get_pre_aggregator(part) for part in pre]
    if named and operator.row.takes_budget:
        operator.set_params(n_byzantine=f)
    for given, part in zip(pre, ahead, strict=True):
        if isinstance(given, str) and "n_byzantine" in part.get_params():
            part.set_params(n_byzantine=f)
    return compose(*ahead, operator) if ahead else operator


def _known(operator: Operator, n: int, f: int) -> Resilience:
    row = operator.row
    params = {key: value for key, value in operator.get_params(deep=False).items() if key != "n_byzantine"}
    if not row.takes_budget:
        return row.resilience(n, f, **params)
    assumed = read_budget(operator.n_byzantine, n)  # type: ignore[attr-defined]
    if assumed < f or operator.minimum(assumed) > n:
        return NOTHING
    found = row.resilience(n, assumed, **params)
    if assumed == f or not isfinite(found.value):
        return found
    if operator.name == "trimmed_mean":
        return Resilience(assumed / (n - f - assumed), "exact")
    return Resilience(subset_resilience(found.value, n - f, n - assumed), _weaker(found.kind))


def _weaker(kind: Any) -> Any:
    return kind if kind == "literature" else "bound"


def _finite(operator: Operator, n: int, f: int) -> bool:
    params = {key: value for key, value in operator.get_params(deep=False).items() if key != "n_byzantine"}
    return operator.minimum(f) <= n and operator.row.resilience(n, f, **params).value < inf
