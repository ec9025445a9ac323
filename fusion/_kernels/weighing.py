"""Weighted sums of rows, several vectors of float64 sums at a time in registers."""

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

from fusion._kernels.vectors import lanes_of, specialise

# Vectors of the input's dtype that are summed side by side.
_ABREAST = 4
# Vectors ahead of the ones in work that each row is fetched from.
_AHEAD = 32


def _strip(
    typing: Any,
    panel: Any,
    start: Any,
    stride: Any,
    n: Any,
    weights: Any,
    shared: Any,
    divisor: Any,
    out: Any,
    place: Any,
    abreast: Any,
    lanes: Any,
) -> Any:
    """Weigh `abreast` vectors of n rows; return the bits of lanes whose result is not finite."""
    whole = types.int64
    signature = types.int64(
        panel, whole, whole, whole, weights, whole, types.float64, out, whole, abreast, lanes
    )
    sizes = tuple(item.literal_value for item in (abreast, lanes))
    return signature, lambda *given: _emit(*given, *sizes)


def _emit(context: Any, builder: Any, signature: Any, arguments: Any, abreast: int, lanes: int) -> Any:
    source = context.make_array(signature.args[0])(context, builder, arguments[0]).data
    start, stride, n = arguments[1:4]
    weights = context.make_array(signature.args[4])(context, builder, arguments[4]).data
    shared, divisor = arguments[5:7]
    target = context.make_array(signature.args[7])(context, builder, arguments[7]).data
    place = arguments[8]
    scalar = context.get_data_type(signature.args[0].dtype)
    single = isinstance(scalar, ir.FloatType)
    align = 4 if single else 8
    double, index, word = ir.DoubleType(), ir.IntType(64), ir.IntType(32)
    vector, wide = ir.VectorType(scalar, lanes), ir.VectorType(double, lanes)
    byte = ir.IntType(8).as_pointer()
    fetch = builder.module.declare_intrinsic(
        "llvm.prefetch", (byte,), ir.FunctionType(ir.VoidType(), [byte, word, word, word])
    )

    def splat(value: Any) -> Any:
        one = builder.insert_element(ir.Constant(wide, ir.Undefined), value, word(0))
        return builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(word, lanes), [0] * lanes))

    zero = ir.Constant(wide, [ir.Constant(double, 0.0)] * lanes)
    totals = [cgutils.alloca_once_value(builder, zero) for _ in range(abreast)]
    with cgutils.for_range(builder, n) as loop:
        weight = builder.load(builder.gep(weights, [builder.add(shared, loop.index)]), align=8)
        silent = builder.fcmp_ordered("==", weight, ir.Constant(double, 0.0))
        every = splat(weight)
        offset = builder.add(start, builder.mul(loop.index, stride))

        def row() -> None:
            for k, cell in enumerate(totals):
                at = builder.add(offset, index(k * lanes))
                pointer = builder.bitcast(builder.gep(source, [at]), vector.as_pointer())
                value = builder.load(pointer, align=align)
                later = builder.gep(source, [builder.add(at, index(_AHEAD * lanes))])
                builder.call(fetch, [builder.bitcast(later, byte), word(0), word(3), word(1)])
                value = builder.fpext(value, wide) if single else value
                # Multiplied and added one after the other, as NumPy does it for small panels.
                before = builder.load(cell)
                total = builder.fadd(before, builder.fmul(every, value))
                builder.store(builder.select(silent, before, total), cell)

        if abreast == 1:
            # Short rows: guessing wrong whether to skip one costs more than reading it.
            row()
        else:
            with builder.if_then(builder.not_(silent)):
                row()
    marks = index(0)
    scale = splat(divisor)
    nothing = ir.Constant(vector, [ir.Constant(scalar, 0.0)] * lanes)
    for k, cell in enumerate(totals):
        mean = builder.fdiv(builder.load(cell), scale)
        result = builder.fptrunc(mean, vector) if single else mean
        pointer = builder.bitcast(
            builder.gep(target, [builder.add(place, index(k * lanes))]), vector.as_pointer()
        )
        builder.store(result, pointer, align=align)
        fault = builder.fmul(result, nothing)
        bits = builder.bitcast(builder.fcmp_unordered("uno", fault, fault), ir.IntType(lanes))
        marks = builder.or_(marks, builder.zext(bits, index))
    return marks


strip: Any = intrinsic(prefer_literal=True)(_strip)


def weigh_rows(
    panel: NDArray[Any],
    weights: NDArray[np.float64],
    one_for_all: int,
    divided: int,
    out: NDArray[Any],
    unclean: NDArray[np.uint8],
    d: int,
    begin: int,
    end: int,
    n: int,
    abreast: int,
    lanes: int,
) -> None:
    """Weigh outputs begin..end-1 of every sample; marks samples whose result is not finite there.

    Rows of weight 0 change nothing, whatever they hold. Reads and writes whole vectors, as `vectors.rows_in_place`.
    """
    step = abreast * lanes
    strips = (end - begin) // step
    last = max(end - lanes, 0)
    mask = -1 if d >= lanes else (1 << d) - 1
    for s in range(unclean.size):
        shared = 0 if one_for_all == 1 else s * n
        divisor = 0.0
        for i in range(n):
            divisor += weights[shared + i]
        if divided == 0:
            divisor = 1.0
        start = s * n * d
        place = s * d
        fault = 0
        for k in range(strips):
            at = begin + k * step
            fault |= strip(panel, start + at, d, n, weights, shared, divisor, out, place + at, abreast, lanes)
        for at in range(begin + strips * step, end, lanes):
            column = min(at, last)
            fault |= strip(
                panel, start + column, d, n, weights, shared, divisor, out, place + column, 1, lanes
            )
        if fault & mask != 0:
            unclean[s] = 1


@lru_cache(maxsize=4)
def weigh_rows_of(dtype: np.dtype[Any]) -> Callable[..., None]:
    """Compile `weigh_rows` for a dtype, or load it from numba's cache; takes its arguments up to `n`."""
    scalar = types.float32 if dtype == np.float32 else types.float64
    arrays = (
        types.Array(scalar, 1, "C", readonly=True),
        types.Array(types.float64, 1, "C", readonly=True),
        types.int64,
        types.int64,
        types.Array(scalar, 1, "C"),
        types.Array(types.uint8, 1, "C"),
    )
    return specialise(weigh_rows, (*arrays, *(types.int64,) * 4), (_ABREAST, lanes_of(dtype)))
