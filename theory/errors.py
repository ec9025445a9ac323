"""Errors of a panel: what each specialist got wrong, against a truth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theory._backends import (
    OUTPUT,
    SPECIALIST,
    as_float,
    column_names,
    from_array,
    from_torch,
    kind_of,
    ordered_dataarray,
    pandas_values,
    refuse_other_samples,
)
from theory._exceptions import PanelError
from theory.labels import as_labels
from theory.panel import Wrap, as_panel


def as_errors(
    errors: Any, *, missing: Literal["raise", "abstain"] = "raise"
) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """Read a table of errors: one row per sample, one column per specialist.

    Parameters
    ----------
    errors : array-like, DataFrame, DataArray or tensor
        Shape (sample, specialist) or (sample, specialist, output); a DataArray is read by dim name.
    missing : {"raise", "abstain"}
        Whether NaN is refused, or lets a specialist abstain on that sample. Infinities are always
        refused.

    Returns
    -------
    values : ndarray of float64, same shape
    names : tuple of str
        Names of the specialists.

    Raises
    ------
    PanelError
        On a wrong number of axes, an empty table, or non-finite values that are not allowed.

    Examples
    --------
    >>> values, names = as_errors([[0, 1], [1, 1]])
    >>> values.dtype, names
    (dtype('float64'), ('0', '1'))
    """
    values, names, _ = _read(errors, missing)
    return values, names


def _read(errors: Any, missing: str) -> tuple[NDArray[np.float64], tuple[str, ...], float]:
    """Read errors, names, and the sum of squares where one pass could tell it (else NaN)."""
    kind = kind_of(errors)
    if kind == "xarray":
        table, dims = ordered_dataarray(errors, SPECIALIST, OUTPUT if OUTPUT in errors.dims else None)
        if len(dims) != 2 + (OUTPUT in dims):
            raise PanelError(
                f"errors need one dim for samples beside specialist and output; got {dims}. Stack the others: "
                "errors.stack(sample=[...])."
            )
        values, wrap = np.asarray(table), Wrap("xarray", errors, (*dims, "") if len(dims) == 2 else dims, 0)
        names = wrap.names if SPECIALIST in errors.coords else ()
    elif kind == "pandas":
        values, names = pandas_values(errors), tuple(str(name) for name in column_names(errors))
        if values.shape[1] != len(names):
            values = values.reshape(len(values), len(names), -1)
    else:
        values, names = (from_torch(errors) if kind == "torch" else from_array(errors)), ()
    values = np.asarray(as_float(values), dtype=np.float64)
    if values.ndim not in (2, 3):
        raise PanelError(
            "errors need the axes (sample, specialist) or (sample, specialist, output); got shape "
            f"{values.shape}."
        )
    if 0 in values.shape:
        raise PanelError(f"errors hold no sample, specialist or output: shape {values.shape}.")
    names = names or tuple(str(i) for i in range(values.shape[1]))
    return values, names, _check_finite_errors(values, names, missing)


def panel_errors(
    panel: Any,
    y: ArrayLike,
    *,
    kind: Literal["residual", "zero_one", "probability"],
    abstain: Literal["wrong", "nan"] = "wrong",
) -> Any:
    """Compute what each specialist got wrong.

    Parameters
    ----------
    panel : array-like, DataFrame, DataArray or tensor
        For ``"residual"``: numbers, (sample, specialist) or (sample, specialist, output). For
        ``"zero_one"``: label codes (sample, specialist), -1 = abstained. For ``"probability"``:
        (sample, specialist, output), rows summing to 1.
    y : array-like
        The truth: numbers of shape (sample,) or (sample, output), or label codes (sample,).
    kind : {"residual", "zero_one", "probability"}
        answer - truth; 1 where the label is not the truth; probability - onehot(truth), whose
        squared length is the Brier score.
    abstain : {"wrong", "nan"}
        For ``"zero_one"``, whether an abstention counts as an error or as a missing value. NaN
        answers of the other kinds stay NaN.

    Returns
    -------
    errors : ndarray of float64, or DataArray if the panel was one
        Shape (sample, specialist), or (sample, specialist, output).

    Raises
    ------
    PanelError
        If shapes or the labels of samples do not fit, the truth is not finite, a label code is outside the
        outputs, or a row of probabilities without NaN is negative or does not sum to 1 (both within 0.01,
        for half precision).

    Examples
    --------
    >>> panel_errors([[0, 1], [1, -1]], [0, 1], kind="zero_one")
    array([[0., 1.],
           [0., 1.]])
    """
    if kind not in ("residual", "zero_one", "probability"):
        raise PanelError(f"kind must be 'residual', 'zero_one' or 'probability'; got {kind!r}.")
    if abstain not in ("wrong", "nan"):
        raise PanelError(f"abstain must be 'wrong' or 'nan'; got {abstain!r}.")
    refuse_other_samples(panel, y)
    truth = np.asarray(y.detach().cpu().numpy() if kind_of(y) == "torch" else y)  # type: ignore[union-attr]
    if kind == "zero_one":
        codes, _ = as_labels(panel)
        gold = _label_truth(truth, codes.shape)
        errors = (codes != gold[:, None]).astype(np.float64)
        if abstain == "nan":
            errors[codes < 0] = np.nan
        return _like_table(errors, panel)
    if kind == "residual" and kind_of(panel) != "pandas" and _ndim(panel) == 2:
        values, _ = as_errors(panel, missing="abstain")
    else:
        values = _sample_panel(panel)
    if kind == "probability":
        if values.ndim != 3:
            raise PanelError(f"probabilities need the axes (sample, specialist, output); got {values.shape}.")
        _check_rows(values)
        gold = _label_truth(truth, values.shape)
        if gold.max(initial=0) >= values.shape[-1]:
            raise PanelError(
                f"y holds label code {gold.max()}, but the panel has {values.shape[-1]} outputs (0 to "
                f"{values.shape[-1] - 1}). Add the output, or map the labels with encode_labels."
            )
        errors = values  # a copy already
        errors[np.arange(len(gold)), :, gold] -= 1.0
        return _like_table(errors, panel)
    if truth.dtype.kind not in "iubf":
        raise PanelError(f"y must hold numbers for kind='residual'; got dtype {truth.dtype}.")
    truth = truth.astype(np.float64)
    if not np.isfinite(truth).all():
        raise PanelError(f"y holds {int((~np.isfinite(truth)).sum())} non-finite values. Drop those samples.")
    if len(truth) != len(values) or truth.ndim > 2:
        raise PanelError(f"panel has {len(values)} samples, y has shape {truth.shape}.")
    if values.ndim == 2 or (truth.ndim == 1 and values.shape[2] == 1):
        flat = values if values.ndim == 2 else values[:, :, 0]
        if truth.ndim == 2 and truth.shape[1] != 1:
            raise PanelError(f"panel has one output, y has {truth.shape[1]}.")
        return _like_table(flat - truth.reshape(-1, 1), panel)
    if truth.ndim == 1 or truth.shape[1] != values.shape[2]:
        raise PanelError(f"panel has {values.shape[2]} outputs, y has shape {truth.shape}.")
    return _like_table(values - truth[:, None, :], panel)


def _check_rows(values: NDArray[np.float64]) -> None:
    # Rows with NaN are left alone: outputs that a specialist does not know are NaN.
    sums = values.sum(axis=2)
    bad = (np.abs(sums - 1.0) > 1e-2) | (values < -1e-2).any(axis=2)
    if bad.any():
        sample, specialist = (int(at) for at in np.argwhere(bad)[0])
        raise PanelError(
            f"{int(bad.sum())} rows are no probabilities (first: sample {sample}, specialist {specialist}, sum "
            f"{sums[sample, specialist]:.4g}). Normalise them, or use kind='residual' against a one-hot truth."
        )


def _ndim(obj: Any) -> int:
    return int(obj.ndim) if hasattr(obj, "ndim") else np.ndim(obj)


def _sample_panel(panel: Any) -> NDArray[np.float64]:
    if kind_of(panel) == "xarray" and OUTPUT not in panel.dims:
        return as_errors(panel, missing="abstain")[0]
    values, _ = as_panel(panel)
    if values.ndim != 3:
        raise PanelError(
            f"a panel with a truth has the axes (sample, specialist, output); got shape {values.shape}."
        )
    if np.isinf(values).any():
        raise PanelError("the panel holds infinite answers; only NaN can stand for an abstention.")
    return values.astype(np.float64)


def _label_truth(truth: NDArray[Any], shape: tuple[int, ...]) -> NDArray[np.int64]:
    codes, _ = as_labels(truth[:, None]) if truth.ndim == 1 else (truth, ())
    if truth.ndim != 1 or len(truth) != shape[0]:
        raise PanelError(f"y must be one label code per sample ({shape[0]}); got shape {truth.shape}.")
    if (codes < 0).any():
        raise PanelError("y holds missing label codes (-1 or NaN). Drop those samples.")
    return codes[:, 0]


def _like_table(errors: NDArray[np.float64], panel: Any) -> Any:
    if kind_of(panel) != "xarray":
        return errors
    table, dims = ordered_dataarray(panel, SPECIALIST, OUTPUT if OUTPUT in panel.dims else None)
    dims = dims[: errors.ndim]
    coords = {name: coord for name, coord in table.coords.items() if set(coord.dims) <= set(dims)}
    return (
        table.isel({OUTPUT: 0}, drop=True).copy(data=errors)
        if table.ndim > errors.ndim
        else (type(table)(errors, dims=dims, coords=coords, attrs=dict(table.attrs), name="error"))
    )


def _check_finite_errors(values: NDArray[np.float64], names: Sequence[str], missing: str) -> float:
    if missing not in ("raise", "abstain"):
        raise PanelError(f"missing must be 'raise' or 'abstain'; got {missing!r}.")
    if values.flags.c_contiguous:
        # A finite sum of squares holds finite values only, and costs one pass over memory instead of three.
        square = float(np.vdot(values, values))
        if np.isfinite(square):
            return square
    bad = np.isinf(values) if missing == "abstain" else ~np.isfinite(values)
    if bad.any():
        first = np.argwhere(bad)[0]
        raise PanelError(
            f"errors hold {int(bad.sum())} non-finite values (first: sample {int(first[0])}, specialist "
            f"{names[int(first[1])]!r}); missing='abstain' accepts NaN, inf never."
        )
    return float("nan")
