"""Loops over the bit patterns of float64: rounding them to shorter types, counting and finding magnitudes."""

from __future__ import annotations

import numpy as np

from crdtmerge.arith.kernels.compiler import CHUNK, Array, loop


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
def count_digits(patterns: Array, shift: int, counts: Array) -> None:
    """Count the digits of [n] int64 patterns, sign bit apart, from bit ``shift`` on, into ``counts``."""
    mask = np.int64(counts.size - 1)
    for i in range(patterns.size):
        counts[(patterns[i] >> shift) & mask] += 1


@loop
def find(patterns: Array, low: int, high: int, found: Array, places: Array) -> int:
    """Write the patterns of [n] int64, without sign, in [low, high] and their places; how many there are."""
    count = 0
    for i in range(patterns.size):
        pattern = patterns[i] & np.int64(0x7FFFFFFFFFFFFFFF)
        if low <= pattern and pattern <= high:
            found[count] = pattern
            places[count] = i
            count += 1
    return count
