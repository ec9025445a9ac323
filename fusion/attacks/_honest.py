"""Reading the honest rows, and repeating a lie."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from theory._exceptions import PanelError

Lies = NDArray[np.floating[Any]]


def read_honest(honest: Any, n_byzantine: int) -> tuple[Lies, int]:
    rows = np.asarray(honest)
    if rows.dtype.kind not in "iubf" or rows.ndim < 2 or rows.shape[-2] == 0 or rows.shape[-1] == 0:
        raise PanelError(
            f"honest rows have shape (..., specialist, output) and hold numbers; got {rows.dtype}, shape {rows.shape}."
        )
    if isinstance(n_byzantine, bool) or not isinstance(n_byzantine, int | np.integer) or n_byzantine < 0:
        raise PanelError(f"n_byzantine is the number of lies, a whole number >= 0; got {n_byzantine!r}.")
    return rows if rows.dtype.kind == "f" else rows.astype(np.float64), int(n_byzantine)


def copies(said: NDArray[Any], count: int, rows: Lies) -> Lies:
    lies: Lies = np.repeat(said[..., None, :], count, axis=-2).astype(rows.dtype, copy=False)
    return lies


def need_number(name: str, value: Any, *, positive: bool = False) -> float:
    """Refuse what is no finite number, or not a positive one."""
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if not number or not np.isfinite(value) or (positive and not value > 0.0):
        raise PanelError(f"{name} must be a finite number{' > 0' if positive else ''}; got {value!r}.")
    return float(value)


def need_count(name: str, value: Any, *, least: int = 1) -> int:
    """Refuse what is no whole number from `least` on."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise PanelError(f"{name} must be a whole number >= {least}; got {value!r}.")
    return int(value)


def need_generator(rng: np.random.Generator | None, name: str) -> np.random.Generator:
    if not isinstance(rng, np.random.Generator):
        raise PanelError(f"{name} draws at random; got rng={rng!r}. Pass rng=numpy.random.default_rng(seed).")
    return rng
