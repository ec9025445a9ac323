"""Comparator networks as straight-line vector code: everything between a load and a store stays in registers.

One specialisation per number of rows, wanted ranks, dtype and vector width. The array-driven network of
`fusion._kernels.order` computes the same bits and is used until a shape has been asked for often enough.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from llvmlite import ir
from llvmlite.binding import get_host_cpu_features
from numba import njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from fusion._kernels.networks import comparators

# Vectors ahead of the one in work that each row is fetched from. Single vectors of (10, 1e6) and (25, 1e6)
# float32 numbers take .71 and 2.1 times np.mean without, .49 and .86 with 4, .37 and .83 with 32.
_AHEAD = 32


@lru_cache(maxsize=1)
def vector_bytes() -> int:
    """Width of the widest vector register of this processor."""
    features = get_host_cpu_features()
    return 64 if features.get("avx512f") else 32 if features.get("avx") else 16


def lanes_of(dtype: np.dtype[Any]) -> int:
    """Give the numbers that fit into one register."""
    return vector_bytes() // dtype.itemsize


def _step(
    typing: Any,
    panel: Any,
    start: Any,
    stride: Any,
    out: Any,
    place: Any,
    n: Any,
    low: Any,
    high: Any,
    lanes: Any,
) -> Any:
    """Average ranks low..high-1 of `lanes` neighbouring columns; return one bit per lane with a fault."""
    sizes: tuple[Any, ...] = tuple(item.literal_value for item in (n, low, high, lanes))
    signature = types.int64(panel, types.int64, types.int64, out, types.int64, n, low, high, lanes)
    return signature, lambda *given: _emit(*given, *(True, *sizes))


def _sum_step(
    typing: Any,
    panel: Any,
    start: Any,
    stride: Any,
    out: Any,
    place: Any,
    n: Any,
    low: Any,
    high: Any,
    lanes: Any,
) -> Any:
    """Do the same without the division."""
    sizes: tuple[Any, ...] = tuple(item.literal_value for item in (n, low, high, lanes))
    signature = types.int64(panel, types.int64, types.int64, out, types.int64, n, low, high, lanes)
    return signature, lambda *given: _emit(*given, *(False, *sizes))


def _emit(
    context: Any,
    builder: Any,
    signature: Any,
    arguments: Any,
    mean: bool,
    n: int,
    low: int,
    high: int,
    lanes: int,
) -> Any:
    target = context.make_array(signature.args[3])(context, builder, arguments[3]).data
    scalar = context.get_data_type(signature.args[0].dtype)
    single = isinstance(scalar, ir.FloatType)
    values, fault = load_sorted(context, builder, signature, arguments, n, low, high, lanes, ahead=mean)
    total = constant(scalar, lanes, 0.0, wide=True)
    for value in values[low:high]:
        total = builder.fadd(total, widen(builder, value))
    if mean:
        total = builder.fdiv(total, constant(scalar, lanes, float(high - low), wide=True))
    narrow = signature.args[3].dtype == types.float32
    result = builder.fptrunc(total, fault.type) if narrow else total
    if not single:
        # Finite numbers of float64 can overflow in the sum.
        fault = builder.fadd(builder.fmul(result, constant(scalar, lanes, 0.0)), fault)
    place = builder.bitcast(builder.gep(target, [arguments[4]]), result.type.as_pointer())
    builder.store(result, place, align=4 if narrow else 8)
    return lane_bits(builder, fault, lanes)


def constant(scalar: Any, lanes: int, value: float, *, wide: bool = False) -> Any:
    """Give a vector of one number, in the panel's precision or in double precision."""
    kind = ir.VectorType(ir.DoubleType() if wide else scalar, lanes)
    return ir.Constant(kind, [ir.Constant(kind.element, value)] * lanes)


def widen(builder: Any, value: Any) -> Any:
    """Turn a vector into double precision."""
    if isinstance(value.type.element, ir.DoubleType):
        return value
    return builder.fpext(value, ir.VectorType(ir.DoubleType(), value.type.count))


def lane_bits(builder: Any, fault: Any, lanes: int) -> Any:
    """Give one bit per lane that holds NaN."""
    marks = builder.bitcast(builder.fcmp_unordered("uno", fault, fault), ir.IntType(lanes))
    return builder.zext(marks, ir.IntType(64))


def load_sorted(
    context: Any,
    builder: Any,
    signature: Any,
    arguments: Any,
    n: int,
    low: int,
    high: int,
    lanes: int,
    *,
    ahead: bool,
) -> tuple[list[Any], Any]:
    """Load `lanes` columns of n rows and put ranks low..high-1 of each into their places.

    The first three arguments are the panel, the place of the first number and the distance of two rows.
    Also gives a vector that is NaN where a column held NaN or an infinity.
    """
    source = context.make_array(signature.args[0])(context, builder, arguments[0]).data
    offset, stride = arguments[1], arguments[2]
    scalar = context.get_data_type(signature.args[0].dtype)
    vector = ir.VectorType(scalar, lanes)
    align = 4 if isinstance(scalar, ir.FloatType) else 8
    byte, word, index = ir.IntType(8).as_pointer(), ir.IntType(32), ir.IntType(64)
    fetch = builder.module.declare_intrinsic(
        "llvm.prefetch", (byte,), ir.FunctionType(ir.VoidType(), [byte, word, word, word])
    )
    zero = fault = constant(scalar, lanes, 0.0)
    values = []
    for row in range(n):
        if row:
            offset = builder.add(offset, stride)
        pointer = builder.bitcast(builder.gep(source, [offset]), vector.as_pointer())
        value = builder.load(pointer, align=align)
        # x * 0 is NaN for NaN and infinities, which comparators would hide.
        fault = builder.fadd(builder.fmul(value, zero, flags=["contract"]), fault, flags=["contract"])
        values.append(value)
        if ahead:
            later = builder.gep(source, [builder.add(offset, index(_AHEAD * lanes))])
            builder.call(fetch, [builder.bitcast(later, byte), word(0), word(3), word(1)])
    for i, j in comparators(n, low, high).tolist():
        # LLVM turns the pair of selections into one vector minimum and one maximum.
        x, y = values[i], values[j]
        less = builder.fcmp_ordered("<", x, y)
        values[i], values[j] = builder.select(less, x, y), builder.select(less, y, x)
    return values, fault


kept_mean_step: Any = intrinsic(prefer_literal=True)(_step)
kept_sum_step: Any = intrinsic(prefer_literal=True)(_sum_step)


def rows_in_place(
    panel: NDArray[Any],
    out: NDArray[Any],
    unclean: NDArray[np.uint8],
    d: int,
    begin: int,
    end: int,
    n: int,
    low: int,
    high: int,
    lanes: int,
) -> None:
    """Average ranks of columns begin..end-1; marks samples that hold a non-finite value.

    Reads and writes whole vectors: where d < lanes, up to lanes - d numbers behind `panel` and `out`.
    """
    vectors = (end - begin + lanes - 1) // lanes
    last = max(end - lanes, 0)
    mask = -1 if d >= lanes else (1 << d) - 1
    for s in range(unclean.size):
        fault = 0
        for v in range(vectors):
            column = min(begin + v * lanes, last)
            fault |= kept_mean_step(panel, s * n * d + column, d, out, s * d + column, n, low, high, lanes)
        if fault & mask != 0:
            unclean[s] = 1


@lru_cache(maxsize=512)
def kept_mean_of(
    dtype: np.dtype[Any], n: int, low: int, high: int, wide: bool = False
) -> Callable[..., None]:
    """Compile `rows_in_place` for one number of rows and ranks, or load it from numba's cache.

    Takes the arguments of `rows_in_place` up to `end`; `wide` results are float64, whatever the panel is.
    """
    scalar = types.float32 if dtype == np.float32 else types.float64
    arrays = (
        types.Array(scalar, 1, "C", readonly=True),
        types.Array(types.float64 if wide else scalar, 1, "C"),
        types.Array(types.uint8, 1, "C"),
    )
    return specialise(rows_in_place, (*arrays, *(types.int64,) * 3), (n, low, high, lanes_of(dtype)))


def specialise(
    function: Callable[..., None], leading: tuple[Any, ...], sizes: tuple[int, ...]
) -> Callable[..., None]:
    """Compile a function for fixed values of its last arguments.

    These are literal types of the signature, so that numba's cache on disk tells the specialisations
    apart. Its dispatcher would turn them back into plain integers: the entry point is called instead.
    """
    signature = (*leading, *map(types.literal, sizes))
    options = {"nogil": True, "error_model": "numpy"}
    try:
        dispatcher = njit(types.void(*signature), cache=True, **options)(function)
    except RuntimeError:
        # No folder can be written to: compile once per process.
        dispatcher = njit(types.void(*signature), **options)(function)
    entry = dispatcher.overloads[signature].entry_point

    def run(*arguments: Any) -> None:
        entry(*arguments, *sizes)

    return run
