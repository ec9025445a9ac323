"""Ask a panel and fuse what came in time, with the radius that is left."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from estimators.execution import PanelExecutor
from estimators.panel_answer import PanelAnswer
from fusion import Operator, get_operator, resilience
from theory import PanelError, partial_panel_bound


@dataclass(frozen=True, eq=False)
class FusedAnswer:
    """A fused answer, the panel behind it, and what it promises.

    Attributes
    ----------
    fused : ndarray of float64, shape (output,) or (sample, output)
        The fused answer.
    answer : PanelAnswer
        Who answered, who failed and why.
    radius : ndarray of float64, shape () or (sample,)
        Distance to the mean of all honest specialists, those who did not answer included, in root mean
        squared distances of these from their mean; infinite where nothing is promised.
    operator : Operator
        What fused.
    """

    fused: NDArray[np.float64]
    answer: PanelAnswer
    radius: NDArray[np.float64]
    operator: Operator


def ask_and_fuse(
    operator: str | Operator,
    specialists: Mapping[str, Any],
    x: Any,
    *,
    n_byzantine: int | None = None,
    deadline: float = 1.0,
    **params: Any,
) -> FusedAnswer:
    """Ask a panel once within a deadline, and fuse what came.

    Parameters
    ----------
    operator : str or Operator
        The rule.
    specialists : mapping of str to callable or fitted estimator
        Whom to ask.
    x : object
        The request.
    n_byzantine : int, optional
        How many may be wrong in any way (papers write f); the operator's own budget by default.
    deadline : float, default 1.0
        Seconds.
    **params : object
        Further ones of :class:`PanelExecutor`; ``minimum`` is the operator's.

    Returns
    -------
    FusedAnswer

    Raises
    ------
    QuorumError
        If too few answered in time.
    BudgetError
        If more than ``n_byzantine`` failed.
    ValueError
        If a parameter does not fit.

    Examples
    --------
    >>> team = {"a": lambda x: [x], "b": lambda x: [x + 0.5], "c": lambda x: [1e9]}
    >>> ask_and_fuse("median", team, 3.0, n_byzantine=1, deadline=5.0).fused.tolist()
    [3.5]
    """
    if "minimum" in params:
        raise PanelError(
            "the minimum is the operator's own. Leave minimum= out, or use PanelExecutor and fuse_answer."
        )
    rule = get_operator(operator)
    f = _own_budget(rule, len(specialists)) if n_byzantine is None else n_byzantine
    if rule.row.takes_budget:
        rule = copy.copy(rule).set_params(n_byzantine=f)
    with PanelExecutor(
        specialists, n_byzantine=f, minimum=rule.minimum, deadline=deadline, **params
    ) as executor:
        return fuse_answer(rule, executor.ask(x))


def fuse_answer(operator: str | Operator, answer: PanelAnswer) -> FusedAnswer:
    """Fuse what a panel answered, with the budgets that were settled.

    Parameters
    ----------
    operator : str or Operator
        The rule; its budget is replaced by those of the answer.
    answer : PanelAnswer
        Of an executor whose ``minimum`` is the operator's.

    Returns
    -------
    FusedAnswer

    Raises
    ------
    PanelError
        If the answer's budget is more than the rule accepts.

    Examples
    --------
    >>> from estimators import ask_panel
    >>> answer = ask_panel({"a": lambda x: [x], "b": lambda x: [3 * x]}, 1.0, deadline=5.0)
    >>> fuse_answer("mean", answer).fused.tolist()
    [2.0]
    """
    rule = get_operator(operator)
    n, width = answer.panel.shape[-2:]
    rows = answer.panel.reshape(-1, n, width)
    used = answer.n_byzantine_used.ravel()
    admitted, charged = answer.n_admitted.ravel(), answer.n_charged.ravel()
    fused = np.full((len(rows), width), np.nan)
    radius = np.full(len(rows), np.inf)
    for budget in np.unique(used).tolist():
        own = copy.copy(rule).set_params(n_byzantine=budget) if rule.row.takes_budget else rule
        here = np.flatnonzero(used == budget)
        short = here[admitted[here] < own.minimum(budget)]
        if len(short):
            raise PanelError(
                f"{rule.name} with n_byzantine={budget} needs {own.minimum(budget)} answers; sample {short[0]} has "
                f"{admitted[short[0]]}. Give the executor minimum=operator.minimum."
            )
        fused[here] = own(rows[here], missing="abstain")
        for i in here[answer.guaranteed.ravel()[here]]:
            radius[i] = _radius(own, n, answer.n_byzantine, int(admitted[i]), int(charged[i]))
    batch = answer.panel.shape[:-2]
    return FusedAnswer(fused.reshape(*batch, width), answer, radius.reshape(batch), rule)


def _radius(rule: Operator, n: int, f: int, admitted: int, charged: int) -> float:
    left = max(f - charged, 0)
    if admitted <= 2 * left:
        return float("inf")
    kappa = resilience(rule, admitted, left).value
    return partial_panel_bound(kappa, n, f, admitted=admitted, charged=charged)


def _own_budget(rule: Operator, n: int) -> int:
    share = getattr(rule, "n_byzantine", 0) or 0
    return int(np.floor(share * n + 1e-9)) if isinstance(share, float) else int(share)
