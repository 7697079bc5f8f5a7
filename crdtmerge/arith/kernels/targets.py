"""Where results go: rounded once, into the type that is stored, chunk by chunk.

A target is a record (`compiled.TARGET`). What is written may be base + factor · result.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numba import carray  # type: ignore[attr-defined]

from crdtmerge.arith.compiled import BFLOAT16, FLOAT16, FLOAT32, FLOAT64
from crdtmerge.arith.kernels.compiler import CHUNK, Array, loop
from crdtmerge.arith.kernels.streams import decode, pointer

_STICKY: Final = np.int64((1 << 40) - 1)
_MAGNITUDE: Final = np.int32(0x7FFFFFFF)


@loop
def beyond(kind: int) -> Any:
    """Return the least pattern of a float32 that has no finite number of the type near it."""
    if kind == BFLOAT16:
        return np.int32(0x7F7F8000)
    return np.int32(0x477FF000) if kind == FLOAT16 else np.int32(0x7F800000)


@loop
def _to_odd(x: Array, out: Array) -> None:
    """Cut to 13 bits, the last of them set if anything was cut off: so a second rounding is harmless."""
    patterns = x.view(np.int64)
    for i in range(out.size):
        bits = patterns[i]
        odd = (((bits & _STICKY) + _STICKY) | bits) & ~_STICKY
        out[i] = np.float32(np.int64(odd).view(np.float64))


@loop
def _to_bfloat16(patterns: Array, out: Array) -> None:
    for i in range(out.size):
        bits = patterns[i]
        even = (bits >> np.uint32(16)) & np.uint32(1)
        out[i] = np.uint16((bits + np.uint32(0x7FFF) + even) >> np.uint32(16))


@loop
def _to_float16(patterns: Array, out: Array) -> None:
    """Round float32s below 65520; among subnormals, the sum with ½ has their last place at its own."""
    for i in range(out.size):
        bits = patterns[i]
        bare = np.uint32(bits & np.uint32(0x7FFFFFFF))
        even = (bare >> np.uint32(13)) & np.uint32(1)
        normal = np.uint32((bare - np.uint32(112 << 23) + np.uint32(0xFFF) + even) >> np.uint32(13))
        raised = np.float32(np.uint32(bare).view(np.float32) + np.float32(0.5)).view(np.uint32)
        small = np.uint32(raised - np.uint32(0x3F000000))
        size = small if bare < np.uint32(113 << 23) else normal
        out[i] = np.uint16(size | np.uint32((bits >> np.uint32(16)) & np.uint32(0x8000)))


@loop
def _largest(patterns: Array, worst: Any) -> Any:
    for i in range(patterns.size):
        worst = max(worst, np.int32(patterns[i] & _MAGNITUDE))
    return worst


@loop
def put(x: Array, begin: int, target: Any, room: Array, worst: Any) -> Any:
    """Round a chunk of results and write them from element ``begin`` of the target on.

    Args:
        x: [n] float64; not what it was afterwards.
        begin: the first element.
        target: one of `compiled.TARGET`.
        room: [n] float64 to work with.
        worst: the largest pattern of a float32 so far.

    Returns:
        The largest pattern now: at most that of infinity where results are float64.
    """
    size = x.size
    if target.base != 0:
        decode(target.base, target.base_kind, begin, room)
        factor = target.factor
        for i in range(size):
            x[i] = room[i] + x[i] * factor
    if target.kind == FLOAT64:
        exact = carray(pointer(target.address + begin * 8), (size,), np.float64)
        for i in range(size):
            exact[i] = x[i]
    elif target.kind == FLOAT32:
        single = carray(pointer(target.address + begin * 4), (size,), np.float32)
        for i in range(size):
            single[i] = np.float32(x[i])
        worst = _largest(single.view(np.int32), worst)
    else:
        wide = room.view(np.float32)[:size]
        _to_odd(x, wide)
        worst = _largest(wide.view(np.int32), worst)
        half = carray(pointer(target.address + begin * 2), (size,), np.uint16)
        if target.kind == BFLOAT16:
            _to_bfloat16(wide.view(np.uint32), half)
        else:
            _to_float16(wide.view(np.uint32), half)
    return worst


@loop
def encode(values: Array, targets: Array) -> bool:
    """Round [n] float64 into the only one of ``targets``; whether all are finite there."""
    x, room = np.empty(CHUNK), np.empty(CHUNK)
    target, worst = targets[0], np.int32(0)
    for begin in range(0, values.size, CHUNK):
        size = min(CHUNK, values.size - begin)
        given = values[begin : begin + size]
        for i in range(size):
            x[i] = given[i]
        worst = put(x[:size], begin, target, room[:size], worst)
    return bool(worst < beyond(target.kind))
