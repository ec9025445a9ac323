"""How many parameters a network has, and the width that fits a budget."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from theory._exceptions import BudgetError

_MAX_WIDTH = 65536


def param_count(module: nn.Module) -> dict[str, int]:
    """Count parameters by what they are.

    Parameters
    ----------
    module : nn.Module
        Any module; buffers do not count.

    Returns
    -------
    dict of str to int
        ``total`` = ``trained`` + ``frozen``; of these, disjoint, ``norm`` (of LayerNorm and its kin), ``gate``
        (names with gate, scores, mixing), ``token`` (learned tokens and codes), ``auxiliary`` (heads that only
        train), and ``rest``.

    Examples
    --------
    >>> from torch import nn
    >>> param_count(nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2)))["norm"]
    4
    """
    norms = {
        id(p)
        for part in module.modules()
        if "Norm" in type(part).__name__
        for p in part.parameters(recurse=False)
    }
    counts = dict.fromkeys(("total", "trained", "frozen", "norm", "gate", "token", "auxiliary", "rest"), 0)
    for name, parameter in module.named_parameters():
        size = parameter.numel()
        counts["total"] += size
        counts["trained" if parameter.requires_grad else "frozen"] += size
        counts[_kind(name, id(parameter) in norms)] += size
    return counts


def _kind(name: str, is_norm: bool) -> str:
    parts = name.split(".")
    if is_norm:
        return "norm"
    if any(part.startswith("aux") for part in parts):
        return "auxiliary"
    if any(part in ("gate", "scores", "mixing") for part in parts):
        return "gate"
    if parts[-1] in ("answer", "codes", "shared", "nobody", "learned_base"):
        return "token"
    return "rest"


def fit_width(
    build: Callable[..., Any],
    budget: int,
    *,
    multiple: int = 1,
    second: str | None = None,
    label: str = "this network",
    tolerance: float = 0.02,
) -> tuple[Any, dict[str, int]]:
    """Find the widest network within a budget of parameters.

    Parameters
    ----------
    build : callable
        ``build(width)`` gives a module; ``build(width, **{second: extra})`` one with a second number.
    budget : int
        Most parameters.
    multiple : int, default 1
        The width is a multiple of this, as of the number of heads.
    second : str, optional
        Name of a second number of `build`, at least 1, that fills what the width leaves when that is more than
        `tolerance` of the budget.
    label : str, default "this network"
        For the error.
    tolerance : float, default 0.02
        Share of the budget that may stay unused before the second number is tried.

    Returns
    -------
    module : nn.Module
    chosen : dict of str to int
        ``width``, the second number if it was set, and ``parameters``.

    Raises
    ------
    BudgetError
        If the smallest network is above the budget.

    Examples
    --------
    >>> from torch import nn
    >>> fit_width(lambda width: nn.Linear(width, 2), 21)[1]
    {'width': 9, 'parameters': 20}
    """

    def size(width: int, extra: int | None = None) -> int:
        built = build(width) if extra is None else build(width, **{str(second): extra})
        return sum(p.numel() for p in built.parameters())

    smallest = size(multiple)
    if smallest > budget:
        raise BudgetError(
            f"param_budget={budget} is below the smallest {label} ({smallest}). Raise it or use 'mean'."
        )
    low, high = 1, 2
    while high * multiple <= _MAX_WIDTH and size(high * multiple) <= budget:
        low, high = high, 2 * high
    while high - low > 1:  # the count grows with the width
        middle = (low + high) // 2
        low, high = (middle, high) if size(middle * multiple) <= budget else (low, middle)
    width = low * multiple
    chosen = {"width": width}
    if second is not None and size(width) < (1.0 - tolerance) * budget and size(width, 1) <= budget:
        least, most = 1, 2
        while most <= _MAX_WIDTH and size(width, most) <= budget:
            least, most = most, 2 * most
        while most - least > 1:
            middle = (least + most) // 2
            least, most = (middle, most) if size(width, middle) <= budget else (least, middle)
        if size(width, least) > size(width):
            chosen[second] = least
    module = build(**chosen) if second in chosen else build(width)
    chosen["parameters"] = sum(p.numel() for p in module.parameters())
    return module, chosen
