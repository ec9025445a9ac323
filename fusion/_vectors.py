"""Panels for kernels that read and write whole vectors: room behind the ends, and threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion._threads import in_threads, n_threads, split

# (first sample, panel as one axis, results as one axis, marks of unclean samples, begin, end of the outputs)
Kernel = Callable[[int, NDArray[Any], NDArray[Any], NDArray[np.uint8], int, int], None]


def whole_vectors(
    rows: NDArray[Any], kernel: Kernel, dtype: Any = None
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Run a kernel that gives one number per sample and output.

    Parameters
    ----------
    rows : ndarray of float32 or float64, shape (sample, specialist, output)
        C-contiguous panel.
    kernel : callable
        Reads up to a vector beyond the last row, and writes as far beyond the last result, where there are
        fewer outputs than a vector holds.
    dtype : numpy dtype, optional
        Of the results; the panel's unless given.

    Returns
    -------
    out : ndarray, shape (sample, output)
    unclean : ndarray of bool, shape (sample,)
        What the kernel marked.
    """
    n_samples = rows.shape[0]
    count = n_threads(rows.nbytes)
    if count > 1 and n_samples >= count:
        runs = split(n_samples, count)
        parts = in_threads(lambda begin, end: _run(rows[begin:end], kernel, begin, 1, dtype), runs)
        return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])
    return _run(rows, kernel, 0, count, dtype)


def _run(
    rows: NDArray[Any], kernel: Kernel, first: int, count: int, dtype: Any
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    from fusion._kernels.vectors import lanes_of

    n_samples, n, d = rows.shape
    lanes = lanes_of(rows.dtype)
    dtype = rows.dtype if dtype is None else dtype
    flat = rows.reshape(-1)
    marks = np.zeros(n_samples, dtype=np.uint8)
    if d >= lanes:
        out = np.empty((n_samples, d), dtype=dtype)
        runs = split(d, count, lanes)
        found = [np.zeros(n_samples, dtype=np.uint8) for _ in runs]
        in_threads(
            lambda begin, end, own: kernel(first, flat, out.reshape(-1), own, begin, end),
            [(*run, own) for run, own in zip(runs, found, strict=True)],
        )
        for own in found:
            marks |= own
        return out, marks.view(np.bool_)
    wide = np.empty(n_samples * d + lanes, dtype=dtype)
    # Samples whose last row ends within a vector of the panel's end are read from a copy with room behind.
    safe = max(0, n_samples - -(-((n - 1) * d + lanes) // (n * d)) + 1)
    rest = np.zeros((n_samples - safe) * n * d + lanes, dtype=rows.dtype)
    rest[: rest.size - lanes] = flat[safe * n * d :]
    kernel(first, flat, wide, marks[:safe], 0, d)
    kernel(first + safe, rest, wide[safe * d :], marks[safe:], 0, d)
    return wide[: n_samples * d].reshape(n_samples, d), marks.view(np.bool_)
