"""What compiled kernels run in place of the plain Python of the interpreted ones: the same sums in registers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, overload

from fusion._kernels.geometric import LEAST_GAP, ROOT_GUESS, ROOT_STEPS, pulls, side_by_side
from fusion._kernels.turning import turn

# Lanes of float64 handled at a time; narrower registers take several instructions for each.
_WIDTH = 8


def _pulls(
    typing: Any,
    rows: Any,
    across: Any,
    point: Any,
    mass: Any,
    gaps: Any,
    near: Any,
    pull: Any,
    total: Any,
    held: Any,
    lanes: Any,
    first: Any,
    n: Any,
    d: Any,
) -> Any:
    whole = types.int64
    arrays = (point, mass, gaps, near, pull, total, held)
    signature = types.int64(rows, whole, *arrays, *(whole,) * 4)
    return signature, _emit


def _emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    """Emit the sums of `geometric.pulls` for lanes first..first+_WIDTH-1."""

    def data(k: int) -> Any:
        return context.make_array(signature.args[k])(context, builder, arguments[k]).data

    rows, across = data(0), arguments[1]
    point, mass, gaps, near, pull, total, held = (data(k) for k in range(2, 9))
    lanes, first, n, d = arguments[9:]
    double, index = ir.DoubleType(), ir.IntType(64)
    vector = ir.VectorType(double, _WIDTH)
    bits = ir.VectorType(index, _WIDTH)

    def constant(value: float) -> Any:
        return ir.Constant(vector, [ir.Constant(double, value)] * _WIDTH)

    def at(base: Any, line: Any, width: Any) -> Any:
        place = builder.add(builder.mul(line, width), first)
        return builder.bitcast(builder.gep(base, [place]), vector.as_pointer())

    def load(base: Any, line: Any, width: Any) -> Any:
        return builder.load(at(base, line, width), align=8)

    def over_root(x: Any) -> Any:
        half = builder.lshr(builder.bitcast(x, bits), ir.Constant(bits, [index(1)] * _WIDTH))
        y = builder.bitcast(builder.sub(ir.Constant(bits, [index(ROOT_GUESS)] * _WIDTH), half), vector)
        middle = builder.fmul(constant(0.5), x)
        for _ in range(ROOT_STEPS):
            error = builder.fsub(constant(1.5), builder.fmul(builder.fmul(middle, y), y))
            y = builder.fmul(y, error)
        return y

    zero = constant(0.0)
    start = index(0)
    sum_near = cgutils.alloca_once_value(builder, zero)
    sum_held = cgutils.alloca_once_value(builder, zero)
    with cgutils.for_range(builder, n) as each:
        base = builder.mul(each.index, d)
        square = cgutils.alloca_once(builder, vector)
        builder.store(zero, square)
        with cgutils.for_range(builder, d) as output:
            row = load(rows, builder.add(base, output.index), across)
            move = builder.fsub(row, load(point, output.index, lanes))
            builder.store(builder.fadd(builder.load(square), builder.fmul(move, move)), square)
        gap = builder.load(square)
        builder.store(gap, at(gaps, each.index, lanes), align=8)
        apart = builder.fcmp_ordered(">", gap, constant(LEAST_GAP))
        weight = load(mass, each.index, lanes)
        here = builder.select(apart, zero, weight)
        builder.store(builder.fadd(builder.load(sum_held), here), sum_held)
        share = builder.fmul(weight, builder.select(apart, over_root(gap), zero))
        builder.store(share, at(near, each.index, lanes), align=8)
        builder.store(builder.fadd(builder.load(sum_near), share), sum_near)
    builder.store(builder.load(sum_near), at(total, start, lanes), align=8)
    builder.store(builder.load(sum_held), at(held, start, lanes), align=8)
    with cgutils.for_range(builder, d) as output:
        sums = cgutils.alloca_once(builder, vector)
        builder.store(zero, sums)
        with cgutils.for_range(builder, n) as each:
            row = load(rows, builder.add(builder.mul(each.index, d), output.index), across)
            part = builder.fmul(load(near, each.index, lanes), row)
            builder.store(builder.fadd(builder.load(sums), part), sums)
        builder.store(builder.load(sums), at(pull, output.index, lanes), align=8)
    return index(0)


pulls_of_lanes: Any = intrinsic(_pulls)


def _compiled_pulls(
    rows: Any,
    point: Any,
    mass: Any,
    gaps: Any,
    near: Any,
    pull: Any,
    total: Any,
    held: Any,
    active: Any,
) -> Callable[..., None]:
    def run(
        rows: Any,
        point: Any,
        mass: Any,
        gaps: Any,
        near: Any,
        pull: Any,
        total: Any,
        held: Any,
        active: Any,
    ) -> None:
        n, d, lanes = near.shape[0], point.shape[0], total.size
        for first in range(0, lanes, _WIDTH):
            running = 0
            for k in range(first, first + _WIDTH):
                running += active[k]
            # What is frozen is not looked at again.
            if running > 0:
                pulls_of_lanes(
                    rows, rows.shape[1], point, mass, gaps, near, pull, total, held, lanes, first, n, d
                )

    return run


overload(pulls)(_compiled_pulls)


def _compiled_side_by_side(
    panel: Any, first: Any, samples: Any, rows: Any, fault: Any, peak: Any
) -> Callable[..., None]:
    def run(panel: Any, first: Any, samples: Any, rows: Any, fault: Any, peak: Any) -> None:
        _, n, d = panel.shape
        numbers, lanes, across = n * d, fault.size, rows.shape[1]
        marks = np.zeros(2 * _WIDTH, np.float64)
        start = 0
        if numbers >= _WIDTH:
            while start + _WIDTH <= samples:
                marks[:] = 0.0
                begin = (first + start) * numbers
                for k in range((numbers + _WIDTH - 1) // _WIDTH):
                    column = min(k * _WIDTH, numbers - _WIDTH)
                    turn(panel, begin + column, numbers, rows, column * across + start, across, marks, _WIDTH)
                for k in range(_WIDTH):
                    fault[start + k] = marks[k]
                    peak[start + k] = marks[_WIDTH + k]
                start += _WIDTH
        for k in range(start, lanes):
            s = first + (k if k < samples else 0)
            fault[k] = 0.0
            peak[k] = 0.0
            for i in range(n):
                for o in range(d):
                    value = np.float64(panel[s, i, o])
                    rows[i * d + o, k] = value
                    fault[k] += value * 0.0
                    peak[k] = max(peak[k], abs(value))

    return run


overload(side_by_side)(_compiled_side_by_side)
