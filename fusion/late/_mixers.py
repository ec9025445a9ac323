"""The matrices of the pre-aggregators."""

from __future__ import annotations

from typing import Any

import numpy as np

from fusion._arguments import Floats, check_choice, heaviest
from fusion._mixing import Mixing, View
from theory._exceptions import PanelError


def neighbors(n_byzantine: Any, scope: str) -> Mixing:
    """Mix each row with the n - f - 1 nearest ones."""
    check_choice("scope", scope, ("sample", "batch"))

    def mix(view: View, f: int) -> tuple[Floats, Floats | None]:
        assert view.square is not None
        n, alpha = view.n, view.alpha
        square = np.where(np.isnan(view.square), np.inf, view.square)
        square[:, np.arange(n), np.arange(n)] = -1.0
        if alpha is None:
            return _nearest(square, n - f) / (n - f), None
        kept = 1.0 - np.broadcast_to(heaviest(alpha, f), (view.n_samples,))[:, None, None]
        order = np.argsort(square, axis=2, kind="stable")
        mass = np.take_along_axis(np.broadcast_to(alpha[:, None], square.shape), order, axis=2)
        reached = np.cumsum(mass, axis=2)
        taken = np.clip(np.minimum(reached, kept) - (reached - mass), 0.0, None)
        matrix = np.zeros(square.shape)
        np.put_along_axis(matrix, order, taken / kept, axis=2)
        return matrix, alpha

    return Mixing(
        "nearest_neighbor_mixing",
        mix,
        minimum=lambda f, needed: max(2 * f + 1, needed),
        n_byzantine=n_byzantine,
        scope=scope,
    )


def _nearest(square: Floats, count: int) -> Floats:
    """Mark the `count` least distances of every row; of equal ones, the first."""
    level = np.partition(square, count - 1, axis=2)[:, :, count - 1 : count]
    below = square < level
    equal = square == level
    missing = count - below.sum(axis=2, keepdims=True)
    chosen: Floats = (below | (equal & (np.cumsum(equal, axis=2) <= missing))).astype(np.float64)
    return chosen


def buckets(size: Any, rng: Any) -> Mixing:
    """Average random groups."""
    if isinstance(size, bool) or not isinstance(size, int | np.integer) or size < 1:
        raise PanelError(f"size must be a whole number >= 1; got {size!r}. Use 2.")
    fixed = isinstance(rng, int | np.integer) and not isinstance(rng, bool) and rng >= 0
    if not fixed and not isinstance(rng, np.random.Generator):
        raise PanelError(
            f"rng must be a numpy.random.Generator or a whole number >= 0; got {rng!r}. "
            "Pass rng=numpy.random.default_rng(seed)."
        )
    width = int(size)
    # One number per call: samples with absent specialists are mixed apart from the others.
    drawn: list[int] = []

    def mix(view: View, f: int) -> tuple[Floats, Floats | None]:
        if not drawn:
            drawn.append(int(rng) if fixed else int(rng.integers(2**63)))
        order = np.random.default_rng(drawn[0]).permutation(view.n)
        group = np.empty(view.n, dtype=np.intp)
        group[order] = np.arange(view.n) // width
        member = (group == np.arange(_groups(view.n, width))[:, None]).astype(np.float64)
        alpha = view.alpha
        if alpha is None:
            matrix = member / member.sum(axis=1, keepdims=True)
            return np.broadcast_to(matrix, (view.n_samples, *matrix.shape)), None
        mass = member * alpha[:, None]
        total = mass.sum(axis=2)
        matrix = mass / total[:, :, None]
        return np.broadcast_to(matrix, (view.n_samples, *matrix.shape[1:])), total

    return Mixing(
        "bucketing",
        mix,
        minimum=lambda f, needed: (needed - 1) * width + 1,
        count=lambda n: _groups(n, width),
        needs="nothing",
    )


def _groups(n: int, size: int) -> int:
    return -(-n // size)


def clipping(radius: Any, center: Any, scope: str) -> Mixing:
    """Clip to a fixed length."""
    check_choice("scope", scope, ("sample", "batch"))
    if (
        isinstance(radius, bool)
        or not isinstance(radius, int | float | np.number)
        or not 0.0 < radius < np.inf
    ):
        raise PanelError(f"radius must be a finite number > 0; got {radius!r}.")

    def mix(view: View, f: int) -> tuple[Floats, Floats | None]:
        return _clipped(view, float(radius) * view.unit), view.alpha

    return Mixing(
        "clip_norms",
        mix,
        minimum=lambda f, needed: needed,
        center=_center(center),
        needs="lengths",
        radius=float(radius),
        scope=scope,
    )


def adaptive(n_byzantine: Any, center: Any, scope: str) -> Mixing:
    """Clip the longest rows to the longest that is left."""
    check_choice("scope", scope, ("sample", "batch"))

    def mix(view: View, f: int) -> tuple[Floats, Floats | None]:
        assert view.lengths is not None
        n, alpha = view.n, view.alpha
        if alpha is None:
            place = np.full((view.n_samples, 1), 2 * f * (n - f) // n)
            longest = -np.sort(-view.lengths, axis=1)
        else:
            order = np.argsort(-view.lengths, axis=1, kind="stable")
            longest = np.take_along_axis(view.lengths, order, axis=1)
            trim = np.broadcast_to(heaviest(alpha, f), (view.n_samples,))[:, None]
            reached = np.cumsum(
                np.take_along_axis(np.broadcast_to(alpha, order.shape), order, axis=1), axis=1
            )
            place = (reached <= 2.0 * trim * (1.0 - trim) + 1e-12).sum(axis=1, keepdims=True)
        return _clipped(view, np.take_along_axis(longest, place, axis=1)[:, 0]), alpha

    return Mixing(
        "adaptive_clipping",
        mix,
        minimum=lambda f, needed: max(2 * f + 1, needed),
        n_byzantine=n_byzantine,
        center=_center(center),
        needs="lengths",
        scope=scope,
    )


def _clipped(view: View, radius: Floats) -> Floats:
    assert view.lengths is not None
    matrix = np.zeros((view.n_samples, view.n, view.n))
    long = view.lengths > radius[:, None]
    share = np.where(long, radius[:, None] / np.where(long, view.lengths, 1.0), 1.0)
    matrix[:, np.arange(view.n), np.arange(view.n)] = share
    return matrix


def _center(center: Any) -> Floats:
    values = np.asarray(center)
    if values.dtype.kind not in "iubf" or values.ndim > 1 or not values.size or not np.isfinite(values).all():
        raise PanelError(
            f"center must be one finite number, or one for each output; got {center!r}. Use 0.0 or "
            "the median of earlier answers."
        )
    return values.astype(np.float64)
