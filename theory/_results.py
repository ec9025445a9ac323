"""Small pieces that every result shares: labelled arrays and lines of text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import xarray

Floats = NDArray[np.float64]


def labelled(
    variables: dict[str, Any], names: Sequence[str], attrs: dict[str, Any] | None = None
) -> xarray.Dataset:
    """Put arrays over specialists into a Dataset; matrices get the dims specialist, specialist_.

    xarray breaks on repeated dims (#1115), hence the underscore. Leading axes of intervals are
    named ``bound`` with the labels lower and upper; keys of intervals end in ``ci``.
    """
    import xarray

    data: dict[str, Any] = {}
    for key, value in variables.items():
        if value is None:
            continue
        array = np.asarray(value)
        if array.ndim == 0:
            data[key] = ((), array)
        elif key.endswith("ci"):
            data[key] = (("bound", "specialist", "specialist_")[: array.ndim], array)
        elif key == "per_sample":
            data[key] = (("sample", "specialist"), array)
        else:
            data[key] = (("specialist", "specialist_")[: array.ndim], array)
    coords: dict[str, Any] = {"specialist": list(names)}
    dims = {dim for dims, _ in data.values() for dim in dims}
    if "specialist_" in dims:
        coords["specialist_"] = list(names)
    if "bound" in dims:
        coords["bound"] = ["lower", "upper"]
    kept = {key: value for key, value in (attrs or {}).items() if value is not None}
    return xarray.Dataset(data, coords=coords, attrs=kept)


def with_interval(value: float, ci: Floats | None, digits: int = 3) -> str:
    """Write a number with its interval."""
    text = f"{value:.{digits}f}"
    if ci is None:
        return text
    return f"{text} [{float(ci[0]):.{digits}f}, {float(ci[1]):.{digits}f}]"


def add_warnings(lines: list[str], warnings: Sequence[str]) -> str:
    """Join the lines of a summary and append the warnings of a result."""
    return "\n".join([*lines, *(f"warning: {warning}" for warning in warnings)])
