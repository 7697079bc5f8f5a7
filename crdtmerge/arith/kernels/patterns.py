"""Loops over magnitudes: counting how many lie beyond some, and finding those that lie between."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from crdtmerge.arith.compiled import FLOAT64
from crdtmerge.arith.kernels.compiler import CHUNK, Array, loop
from crdtmerge.arith.kernels.streams import fetch, single, singles

_CHUNK: Final = 4 * CHUNK
"""More than elsewhere, because little is kept of each."""

_RUN: Final = 64
_PERIOD: Final = 67 * _RUN
"""So many elements of so many are a sample: in time from every column, where rows are a power of two."""


@loop
def sample(streams: Array, size: int, shift: int, counts: Array) -> None:
    """Count the digits from bit ``shift`` on of the patterns of some elements of a stream, without sign."""
    mask, places = np.uint64(counts.size - 1), np.uint64(shift)
    numbers, origin = np.empty(_RUN), np.empty(_RUN)
    patterns = numbers.view(np.uint64)
    for begin in range(0, size, _PERIOD):
        count = min(_RUN, size - begin)
        fetch(streams[0], begin, numbers[:count], origin[:count], 0)
        for i in range(count):
            counts[(patterns[i] >> places) & mask] += 1


@loop
def _glance(x: Array, origin: Array, low: Any, high: Any, near: Array) -> Any:
    """Mark which differences are in [low, high], all in float32; returns how many are beyond."""
    beyond = np.int32(0)
    for i in range(x.size):
        size = abs(x[i] - origin[i])
        beyond = np.int32(beyond + np.int32(size > high))
        near[i] = np.uint8((size >= low) & (size <= high))
    return beyond


@loop
def _places(near: Array, eights: Array, places: Array) -> int:
    """Write where n bytes are 1 and not 0, and anything behind that; returns how many are.

    Eight are looked at together. What is found decides about no jump but where two loops end: a processor
    guesses jumps, and would be wrong at every byte that is 1.
    """
    words = near.view(np.uint64)
    some = total = 0
    for i in range(words.size):
        eights[some] = 8 * i
        some += int(words[i] != 0)
    for j in range(some):
        for i in range(eights[j], eights[j] + 8):
            places[total] = i
            total += near[i]
    return total


@loop
def scan(streams: Array, size: int, low: float, high: float, found: Array, places: Array) -> Any:
    """Write which of a stream's n elements have magnitudes in [low, high].

    The magnitudes go to ``found`` and their places in the stream to ``places``; returns how many there are,
    and how many are beyond.
    """
    numbers, origin, room = np.empty(_CHUNK), np.empty(_CHUNK), np.empty((2, _CHUNK), np.float32)
    near, here = np.zeros(_CHUNK, np.uint8), np.empty((2, _CHUNK), np.int64)
    # Rounding keeps order: what is beyond a bound is not, in float32, before the one next to it.
    below = np.nextafter(np.float32(low), np.float32(0.0))
    above = np.nextafter(np.float32(high), np.float32(np.inf))
    stream, total, beyond = streams[0], 0, 0
    narrow = stream.base != 0 and stream.words == 0 and stream.high < 0.0
    narrow = narrow and stream.kind != FLOAT64 and stream.base_kind != FLOAT64
    x = y = np.int64(room.ctypes.data)
    for begin in range(0, size, _CHUNK):
        count = min(_CHUNK, size - begin)
        near[count:] = 0
        if narrow:
            x = single(stream.address, stream.kind, begin, room[0, :count])
            y = single(stream.base, stream.base_kind, begin, room[1, :count])
            beyond += _glance(singles(x, count), singles(y, count), below, above, near)
        else:
            fetch(stream, begin, numbers[:count], origin[:count], 0)
            for i in range(count):
                magnitude = abs(numbers[i])
                beyond += int(magnitude > high)
                near[i] = np.uint8((magnitude >= low) & (magnitude <= high))
        one, other = singles(x, count), singles(y, count)
        for j in range(_places(near, here[0], here[1])):
            i = here[1, j]
            magnitude = abs(np.float64(one[i]) - np.float64(other[i]) if narrow else numbers[i])
            found[total], places[total] = magnitude, begin + i
            beyond += int(magnitude > high)
            total += int((magnitude >= low) & (magnitude <= high))
    return total, beyond
