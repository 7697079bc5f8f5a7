"""Weighted sums of chunks: in the order of the streams, four of them side by side where there are as many.

The common cases are read where they lie; all others are fetched first.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numba import carray  # type: ignore[attr-defined]

from crdtmerge.arith.compiled import FLOAT16, FLOAT32, FLOAT64
from crdtmerge.arith.kernels.compiler import Array, loop
from crdtmerge.arith.kernels.streams import decode, fetch, from_bfloat16, pointer, trimmed

FOUR: Final = 4
"""Streams that are read side by side: as many as keep the sum in a register for a while."""


@loop
def add(total: Array, x: Array, factor: float, first: bool) -> None:
    """Add a chunk times a factor to [n] float64, whatever these were if it is the first."""
    if first:
        for i in range(total.size):
            total[i] = np.float64(x[i]) * factor
    else:
        for i in range(total.size):
            total[i] = total[i] + np.float64(x[i]) * factor


@loop
def add_four(total: Array, a: Array, b: Array, c: Array, d: Array, factors: Array, first: bool) -> None:
    """Do what `add` does with four chunks, one after the other."""
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
def _add_four_bfloat16(
    total: Array, a: Array, b: Array, c: Array, d: Array, factors: Array, first: bool
) -> None:
    f, g, h, k = factors[0], factors[1], factors[2], factors[3]
    if first:
        for i in range(total.size):
            total[i] = (
                (from_bfloat16(a[i]) * f + from_bfloat16(b[i]) * g) + from_bfloat16(c[i]) * h
            ) + from_bfloat16(d[i]) * k
    else:
        for i in range(total.size):
            total[i] = (
                ((total[i] + from_bfloat16(a[i]) * f) + from_bfloat16(b[i]) * g) + from_bfloat16(c[i]) * h
            ) + from_bfloat16(d[i]) * k


@loop
def _add_four_changes(
    total: Array,
    a: Array,
    b: Array,
    c: Array,
    d: Array,
    origin: Array,
    bounds: Array,
    factors: Array,
    first: bool,
) -> None:
    f, g, h, k = factors[0], factors[1], factors[2], factors[3]
    p, q, r, s = bounds[0], bounds[1], bounds[2], bounds[3]
    for i in range(total.size):
        o = origin[i]
        before = 0.0 if first else total[i]
        one, two = trimmed(np.float64(a[i]) - o, p) * f, trimmed(np.float64(b[i]) - o, q) * g
        three, four = trimmed(np.float64(c[i]) - o, r) * h, trimmed(np.float64(d[i]) - o, s) * k
        total[i] = (((one if first else before + one) + two) + three) + four


@loop
def _plain(stream: Any) -> bool:
    return bool(stream.base == 0 and stream.words == 0 and stream.high < 0.0)


@loop
def _alike(streams: Array, j: int) -> bool:
    """Whether from stream j on there are four to be read side by side."""
    kind = streams[j].kind
    if j + FOUR > streams.size or kind == FLOAT16:
        return False
    alike = True
    for t in range(j, j + FOUR):
        alike = alike and streams[t].kind == kind and _plain(streams[t])
    return alike


@loop
def _add_alike(total: Array, streams: Array, factors: Array, begin: int, first: bool) -> None:
    """Add four plain streams of one kind."""
    size = total.size
    p, q, r, s = streams[0].address, streams[1].address, streams[2].address, streams[3].address
    if streams[0].kind == FLOAT64:
        offset = begin * 8
        add_four(
            total,
            carray(pointer(p + offset), (size,), np.float64),
            carray(pointer(q + offset), (size,), np.float64),
            carray(pointer(r + offset), (size,), np.float64),
            carray(pointer(s + offset), (size,), np.float64),
            factors,
            first,
        )
    elif streams[0].kind == FLOAT32:
        offset = begin * 4
        add_four(
            total,
            carray(pointer(p + offset), (size,), np.float32),
            carray(pointer(q + offset), (size,), np.float32),
            carray(pointer(r + offset), (size,), np.float32),
            carray(pointer(s + offset), (size,), np.float32),
            factors,
            first,
        )
    else:
        offset = begin * 2
        _add_four_bfloat16(
            total,
            carray(pointer(p + offset), (size,), np.uint16),
            carray(pointer(q + offset), (size,), np.uint16),
            carray(pointer(r + offset), (size,), np.uint16),
            carray(pointer(s + offset), (size,), np.uint16),
            factors,
            first,
        )


@loop
def _changes(streams: Array, j: int, begin: int, n: int, bounds: Array) -> bool:
    """Whether from stream j on there are four float32 less one base, each trimmed by one bound if at all."""
    if j + FOUR > streams.size:
        return False
    base, alike = streams[j].base, streams[j].base != 0
    for t in range(FOUR):
        stream = streams[j + t]
        whole = stream.ties <= begin or stream.ties >= begin + n
        alike = alike and stream.kind == FLOAT32 and stream.base == base and stream.words == 0 and whole
        bounds[t] = stream.high if stream.ties <= begin else stream.low
    return bool(alike)


@loop
def weighted(total: Array, streams: Array, factors: Array, begin: int, rows: Array, origin: Array) -> None:
    """Write (w₀x₀ + w₁x₁) + … of the elements from ``begin`` on to ``total``; the rest is room."""
    n, known, j = total.size, 0, 0
    bounds = np.empty(FOUR)
    while j < streams.size:
        four = factors[j : j + FOUR]
        if _alike(streams, j):
            _add_alike(total, streams[j : j + FOUR], four, begin, j == 0)
        elif _changes(streams, j, begin, n, bounds):
            if streams[j].base != known:
                decode(streams[j].base, streams[j].base_kind, begin, origin)
                known = streams[j].base
            _add_four_changes(
                total,
                carray(pointer(streams[j].address + begin * 4), (n,), np.float32),
                carray(pointer(streams[j + 1].address + begin * 4), (n,), np.float32),
                carray(pointer(streams[j + 2].address + begin * 4), (n,), np.float32),
                carray(pointer(streams[j + 3].address + begin * 4), (n,), np.float32),
                origin,
                bounds,
                four,
                j == 0,
            )
        elif four.size == FOUR:
            for t in range(FOUR):
                known = fetch(streams[j + t], begin, rows[t, :n], origin, known)
            add_four(total, rows[0, :n], rows[1, :n], rows[2, :n], rows[3, :n], four, j == 0)
        else:
            stream = streams[j]
            if stream.kind == FLOAT32 and _plain(stream):
                single = carray(pointer(stream.address + begin * 4), (n,), np.float32)
                add(total, single, factors[j], j == 0)
            else:
                known = fetch(stream, begin, rows[0, :n], origin, known)
                add(total, rows[0, :n], factors[j], j == 0)
            j += 1
            continue
        j += FOUR
