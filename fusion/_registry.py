"""One row per operator: tests, the README's table, the benchmark, the audit and `get_operator` read it."""

from __future__ import annotations

import copy
from typing import Any

from fusion._late_rows import LATE_ROWS
from fusion._operator import Operator
from fusion._row import Row
from theory._exceptions import PanelError

_ROWS = LATE_ROWS
_BY_NAME = {row.name: row for row in _ROWS}


def operator_names(stage: str | None = None) -> tuple[str, ...]:
    """Name the operators.

    Parameters
    ----------
    stage : str, optional
        Only those of one stage.

    Returns
    -------
    tuple of str
        In the order of the registry.

    Examples
    --------
    >>> "krum" in operator_names("late")
    True
    """
    return tuple(row.name for row in _ROWS if stage is None or row.stage == stage)


def operator_row(name: str) -> Row:
    """Give the registry row of an operator.

    Parameters
    ----------
    name : str
        One of `operator_names`.

    Returns
    -------
    Row

    Raises
    ------
    PanelError
        If there is no such operator.

    Examples
    --------
    >>> operator_row("trimmed_mean").resilience(10, 3).value
    0.75
    """
    if name not in _BY_NAME:
        raise PanelError(f"there is no operator {name!r}. Use one of {', '.join(_BY_NAME)}.")
    return _BY_NAME[name]


def get_operator(operator: str | Operator, **params: Any) -> Operator:
    """Give an operator by its name.

    Parameters
    ----------
    operator : str or Operator
        One of `operator_names`, or an operator, which passes through (as a copy if there are `params`).
    **params : object
        Parameters to set.

    Returns
    -------
    Operator

    Raises
    ------
    PanelError
        If the name or a parameter is unknown.

    Examples
    --------
    >>> get_operator("krum", n_byzantine=2)
    Krum(n_byzantine=2, neighbors='n-f-1', scope='sample')
    """
    if isinstance(operator, Operator):
        return copy.copy(operator).set_params(**params) if params else operator
    if not isinstance(operator, str):
        raise PanelError(
            f"an operator is a name or a fusion.Operator; got {operator!r}. Names: {', '.join(_BY_NAME)}."
        )
    return operator_row(operator).operator().set_params(**params)


def operator_table() -> str:
    """Print the registry as a markdown table.

    Returns
    -------
    str
        One line per operator.

    Examples
    --------
    >>> operator_table().splitlines()[0]
    '| operator | needs | breakdown | certified κ | weights | scope | cost | reference |'
    """
    lines = [
        "| operator | needs | breakdown | certified κ | weights | scope | cost | reference |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| `{row.name}` | {row.needs} | {row.breakdown} | {row.certificate} | "
        f"{'weights' if row.returns_weights else 'support'} | {', '.join(row.scopes)} | {row.cost} | {row.reference} |"
        for row in _ROWS
    ]
    return "\n".join(lines)
