"""From samples one after the other to samples side by side, in vector registers."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic


def _turn(
    typing: Any,
    panel: Any,
    start: Any,
    stride: Any,
    rows: Any,
    place: Any,
    across: Any,
    marks: Any,
    lanes: Any,
) -> Any:
    """Turn `lanes` numbers of each of `lanes` samples round, to one vector of float64 per number.

    The vectors are written `across` numbers apart. Keeps in `marks` for every lane the sum of x * 0, NaN where
    a number is not finite, and the largest size.
    """
    whole = types.int64
    signature = whole(panel, whole, whole, rows, whole, whole, marks, lanes)
    sizes = tuple(item.literal_value for item in (lanes,))
    return signature, lambda *given: _emit_turn(*given, *sizes)


def _emit_turn(context: Any, builder: Any, signature: Any, arguments: Any, lanes: int) -> Any:
    source = context.make_array(signature.args[0])(context, builder, arguments[0]).data
    start, stride = arguments[1:3]
    target = context.make_array(signature.args[3])(context, builder, arguments[3]).data
    place, across = arguments[4:6]
    marks = context.make_array(signature.args[6])(context, builder, arguments[6]).data
    scalar = context.get_data_type(signature.args[0].dtype)
    single = isinstance(scalar, ir.FloatType)
    vector, wide = ir.VectorType(scalar, lanes), ir.VectorType(ir.DoubleType(), lanes)
    index, places = ir.IntType(64), ir.VectorType(ir.IntType(32), lanes)

    def at(base: Any, offset: Any, kind: Any) -> Any:
        return builder.bitcast(builder.gep(base, [offset]), kind.as_pointer())

    rows = []
    for k in range(lanes):
        offset = builder.add(start, builder.mul(index(k), stride))
        rows.append(builder.load(at(source, offset, vector), align=4 if single else 8))
    half = lanes // 2
    low = ir.Constant(places, [i // 2 + (i % 2) * lanes for i in range(lanes)])
    high = ir.Constant(places, [half + i // 2 + (i % 2) * lanes for i in range(lanes)])
    for _ in range(lanes.bit_length() - 1):
        # Interleaving the first half of the rows with the second, log2(lanes) times, transposes them.
        rows = [
            builder.shuffle_vector(rows[i], rows[i + half], which)
            for i in range(half)
            for which in (low, high)
        ]
    fault = builder.load(at(marks, index(0), wide), align=8)
    peak = builder.load(at(marks, index(lanes), wide), align=8)
    zero = ir.Constant(wide, [ir.Constant(ir.DoubleType(), 0.0)] * lanes)
    absolute = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(wide, [wide]), f"llvm.fabs.v{lanes}f64"
    )
    for k, row in enumerate(rows):
        value = builder.fpext(row, wide) if single else row
        line = builder.add(place, builder.mul(across, index(k)))
        builder.store(value, at(target, line, wide), align=8)
        fault = builder.fadd(builder.fmul(value, zero, flags=["contract"]), fault, flags=["contract"])
        size = builder.call(absolute, [value])
        peak = builder.select(builder.fcmp_ordered("<", peak, size), size, peak)
    builder.store(fault, at(marks, index(0), wide), align=8)
    builder.store(peak, at(marks, index(lanes), wide), align=8)
    return index(0)


turn: Any = intrinsic(prefer_literal=True)(_turn)
