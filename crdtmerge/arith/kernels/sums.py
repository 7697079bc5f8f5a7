"""Sums over contributions: any number of streams, and what follows them, in one pass over memory.

Chunk by chunk, streams are read, summed, divided, and rounded into where the result is stored.
"""

from __future__ import annotations

import numpy as np

from crdtmerge.arith.compiled import FLOAT64
from crdtmerge.arith.kernels.adding import FOUR, add, add_four, weighted
from crdtmerge.arith.kernels.compiler import APART, CHUNK, Array, loop
from crdtmerge.arith.kernels.streams import decode, fetch
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
def _elect(total: Array, tie: float) -> None:
    """Replace sums by their signs, and a sum of 0 by ``tie``."""
    if tie > 0.0:
        for i in range(total.size):
            total[i] = 1.0 if total[i] >= 0.0 else -1.0
    elif tie < 0.0:
        for i in range(total.size):
            total[i] = 1.0 if total[i] > 0.0 else -1.0
    else:
        for i in range(total.size):
            total[i] = 1.0 if total[i] > 0.0 else (-1.0 if total[i] < 0.0 else 0.0)


@loop
def _add_agreeing(total: Array, weight: Array, x: Array, sign: Array, factor: float, turn: float) -> None:
    for i in range(total.size):
        mask = 1.0 if x[i] * (sign[i] * turn) > 0.0 else 0.0
        total[i] = total[i] + (x[i] * mask) * factor
        weight[i] = weight[i] + mask * factor


@loop
def _add_four_agreeing(
    total: Array,
    weight: Array,
    a: Array,
    b: Array,
    c: Array,
    d: Array,
    sign: Array,
    factors: Array,
    turns: Array,
) -> None:
    f, g, h, k = factors[0], factors[1], factors[2], factors[3]
    p, q, r, s = turns[0], turns[1], turns[2], turns[3]
    for i in range(total.size):
        e = sign[i]
        first, second = 1.0 if a[i] * (e * p) > 0.0 else 0.0, 1.0 if b[i] * (e * q) > 0.0 else 0.0
        third, fourth = 1.0 if c[i] * (e * r) > 0.0 else 0.0, 1.0 if d[i] * (e * s) > 0.0 else 0.0
        total[i] = (((total[i] + (a[i] * first) * f) + (b[i] * second) * g) + (c[i] * third) * h) + (
            d[i] * fourth
        ) * k
        weight[i] = (((weight[i] + first * f) + second * g) + third * h) + fourth * k


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
    values, turns = np.empty((k, CHUNK + APART)), np.sign(factors)
    sums, weights, signs, origin = np.empty(CHUNK), np.empty(CHUNK), np.empty(CHUNK), np.empty(CHUNK)
    target, worst = targets[0], np.int32(0)
    for begin in range(0, size, CHUNK):
        n = min(CHUNK, size - begin)
        total, weight, sign = sums[:n], weights[:n], signs[:n]
        known = 0
        for j in range(k):
            known = fetch(streams[j], begin, values[j, :n], origin[:n], known)
        if elected != 0:
            decode(elected, FLOAT64, begin, sign)
        else:
            j = 0
            while j + FOUR <= k:
                a, b, c, d = values[j, :n], values[j + 1, :n], values[j + 2, :n], values[j + 3, :n]
                add_four(sign, a, b, c, d, factors[j : j + FOUR], j == 0)
                j += FOUR
            for last in range(j, k):
                add(sign, values[last, :n], factors[last], last == 0)
            _elect(sign, tie)
        for i in range(n):
            total[i] = weight[i] = 0.0
        j = 0
        while j + FOUR <= k:
            a, b, c, d = values[j, :n], values[j + 1, :n], values[j + 2, :n], values[j + 3, :n]
            _add_four_agreeing(total, weight, a, b, c, d, sign, factors[j : j + FOUR], turns[j : j + FOUR])
            j += FOUR
        for last in range(j, k):
            _add_agreeing(total, weight, values[last, :n], sign, factors[last], turns[last])
        for i in range(n):
            total[i] = total[i] / (weight[i] if weight[i] != 0.0 else 1.0) + 0.0
        worst = put(total, begin, target, weight, worst)
    return bool(worst < beyond(target.kind))
