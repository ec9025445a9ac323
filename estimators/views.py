"""Several aligned views of the same samples, some of them absent for some samples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from estimators.columns import as_view, presence, select_columns, take_rows
from theory import PanelError


class Views:
    """Aligned named views of the same samples, with a mask of which are present.

    Splitters, ``train_test_split``, ``cross_val_score`` and grid searches cut it along samples like
    an array; a view is copied only when it is asked for by name.

    Parameters
    ----------
    views : mapping of str to array-like, optional
        Name to view: arrays, sparse matrices, DataFrames, or lists of texts and other objects. All
        have one row per sample. One number per sample becomes a column; texts and objects stay in one
        axis, as scikit-learn's vectorizers want them.
    mask : mapping of str to array-like of bool, optional
        Name to presence, shape (sample,). Where it is not given, a row is absent if it is None or
        holds nothing but NaN; rows of a sparse matrix are all present.
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
        If no view is given, a name occurs twice, lengths differ, or a view has no rows or columns.

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
        self,
        views: Mapping[str, Any] | None = None,
        /,
        *,
        mask: Mapping[str, Any] | None = None,
        **named: Any,
    ):
        twice = sorted(set(views or {}) & set(named))
        if twice:
            raise PanelError(f"view {twice[0]!r} is given twice.")
        everything = {**(views or {}), **named}
        if not everything:
            raise PanelError("Views needs at least one view, as in Views(audio=A, image=V).")
        unnamed = [name for name in everything if not isinstance(name, str)]
        if unnamed:
            raise PanelError(f"views are named by texts; got {unnamed[0]!r} ({type(unnamed[0]).__name__}).")
        self._views = {name: as_view(name, view) for name, view in everything.items()}
        self._at: NDArray[np.intp] | None = None
        lengths = {name: _length(view) for name, view in self._views.items()}
        if len(set(lengths.values())) > 1:
            raise PanelError(
                f"views have different numbers of samples: {lengths}. Align them, with NaN rows for gaps."
            )
        n_samples = next(iter(lengths.values()))
        stray = sorted(set(mask or {}) - set(self._views))
        if stray:
            raise PanelError(f"mask names {stray}, which are no views; there are {list(self._views)}.")
        self.mask: dict[str, NDArray[np.bool_]] = {}
        for name, view in self._views.items():
            given = None if mask is None else mask.get(name)
            self.mask[name] = presence(view) if given is None else _as_mask(name, given, n_samples)
        self.shape = (n_samples, sum(_n_columns(view) for view in self._views.values()))

    @classmethod
    def from_array(cls, X: Any, cuts: Mapping[str, Any]) -> Views:
        """Cut the columns of one table into views.

        Parameters
        ----------
        X : array, sparse matrix or DataFrame of shape (sample, feature)
            The table.
        cuts : mapping of str to slice, list, str or callable
            View name to its columns, as in ``Specialist(view=...)``.

        Returns
        -------
        Views

        Raises
        ------
        PanelError
            If a column does not exist.

        Examples
        --------
        >>> import numpy as np
        >>> Views.from_array(np.eye(4), {"left": slice(0, 3), "right": [3]})
        Views(4 samples; columns of left: 3, right: 1)
        """
        return cls({name: select_columns(X, columns) for name, columns in cuts.items()})

    @classmethod
    def from_frame(cls, frame: Any, *, separator: str = ":") -> Views:
        """Cut a DataFrame into views by the beginning of its column names.

        Parameters
        ----------
        frame : DataFrame of shape (sample, feature)
            Columns are called ``view:feature``, or have two levels.
        separator : str
            Between view and feature.

        Returns
        -------
        Views
            In the order of first appearance.

        Raises
        ------
        PanelError
            If a column belongs to no view.
        """
        by_view: dict[str, list[Any]] = {}
        for column in frame.columns:
            view, mark, _ = (
                (column[0], separator, "") if isinstance(column, tuple) else str(column).partition(separator)
            )
            if not mark:
                raise PanelError(f"column {column!r} names no view; call it 'view{separator}{column}'.")
            by_view.setdefault(str(view), []).append(column)
        return cls({view: frame[columns] for view, columns in by_view.items()})

    @classmethod
    def from_xarray(cls, dataset: Any, *, sample: str = "sample") -> Views:
        """Take each variable of a Dataset as a view.

        Parameters
        ----------
        dataset : xarray.Dataset
            Variables with the dim `sample`; their other dims become features.
        sample : str
            Name of that dim.

        Returns
        -------
        Views

        Raises
        ------
        PanelError
            If a variable lacks the dim.
        """
        views = {}
        for name, variable in dataset.data_vars.items():
            if sample not in variable.dims:
                raise PanelError(f"variable {name!r} has no dim {sample!r}. Drop it: ds.drop_vars({name!r}).")
            values = variable.transpose(sample, ...).values
            views[str(name)] = values
        return cls(views)

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
            view = self._views[key]
            return view if self._at is None else take_rows(view, self._at)
        if isinstance(key, slice):
            return self._cut(np.arange(len(self))[key])
        return self.take(key)

    def take(self, indices: Any, axis: int = 0) -> Views:
        """Take some samples of every view.

        Parameters
        ----------
        indices : array-like of int, or of bool with one entry per sample
            Positions of the samples.
        axis : int
            0; views are cut along samples only.

        Returns
        -------
        Views
            The chosen samples, with their presence.

        Raises
        ------
        PanelError
            If the indices are no positions of samples.
        """
        if axis != 0:
            raise PanelError("Views are cut along samples only (axis 0); pick a view by name.")
        rows = np.atleast_1d(np.asarray(indices))
        if rows.size == 0:
            rows = rows.astype(np.intp)
        n_samples = len(self)
        if rows.ndim != 1 or rows.dtype.kind not in "iub":
            raise PanelError(
                f"Views are cut by a slice, a mask or positions, and a view is picked by one name; got {indices!r}."
            )
        if rows.dtype.kind == "b":
            if len(rows) != n_samples:
                raise PanelError(f"the mask has {len(rows)} entries for {n_samples} samples.")
            rows = np.flatnonzero(rows)
        if len(rows) and not (-n_samples <= int(rows.min()) and int(rows.max()) < n_samples):
            raise PanelError(
                f"there are {n_samples} samples; positions {rows.min()} to {rows.max()} were asked for."
            )
        return self._cut(rows)

    def copy(self) -> Views:
        """Copy every view."""
        return Views(
            {name: _copied(self[name]) for name in self},
            mask={name: present.copy() for name, present in self.mask.items()},
        )

    def _cut(self, rows: NDArray[Any]) -> Views:
        part = object.__new__(Views)
        part._views = self._views
        part._at = np.arange(len(self))[rows] if self._at is None else self._at[rows]
        part.mask = {name: present[rows] for name, present in self.mask.items()}
        part.shape = (len(part._at), self.shape[1])
        return part

    def __getstate__(self) -> dict[str, Any]:
        # A worker process gets its own samples only, not those that were cut away.
        return {
            "_views": {name: self[name] for name in self},
            "_at": None,
            "mask": self.mask,
            "shape": self.shape,
        }

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        raise TypeError(
            "Views cannot become one array. Select a view with X['name'] or give every specialist a view=."
        )

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}: {_n_columns(view)}" for name, view in self._views.items())
        return f"Views({len(self)} samples; columns of {shown})"


def select_view(X: Any, view: Any) -> tuple[Any, NDArray[np.bool_] | None]:
    """Give the part of the input that a specialist sees, and which samples have it.

    Parameters
    ----------
    X : array, DataFrame or Views of shape (sample, feature)
        The input of the ensemble.
    view : None, str, list, slice, tuple or callable
        None: everything. A str: a view's name, or a column, or ``"audio:"`` for all columns that
        begin with it, the colon included. A list or slice: columns by name, position or mask.
        ``(view, columns)``: columns of a view. A callable gets X and returns the input, or the columns
        as scikit-learn's column selectors do.

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
    if not isinstance(X, Views):
        if isinstance(view, tuple):
            raise PanelError(f"view={view!r} names a view, but X is a {type(X).__name__}. Pass Views(...).")
        return select_columns(X, view), None
    if callable(view):
        part = view(X)
        if isinstance(part, str | tuple):  # a callable may say which view, instead of cutting it out
            return select_view(X, part)
        part = as_view(getattr(view, "__name__", "callable"), part)
        present = presence(part)
    else:
        name, columns = view if isinstance(view, tuple) and len(view) == 2 else (view, None)
        if not isinstance(name, str):
            raise PanelError(f"view={view!r} must name one of the views {list(X)}, or be (view, columns).")
        part = X[name] if columns is None else select_columns(X[name], columns)
        present = X.mask[name]
    if len(present) != len(X):
        raise PanelError(f"view={view!r} gave {len(present)} rows for {len(X)} samples.")
    return part, None if present.all() else present


def _as_mask(name: str, given: Any, n_samples: int) -> NDArray[np.bool_]:
    present = np.asarray(given)
    if present.dtype.kind not in "b" and not np.isin(present, (0, 1)).all():
        raise PanelError(f"mask of view {name!r} must hold true and false; got {present.dtype}.")
    if present.shape != (n_samples,):
        raise PanelError(f"mask of view {name!r} has shape {present.shape}; needed ({n_samples},).")
    return present.astype(bool)


def _length(view: Any) -> int:
    return int(view.shape[0])


def _n_columns(view: Any) -> int:
    return int(np.prod(view.shape[1:])) if len(view.shape) > 1 else 1


def _copied(view: Any) -> Any:
    return view.copy() if hasattr(view, "copy") else view
