"""Bring views to the same samples, and streams to the same clock."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from theory._exceptions import PanelError


def align_views(
    tables: Mapping[str, tuple[Any, Any]],
    *,
    how: Literal["inner", "outer", "left"] = "inner",
    duplicates: Literal["raise", "first"] = "raise",
) -> tuple[NDArray[Any], dict[str, NDArray[Any]], dict[str, NDArray[np.bool_]]]:
    """Join views by the ids of their samples.

    Parameters
    ----------
    tables : mapping of str to (ids, values)
        Per view the ids, shape (sample_v,), and the values, shape (sample_v, ...).
    how : {"inner", "outer", "left"}, default "inner"
        Samples that all views have; that any has; that the first view has.
    duplicates : {"raise", "first"}, default "raise"
        What an id that occurs twice in a view does.

    Returns
    -------
    ids : ndarray of shape (sample,)
        In the order of the first table, then of first appearance.
    values : dict of str to ndarray of shape (sample, ...)
        Rows that a view lacks are NaN (None if objects); integers with gaps become float64.
    mask : dict of str to ndarray of bool of shape (sample,)
        Which samples the view has.

    Raises
    ------
    PanelError
        If ids and values differ in length, or an id occurs twice.

    Examples
    --------
    >>> ids, values, mask = align_views({"a": ([3, 1], [[3.0], [1.0]]), "b": ([1, 2], [[10.0], [20.0]])}, how="outer")
    >>> ids.tolist(), values["b"].ravel().tolist(), mask["a"].tolist()
    ([3, 1, 2], [nan, 10.0, 20.0], [True, True, False])
    """
    if how not in ("inner", "outer", "left") or duplicates not in ("raise", "first"):
        raise PanelError(
            f"how is inner, outer or left and duplicates raise or first; got {how!r}, {duplicates!r}."
        )
    if not tables:
        raise PanelError("there is no view to align. Give {name: (ids, values)}.")
    positions: dict[str, dict[Any, int]] = {}
    arrays: dict[str, NDArray[Any]] = {}
    for name, (ids, values) in tables.items():
        keys, arrays[name] = np.asarray(ids), np.asarray(values)
        if keys.ndim != 1 or len(keys) != len(arrays[name]):
            raise PanelError(f"view {name!r}: {keys.shape} ids for {len(arrays[name])} rows of values.")
        if keys.dtype.kind == "f" and np.isnan(keys).any():
            raise PanelError(f"view {name!r}: an id is NaN, which equals nothing. Drop those rows.")
        found: dict[Any, int] = {}
        for i, key in enumerate(keys.tolist()):
            if key in found:
                if duplicates == "raise":
                    raise PanelError(
                        f"view {name!r}: id {key!r} occurs twice (rows {found[key]} and {i}). Set duplicates='first'."
                    )
                continue
            found[key] = i
        positions[name] = found
    order: dict[Any, None] = {}
    for name in tables if how == "outer" else list(tables)[:1]:
        order.update(dict.fromkeys(positions[name]))
    keep = [key for key in order if how != "inner" or all(key in found for found in positions.values())]
    out, mask = {}, {}
    for name, found in positions.items():
        rows = np.array([found.get(key, -1) for key in keep], dtype=np.int64)
        mask[name] = rows >= 0
        out[name] = _with_gaps(arrays[name], rows)
    return np.array(keep, dtype=_id_dtype(tables, keep)), out, mask


def resample_stream(
    values: Any,
    times: Any,
    grid: Any,
    *,
    method: Literal["previous", "linear", "mean"] = "previous",
    tolerance: float | None = None,
    name: str = "stream",
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Put a stream on another clock.

    Parameters
    ----------
    values : array-like of shape (token, feature)
        The stream.
    times : array-like of shape (token,)
        Its clock, strictly increasing.
    grid : array-like of shape (point,)
        The new clock, strictly increasing.
    method : {"previous", "linear", "mean"}, default "previous"
        The last value at or before a point; between the neighbours of a point; or the mean over
        ``[grid[j], grid[j+1])``, the last bin without end.
    tolerance : float, optional
        Points farther than this from the value used (linear: from either neighbour) are masked; not for bins.
    name : str, default "stream"
        For errors.

    Returns
    -------
    values : ndarray of shape (point, feature), float64
        NaN where masked; nothing is extrapolated.
    mask : ndarray of bool of shape (point,)
        Where there is a value.

    Raises
    ------
    PanelError
        If a clock does not strictly increase, shapes do not fit, or bins are given a tolerance.

    Examples
    --------
    >>> resample_stream([[0.0], [10.0]], [0.0, 1.0], [0.25, 0.5, 2.0], method="linear")[0].ravel().tolist()
    [2.5, 5.0, nan]
    """
    x, t, g = np.asarray(values, dtype=np.float64), _clock(times, name), _clock(grid, f"grid of {name}")
    if x.ndim != 2 or len(x) != len(t):
        raise PanelError(
            f"stream {name!r}: values are (token, feature) with a time each; got {x.shape}, {t.shape}."
        )
    if method not in ("previous", "linear", "mean"):
        raise PanelError(f"method is previous, linear or mean; got {method!r}.")
    if method == "mean" and tolerance is not None:
        raise PanelError(
            "method='mean' takes whole bins and knows no tolerance. Leave it out, or use 'previous'."
        )
    limit = np.inf if tolerance is None else tolerance
    if not limit >= 0:
        raise PanelError(f"tolerance is 0 or more; got {tolerance}.")
    out = np.full((len(g), x.shape[1]), np.nan)
    if not len(t) or not len(g):
        return out, np.zeros(len(g), dtype=bool)
    if method == "mean":
        bins = np.searchsorted(g, t, side="right") - 1
        inside = bins >= 0
        count = np.bincount(bins[inside], minlength=len(g))
        total = np.zeros_like(out)
        np.add.at(total, bins[inside], x[inside])
        seen = count > 0
        out[seen] = total[seen] / count[seen, None]
        return out, seen
    last = np.searchsorted(t, g, side="right") - 1
    if method == "previous":
        seen = (last >= 0) & (g - t[np.maximum(last, 0)] <= limit)
        out[seen] = x[last[seen]]
        return out, seen
    left = np.maximum(last, 0)
    exact = (last >= 0) & (t[left] == g)
    right = np.where(exact, left, np.minimum(left + 1, len(t) - 1))
    seen = (last >= 0) & (exact | (last + 1 < len(t)))
    seen &= (g - t[left] <= limit) & (t[right] - g <= limit)
    span = np.where(right > left, t[right] - t[left], 1.0)
    share = ((g - t[left]) / span)[:, None]
    blended = np.where(exact[:, None], x[left], (1.0 - share) * x[left] + share * x[right])
    out[seen] = blended[seen]
    return out, seen


def _clock(times: Any, name: str) -> NDArray[np.float64]:
    t = np.asarray(times, dtype=np.float64)
    if t.ndim != 1 or not np.isfinite(t).all():
        raise PanelError(f"stream {name!r}: times are finite numbers in one row; got shape {t.shape}.")
    falls = np.flatnonzero(np.diff(t) <= 0)
    if len(falls):
        raise PanelError(
            f"stream {name!r}: times not strictly increasing at {int(falls[0]) + 1}. Sort, or average duplicates."
        )
    return t


def _with_gaps(values: NDArray[Any], rows: NDArray[np.int64]) -> NDArray[Any]:
    gaps = rows < 0
    if not gaps.any():
        return values[rows]
    if values.dtype.kind not in "fciub":
        taken = (
            values.astype(object)[np.maximum(rows, 0)] if len(values) else np.empty(len(rows), dtype=object)
        )
        taken[gaps] = None
        return taken
    kind = values.dtype if values.dtype.kind in "fc" else np.dtype(np.float64)
    out = np.full((len(rows), *values.shape[1:]), np.nan, dtype=kind)
    out[~gaps] = values[rows[~gaps]]
    return out


def _id_dtype(tables: Mapping[str, tuple[Any, Any]], keep: list[Any]) -> Any:
    kinds = {np.asarray(ids).dtype.kind for ids, _ in tables.values()}
    return object if len(kinds) > 1 and not kinds <= set("iub") else None
