"""One row per operator: tests, the README's table, the benchmark, the audit and `get_operator` read it."""

from __future__ import annotations

import copy
from typing import Any

from fusion._arguments import check_choice
from fusion._chain_row import PRE_AGGREGATOR_ROWS
from fusion._late_rows import LATE_ROWS
from fusion._operator import Operator
from fusion._row import Row
from theory._exceptions import PanelError

_ROWS = (*LATE_ROWS, *PRE_AGGREGATOR_ROWS)
_BY_NAME = {row.name: row for row in _ROWS}


def operator_names(stage: str | None = None, *, kind: str = "rule") -> tuple[str, ...]:
    """Name the operators.

    Parameters
    ----------
    stage : str, optional
        Only those of one stage. Mid operators are trained modules and are named only if asked for, by ``"mid"``.
    kind : {"rule", "pre-aggregator"}, default "rule"
        What fuses, or what stands in front of it.

    Returns
    -------
    tuple of str
        In the order of the registry.

    Examples
    --------
    >>> "krum" in operator_names("late")
    True
    >>> operator_names(kind="pre-aggregator")
    ('nearest_neighbor_mixing', 'bucketing', 'clip_norms', 'adaptive_clipping')
    """
    check_choice("kind", kind, ("rule", "pre-aggregator"))
    if stage == "mid" and kind == "rule":
        from fusion.mid._rows import mid_operator_names

        return mid_operator_names()
    return tuple(row.name for row in _ROWS if row.kind == kind and stage in (None, row.stage))


def operator_row(name: str) -> Row:
    """Give the registry row of an operator.

    Parameters
    ----------
    name : str
        One of `operator_names`, of either kind.

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
        raise PanelError(f"there is no operator {name!r}. Use one of {', '.join(operator_names())}.")
    return _BY_NAME[name]


def get_operator(operator: str | Operator, **params: Any) -> Operator:
    """Give an operator by its name.

    Parameters
    ----------
    operator : str or Operator
        One of `operator_names`, a chain such as ``"nearest_neighbor_mixing >> trimmed_mean"``, an operator,
        which passes through (as a copy if there are `params`), or a name of ``operator_names("mid")`` that no rule
        has, which is built from `width` and `n_views` (see `fusion.mid.get_mid_operator`).
    **params : object
        Parameters to set.

    Returns
    -------
    Operator, or a torch module of a mid operator

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
            f"an operator is a name or a fusion.Operator; got {operator!r}. Names: {', '.join(operator_names())}."
        )
    if ">>" in operator:
        from fusion._compose import compose

        return compose(*(part.strip() for part in operator.split(">>"))).set_params(**params)
    if operator in _BY_NAME and _BY_NAME[operator].kind != "rule":
        raise PanelError(f"{operator} fuses nothing by itself. Add a rule: {operator + ' >> median'!r}.")
    if operator not in _BY_NAME and operator in operator_names("mid"):
        from fusion.mid._rows import get_mid_operator

        return get_mid_operator(operator, **params)  # type: ignore[no-any-return]
    return operator_row(operator).operator().set_params(**params)


def get_pre_aggregator(pre_aggregator: Any, **params: Any) -> Any:
    """Give a pre-aggregator by its name.

    Parameters
    ----------
    pre_aggregator : str or pre-aggregator
        One of ``operator_names(kind="pre-aggregator")``, or a pre-aggregator, which passes through (as a
        copy if there are `params`).
    **params : object
        Parameters to set.

    Returns
    -------
    pre-aggregator

    Raises
    ------
    PanelError
        If the name or a parameter is unknown.

    Examples
    --------
    >>> get_pre_aggregator("nearest_neighbor_mixing", n_byzantine=2)
    NearestNeighborMixing(n_byzantine=2, scope='sample')
    """
    from fusion._compose import PreAggregator

    if isinstance(pre_aggregator, PreAggregator):
        return copy.copy(pre_aggregator).set_params(**params) if params else pre_aggregator
    names = operator_names(kind="pre-aggregator")
    if pre_aggregator not in names:
        raise PanelError(f"there is no pre-aggregator {pre_aggregator!r}. Use one of {', '.join(names)}.")
    return operator_row(pre_aggregator).operator().set_params(**params)


def operator_table(kind: str = "rule") -> str:
    """Print the registry as a markdown table.

    Parameters
    ----------
    kind : {"rule", "pre-aggregator"}, default "rule"
        What fuses, or what stands in front of it.

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
        for row in map(operator_row, operator_names(kind=kind))
    ]
    return "\n".join(lines)
