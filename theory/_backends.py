"""Read arrays of numpy, torch, xarray and pandas; none of the last three is imported here."""

from __future__ import annotations

import sys
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from theory._exceptions import PanelError

SPECIALIST = "specialist"
OUTPUT = "output"
SAMPLE = "sample"

FloatArray = NDArray[np.floating[Any]]


def kind_of(obj: object) -> Literal["numpy", "torch", "xarray", "pandas"]:
    """Say which library an object comes from, without importing any of them.

    Parameters
    ----------
    obj : object
        Anything that may be a panel.

    Returns
    -------
    str
        ``"torch"``, ``"xarray"``, ``"pandas"``, else ``"numpy"``.

    Examples
    --------
    >>> kind_of([[1.0, 2.0]])
    'numpy'
    """
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(obj, torch.Tensor):
        return "torch"
    xarray = sys.modules.get("xarray")
    if xarray is not None and isinstance(obj, xarray.DataArray | xarray.Dataset):
        return "xarray"
    pandas = sys.modules.get("pandas")
    if pandas is not None and isinstance(obj, pandas.DataFrame | pandas.Series):
        return "pandas"
    return "numpy"


def as_float(values: NDArray[Any]) -> FloatArray:
    """Promote integers and bools to float64 and keep every native floating dtype; refuse the rest."""
    if values.dtype.kind == "f":
        return values if values.dtype.isnative else values.astype(values.dtype.newbyteorder("="))
    if values.dtype.kind in "iub":
        return values.astype(np.float64)
    if values.dtype.kind == "c":
        raise PanelError("a panel of complex numbers has no order; pass real and imaginary parts as outputs.")
    raise PanelError(
        f"a panel holds numbers; got dtype {values.dtype}. Turn labels into votes or codes first."
    )


def from_array(obj: Any) -> NDArray[Any]:
    """Read arrays and nested lists; refuse ragged ones and lists of two-axis arrays (specialist-first)."""
    if isinstance(obj, list | tuple) and any(getattr(item, "ndim", 0) >= 2 for item in obj):
        raise PanelError(
            f"a list of {len(obj)} arrays is specialist-first. Stack it to (sample, specialist, output) with "
            "stack_specialists([first, second, ...])."
        )
    if np.ma.is_masked(obj):
        raise PanelError(
            f"{int(np.ma.getmaskarray(obj).sum())} values are masked, and what lies under a mask is no answer. Pass "
            "array.filled(np.nan) with missing='abstain' where it is taken, or leave those samples out."
        )
    try:
        return np.asarray(obj)
    except ValueError as error:
        raise PanelError(
            f"the answers are ragged ({error}). Stack to (sample, specialist, output)."
        ) from error


def from_torch(tensor: Any) -> NDArray[Any]:
    """Give the values of a tensor; refuse one whose gradients this would drop."""
    if tensor.requires_grad:
        raise PanelError(
            "the tensor carries gradients, which this function would drop. Pass tensor.detach()."
        )
    host = tensor.cpu()
    return cast("NDArray[Any]", (host.float() if str(host.dtype) == "torch.bfloat16" else host).numpy())


def counts_from_zero(index: Any) -> bool:
    """Tell the index that pandas makes up from labels; that of a slice of rows is no longer made up."""
    return type(index).__name__ == "RangeIndex" and index.start == 0 and index.step == 1


def sample_labels(obj: Any) -> list[Any] | None:
    """Give the labels of the samples of a DataArray or table, None where there are none."""
    kind = kind_of(obj)
    if kind == "xarray":
        named = SAMPLE in obj.dims and SAMPLE in obj.coords
        return list(obj.coords[SAMPLE].values.tolist()) if named else None
    if kind == "pandas" and not counts_from_zero(obj.index):
        return list(obj.index)
    return None


def refuse_other_samples(panel: Any, y: Any) -> None:
    """Raise when both label their samples and the labels differ: lengths alone would let them pass."""
    ours, theirs = sample_labels(panel), sample_labels(y)
    if ours is None or theirs is None or len(ours) != len(theirs) or ours == theirs:
        return
    at = next(i for i, (one, other) in enumerate(zip(ours, theirs, strict=True)) if one != other)
    raise PanelError(
        f"the panel and y label their samples differently (at place {at}: {ours[at]!r} and {theirs[at]!r}). Put y "
        "into the panel's order: y.sel(sample=panel.sample) or y.loc[panel.index]."
    )


def column_names(frame: Any) -> list[Any]:
    """Name the specialists of a table: its columns, or the first level of two."""
    if frame.ndim == 1:
        return [frame.name]
    if frame.columns.nlevels == 1:
        return list(frame.columns)
    return list(dict.fromkeys(frame.columns.get_level_values(0)))


def pandas_values(frame: Any) -> NDArray[Any]:
    """Give the numbers of a table as a two-axis array."""
    values = np.asarray(frame.to_numpy())
    if values.dtype == object:
        try:
            values = frame.to_numpy(dtype=np.float64, na_value=np.nan)
        except (TypeError, ValueError) as error:
            raise PanelError(f"the table holds values that are no numbers ({error}).") from error
    return values.reshape(len(values), -1)


def ordered_dataarray(array: Any, specialist: str, output: str | None) -> tuple[Any, tuple[str, ...]]:
    """Put the specialist (and output) dim last; return the view and the dims in that order."""
    dims = tuple(str(dim) for dim in array.dims)
    for dim in (specialist, output):
        if dim is None:
            continue
        if dims.count(dim) > 1:
            raise PanelError(f"{dim!r} occurs twice; a square matrix has {dim}, {dim}_.")
        if dim not in dims:
            other = next((d for d in dims if d not in (SAMPLE, SPECIALIST, OUTPUT)), dims[-1] if dims else "")
            raise PanelError(f"panel needs a dim {dim!r}; got {dims}. Use panel.rename({other}={dim!r}).")
    last = (specialist,) if output is None else (specialist, output)
    order = (*(dim for dim in dims if dim not in last), *last)
    return array.transpose(*order), order
