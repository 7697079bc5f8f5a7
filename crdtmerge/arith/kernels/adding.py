"""Weighted sums of chunks: in the order of the streams, four of them side by side where there are as many.

The common cases are read where they lie, or widened to float32, half the bytes; all others are fetched first.
Chunks go from loop to loop as addresses: to hand over arrays takes longer than some loops.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from crdtmerge.arith.compiled import FLOAT64
from crdtmerge.arith.kernels.compiler import Array, loop
from crdtmerge.arith.kernels.streams import decode, fetch, single, singles, trimmed

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
def _add_four(total: Array, places: Array, factors: Array, first: bool) -> None:
    """Do what `add` does with four chunks of float32, one after the other."""
    n = total.size
    a, b = singles(places[0], n), singles(places[1], n)
    c, d = singles(places[2], n), singles(places[3], n)
    f, g, h, k = factors[0], factors[1], factors[2], factors[3]
    for i in range(n):
        before = 0.0 if first else total[i]
        one, two = np.float64(a[i]) * f, np.float64(b[i]) * g
        three, four = np.float64(c[i]) * h, np.float64(d[i]) * k
        total[i] = (((one if first else before + one) + two) + three) + four


@loop
def _add_four_changes(
    total: Array, places: Array, origin: Array, bounds: Array, factors: Array, first: bool
) -> None:
    n = total.size
    a, b = singles(places[0], n), singles(places[1], n)
    c, d = singles(places[2], n), singles(places[3], n)
    f, g, h, k = factors[0], factors[1], factors[2], factors[3]
    p, q, r, s = bounds[0], bounds[1], bounds[2], bounds[3]
    for i in range(n):
        o = origin[i]
        before = 0.0 if first else total[i]
        one, two = trimmed(np.float64(a[i]) - o, p) * f, trimmed(np.float64(b[i]) - o, q) * g
        three, four = trimmed(np.float64(c[i]) - o, r) * h, trimmed(np.float64(d[i]) - o, s) * k
        total[i] = (((one if first else before + one) + two) + three) + four


@loop
def alike(streams: Array, j: int, begin: int, n: int, bounds: Array) -> bool:
    """Whether from stream j on there are four that float32 holds, plain or less one base.

    Differences may be trimmed, each by one bound in these n elements; the bounds go to ``bounds``.
    """
    if j + FOUR > streams.size:
        return False
    base, narrow = streams[j].base, True
    for t in range(FOUR):
        stream = streams[j + t]
        narrow = narrow and stream.kind != FLOAT64 and stream.base == base and stream.words == 0
        if stream.high >= 0.0:
            narrow = narrow and base != 0 and (stream.ties <= begin or stream.ties >= begin + n)
        bounds[t] = stream.high if stream.ties <= begin else stream.low
    return bool(narrow)


@loop
def find_four(streams: Array, j: int, begin: int, n: int, rows: Array, places: Array) -> None:
    """Write where n elements of four streams from stream j on lie as float32; ``rows`` is room for them."""
    for t in range(FOUR):
        places[t] = single(streams[j + t].address, streams[j + t].kind, begin, rows[t, :n])


@loop
def weighted(total: Array, streams: Array, factors: Array, begin: int, rows: Array, origin: Array) -> None:
    """Write (w₀x₀ + w₁x₁) + … of the elements from ``begin`` on to ``total``; the rest is room."""
    n, known, j = total.size, 0, 0
    bounds, places = np.empty(FOUR), np.empty(FOUR, np.int64)
    while j < streams.size:
        if alike(streams, j, begin, n, bounds):
            find_four(streams, j, begin, n, rows.view(np.float32), places)
            if streams[j].base == 0:
                _add_four(total, places, factors[j:], j == 0)
            else:
                if streams[j].base != known:
                    known = streams[j].base
                    decode(known, streams[j].base_kind, begin, origin)
                _add_four_changes(total, places, origin, bounds, factors[j:], j == 0)
            j += FOUR
            continue
        stream = streams[j]
        if stream.kind != FLOAT64 and stream.base == 0 and stream.words == 0 and stream.high < 0.0:
            place = single(stream.address, stream.kind, begin, rows.view(np.float32)[0, :n])
            add(total, singles(place, n), factors[j], j == 0)
        else:
            known = fetch(stream, begin, rows[0, :n], origin, known)
            add(total, rows[0, :n], factors[j], j == 0)
        j += 1
