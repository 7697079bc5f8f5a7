"""Streams of elements as they lie in memory: read as float64, less a base, some dropped, some trimmed.

A stream is a record (`compiled.STREAM`), so that one compiled loop does for any mixture of them. Elements are
read in chunks that stay in the first cache.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, types  # type: ignore[attr-defined]
from numba.extending import intrinsic

from crdtmerge.arith.compiled import BFLOAT16, FLOAT32, FLOAT64
from crdtmerge.arith.kernels.compiler import CHUNK, Array, loop


def _address_as_pointer(context: Any, address: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], ir.IntType(8).as_pointer())

    return types.voidptr(address), generate


pointer: Any = intrinsic(_address_as_pointer)


@loop
def _from_bfloat16(bits: Any) -> Any:
    """Return the float32 whose upper half these bits are."""
    return np.uint32(np.uint32(bits) << np.uint32(16)).view(np.float32)


@loop
def _from_float16(bits: Any) -> Any:
    """Return the float16 with these bits as float32.

    Its exponent is raised to what float32 calls the same. A subnormal number first becomes the fraction of a
    normal one, whose leading 1 is then taken off.
    """
    bare = np.uint32((np.uint32(bits) & np.uint32(0x7FFF)) << np.uint32(13))
    sign = np.uint32((np.uint32(bits) & np.uint32(0x8000)) << np.uint32(16))
    normal = np.uint32(bare + np.uint32(112 << 23))
    wide = np.uint32(bare + np.uint32(224 << 23)) if bare >= np.uint32(0x1F << 23) else normal
    small = np.uint32(normal + np.uint32(1 << 23)).view(np.float32) - np.float32(2.0**-14)
    size = np.float32(small).view(np.uint32) if bare < np.uint32(1 << 23) else wide
    return np.uint32(np.uint32(size) | sign).view(np.float32)


@loop
def _from_normal_float16(bits: Any) -> Any:
    """Return the same for a normal number or 0: read as a float32 its exponent is 112 too small.

    Other numbers would be subnormal as such: right, but a processor may take a hundred times as long.
    """
    apart = np.int32(np.int32(np.int16(bits)) << np.int32(13)) & np.int32(~0x70000000)
    return np.float32(np.int32(apart).view(np.float32) * np.float32(2.0**112))


@loop
def _normal(half: Array) -> bool:
    """Whether all of some float16s are normal numbers or 0."""
    least, most = np.uint16(0xFFFF), np.uint16(0)  # of what is 1 too small, so that 0 is large
    for i in range(half.size):
        size = np.uint16(half[i] & np.uint16(0x7FFF))
        least, most = min(least, np.uint16(size - np.uint16(1))), max(most, size)
    return bool(least >= 0x3FF and most < 0x7C00)


@loop
def single(address: Any, kind: int, begin: int, room: Array) -> Any:
    """Return where elements of a type that float32 holds lie as float32: in ``room``, [n], if need be."""
    if kind == FLOAT32:
        return address + begin * 4
    half = carray(pointer(address + begin * 2), (room.size,), np.uint16)
    if kind == BFLOAT16:
        for i in range(room.size):
            room[i] = _from_bfloat16(half[i])
    elif _normal(half):
        for i in range(room.size):
            room[i] = _from_normal_float16(half[i])
    else:
        for i in range(room.size):
            room[i] = _from_float16(half[i])
    return np.int64(room.ctypes.data)


@loop
def singles(address: Any, size: int) -> Any:
    """Return [n] float32 that lie there."""
    return carray(pointer(address), (size,), np.float32)


@loop
def decode(address: Any, kind: int, begin: int, out: Array) -> None:
    """Write as many elements as ``out`` has, from element ``begin`` of a stream on, as float64."""
    size = out.size
    if kind == FLOAT64:
        exact = carray(pointer(address + begin * 8), (size,), np.float64)
        for i in range(size):
            out[i] = exact[i]
    elif kind == FLOAT32:
        narrow = carray(pointer(address + begin * 4), (size,), np.float32)
        for i in range(size):
            out[i] = np.float64(narrow[i])
    else:
        half = carray(pointer(address + begin * 2), (size,), np.uint16)
        if kind == BFLOAT16:
            for i in range(size):
                out[i] = np.float64(_from_bfloat16(half[i]))
        else:
            for i in range(size):
                out[i] = np.float64(_from_float16(half[i]))


@loop
def trimmed(y: float, bound: float) -> float:
    """Return a number whose magnitude exceeds a bound, and 0.0 for another."""
    return 0.0 if abs(y) <= bound else y


@loop
def _trim(x: Array, bound: float) -> None:
    for i in range(x.size):
        x[i] = trimmed(x[i], bound)


@loop
def _less(x: Array, origin: Array, out: Array, bound: float) -> None:
    for i in range(x.size):
        out[i] = trimmed(np.float64(x[i]) - origin[i], bound)


@loop
def _read(stream: Any, begin: int, out: Array, origin: Array) -> None:
    size = out.size
    ties = min(max(stream.ties - begin, 0), size)
    if stream.kind == FLOAT32 and stream.base != 0 and stream.words == 0:  # the common case, in one loop
        single = carray(pointer(stream.address + begin * 4), (size,), np.float32)
        _less(single[:ties], origin[:ties], out[:ties], stream.low)
        _less(single[ties:], origin[ties:], out[ties:], stream.high)
        return
    decode(stream.address, stream.kind, begin, out)
    if stream.base != 0:
        for i in range(size):
            out[i] = out[i] - origin[i]
    if stream.words != 0:
        words = carray(pointer(stream.words + begin * 4), (size,), np.uint32)
        threshold, divisor = np.uint32(stream.threshold), stream.divisor
        for i in range(size):
            out[i] = out[i] * (1.0 if words[i] < threshold else 0.0) + 0.0
        if divisor != 1.0:
            for i in range(size):
                out[i] = out[i] / divisor
    if stream.high >= 0.0:
        _trim(out[:ties], stream.low)
        _trim(out[ties:], stream.high)


@loop
def fetch(stream: Any, begin: int, out: Array, origin: Array, known: int) -> Any:
    """Write as many elements as ``out`` has, from element ``begin`` of a stream on.

    Args:
        stream: one of `compiled.STREAM`.
        begin: the first element.
        out: [n] float64.
        origin: [n] float64, room for the base; already decoded if that is the one at ``known``.
        known: an address, or 0.

    Returns:
        The address of the base that ``origin`` holds then.
    """
    if stream.base != 0 and stream.base != known:
        decode(stream.base, stream.base_kind, begin, origin)
        known = stream.base
    _read(stream, begin, out, origin)
    return known


@loop
def write(out: Array, streams: Array) -> None:
    """Write the only one of ``streams`` to ``out``, [n] float64."""
    origin = np.empty(CHUNK)
    for begin in range(0, out.size, CHUNK):
        size = min(CHUNK, out.size - begin)
        fetch(streams[0], begin, out[begin : begin + size], origin[:size], 0)
