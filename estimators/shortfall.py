"""Say why a panel is short: who did not answer, who failed, and the way out."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np

from estimators.panel_answer import PanelAnswer
from estimators.replies import ABSTAINED, BUSY, CHARGED, LATE, QUARANTINED, UNASKED
from theory import BudgetError, FaultWarning, QuorumError

_SHOWN = 5


def check_shortfall(
    answer: PanelAnswer, minimum: Callable[[int], int], *, on_shortfall: str, rule: str = "the panel"
) -> None:
    """Refuse a panel that keeps no promise, or warn about it.

    Parameters
    ----------
    answer : PanelAnswer
        As it is.
    minimum : callable
        Fewest answers for a budget.
    on_shortfall : {"raise", "degrade"}
        Which of the two.
    rule : str
        What needs the answers.

    Raises
    ------
    QuorumError
        If too few answered in time; also with ``"degrade"`` where nobody can be heard.
    BudgetError
        If more failed than may be wrong.
    """
    if answer.guaranteed.all():
        return
    worst = int(np.argmin(answer.guaranteed))
    charged = int(answer.n_charged.ravel()[worst])
    admitted = int(answer.n_admitted.ravel()[worst])
    f = answer.n_byzantine
    n = len(answer.names)
    if charged > f:
        told = [
            f"{name!r}: {answer.errors.get(name, 'quarantined')[:80]}"
            for name in answer.who(*CHARGED, QUARANTINED)
        ]
        text = f"{charged} specialist{'s' * (charged > 1)} failed ({_some(told)}) but n_byzantine={f}."
        way = "Raise it or on_shortfall='degrade'."
        error: BudgetError = BudgetError(f"{text} {way}")
    else:
        needed = minimum(max(0, f - charged))
        feasible = next((b for b in range(f, -1, -1) if minimum(b) <= admitted), None)
        lower = "" if feasible is None or feasible == f else f"lower n_byzantine to {feasible}, "
        words = (LATE, BUSY, ABSTAINED, UNASKED, QUARANTINED)
        groups = [f"{word}: {_some(answer.who(word))}." for word in words if answer.who(word)]
        failed = [f"{name!r}: {answer.errors.get(name, '')[:80]}" for name in answer.who(*CHARGED)]
        if failed:
            groups.append(f"failed: {_some(failed)}.")
        longer = "Raise hard_deadline, " if answer.who(LATE, BUSY) else "Ask more specialists, "
        text = (
            f"{admitted} of {n} specialists answered within {answer.elapsed:.2f} s; {rule} with n_byzantine={f} needs "
            f"{needed} ({charged} charged). {' '.join(groups)}"
        ).strip()
        error = QuorumError(f"{text} {longer}{lower}or on_shortfall='degrade'.")
    if on_shortfall == "raise":
        raise error
    if (answer.n_byzantine_used < 0).any():
        raise QuorumError(
            f"{text} There is a sample with too few answers for any budget; nothing can be fused."
        )
    used = int(answer.n_byzantine_used.ravel()[worst])
    warnings.warn(
        f"{text} Went on with n_byzantine={used}; nothing is guaranteed.", FaultWarning, stacklevel=4
    )


def _some(told: list[str]) -> str:
    return ", ".join(told[:_SHOWN]) + (", ..." if len(told) > _SHOWN else "")
