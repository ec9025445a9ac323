"""Compiling ahead of time what the rules would compile at their first large panel."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable

import numpy as np

from fusion._arguments import read_budget
from theory._exceptions import BudgetError, FaultWarning


def warm_up(
    panels: Iterable[tuple[int, int]] = (), *, dtypes: tuple[str, ...] = ("float32", "float64")
) -> float:
    """Compile the kernels of all rules now, or load them from numba's cache.

    Parameters
    ----------
    panels : iterable of (int, int), default ()
        Numbers of specialists and of liars (n_byzantine) that will be asked about: the order rules and Krum get
        code of their own for each, as they otherwise do after about a million numbers.
    dtypes : tuple of str, default ("float32", "float64")
        What the panels will hold.

    Returns
    -------
    float
        Seconds it took: some tens the first time on a machine, a few afterwards.

    Raises
    ------
    PanelError
        If a number of liars is no whole number.
    BudgetError
        If a number of liars is not below half of the specialists.

    Notes
    -----
    Nothing that a rule returns depends on whether its kernels were compiled, with NaN or ties or without.
    numba keeps compiled code beside this package, or in the folder that NUMBA_CACHE_DIR names.

    Examples
    --------
    >>> warm_up([(5, 1)], dtypes=("float32",)) > 0
    True
    """
    from fusion._registry import get_operator, operator_names

    start = time.perf_counter()
    wanted = []
    for n, n_byzantine in panels:
        f = read_budget(n_byzantine, n)
        if 2 * f >= n:
            raise BudgetError(
                f"warm_up for {n} specialists needs n_byzantine below {n / 2:g}; got {f}. Lower n_byzantine."
            )
        wanted.append((int(n), f))
    from fusion._kernels.mixing import subset_means_of

    rng = np.random.default_rng(0)
    for name in dtypes:
        dtype = np.dtype(name)
        subset_means_of(dtype)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FaultWarning)
            for shape in ((600, 9, 3), (2, 9, 400)):
                panel = rng.uniform(0.1, 1.0, size=shape).astype(dtype)
                panel /= panel.sum(axis=-1, keepdims=True)
                for rule in operator_names("late"):
                    get_operator(rule)(panel)
        for n, f in wanted:
            _specialise(dtype, n, f)
    return time.perf_counter() - start


def _specialise(dtype: np.dtype[np.floating], n: int, f: int) -> None:
    from fusion._kernels.lanes import krum_of
    from fusion._kernels.vectors import kept_mean_of
    from fusion._kernels.windows import AROUND_MEDIAN, AROUND_TRIMMED, WINSORIZED, inner_means_of

    kept_mean_of(dtype, n, (n - 1) // 2, n // 2 + 1)
    kept_mean_of(dtype, n, f, n - f)
    for kind in (WINSORIZED, AROUND_MEDIAN, AROUND_TRIMMED):
        inner_means_of(dtype, n, f, kind)
    if n > 1:
        krum_of(dtype, n, n - f - 1, single=True)
        krum_of(dtype, n, n - f - 1)
