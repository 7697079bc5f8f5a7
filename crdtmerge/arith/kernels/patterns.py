"""Loops over bit patterns of float64: counting and finding magnitudes."""

from __future__ import annotations

from typing import Final

import numpy as np

from crdtmerge.arith.kernels.compiler import CHUNK, Array, loop
from crdtmerge.arith.kernels.streams import fetch

_GLANCE: Final = 64
"""Elements that are looked at together before they are looked at one by one."""


@loop
def count_digits(streams: Array, size: int, shift: int, counts: Array) -> None:
    """Count the digits from bit ``shift`` on of the patterns of a stream's elements, sign bit apart."""
    mask, places = np.uint64(counts.size - 1), np.uint64(shift)
    numbers, origin = np.empty(CHUNK), np.empty(CHUNK)
    patterns = numbers.view(np.uint64)
    for begin in range(0, size, CHUNK):
        count = min(CHUNK, size - begin)
        fetch(streams[0], begin, numbers[:count], origin[:count], 0)
        for i in range(count):
            counts[(patterns[i] >> places) & mask] += 1


@loop
def find(streams: Array, size: int, low: float, high: float, found: Array, places: Array) -> int:
    """Write which of a stream's n elements have magnitudes in [low, high].

    The magnitudes go to ``found`` and their places in the stream to ``places``; returns how many there are.
    """
    numbers, origin = np.empty(CHUNK), np.empty(CHUNK)
    total = 0
    for begin in range(0, size, CHUNK):
        count = min(CHUNK, size - begin)
        fetch(streams[0], begin, numbers[:count], origin[:count], 0)
        for first in range(0, count, _GLANCE):
            some = numbers[first : min(first + _GLANCE, count)]
            hits = 0
            for i in range(some.size):
                magnitude = abs(some[i])
                hits += int((low <= magnitude) & (magnitude <= high))
            if hits:
                for i in range(some.size):
                    magnitude = abs(some[i])
                    if low <= magnitude and magnitude <= high:
                        found[total] = magnitude
                        places[total] = begin + first + i
                        total += 1
    return total
