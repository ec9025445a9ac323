"""When to compile a core, and how: one specialisation per dtype, cached on disk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

_COMPILED: dict[tuple[str, str], Callable[..., None]] = {}
_interpreted = 0

# An interpreted step costs about 0.2 microseconds; loading numba and one cached core about 0.3 s. Below
# this much interpreted work in a process, the interpreter is the cheaper of the two.
_WORTH_COMPILING = 500_000
_SINGLE_CALL = 20_000

# A specialisation takes .1 to .5 s to compile, once per machine. The array-driven network needs about
# 1 ms more per million numbers: below this many of one shape in a process it is the cheaper of the two.
_WORTH_SPECIALISING = 1 << 20
_asked: dict[tuple[Any, ...], int] = {}


def worth_specialising(key: tuple[Any, ...], size: int) -> bool:
    """Count the numbers that one shape was asked about; say whether code of its own pays by now.

    Parameters
    ----------
    key : tuple
        What code would be specialised for.
    size : int
        Numbers in this panel.

    Returns
    -------
    bool
    """
    count = _asked[key] = _asked.get(key, 0) + size
    return count >= _WORTH_SPECIALISING


def core(
    function: Callable[..., None],
    signature: str,
    dtype: np.dtype[Any],
    *,
    work: int,
    reassociate: bool = False,
) -> Callable[..., None]:
    """Give a core for panels of one dtype: compiled, or as it stands while little has been asked.

    The two run the same IEEE operations in the same order, so which one runs cannot be seen in the result.

    Parameters
    ----------
    function : callable
        Plain Python over arrays and numbers.
    signature : str
        One letter per argument: ``p`` panel of `dtype`, ``o`` output of `dtype`, ``w`` read-only and
        ``f`` writable float64, ``b`` uint8, ``i`` int64 array, each followed by its number of axes;
        ``n`` an int, ``x`` a float.
    dtype : numpy dtype
        float32 or float64.
    work : int
        Elementary steps of this call.
    reassociate : bool, default False
        Let the compiler add in another order (never ignoring NaN or infinity). Such a core is always compiled.

    Returns
    -------
    callable
        Writes into its output arguments and returns nothing.
    """
    global _interpreted
    key = (f"{function.__module__}.{function.__qualname__}", dtype.name)
    ready = _COMPILED.get(key)
    if ready is not None:
        return ready
    if not reassociate and work <= _SINGLE_CALL and _interpreted + work <= _WORTH_COMPILING:
        _interpreted += work
        return _interpret(function)
    ready = _COMPILED[key] = _compile(function, signature, dtype, reassociate)
    return ready


def _interpret(function: Callable[..., None]) -> Callable[..., None]:
    def run(*arguments: Any) -> None:
        with np.errstate(all="ignore"):
            function(*arguments)

    return run


def _compile(
    function: Callable[..., None], signature: str, dtype: np.dtype[Any], reassociate: bool
) -> Callable[..., None]:
    from numba import njit, types

    from fusion._kernels import steps  # noqa: F401  what plain functions inside kernels are compiled to

    scalar = types.float32 if dtype == np.float32 else types.float64
    # Read-only panels would otherwise be a type of their own, and a second compilation.
    kinds = {
        "p": (scalar, True),
        "o": (scalar, False),
        "w": (types.float64, True),
        "f": (types.float64, False),
        "b": (types.uint8, False),
        "i": (types.int64, True),
    }
    arguments: list[Any] = []
    for letter in signature.split():
        if letter in "nx":
            arguments.append(types.int64 if letter == "n" else types.float64)
        else:
            kind, readonly = kinds[letter[0]]
            arguments.append(types.Array(kind, int(letter[1]), "C", readonly=readonly))
    fastmath: Any = {"reassoc", "contract"} if reassociate else False
    options = {"nogil": True, "error_model": "numpy", "fastmath": fastmath}
    try:
        ready: Callable[..., None] = njit(types.void(*arguments), cache=True, **options)(function)
    except RuntimeError:
        # No folder can be written to, as in some containers: compile once per process.
        ready = njit(types.void(*arguments), **options)(function)
    return ready


def contiguous(array: NDArray[Any]) -> NDArray[Any]:
    """Give a C-contiguous array of native byte order, copying only when it is not one."""
    return np.ascontiguousarray(array)
