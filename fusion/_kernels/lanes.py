"""Many small samples at once, one per lane of a vector register."""

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

from fusion._kernels.pairs import pair_block, tile_size
from fusion._kernels.vectors import kept_sum_step, lanes_of, specialise


def _turn(
    typing: Any, panel: Any, start: Any, stride: Any, rows: Any, place: Any, marks: Any, lanes: Any
) -> Any:
    """Turn `lanes` numbers of each of `lanes` samples round, to one vector of float64 per number.

    Keeps in `marks` for every lane the sum of x * 0, NaN where a number is not finite, and the largest size.
    """
    signature = types.int64(panel, types.int64, types.int64, rows, types.int64, marks, lanes)
    width = lanes.literal_value
    return signature, lambda *given: _emit_turn(*given, width)


def _emit_turn(context: Any, builder: Any, signature: Any, arguments: Any, lanes: int) -> Any:
    source = context.make_array(signature.args[0])(context, builder, arguments[0]).data
    start, stride = arguments[1:3]
    target = context.make_array(signature.args[3])(context, builder, arguments[3]).data
    place = arguments[4]
    marks = context.make_array(signature.args[5])(context, builder, arguments[5]).data
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
        builder.store(value, at(target, builder.add(place, index(k * lanes)), wide), align=8)
        fault = builder.fadd(builder.fmul(value, zero, flags=["contract"]), fault, flags=["contract"])
        size = builder.call(absolute, [value])
        peak = builder.select(builder.fcmp_ordered("<", peak, size), size, peak)
    builder.store(fault, at(marks, index(0), wide), align=8)
    builder.store(peak, at(marks, index(lanes), wide), align=8)
    return index(0)


turn: Any = intrinsic(prefer_literal=True)(_turn)


def krum_in_lanes(
    panel: NDArray[Any],
    d: int,
    scores: NDArray[np.float64],
    unclean: NDArray[np.uint8],
    n: int,
    rest: int,
    neighbors: int,
    size: int,
    lanes: int,
) -> None:
    """Sum every row's `neighbors` smallest squared distances, as `distance.krum_scores` does.

    `rest` is n - 1. The number of samples must be a multiple of `lanes`, and n * d at least `lanes`.
    """
    n_samples = scores.shape[0]
    numbers = n * d
    rows = np.zeros(numbers * lanes, np.float64)
    others = np.zeros(n * rest * lanes, np.float64)
    sums = np.zeros(n * lanes, np.float64)
    block = np.zeros(size * size * lanes, np.float64)
    marks = np.zeros(2 * lanes, np.float64)
    for first in range(0, n_samples, lanes):
        marks[:] = 0.0
        for k in range((numbers + lanes - 1) // lanes):
            column = min(k * lanes, numbers - lanes)
            turn(panel, first * numbers + column, numbers, rows, column * lanes, marks, lanes)
        for k in range(lanes):
            peak = marks[lanes + k]
            if marks[k] != 0.0 or peak > 1e140 or 0.0 < peak < 1e-120:
                unclean[first + k] = 1
        for a in range(0, n, size):
            for b in range(a, n, size):
                if a == b:
                    pair_block(rows, d * lanes, d, a, a, n, block, size, lanes, 1)
                else:
                    pair_block(rows, d * lanes, d, a, b, n, block, size, lanes, 0)
                for i in range(a, min(a + size, n)):
                    for j in range(max(b, i + 1), min(b + size, n)):
                        cell = ((i - a) * size + j - b) * lanes
                        one = (i * rest + j - 1) * lanes
                        other = (j * rest + i) * lanes
                        for k in range(lanes):
                            others[one + k] = block[cell + k]
                            others[other + k] = block[cell + k]
        for i in range(n):
            kept_sum_step(others, i * rest * lanes, lanes, sums, i * lanes, rest, 0, neighbors, lanes)
        for k in range(lanes):
            for i in range(n):
                scores[first + k, i] = sums[i * lanes + k]


@lru_cache(maxsize=256)
def krum_of(dtype: np.dtype[Any], n: int, neighbors: int) -> Callable[..., None]:
    """Compile `krum_in_lanes` for n rows, or load it from numba's cache; takes its arguments up to `unclean`."""
    scalar = types.float32 if dtype == np.float32 else types.float64
    leading = (
        types.Array(scalar, 1, "C", readonly=True),
        types.int64,
        types.Array(types.float64, 2, "C"),
        types.Array(types.uint8, 1, "C"),
    )
    sizes = (n, n - 1, neighbors, tile_size(n), lanes_of(np.dtype(np.float64)))
    return specialise(krum_in_lanes, leading, sizes)
