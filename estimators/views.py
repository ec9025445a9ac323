"""Several aligned views of the same samples, some of them absent for some samples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from theory import PanelError


class Views:
    """Aligned named views of the same samples, with a mask of which are present.

    Splitters, ``train_test_split``, ``cross_val_score`` and grid searches cut it along samples like
    an array, without copying a view until it is asked for by name.

    Parameters
    ----------
    views : mapping of str to array-like, optional
        Name to view: two-axis arrays, sparse matrices, DataFrames, or lists of objects. All have one
        row per sample.
    mask : mapping of str to array-like of bool, optional
        Name to presence, shape (sample,). Where it is not given, a row is absent if it is None or
        holds nothing but NaN.
    **named : array-like
        Further views by name: ``Views(audio=A, image=V)``.

    Attributes
    ----------
    names : tuple of str
        Names of the views.
    mask : dict of str to ndarray of bool, shape (sample,)
        Which samples have the view.
    shape : tuple of int
        Number of samples, and of columns of all views together (one for a list of objects).

    Raises
    ------
    PanelError
        If no view is given, a name occurs twice, or lengths differ.

    Examples
    --------
    >>> import numpy as np
    >>> X = Views(eye=np.eye(3), ear=[[1.0], [np.nan], [2.0]])
    >>> len(X), X.shape, X.mask["ear"].tolist()
    (3, (3, 4), [True, False, True])
    >>> X[[2, 0]]["ear"].ravel().tolist()
    [2.0, 1.0]
    """

    ndim = 2

    def __init__(
        self, views: Mapping[str, Any] | None = None, /, *, mask: Mapping[str, Any] | None = None, **named: Any
    ):
        twice = sorted(set(views or {}) & set(named))
        if twice:
            raise PanelError(f"view {twice[0]!r} is given twice.")
        everything = {**(views or {}), **named}
        if not everything:
            raise PanelError("Views needs at least one view, as in Views(audio=A, image=V).")
        self._views = {str(name): _as_view(str(name), view) for name, view in everything.items()}
        lengths = {name: _length(view) for name, view in self._views.items()}
        if len(set(lengths.values())) > 1:
            raise PanelError(f"views have different numbers of samples: {lengths}. Align them, with NaN rows for gaps.")
        n_samples = next(iter(lengths.values()))
        stray = sorted(set(mask or {}) - set(self._views))
        if stray:
            raise PanelError(f"mask names {stray}, which are no views; there are {list(self._views)}.")
        self.mask: dict[str, NDArray[np.bool_]] = {}
        for name, view in self._views.items():
            present = np.asarray((mask or {})[name], dtype=bool) if name in (mask or {}) else _presence(view)
            if present.shape != (n_samples,):
                raise PanelError(f"mask of view {name!r} has shape {present.shape}; needed ({n_samples},).")
            self.mask[name] = present
        self.shape = (n_samples, sum(_n_columns(view) for view in self._views.values()))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the views."""
        return tuple(self._views)

    @property
    def iloc(self) -> Views:
        """The views themselves: rows are always taken by position."""
        return self

    @property
    def loc(self) -> Views:
        """The views themselves; there are no row labels."""
        return self

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[str]:
        return iter(self._views)

    def __contains__(self, name: object) -> bool:
        return name in self._views

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            if key not in self._views:
                raise PanelError(f"there is no view {key!r}; there are {list(self._views)}.")
            return self._views[key]
        rows = np.atleast_1d(np.arange(len(self))[key if isinstance(key, slice) else np.asarray(key)])
        return self.take(rows)

    def take(self, indices: Any, axis: int = 0) -> Views:
        """Take some samples of every view.

        Parameters
        ----------
        indices : array-like of int
            Positions of the samples.
        axis : int
            0; views are cut along samples only.

        Returns
        -------
        Views
            The chosen samples, with their presence.
        """
        if axis != 0:
            raise PanelError("Views are cut along samples only (axis 0); pick a view by name.")
        rows = np.asarray(indices)
        return Views(
            {name: _rows(view, rows) for name, view in self._views.items()},
            mask={name: present[rows] for name, present in self.mask.items()},
        )

    def copy(self) -> Views:
        """Copy every view."""
        return self.take(np.arange(len(self)))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        raise TypeError(
            "Views cannot become one array. Select a view with X['name'] or give every specialist a view=."
        )

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}: {_n_columns(view)} columns" for name, view in self._views.items())
        return f"Views({len(self)} samples; {shown})"


def select_view(X: Any, view: Any) -> tuple[Any, NDArray[np.bool_] | None]:
    """Give the part of the input that a specialist sees, and which samples have it.

    Parameters
    ----------
    X : array, DataFrame or Views of shape (sample, feature)
        The input of the ensemble.
    view : None, str, list, slice, tuple or callable
        None: everything. A str: a view's name, or a column, or ``"prefix:"`` for all columns that
        begin so. A list or slice: columns by name or position. ``(view, columns)``: columns of a
        view. A callable gets X and returns the input; scikit-learn's column selectors are callables.

    Returns
    -------
    part : array or DataFrame
    present : ndarray of bool of shape (sample,), or None when every sample is there

    Raises
    ------
    PanelError
        If a view or column does not exist.
    """
    if view is None:
        if isinstance(X, Views):
            raise PanelError(f"X holds the views {list(X)}; give the specialist a view=.")
        return X, None
    if isinstance(X, Views):
        name, columns = view if isinstance(view, tuple) else (view, None)
        if callable(name):
            return name(X), None
        if not isinstance(name, str):
            raise PanelError(f"view={view!r} must name one of the views {list(X)}.")
        part = X[name] if columns is None else _columns(X[name], columns)
        present = X.mask[name]
        return part, None if present.all() else present
    if isinstance(view, tuple):
        raise PanelError(f"view={view!r} names a view, but X is a {type(X).__name__}. Pass Views(...).")
    return _columns(X, view), None


def _columns(table: Any, columns: Any) -> Any:
    names = list(table.columns) if hasattr(table, "columns") else None
    if callable(columns):
        chosen = columns(table)
        return _columns(table, chosen) if isinstance(chosen, list | slice | str) else chosen
    if isinstance(columns, str):
        if names is None:
            raise PanelError(f"view={columns!r} names a column, but X has none. Pass a DataFrame or Views.")
        columns = [name for name in names if str(name).startswith(columns)] if columns.endswith(":") else [columns]
        if not columns:
            raise PanelError(f"no column begins with the prefix; there are {names[:10]}.")
    if isinstance(columns, slice):
        return table.iloc[:, columns] if names is not None else table[:, columns]
    columns = list(columns)
    if all(isinstance(column, str) for column in columns):
        lacking = columns if names is None else [column for column in columns if column not in names]
        if lacking:
            raise PanelError(f"columns {lacking} are not in X; there are {[] if names is None else names[:10]}.")
        return table[columns]
    width = table.shape[1]
    outside = [column for column in columns if not -width <= column < width]
    if outside:
        raise PanelError(f"columns {outside} are outside X, which has {width} columns.")
    return table.iloc[:, columns] if names is not None else table[:, columns]


def _as_view(name: str, view: Any) -> Any:
    if hasattr(view, "shape") and hasattr(view, "dtype") | hasattr(view, "columns") | hasattr(view, "tocsr"):
        if not view.ndim >= 1:
            raise PanelError(f"view {name!r} has no sample axis.")
        return view.reshape(-1, 1) if view.ndim == 1 and isinstance(view, np.ndarray) else view
    rows = list(view)
    if rows and all(isinstance(row, list | tuple | np.ndarray) for row in rows):
        try:
            table = np.asarray(rows, dtype=np.float64)
            if table.ndim == 2:
                return table
        except (TypeError, ValueError):
            pass
    objects = np.empty((len(rows), 1), dtype=object)
    objects[:, 0] = rows
    return objects


def _length(view: Any) -> int:
    return int(view.shape[0])


def _n_columns(view: Any) -> int:
    return int(np.prod(view.shape[1:])) if len(view.shape) > 1 else 1


def _rows(view: Any, rows: NDArray[Any]) -> Any:
    return view.iloc[rows] if hasattr(view, "iloc") else view[rows]


def _presence(view: Any) -> NDArray[np.bool_]:
    if hasattr(view, "tocsr"):
        return np.ones(view.shape[0], dtype=bool)
    if hasattr(view, "isna"):
        gone = np.asarray(view.isna())
    else:
        values = np.asarray(view)
        if values.dtype.kind == "f":
            gone = np.isnan(values)
        elif values.dtype == object:
            gone = np.array([v is None or v != v for v in values.ravel()], dtype=bool).reshape(values.shape)
        else:
            return np.ones(len(values), dtype=bool)
    return ~gone.reshape(len(gone), -1).all(axis=1)
