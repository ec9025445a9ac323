"""The shape law: what a panel is, and how every kind of array becomes one.

A panel has shape ``(..., specialist, output)``: the last two axes are what each
specialist said, all axes before them are batch. A DataArray is read by dim name.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from theory._backends import (
    OUTPUT,
    SPECIALIST,
    FloatArray,
    as_float,
    column_names,
    from_array,
    from_torch,
    kind_of,
    ordered_dataarray,
    pandas_values,
)
from theory._exceptions import PanelError


@dataclass(frozen=True, slots=True)
class Wrap:
    """How to turn a plain result back into the kind of array that came in.

    Attributes
    ----------
    kind : str
        Library of the input: ``"numpy"``, ``"torch"``, ``"xarray"`` or ``"pandas"``.
    like : object
        The input itself (None for plain arrays).
    dims : tuple of str
        Names of all dims of the DataArray in (..., specialist, output) order, else empty.
    n_specialists : int
        Length of the specialist axis.
    """

    kind: str
    like: Any = field(repr=False)
    dims: tuple[str, ...]
    n_specialists: int

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the specialists: coordinates or columns where there are any, else "0", "1", ..."""
        if self.kind == "xarray" and self.dims[-2] in self.like.coords:
            return tuple(str(name) for name in self.like.coords[self.dims[-2]].values.tolist())
        if self.kind == "pandas":
            return tuple(str(name) for name in column_names(self.like))
        return _numbered(self.n_specialists)

    def __call__(self, fused: NDArray[Any], operator: str | None = None) -> Any:
        """Give back a fused (..., output) array in the input's kind."""
        return self._restore(fused, drop=self.dims[-2:-1], operator=operator)

    def weights(self, weights: NDArray[Any], operator: str | None = None) -> Any:
        """Give back a (..., specialist) array in the input's kind.

        Parameters
        ----------
        weights : ndarray of shape (..., specialist)
            One number per specialist.
        operator : str, optional
            Name of the rule, recorded in the attrs of a DataArray.

        Returns
        -------
        array
            ndarray, tensor or DataArray of shape (..., specialist).
        """
        return self._restore(weights, drop=self.dims[-1:], operator=operator)

    def _restore(self, values: NDArray[Any], drop: tuple[str, ...], operator: str | None) -> Any:
        if self.kind == "torch":
            torch = sys.modules["torch"]
            dtype = self.like.dtype if self.like.dtype.is_floating_point else torch.float64
            return torch.as_tensor(np.ascontiguousarray(values)).to(device=self.like.device, dtype=dtype)
        if self.kind != "xarray":
            return values
        dims = tuple(dim for dim in self.dims if dim not in drop)
        coords = {name: coord for name, coord in self.like.coords.items() if not set(coord.dims) & set(drop)}
        attrs = dict(self.like.attrs) | ({"operator": operator} if operator else {})
        from xarray import DataArray

        return DataArray(values, dims=dims, coords=coords, attrs=attrs, name=self.like.name)


@lru_cache(maxsize=256)
def _numbered(n: int) -> tuple[str, ...]:
    return tuple(map(str, range(n)))


def as_panel(obj: Any, *, dims: tuple[str, str] | None = None) -> tuple[FloatArray, Wrap]:
    """Read any panel as a plain array, and remember how to go back.

    Parameters
    ----------
    obj : array-like, torch.Tensor, xarray.DataArray or pandas.DataFrame
        The panel. Arrays and tensors have shape (..., specialist, output). A DataArray needs the
        dims ``specialist`` and ``output``, in any order, beside any batch dims. A DataFrame has one
        row per sample and one column per specialist, or two-level columns (specialist, output).
    dims : tuple of two str, optional
        Names of the specialist and the output dim of a DataArray, where they differ from these.

    Returns
    -------
    values : ndarray of shape (..., specialist, output)
        A view where one is possible: do not write to it. Integers and bools become float64,
        every floating dtype stays (bfloat16 tensors become float32).
    wrap : Wrap
        ``wrap(fused)`` gives a (..., output) array back in the input's kind, with its dims, the
        coordinates that do not lie on the specialist axis, and its attrs; ``wrap.weights`` does so
        for (..., specialist); ``wrap.names`` names the specialists.

    Raises
    ------
    PanelError
        If there are fewer than two axes, no specialist or no output, the dtype is complex or
        object, the rows are ragged, a dim is missing, or a tensor still carries gradients.

    Examples
    --------
    >>> import numpy as np
    >>> values, wrap = as_panel(np.arange(12).reshape(2, 3, 2))
    >>> values.shape, values.dtype, wrap.names
    ((2, 3, 2), dtype('float64'), ('0', '1', '2'))
    """
    kind = kind_of(obj)
    names: tuple[str, ...] = ()
    if kind == "xarray":
        values, names = _from_xarray(obj, dims)
    elif dims is not None:
        raise PanelError(
            f"dims={dims!r} names the dims of a DataArray; got {type(obj).__name__}. Leave it out."
        )
    elif kind == "torch":
        values = from_torch(obj)
    elif kind == "pandas":
        values = _from_pandas(obj)
    else:
        values = from_array(obj)
    values = as_float(values)
    if values.ndim < 2:
        raise PanelError(
            f"a panel needs the axes (..., specialist, output); got shape {values.shape}. Stack the answers "
            "to (sample, specialist, output): panel[:, :, None] for one number per specialist, or "
            "stack_specialists([first, second, ...])."
        )
    if values.shape[-2] == 0 or values.shape[-1] == 0:
        raise PanelError(
            f"a panel needs at least one specialist and one output; got shape {values.shape} for "
            "(..., specialist, output)."
        )
    return values, Wrap(kind, None if kind == "numpy" else obj, names, values.shape[-2])


def _from_pandas(frame: Any) -> NDArray[Any]:
    values = pandas_values(frame)
    names = column_names(frame)
    if frame.ndim == 1 or frame.columns.nlevels == 1:
        return values[:, :, None]
    if frame.columns.nlevels != 2:
        raise PanelError(f"columns need the levels (specialist, output); got {frame.columns.nlevels} levels.")
    outputs = [list(frame[name].columns) for name in names]
    if any(sorted(map(str, labels)) != sorted(map(str, outputs[0])) for labels in outputs):
        raise PanelError(
            "the specialists' columns name different outputs. Use stack_specialists(..., outputs='union')."
        )
    ordered = frame.loc[:, [(name, label) for name in names for label in outputs[0]]]
    return pandas_values(ordered).reshape(len(values), len(names), len(outputs[0]))


def _from_xarray(array: Any, dims: tuple[str, str] | None) -> tuple[NDArray[Any], tuple[str, ...]]:
    if hasattr(array, "data_vars"):
        raise PanelError(
            f"got a Dataset; pick one variable of {list(array.data_vars)}, as in panel = ds['p']."
        )
    specialist, output = dims or (SPECIALIST, OUTPUT)
    table, order = ordered_dataarray(array, specialist, output)
    return np.asarray(table.data), order
