"""Sums over contributions: any number of streams, each read where it lies and as it is stored.

Elements come by address, so one compiled loop does for any number and any mixture of streams, and in chunks
that stay in the first cache.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import carray  # type: ignore[attr-defined]

from crdtmerge.arith.compiled import FLOAT32, FLOAT64
from crdtmerge.arith.kernels.compiler import CHUNK, Array, loop
from crdtmerge.arith.kernels.streams import change, decode, pointer, widen

_FOUR: Final = 4
"""Streams that are read side by side: as many as keep the sum in a register for a while."""


@loop
def _add(total: Array, x: Array, factor: float, first: bool) -> None:
    if first:
        for i in range(total.size):
            total[i] = np.float64(x[i]) * factor
    else:
        for i in range(total.size):
            total[i] = total[i] + np.float64(x[i]) * factor


@loop
def _add_four(total: Array, a: Array, b: Array, c: Array, d: Array, factors: Array, first: bool) -> None:
    f, g, h, k = factors[0], factors[1], factors[2], factors[3]
    if first:
        for i in range(total.size):
            total[i] = ((np.float64(a[i]) * f + np.float64(b[i]) * g) + np.float64(c[i]) * h) + np.float64(
                d[i]
            ) * k
    else:
        for i in range(total.size):
            total[i] = (
                ((total[i] + np.float64(a[i]) * f) + np.float64(b[i]) * g) + np.float64(c[i]) * h
            ) + np.float64(d[i]) * k


@loop
def _add_change(total: Array, x: Array, origin: Array, factor: float, first: bool) -> None:
    if first:
        for i in range(total.size):
            total[i] = (np.float64(x[i]) - origin[i]) * factor
    else:
        for i in range(total.size):
            total[i] = total[i] + (np.float64(x[i]) - origin[i]) * factor


@loop
def _finish(total: Array, divisor: float, scale: float) -> None:
    if scale != 1.0:
        for i in range(total.size):
            total[i] = total[i] * scale
    if divisor != 1.0:
        for i in range(total.size):
            total[i] = total[i] / divisor


@loop
def combine_changes(
    out: Array,
    addresses: Array,
    kinds: Array,
    factors: Array,
    changes: Array,
    base: int,
    base_kind: int,
    divisor: float,
    scale: float,
) -> None:
    """Do what `combine` does, with x - base for those x that ``changes`` says so of.

    Args:
        out, addresses, kinds, factors, divisor, scale: as there.
        changes: [k] bool.
        base: where the n elements of the base begin.
        base_kind: what they are.
    """
    origin, decoded = np.empty(CHUNK), np.empty(CHUNK)
    for begin in range(0, out.size, CHUNK):
        size = min(CHUNK, out.size - begin)
        total = out[begin : begin + size]
        decode(base, base_kind, begin, origin[:size])
        for j in range(addresses.size):
            first = j == 0
            if kinds[j] == FLOAT32:
                single = carray(pointer(addresses[j] + np.uint64(begin * 4)), (size,), np.float32)
                if changes[j]:
                    _add_change(total, single, origin, factors[j], first)
                else:
                    _add(total, single, factors[j], first)
            else:
                decode(np.int64(addresses[j]), kinds[j], begin, decoded[:size])
                if changes[j]:
                    _add_change(total, decoded, origin, factors[j], first)
                else:
                    _add(total, decoded, factors[j], first)
        _finish(total, divisor, scale)


@loop
def combine(out: Array, addresses: Array, kinds: Array, factors: Array, divisor: float, scale: float) -> None:
    """Write ((w₀x₀ + w₁x₁) + …) · scale ÷ divisor to ``out``; a scale or divisor of 1 does nothing.

    Args:
        out: [n] float64.
        addresses: [k] uint64, where the k streams of n elements begin.
        kinds: [k] uint8, what each stream consists of: FLOAT64, FLOAT32 or BFLOAT16.
        factors: [k] float64.
        divisor, scale: at most one of them other than 1.
    """
    wide = np.empty((_FOUR, CHUNK), np.float32)
    for begin in range(0, out.size, CHUNK):
        size = min(CHUNK, out.size - begin)
        total = out[begin : begin + size]
        j = 0
        while j < addresses.size:
            kind = kinds[j]
            together = 1
            while together < _FOUR and j + together < addresses.size and kinds[j + together] == kind:
                together += 1
            if together < _FOUR:
                together = 1
            if kind == FLOAT64:
                if together == _FOUR:
                    _add_four(
                        total,
                        carray(pointer(addresses[j] + np.uint64(begin * 8)), (size,), np.float64),
                        carray(pointer(addresses[j + 1] + np.uint64(begin * 8)), (size,), np.float64),
                        carray(pointer(addresses[j + 2] + np.uint64(begin * 8)), (size,), np.float64),
                        carray(pointer(addresses[j + 3] + np.uint64(begin * 8)), (size,), np.float64),
                        factors[j : j + 4],
                        j == 0,
                    )
                else:
                    x = carray(pointer(addresses[j] + np.uint64(begin * 8)), (size,), np.float64)
                    _add(total, x, factors[j], j == 0)
            else:
                if kind == FLOAT32:
                    a = carray(pointer(addresses[j] + np.uint64(begin * 4)), (size,), np.float32)
                    b = c = d = a
                    if together == _FOUR:
                        b = carray(pointer(addresses[j + 1] + np.uint64(begin * 4)), (size,), np.float32)
                        c = carray(pointer(addresses[j + 2] + np.uint64(begin * 4)), (size,), np.float32)
                        d = carray(pointer(addresses[j + 3] + np.uint64(begin * 4)), (size,), np.float32)
                else:
                    for t in range(together):
                        half = carray(pointer(addresses[j + t] + np.uint64(begin * 2)), (size,), np.uint16)
                        widen(half, wide[t])
                    a, b, c, d = wide[0, :size], wide[1, :size], wide[2, :size], wide[3, :size]
                if together == _FOUR:
                    _add_four(total, a, b, c, d, factors[j : j + 4], j == 0)
                else:
                    _add(total, a, factors[j], j == 0)
            j += together
        _finish(total, divisor, scale)


@loop
def agreeing_mean(out: Array, addresses: Array, factors: Array, elected: Array) -> None:
    """Write the mean, weighted by ``factors``, of those of k streams that have the elected sign to ``out``.

    Args:
        out: [n] float64.
        addresses: [k] uint64, where the k streams of n float64 begin.
        factors: [k] float64.
        elected: [n] float64 of 1, -1 and 0.
    """
    weight = np.empty(CHUNK)
    for begin in range(0, out.size, CHUNK):
        size = min(CHUNK, out.size - begin)
        total, sign = out[begin : begin + size], elected[begin : begin + size]
        for i in range(size):
            total[i] = weight[i] = 0.0
        for j in range(addresses.size):
            x = carray(pointer(addresses[j] + np.uint64(begin * 8)), (size,), np.float64)
            factor = factors[j]
            turn = 1.0 if factor > 0.0 else (-1.0 if factor < 0.0 else 0.0)
            for i in range(size):
                agrees = x[i] * (sign[i] * turn) > 0.0
                total[i] = total[i] + (x[i] * factor if agrees else 0.0)
                weight[i] = weight[i] + (factor if agrees else 0.0)
        for i in range(size):
            total[i] = total[i] / (weight[i] if weight[i] != 0.0 else 1.0) + 0.0


@loop
def subtract(out: Array, address: int, kind: int, base: int, base_kind: int) -> None:
    """Write x - base to ``out``, [n] float64, for two streams of n elements."""
    origin = np.empty(CHUNK)
    for begin in range(0, out.size, CHUNK):
        size = min(CHUNK, out.size - begin)
        change(address, kind, base, base_kind, begin, out[begin : begin + size], origin[:size])
