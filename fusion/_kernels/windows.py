"""Means of the values nearest to the middle as straight-line vector code behind a comparator network.

The n - f values nearest to a centre between the extremes follow each other in sorted order. Of two values
n - f places apart exactly one belongs to them, the nearer one: f selections find the window, and nothing is
added that has to be subtracted again.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from fusion._kernels.vectors import constant, lane_bits, lanes_of, load_sorted, specialise, widen

WINSORIZED, AROUND_MEDIAN, AROUND_TRIMMED = 0, 1, 2
# Distances from the centre that differ by less than this, relative to centre and distance, may be a tie.
TIED = 16.0 * float(np.finfo(np.float64).eps)


def _step(
    typing: Any,
    panel: Any,
    start: Any,
    stride: Any,
    out: Any,
    place: Any,
    n: Any,
    trim: Any,
    kind: Any,
    lanes: Any,
) -> Any:
    """Average `lanes` neighbouring columns, NaN where values tie; return one bit per lane with a fault."""
    sizes: tuple[Any, ...] = tuple(item.literal_value for item in (n, trim, kind, lanes))
    signature = types.int64(panel, types.int64, types.int64, out, types.int64, n, trim, kind, lanes)
    return signature, lambda *given: _emit(*given, *sizes)


def _emit(
    context: Any,
    builder: Any,
    signature: Any,
    arguments: Any,
    n: int,
    trim: int,
    kind: int,
    lanes: int,
) -> Any:
    target = context.make_array(signature.args[3])(context, builder, arguments[3]).data
    scalar = context.get_data_type(signature.args[0].dtype)
    low, high = (trim, n - trim) if kind == WINSORIZED else (0, n)
    values, fault = load_sorted(context, builder, signature, arguments, n, low, high, lanes, ahead=True)

    def number(value: float) -> Any:
        return constant(scalar, lanes, value, wide=True)

    def added(total: Any, some: list[Any]) -> Any:
        for value in some:
            total = builder.fadd(total, widen(builder, value))
        return total

    total = added(number(0.0), values[trim : n - trim])
    if kind == WINSORIZED:
        for rank in (trim, n - trim - 1):
            moved = builder.fmul(number(float(trim)), widen(builder, values[rank]))
            total = builder.fadd(total, moved)
        result = builder.fdiv(total, number(float(n)))
    else:
        if kind == AROUND_MEDIAN:
            middle = values[(n - 1) // 2 : n // 2 + 1]
            centre = builder.fdiv(added(number(0.0), middle), number(float(len(middle))))
        else:
            centre = builder.fdiv(total, number(float(n - 2 * trim)))
        result = _nearest(builder, [widen(builder, value) for value in values], trim, total, centre, number)
    result = result if result.type == fault.type else builder.fptrunc(result, fault.type)
    if kind == WINSORIZED and isinstance(scalar, ir.DoubleType):
        # Finite numbers of float64 can overflow in the sum.
        fault = builder.fadd(builder.fmul(result, constant(scalar, lanes, 0.0)), fault)
    place = builder.bitcast(builder.gep(target, [arguments[4]]), fault.type.as_pointer())
    builder.store(result, place, align=8 if isinstance(scalar, ir.DoubleType) else 4)
    return lane_bits(builder, fault, lanes)


def _nearest(
    builder: Any, values: list[Any], trim: int, total: Any, centre: Any, number: Callable[[float], Any]
) -> Any:
    """Add the nearer one of every two values n - trim places apart; NaN where the two may tie."""
    zero = number(0.0)
    negative = builder.fcmp_ordered("<", centre, zero)
    level = builder.select(negative, builder.fsub(zero, centre), centre)
    kept = len(values) - trim
    tied = None
    for low, high in zip(values[:trim], values[kept:], strict=True):
        below, above = builder.fsub(centre, low), builder.fsub(high, centre)
        upper = builder.fcmp_ordered("<", above, below)
        total = builder.fadd(total, builder.select(upper, high, low))
        nearer = builder.select(upper, above, below)
        slack = builder.fmul(number(TIED), builder.fadd(level, nearer))
        gap = builder.fsub(builder.select(upper, below, above), nearer)
        # Of two values that are the same it does not matter which one is taken. Overflow counts as a tie.
        close = builder.not_(builder.fcmp_ordered(">", gap, slack))
        apart = builder.not_(builder.fcmp_ordered("<=", builder.fsub(high, low), slack))
        here = builder.and_(close, apart)
        tied = here if tied is None else builder.or_(tied, here)
    mean = builder.fdiv(total, number(float(kept)))
    return mean if tied is None else builder.select(tied, number(float("nan")), mean)


inner_mean_step: Any = intrinsic(prefer_literal=True)(_step)


def inner_means(
    panel: NDArray[Any],
    out: NDArray[Any],
    unclean: NDArray[np.uint8],
    d: int,
    begin: int,
    end: int,
    n: int,
    trim: int,
    kind: int,
    lanes: int,
) -> None:
    """Average columns begin..end-1 of every sample; reads, writes and marks as `vectors.rows_in_place`."""
    vectors = (end - begin + lanes - 1) // lanes
    last = max(end - lanes, 0)
    mask = -1 if d >= lanes else (1 << d) - 1
    for s in range(unclean.size):
        fault = 0
        for v in range(vectors):
            column = min(begin + v * lanes, last)
            fault |= inner_mean_step(panel, s * n * d + column, d, out, s * d + column, n, trim, kind, lanes)
        if fault & mask != 0:
            unclean[s] = 1


@lru_cache(maxsize=256)
def inner_means_of(dtype: np.dtype[Any], n: int, trim: int, kind: int) -> Callable[..., None]:
    """Compile `inner_means` for one number of rows and rule, or load it from numba's cache.

    Takes the arguments of `inner_means` up to `end`.
    """
    scalar = types.float32 if dtype == np.float32 else types.float64
    arrays = (
        types.Array(scalar, 1, "C", readonly=True),
        types.Array(scalar, 1, "C"),
        types.Array(types.uint8, 1, "C"),
    )
    return specialise(inner_means, (*arrays, *(types.int64,) * 3), (n, trim, kind, lanes_of(dtype)))
