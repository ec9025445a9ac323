"""Means of the values nearest to the middle as straight-line vector code behind a comparator network.

The n - f values nearest to a centre between the extremes follow each other in sorted order. Of two values
n - f places apart exactly one belongs to them, the nearer one: f selections find the window, and nothing is
added that has to be subtracted again. Columns in which values left and right of the centre may tie for the last
place come out as NaN; `ties` averages those, all values of the last place sharing it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from fusion._kernels.vectors import constant, lane_bits, lanes_of, load_sorted, specialise, widen

WINSORIZED, AROUND_MEDIAN, AROUND_TRIMMED = 0, 1, 2
# Distances from the centre that differ by less than this, relative to centre and distance, may be a tie...
TIED = 16.0 * float(np.finfo(np.float64).eps)
# ... and are one below this: the centre is rounded, and with it the distances.
SAME = 4.0 * float(np.finfo(np.float64).eps)


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
    ties: Any,
    lanes: Any,
) -> Any:
    """Average `lanes` neighbouring columns; return one bit per lane with a fault.

    Where `ties` is 0, columns in which values tie are NaN; where it is 1, every column is averaged as if they did.
    """
    sizes: tuple[Any, ...] = tuple(item.literal_value for item in (n, trim, kind, ties, lanes))
    signature = types.int64(panel, types.int64, types.int64, out, types.int64, n, trim, kind, ties, lanes)
    return signature, lambda *given: _emit(*given, *sizes)


def _emit(
    context: Any,
    builder: Any,
    signature: Any,
    arguments: Any,
    n: int,
    trim: int,
    kind: int,
    ties: int,
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
        wide = [widen(builder, value) for value in values]
        if ties:
            result = _shared(builder, wide, trim, centre, number)
        else:
            result = _nearest(builder, wide, trim, total, centre, number)
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
    level = _size(builder, centre, number)
    kept = len(values) - trim
    tied = None
    # One of the values r, r + kept, r + 2 kept, ... is among the nearest: the one nearest to the centre.
    for first in range(min(trim, kept)):
        low = values[first]
        for high in values[first + kept :: kept]:
            below, above = builder.fsub(centre, low), builder.fsub(high, centre)
            if 2 * trim >= len(values):
                # The centre need not lie between the two.
                below, above = _size(builder, below, number), _size(builder, above, number)
            upper = builder.fcmp_ordered("<", above, below)
            nearer = builder.select(upper, above, below)
            slack = builder.fmul(number(TIED), builder.fadd(level, nearer))
            gap = builder.fsub(builder.select(upper, below, above), nearer)
            # Of two values that are the same it does not matter which one is taken. Overflow counts as a tie.
            close = builder.not_(builder.fcmp_ordered(">", gap, slack))
            apart = builder.not_(builder.fcmp_ordered("<=", builder.fsub(high, low), slack))
            here = builder.and_(close, apart)
            tied = here if tied is None else builder.or_(tied, here)
            low = builder.select(upper, high, low)
        total = builder.fadd(total, low)
    mean = builder.fdiv(total, number(float(kept)))
    return mean if tied is None else builder.select(tied, number(float("nan")), mean)


def _size(builder: Any, value: Any, number: Callable[[float], Any]) -> Any:
    """Give the absolute value."""
    zero = number(0.0)
    return builder.select(builder.fcmp_ordered("<", value, zero), builder.fsub(zero, value), value)


def _shared(builder: Any, values: list[Any], trim: int, centre: Any, number: Callable[[float], Any]) -> Any:
    """Average the values nearer than the last place, all values as far as that one sharing what is left."""
    kind, index = centre.type, ir.IntType(64)
    line = cgutils.alloca_once(builder, ir.ArrayType(kind, len(values)))

    def at(place: Any) -> Any:
        return builder.gep(line, [index(0), place])

    for i, value in enumerate(values):
        builder.store(value, at(index(i)))
    kept = len(values) - trim
    reach = cgutils.alloca_once_value(builder, number(float("inf")))
    with cgutils.for_range(builder, index(trim + 1)) as loop:
        below = builder.fsub(centre, builder.load(at(loop.index)))
        above = builder.fsub(builder.load(at(builder.add(loop.index, index(kept - 1)))), centre)
        end = builder.select(builder.fcmp_ordered("<", below, above), above, below)
        best = builder.load(reach)
        builder.store(builder.select(builder.fcmp_ordered("<", end, best), end, best), reach)
    radius = builder.load(reach)
    slack = builder.fmul(number(SAME), builder.fadd(_size(builder, centre, number), radius))
    inner = builder.fsub(radius, slack)
    # Sums and counts of what is nearer, and of what ties.
    cells = [cgutils.alloca_once_value(builder, number(0.0)) for _ in range(4)]
    with cgutils.for_range(builder, index(len(values))) as loop:
        value = builder.load(at(loop.index))
        apart = _size(builder, builder.fsub(value, centre), number)
        near = builder.fcmp_ordered("<", apart, inner)
        off = _size(builder, builder.fsub(apart, radius), number)
        ties = builder.fcmp_ordered("<=", off, slack)
        for cell, which, what in zip(cells, (near, near, ties, ties), (value, number(1.0)) * 2, strict=True):
            part = builder.select(which, what, number(0.0))
            builder.store(builder.fadd(builder.load(cell), part), cell)
    sum_near, inside, sum_tied, beside = (builder.load(cell) for cell in cells)
    left = builder.fsub(number(float(kept)), inside)
    left = builder.select(builder.fcmp_ordered("<", left, number(0.0)), number(0.0), left)
    rest = builder.fdiv(left, beside)
    total = builder.fadd(sum_near, builder.fmul(rest, sum_tied))
    return builder.fdiv(total, builder.fadd(inside, builder.fmul(rest, beside)))


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
    ties: int,
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
            start, place = s * n * d + column, s * d + column
            fault |= inner_mean_step(panel, start, d, out, place, n, trim, kind, ties, lanes)
        if fault & mask != 0:
            unclean[s] = 1


@lru_cache(maxsize=256)
def inner_means_of(
    dtype: np.dtype[Any], n: int, trim: int, kind: int, ties: bool = False
) -> Callable[..., None]:
    """Compile `inner_means` for one number of rows and rule, or load it from numba's cache.

    Takes the arguments of `inner_means` up to `end`.
    """
    scalar = types.float32 if dtype == np.float32 else types.float64
    arrays = (
        types.Array(scalar, 1, "C", readonly=True),
        types.Array(scalar, 1, "C"),
        types.Array(types.uint8, 1, "C"),
    )
    sizes = (n, trim, kind, int(ties), lanes_of(dtype))
    return specialise(inner_means, (*arrays, *(types.int64,) * 3), sizes)
