"""One table of a specialist's input: its rows, its columns, and which rows hold anything."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion.early import Ragged
from theory import PanelError


def select_columns(table: Any, columns: Any) -> Any:
    """Give some columns of one table.

    Parameters
    ----------
    table : array, sparse matrix or DataFrame of shape (sample, feature)
        The table.
    columns : str, list, slice or callable
        As in :func:`estimators.views.select_view`.

    Returns
    -------
    array, sparse matrix or DataFrame
        With at least one column.

    Raises
    ------
    PanelError
        If a column does not exist, or none is left.
    """
    if callable(columns):
        chosen = columns(table)
        named = isinstance(chosen, list | slice | str) or hasattr(chosen, "get_indexer")
        return select_columns(table, chosen) if named else chosen
    table = np.asarray(table) if not hasattr(table, "shape") else table
    if len(table.shape) != 2:
        raise PanelError(
            f"columns {columns!r} need a table (sample, feature); X has shape {tuple(table.shape)}."
        )
    if hasattr(table, "tocsr") and not hasattr(table, "indptr"):
        table = table.tocsr()
    names = list(table.columns) if hasattr(table, "columns") else None
    if isinstance(columns, str):
        columns = _by_name(columns, names)
    if isinstance(columns, slice):
        bounds = (columns.start, columns.stop)
        if any(isinstance(bound, str) for bound in bounds):
            if names is None or any(isinstance(bound, str) and bound not in names for bound in bounds):
                raise PanelError(f"columns {bounds} are not in X; there are {(names or [])[:10]}.")
            return table.loc[:, columns]
        chosen = np.arange(table.shape[1])[columns]
        if not len(chosen):
            raise PanelError(f"columns {columns} hold nothing; X has {table.shape[1]} columns.")
        return table.iloc[:, columns] if names is not None else table[:, columns]
    if not np.iterable(columns):
        raise PanelError(
            f"view={columns!r} must be a name, a list, a slice or a callable. Write [{columns!r}]."
        )
    columns = [column.item() if isinstance(column, np.generic) else column for column in columns]
    if not columns:
        raise PanelError("the list of columns is empty; a specialist needs at least one column.")
    if all(isinstance(column, str) for column in columns):
        lacking = columns if names is None else [column for column in columns if column not in names]
        if lacking:
            raise PanelError(f"columns {lacking} are not in X; there are {(names or [])[:10]}.")
        return table[columns]
    return _by_position(table, columns)


def _by_name(column: str, names: list[Any] | None) -> list[str]:
    if names is None:
        raise PanelError(f"view={column!r} names a column, but X has none. Pass a DataFrame or Views.")
    if column in names or not column.endswith(":"):
        return [column]
    begun = [name for name in names if str(name).startswith(column)]
    if not begun:
        raise PanelError(f"no column begins with {column!r}; there are {names[:10]}.")
    return begun


def _by_position(table: Any, columns: list[Any]) -> Any:
    width = table.shape[1]
    if all(isinstance(column, bool) for column in columns):
        if len(columns) != width or not any(columns):
            raise PanelError(
                f"a mask of columns needs {width} entries, one of them true; got {len(columns)}, {sum(columns)} true."
            )
        columns = np.flatnonzero(columns).tolist()
    if not all(isinstance(column, int) and not isinstance(column, bool) for column in columns):
        raise PanelError(f"columns must be all names, all positions or one mask; got {columns!r}.")
    outside = [column for column in columns if not -width <= column < width]
    if outside:
        raise PanelError(f"columns {outside} are outside X, which has {width} columns.")
    return table.iloc[:, columns] if hasattr(table, "iloc") else table[:, columns]


def take_rows(part: Any, rows: NDArray[Any]) -> Any:
    """Take samples by position from an array, sparse matrix, DataFrame, Views or list.

    Parameters
    ----------
    part : array-like
        Samples first.
    rows : ndarray of int
        Positions.

    Returns
    -------
    array-like
        Of the same kind; a list becomes an array.
    """
    if hasattr(part, "iloc"):  # frames, and Views
        return part.iloc[rows]
    if hasattr(part, "tocsr") and not hasattr(part, "indptr"):
        return part.tocsr()[rows]
    return part[rows] if hasattr(part, "shape") else np.asarray(part)[rows]


def as_view(name: str, view: Any) -> Any:
    """Give one view the form in which specialists get it.

    Parameters
    ----------
    name : str
        For messages.
    view : array-like
        One row, number or object per sample.

    Returns
    -------
    array, sparse matrix, DataFrame, or 1-D array of objects

    Raises
    ------
    PanelError
        If it has no sample axis, or no column.
    """
    if isinstance(view, str) or not (np.iterable(view) or hasattr(view, "shape")):
        raise PanelError(f"view {name!r} is a {type(view).__name__}; needed is one row per sample.")
    if hasattr(view, "tocsr"):
        return view.tocsr()
    if not hasattr(view, "shape"):
        view = _from_list(view)
    if len(view.shape) == 0 or 0 in view.shape[1:]:
        raise PanelError(
            f"view {name!r} has shape {tuple(view.shape)}; needed are samples and at least one column."
        )
    if len(view.shape) == 1 and _is_numeric(view):
        return view.to_frame() if hasattr(view, "to_frame") else np.asarray(view).reshape(-1, 1)
    return view


def _from_list(view: Any) -> NDArray[Any]:
    rows = list(view)
    numbers = (int, float, np.integer, np.floating)
    if any(isinstance(row, numbers) for row in rows) and all(
        row is None or isinstance(row, numbers) for row in rows
    ):
        return np.array([np.nan if row is None else row for row in rows], dtype=np.float64)
    if rows and all(isinstance(row, list | tuple | np.ndarray) for row in rows):
        try:
            table = np.asarray(rows, dtype=np.float64)
        except (TypeError, ValueError):
            table = np.empty(0)
        if table.ndim >= 2:
            return table
    objects = np.empty(len(rows), dtype=object)
    objects[:] = rows
    return objects


def _is_numeric(column: Any) -> bool:
    kind = getattr(column.dtype, "kind", "O")
    return kind in "biufcmM"


def presence(view: Any) -> NDArray[np.bool_]:
    """Tell which rows of a view hold anything: not None, and not only NaN.

    Parameters
    ----------
    view : array, sparse matrix, DataFrame or Ragged
        As :func:`as_view` gives it.

    Returns
    -------
    ndarray of bool, shape (sample,)
    """
    if hasattr(view, "tocsr"):
        return np.ones(view.shape[0], dtype=bool)
    if isinstance(view, Ragged):
        return view.lengths > 0
    if hasattr(view, "isna"):
        gone = np.asarray(view.isna())
    else:
        values = np.asarray(view)
        if values.dtype.kind in "fc":
            gone = np.isnan(values)
        elif values.dtype.kind in "mM":
            gone = np.isnat(values)
        elif values.dtype == object:
            gone = np.array([_is_nothing(value) for value in values.ravel()], dtype=bool).reshape(
                values.shape
            )
        else:
            return np.ones(len(values), dtype=bool)
    return ~gone.all(axis=tuple(range(1, gone.ndim)))


def _is_nothing(value: Any) -> bool:
    if isinstance(value, float):
        return value != value
    return value is None or type(value).__name__ in ("NAType", "NaTType")
