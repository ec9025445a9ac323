"""What goes wrong at test time: views that are missing, lie or are drowned in noise."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from estimators.columns import take_rows
from estimators.views import Views
from fusion.early import Ragged
from theory import PanelError


def condition_names(n_views: int) -> tuple[str, ...]:
    """Name what can be done to a panel of so many views.

    Parameters
    ----------
    n_views : int
        Number of views.

    Returns
    -------
    tuple of str
        ``clean``, ``absent``, ``noise``, and ``wrong_1`` to ``wrong_f``, f the largest minority (at least 1).
    """
    liars = max((n_views - 1) // 2, 1)
    return ("clean", "absent", *(f"wrong_{f}" for f in range(1, liars + 1)), "noise")


def corrupt(X: Views, y: Any, condition: str, *, scale: dict[str, Any], rng: np.random.Generator) -> Views:
    """Corrupt the views of test samples.

    Parameters
    ----------
    X : Views
        Samples.
    y : array-like of shape (sample,)
        Class labels, from which wrong ones are told; of numbers, any other sample is wrong.
    condition : str
        ``clean``; ``absent``: one view of each sample is gone; ``wrong_f``: f views of each sample are those of a
        sample of another class, the same class for all f; ``noise``: one view gets noise of 3 standard
        deviations.
    scale : dict of str to ndarray
        Standard deviation of each feature of each view in training.
    rng : Generator
        Of the draws.

    Returns
    -------
    Views
        Fresh arrays.

    Raises
    ------
    PanelError
        If there is no such condition, or too few views for it.
    """
    if condition == "clean":
        return X
    names, n = X.names, len(X)
    kind, _, count = condition.partition("_")
    if condition not in ("absent", "noise") and not (kind == "wrong" and count.isdigit() and int(count) >= 1):
        raise PanelError(
            f"there is no condition {condition!r}; there are {', '.join(condition_names(len(names)))}."
        )
    hit_views = int(count) if kind == "wrong" else 1
    if hit_views > len(names):
        raise PanelError(f"{condition} needs {hit_views} views; there are {len(names)}.")
    order = np.argsort(rng.random((n, len(names))), axis=1)[:, :hit_views]
    hit = np.zeros((n, len(names)), dtype=bool)
    np.put_along_axis(hit, order, True, axis=1)
    donors = _donors(np.asarray(y), hit_views, rng) if kind == "wrong" else None
    parts: dict[str, Any] = {}
    masks = {}
    for v, name in enumerate(names):
        rows, present = hit[:, v], X.mask[name].copy()
        view = X[name]
        if kind == "absent":
            present &= ~rows
        elif kind == "wrong":
            assert donors is not None
            source = np.where(rows, donors[:, v % hit_views], np.arange(n))
            view, present = take_rows(view, source), present[source]
        else:
            view = _noisy(view, rows, np.asarray(scale[name]), rng)
        parts[name], masks[name] = view, present
    return Views(parts, mask=masks)


def _donors(y: NDArray[Any], count: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Give for each sample `count` samples that share one wrong class."""
    donors = np.empty((len(y), count), dtype=np.intp)
    if y.dtype.kind == "f":
        for i in range(len(y)):
            donors[i] = rng.choice(np.delete(np.arange(len(y)), i), size=1)
        return donors
    classes = np.unique(y)
    if len(classes) < 2:
        raise PanelError("a wrong view needs a sample of another class; there is one class.")
    rows_of = {c: np.flatnonzero(y == c) for c in classes.tolist()}
    for i, own in enumerate(y.tolist()):
        other = rng.choice(classes[classes != own])
        donors[i] = rng.choice(rows_of[other.item()], size=count)
    return donors


def _noisy(view: Any, rows: NDArray[np.bool_], scale: NDArray[np.float64], rng: np.random.Generator) -> Any:
    if isinstance(view, Ragged):
        hit = np.repeat(rows, view.lengths)
        values = view.values.astype(np.float64)
        values[hit] += 3.0 * scale * rng.normal(size=(int(hit.sum()), values.shape[1]))
        return Ragged(values, view.offsets)
    values = np.array(view, dtype=np.float64)
    values[rows] += 3.0 * scale * rng.normal(size=values[rows].shape)
    return values
