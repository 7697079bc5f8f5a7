"""Streams of elements as they lie in memory: address and kind, and those of a base to subtract."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, types  # type: ignore[attr-defined]
from numba.extending import intrinsic

from crdtmerge.arith.compiled import FLOAT32, FLOAT64
from crdtmerge.arith.kernels.compiler import Array, loop


def _address_as_pointer(context: Any, address: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], ir.IntType(8).as_pointer())

    return types.voidptr(address), generate


pointer: Any = intrinsic(_address_as_pointer)


@loop
def widen(chunk: Array, out: Array) -> None:
    """Write bfloat16, [n] uint16, as [n] float32."""
    bits = out.view(np.uint32)
    for i in range(chunk.size):
        bits[i] = np.uint32(chunk[i]) << np.uint32(16)


@loop
def decode(address: Any, kind: int, begin: int, out: Array) -> None:
    """Write as many elements as ``out`` has, from element ``begin`` of a stream on, as float64."""
    size = out.size
    if kind == FLOAT64:
        exact = carray(pointer(np.uint64(address + begin * 8)), (size,), np.float64)
        for i in range(size):
            out[i] = exact[i]
    elif kind == FLOAT32:
        single = carray(pointer(np.uint64(address + begin * 4)), (size,), np.float32)
        for i in range(size):
            out[i] = np.float64(single[i])
    else:
        wide = np.empty(size, np.float32)
        widen(carray(pointer(np.uint64(address + begin * 2)), (size,), np.uint16), wide)
        for i in range(size):
            out[i] = np.float64(wide[i])


@loop
def change(address: Any, kind: int, base: Any, base_kind: int, begin: int, out: Array, origin: Array) -> None:
    """Do what `decode` does, less the base's elements unless ``base`` is 0; ``origin`` is room for these."""
    decode(address, kind, begin, out)
    if base != 0:
        decode(base, base_kind, begin, origin)
        for i in range(out.size):
            out[i] = out[i] - origin[i]
