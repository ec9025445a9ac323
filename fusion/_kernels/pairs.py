"""Sums over the outputs of long samples for every pair of rows, in vector registers.

Differences of two rows are rounded once, whatever the rows have in common: nothing cancels, and no pivot has
to be subtracted. A block of rows is compared with another one at a time, so that what is loaded once serves
several pairs.
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

from fusion._kernels.vectors import lanes_of, specialise, vector_bytes

# Outputs added up in the input's precision, one running sum per lane, before they go to float64: 64 float32
# terms per lane on the widest registers.
SEGMENT = 1024


def _tile(
    typing: Any,
    panel: Any,
    start: Any,
    stride: Any,
    vectors: Any,
    first: Any,
    second: Any,
    pivot: Any,
    n: Any,
    sums: Any,
    size: Any,
    lanes: Any,
    centred: Any,
    diagonal: Any,
) -> Any:
    """Compare `size` rows from `first` with as many from `second`; rows beyond the last are read as the last.

    Writes sums of squared differences, or where `centred` is 1 inner products about row `pivot`.
    """
    whole = types.int64
    literals = (size, lanes, centred, diagonal)
    signature = types.int64(panel, *(whole,) * 7, sums, *literals)
    values = tuple(item.literal_value for item in literals)
    return signature, lambda *given: _emit(*given, *values)


def _block(
    typing: Any,
    rows: Any,
    stride: Any,
    vectors: Any,
    first: Any,
    second: Any,
    n: Any,
    sums: Any,
    size: Any,
    lanes: Any,
    diagonal: Any,
) -> Any:
    """Compare rows of vectors with one sample per lane; `sums` has shape (size * size * lanes,).

    Squares are rounded before they are added, as NumPy does it for a few samples.
    """
    whole = types.int64
    literals = (size, lanes, diagonal)
    signature = types.int64(rows, *(whole,) * 5, sums, *literals)
    values = tuple(item.literal_value for item in literals)

    def generate(context: Any, builder: Any, _: Any, arguments: Any) -> Any:
        nothing = ir.Constant(ir.IntType(64), 0)
        panel, stride, vectors, first, second, n, sums = arguments[:7]
        full = types.int64(rows, *(whole,) * 7, sums_type)
        given = [panel, nothing, stride, vectors, first, second, nothing, n, sums]
        return _emit(context, builder, full, given, values[0], values[1], 0, values[2], apart=True)

    sums_type = sums
    return signature, generate


def _emit(
    context: Any,
    builder: Any,
    signature: Any,
    arguments: Any,
    size: int,
    lanes: int,
    centred: int,
    diagonal: int,
    *,
    apart: bool = False,
) -> Any:
    flags = [] if apart else ["contract"]
    source = context.make_array(signature.args[0])(context, builder, arguments[0]).data
    start, stride, vectors, first, second, pivot, n = arguments[1:8]
    target = context.make_array(signature.args[8])(context, builder, arguments[8]).data
    scalar = context.get_data_type(signature.args[0].dtype)
    vector, index = ir.VectorType(scalar, lanes), ir.IntType(64)
    align = 4 if isinstance(scalar, ir.FloatType) else 8
    last = builder.sub(n, index(1))

    def begin(row: Any) -> Any:
        capped = builder.select(builder.icmp_signed("<", row, last), row, last)
        return builder.add(start, builder.mul(capped, stride))

    def load(offset: Any) -> Any:
        pointer = builder.bitcast(builder.gep(source, [offset]), vector.as_pointer())
        return builder.load(pointer, align=align)

    ones = [begin(builder.add(first, index(k))) for k in range(size)]
    others = ones if diagonal else [begin(builder.add(second, index(k))) for k in range(size)]
    centre = begin(pivot)
    cells = [(i, j) for j in range(size) for i in range(size) if not diagonal or i < j + centred]
    zero = ir.Constant(vector, [ir.Constant(scalar, 0.0)] * lanes)
    totals = {cell: cgutils.alloca_once_value(builder, zero) for cell in cells}
    with cgutils.for_range(builder, vectors) as loop:
        shift = builder.mul(loop.index, index(lanes))
        origin = load(builder.add(centre, shift)) if centred else None

        def row(offset: Any) -> Any:
            value = load(builder.add(offset, shift))
            return builder.fsub(value, origin) if centred else value

        left = [row(offset) for offset in ones]
        for j in range(size):
            right = left[j] if diagonal else row(others[j])
            for i in range(size):
                if (i, j) in totals:
                    gap = None if centred else builder.fsub(left[i], right)
                    product = (
                        builder.fmul(left[i], right, flags=flags)
                        if gap is None
                        else builder.fmul(gap, gap, flags=flags)
                    )
                    total = builder.fadd(product, builder.load(totals[i, j]), flags=flags)
                    builder.store(total, totals[i, j])
    for (i, j), cell in totals.items():
        if apart:
            whole = builder.gep(target, [index((i * size + j) * lanes)])
            builder.store(builder.load(cell), builder.bitcast(whole, vector.as_pointer()), align=align)
            continue
        value = _lane_sum(builder, builder.load(cell), lanes)
        if align == 4:
            value = builder.fpext(value, ir.DoubleType())
        builder.store(value, builder.gep(target, [index(i * size + j)]))
    return index(0)


def _lane_sum(builder: Any, value: Any, lanes: int) -> Any:
    """Add the lanes of a vector as a tree: in the same order on every machine with as many lanes."""
    while lanes > 1:
        lanes //= 2
        places = ir.VectorType(ir.IntType(32), lanes)
        low = ir.Constant(places, list(range(lanes)))
        high = ir.Constant(places, list(range(lanes, 2 * lanes)))
        value = builder.fadd(
            builder.shuffle_vector(value, value, low), builder.shuffle_vector(value, value, high)
        )
    return builder.extract_element(value, ir.IntType(32)(0))


tile: Any = intrinsic(prefer_literal=True)(_tile)
pair_block: Any = intrinsic(prefer_literal=True)(_block)


def pair_sums(
    panel: NDArray[Any],
    d: int,
    begin: int,
    end: int,
    pivots: NDArray[np.int64],
    sums: NDArray[np.float64],
    size: int,
    lanes: int,
    centred: int,
) -> None:
    """Add what outputs begin..end-1 contribute to the upper triangles `sums`, shape (sample, n, n)."""
    n_samples, n, _ = sums.shape
    block = np.zeros(size * size, np.float64)
    for s in range(n_samples):
        start = s * n * d
        pivot = pivots[s]
        for column in range(begin, end, SEGMENT):
            length = min(SEGMENT, end - column)
            vectors = length // lanes
            at = start + column
            for a in range(0, n, size):
                tile(panel, at, d, vectors, a, a, pivot, n, block, size, lanes, centred, 1)
                for i in range(size):
                    for j in range(i + 1 - centred, min(size, n - a)):
                        sums[s, a + i, a + j] += block[i * size + j]
                for b in range(a + size, n, size):
                    tile(panel, at, d, vectors, a, b, pivot, n, block, size, lanes, centred, 0)
                    for i in range(size):
                        for j in range(min(size, n - b)):
                            sums[s, a + i, b + j] += block[i * size + j]
            if length % lanes == 0:
                continue
            for i in range(n):
                for j in range(i + 1 - centred, n):
                    rest = 0.0
                    for k in range(at + vectors * lanes, at + length):
                        x = np.float64(panel[i * d + k])
                        y = np.float64(panel[j * d + k])
                        z = np.float64(panel[pivot * d + k])
                        rest += (x - z) * (y - z) if centred == 1 else (x - y) * (x - y)
                    sums[s, i, j] += rest


def tile_size(n: int) -> int:
    """Choose how many rows to compare at a time: the fewest sums for n rows that fit into the registers."""
    allowed = (3, 4, 5) if vector_bytes() == 64 else (2, 3)

    def work(size: int) -> float:
        blocks = -(-n // size)
        loads = blocks * (blocks + 1) * size / 4
        return blocks * size * (size - 1) / 2 + blocks * (blocks - 1) / 2 * size * size + loads

    return min(allowed, key=work)


@lru_cache(maxsize=64)
def _pair_sums_of(dtype: np.dtype[Any], size: int, centred: int) -> Callable[..., None]:
    scalar = types.float32 if dtype == np.float32 else types.float64
    leading = (
        types.Array(scalar, 1, "C", readonly=True),
        *(types.int64,) * 3,
        types.Array(types.int64, 1, "C"),
        types.Array(types.float64, 3, "C"),
    )
    return specialise(pair_sums, leading, (size, lanes_of(dtype), centred))


def pair_sums_of(dtype: np.dtype[Any], n: int, *, centred: bool) -> Callable[..., None]:
    """Compile `pair_sums` for a dtype and about n rows, or load it from numba's cache."""
    return _pair_sums_of(dtype, tile_size(n), int(centred))
