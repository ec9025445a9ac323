"""Threads of our own over blocks of samples or outputs; the bits do not depend on how many there are."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import Any

import numpy as np

from theory._exceptions import PanelError

# Below this many bytes of input per block, handing work to a thread costs more than it saves.
_BLOCK_BYTES = 1 << 20
_active: ContextVar[int] = ContextVar("n_jobs", default=1)


@contextmanager
def threads(n_jobs: int | None = -1) -> Iterator[int]:
    """Let the rules inside a ``with`` block use several threads.

    Parameters
    ----------
    n_jobs : int or None, default -1
        Number of threads; -1: all processors this process may run on, None: 1.

    Yields
    ------
    int
        The number of threads.

    Raises
    ------
    PanelError
        If `n_jobs` is 0, below -1, or no whole number.

    Notes
    -----
    Samples, or the outputs of a few long answers, are divided among the threads in blocks above about 1 MiB;
    everything that is summed is summed in an order fixed by the panel's shape. So results have the same
    bits for any number of threads, and NaN and ties are treated as without. The setting holds for the
    calling thread only.

    Examples
    --------
    >>> import numpy as np
    >>> from fusion import median
    >>> with threads(2):
    ...     median(np.array([[1.0, 4.0], [2.0, 5.0], [900.0, 6.0]]))
    array([2., 5.])
    """
    if n_jobs is None:
        n_jobs = 1
    if isinstance(n_jobs, bool) or not isinstance(n_jobs, int | np.integer) or n_jobs == 0 or n_jobs < -1:
        raise PanelError(f"n_jobs must be a whole number >= 1, or -1 for all processors; got {n_jobs!r}.")
    count = _processors() if n_jobs == -1 else int(n_jobs)
    token = _active.set(count)
    try:
        yield count
    finally:
        _active.reset(token)


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def n_threads(n_bytes: int) -> int:
    """Say how many threads this much input is worth."""
    return max(1, min(_active.get(), n_bytes // _BLOCK_BYTES))


@lru_cache(maxsize=4)
def _pool(workers: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(workers, thread_name_prefix="fusion")


def split(size: int, parts: int, multiple: int = 1) -> list[tuple[int, int]]:
    """Cut range(size) into at most `parts` runs, all but the last a multiple of `multiple` long.

    Parameters
    ----------
    size : int
        Length of the whole.
    parts : int
        How many runs at most.
    multiple : int, default 1
        What the lengths are multiples of; a rest shorter than it joins the run before.

    Returns
    -------
    list of (int, int)
        Begin and end of each run.
    """
    if size == 0:
        return []
    length = -(-size // max(parts, 1))
    length = max(-(-length // multiple) * multiple, 1)
    begins = list(range(0, size, length))
    if len(begins) > 1 and size - begins[-1] < multiple:
        begins.pop()
    return list(zip(begins, [*begins[1:], size], strict=True))


def in_threads(work: Callable[..., Any], arguments: list[tuple[Any, ...]]) -> list[Any]:
    """Call a function with every tuple of arguments, on threads where there are several.

    Parameters
    ----------
    work : callable
        Must release the interpreter's lock to gain anything; must not ask for threads itself.
    arguments : list of tuple
        Arguments of each call.

    Returns
    -------
    list
        Results in the order of the arguments. The first exception is raised.
    """
    count = min(_active.get(), len(arguments))
    if count < 2:
        return [work(*given) for given in arguments]
    return list(_pool(_active.get()).map(lambda given: work(*given), arguments))
