"""Loops over bit patterns of float64: rounding to shorter types, counting and finding magnitudes."""

from __future__ import annotations

import numpy as np

from crdtmerge.arith.kernels.compiler import CHUNK, Array, loop
from crdtmerge.arith.kernels.streams import change


@loop
def to_float32(values: Array, out: Array) -> bool:
    """Round [n] float64 to [n] float32; whether all are finite."""
    bad = False
    for i in range(values.size):
        single = np.float32(values[i])
        out[i] = single
        bad |= not (abs(single) < np.float32(np.inf))
    return not bad


@loop
def to_bfloat16(values: Array, out: Array) -> bool:
    """Round [n] float64 to the [n] uint16 that are their bfloat16; whether all are finite.

    Rounding to odd first, keeping 13 bits, makes the rounding to float32 and the one after it harmless.
    """
    sticky = np.int64((1 << 40) - 1)
    odd, single = np.empty(CHUNK, np.int64), np.empty(CHUNK, np.float32)
    rounded, pattern = odd.view(np.float64), single.view(np.uint32)
    whole = values.view(np.int64)
    bad = False
    for begin in range(0, values.size, CHUNK):
        size = min(CHUNK, values.size - begin)
        for i in range(size):
            bits = whole[begin + i]
            odd[i] = (((bits & sticky) + sticky) | bits) & ~sticky
        for i in range(size):
            single[i] = np.float32(rounded[i])
        for i in range(size):
            bits32 = pattern[i]
            even = (bits32 >> np.uint32(16)) & np.uint32(1)
            half = (bits32 + np.uint32(0x7FFF) + even) >> np.uint32(16)
            out[begin + i] = np.uint16(half)
            bad |= (bits32 & np.uint32(0x7FFFFFFF)) >= np.uint32(0x7F800000)
            bad |= (half & np.uint32(0x7FFF)) >= np.uint32(0x7F80)
    return not bad


@loop
def count_digits(
    address: int, kind: int, base: int, base_kind: int, size: int, shift: int, counts: Array
) -> None:
    """Count the digits from bit ``shift`` on of the patterns of a stream's elements, sign bit apart."""
    mask = np.int64(counts.size - 1)
    numbers, origin = np.empty(CHUNK), np.empty(CHUNK)
    patterns = numbers.view(np.int64)
    for begin in range(0, size, CHUNK):
        count = min(CHUNK, size - begin)
        change(address, kind, base, base_kind, begin, numbers[:count], origin[:count])
        for i in range(count):
            counts[(patterns[i] >> shift) & mask] += 1


@loop
def find(
    address: int,
    kind: int,
    base: int,
    base_kind: int,
    start: int,
    stop: int,
    low: int,
    high: int,
    found: Array,
    places: Array,
) -> int:
    """Write which of a stream's elements [start, stop) have patterns, without sign, in [low, high].

    Their patterns go to ``found`` and their places in the stream to ``places``; returns how many there are.
    """
    numbers, origin = np.empty(CHUNK), np.empty(CHUNK)
    patterns = numbers.view(np.int64)
    total = 0
    for begin in range(start, stop, CHUNK):
        count = min(CHUNK, stop - begin)
        change(address, kind, base, base_kind, begin, numbers[:count], origin[:count])
        for i in range(count):
            pattern = patterns[i] & np.int64(0x7FFFFFFFFFFFFFFF)
            if low <= pattern and pattern <= high:
                found[total] = pattern
                places[total] = begin + i
                total += 1
    return total


@loop
def keep(
    out: Array, address: int, kind: int, base: int, base_kind: int, ties: int, low: float, high: float
) -> None:
    """Write a stream's elements, or 0.0 where |x| is not above ``high`` (``low`` for the first ``ties``)."""
    origin = np.empty(CHUNK)
    for begin in range(0, out.size, CHUNK):
        count = min(CHUNK, out.size - begin)
        numbers = out[begin : begin + count]
        change(address, kind, base, base_kind, begin, numbers, origin[:count])
        for i in range(count):
            x = numbers[i]
            bound = low if begin + i < ties else high
            numbers[i] = x if abs(x) > bound else 0.0
