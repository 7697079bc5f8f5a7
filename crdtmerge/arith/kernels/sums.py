"""Sums over contributions: any number of streams, and what follows them, in one pass over memory.

Chunk by chunk, streams are read, summed, divided, and rounded into where the result is stored.
"""

from __future__ import annotations

import numpy as np

from crdtmerge.arith.compiled import FLOAT64
from crdtmerge.arith.kernels.adding import FOUR, add, alike, find_four, weighted
from crdtmerge.arith.kernels.compiler import APART, CHUNK, Array, loop
from crdtmerge.arith.kernels.streams import decode, fetch, singles, trimmed
from crdtmerge.arith.kernels.targets import beyond, put


@loop
def combine(streams: Array, factors: Array, divisor: float, scale: float, size: int, targets: Array) -> bool:
    """Write ((w₀x₀ + w₁x₁) + …) · scale ÷ divisor; whether all is finite in the type that it is stored in.

    Args:
        streams: [k] of `compiled.STREAM`; one base has one kind.
        factors: [k] float64.
        divisor, scale: at most one of them other than 1, which does nothing.
        size: number of elements.
        targets: one of `compiled.TARGET`.
    """
    total, rows, origin = np.empty(CHUNK), np.empty((FOUR, CHUNK + APART)), np.empty(CHUNK)
    target, worst = targets[0], np.int32(0)
    for begin in range(0, size, CHUNK):
        n = min(CHUNK, size - begin)
        chunk = total[:n]
        weighted(chunk, streams, factors, begin, rows, origin[:n])
        if scale != 1.0:
            for i in range(n):
                chunk[i] = chunk[i] * scale
        if divisor != 1.0:
            for i in range(n):
                chunk[i] = chunk[i] / divisor
        worst = put(chunk, begin, target, rows[0, :n], worst)
    return bool(worst < beyond(target.kind))


@loop
def count_signs(streams: Array, factors: Array, size: int) -> int:
    """Return how many more of the n sums (w₀x₀ + w₁x₁) + … are positive than negative."""
    total, rows, origin = np.empty(CHUNK), np.empty((FOUR, CHUNK + APART)), np.empty(CHUNK)
    count = 0
    for begin in range(0, size, CHUNK):
        n = min(CHUNK, size - begin)
        chunk = total[:n]
        weighted(chunk, streams, factors, begin, rows, origin[:n])
        for i in range(n):
            count += int(chunk[i] > 0.0) - int(chunk[i] < 0.0)
    return count


@loop
def _sign(total: float, tie: float) -> float:
    """Return the sign of a sum, ``tie`` for that of 0, and for what is no number what torch makes of it."""
    unordered = -abs(tie)
    return 1.0 if total > 0.0 else (-1.0 if total < 0.0 else (tie if total == 0.0 else unordered))


@loop
def _add_agreeing(total: Array, weight: Array, x: Array, sign: Array, factor: float, turn: float) -> None:
    for i in range(total.size):
        mask = 1.0 if x[i] * (sign[i] * turn) > 0.0 else 0.0
        total[i] = total[i] + (x[i] * mask) * factor
        weight[i] = weight[i] + mask * factor


@loop
def _mean_of_four_changes(
    total: Array, places: Array, origin: Array, bounds: Array, factors: Array, tie: float
) -> None:
    """Do all of `agreeing_mean` but rounding, without memory in between.

    Elements are finite, and factors 1 or more in magnitude: no product vanishes, so each has the right sign.
    """
    n = total.size
    a, b = singles(places[0], n), singles(places[1], n)
    c, d = singles(places[2], n), singles(places[3], n)
    f, g, h, k = factors[0], factors[1], factors[2], factors[3]
    p, q, r, s = bounds[0], bounds[1], bounds[2], bounds[3]
    for i in range(n):
        o = origin[i]
        one, two = trimmed(np.float64(a[i]) - o, p) * f, trimmed(np.float64(b[i]) - o, q) * g
        three, four = trimmed(np.float64(c[i]) - o, r) * h, trimmed(np.float64(d[i]) - o, s) * k
        sign = _sign(((one + two) + three) + four, tie)
        first, second, third, fourth = (
            one * sign > 0.0,
            two * sign > 0.0,
            three * sign > 0.0,
            four * sign > 0.0,
        )
        above = ((one if first else 0.0) + (two if second else 0.0)) + (three if third else 0.0)
        below = ((f if first else 0.0) + (g if second else 0.0)) + (h if third else 0.0)
        above, below = above + (four if fourth else 0.0), below + (k if fourth else 0.0)
        total[i] = above / (below if below != 0.0 else 1.0) + 0.0


@loop
def agreeing_mean(
    streams: Array, factors: Array, elected: int, tie: float, size: int, targets: Array
) -> bool:
    """Write the mean, weighted by ``factors``, of those of k streams that have the elected sign.

    Args:
        streams: [k] of `compiled.STREAM`; one base has one kind.
        factors: [k] float64.
        elected: where n float64 of 1, -1 and 0 begin; 0: the sign of the streams' weighted sum is.
        tie: the sign where that sum is 0.
        size: n.
        targets: one of `compiled.TARGET`.

    Returns:
        Whether all is finite in the type that it is stored in.
    """
    k = streams.size
    values, turns, bounds = np.empty((k, CHUNK + APART)), np.sign(factors), np.empty(FOUR)
    places = np.empty(FOUR, np.int64)
    sums, weights, signs, origins = np.empty(CHUNK), np.empty(CHUNK), np.empty(CHUNK), np.empty(CHUNK)
    fused = k == FOUR and elected == 0 and streams[0].base != 0 and np.all(np.abs(factors) >= 1.0)
    target, worst = targets[0], np.int32(0)
    for begin in range(0, size, CHUNK):
        n = min(CHUNK, size - begin)
        total, weight, sign, origin = sums[:n], weights[:n], signs[:n], origins[:n]
        if fused and alike(streams, 0, begin, n, bounds):
            find_four(streams, 0, begin, n, values.view(np.float32), places)
            decode(streams[0].base, streams[0].base_kind, begin, origin)
            _mean_of_four_changes(total, places, origin, bounds, factors, tie)
        else:
            known = 0
            for j in range(k):
                known = fetch(streams[j], begin, values[j, :n], origin, known)
            if elected != 0:
                decode(elected, FLOAT64, begin, sign)
            else:
                for j in range(k):
                    add(sign, values[j, :n], factors[j], j == 0)
                for i in range(n):
                    sign[i] = _sign(sign[i], tie)
            total[:] = weight[:] = 0.0
            for j in range(k):
                _add_agreeing(total, weight, values[j, :n], sign, factors[j], turns[j])
            for i in range(n):
                total[i] = total[i] / (weight[i] if weight[i] != 0.0 else 1.0) + 0.0
        worst = put(total, begin, target, weight, worst)
    return bool(worst < beyond(target.kind))
