"""Sums by halving, in the order of `crdtmerge.arith.fold`."""

from __future__ import annotations

from typing import Final

from crdtmerge.arith.kernels.compiler import Array, loop

STRIP: Final = 64
"""Columns that are summed together: 512 bytes of a row."""


@loop
def half_of(n: int) -> int:
    """Return the largest power of two below n >= 2, and 0 for less."""
    half = 1
    while 2 * half < n:
        half *= 2
    return half if n > 1 else 0


@loop
def fold(x: Array, n: int) -> float:
    """Return the sum of the first ``n`` >= 1 elements, which are not what they were afterwards."""
    rows, half = n, half_of(n)
    while half > 0:
        for i in range(rows - half):
            x[i] = x[i] + x[i + half]
        rows, half = half, half // 2
    return float(x[0])


@loop
def fold_products(x: Array, y: Array, room: Array) -> float:
    """Return the sum of the products of two [n] float64; 0.0 of nothing; ``room`` has n elements at least."""
    if x.size == 0:
        return 0.0
    for i in range(x.size):
        room[i] = x[i] * y[i]
    return fold(room, x.size)


@loop
def fold_rows(x: Array, top: int, left: int, factors: Array, room: Array, out: Array) -> None:
    """Write the sums over i of rows x[top + i, left : left + m], each times factor i; zeros of nothing.

    Args:
        x: a matrix.
        top: the first row.
        left: the first column.
        factors: [n] float64.
        room: [n, STRIP] at least, to work with.
        out: [m].
    """
    n = factors.size
    if n == 0:
        for j in range(out.size):
            out[j] = 0.0
        return
    begin = half_of(n)
    for start in range(0, out.size, STRIP):
        width, first = min(STRIP, out.size - start), left + start
        for i in range(max(begin, 1)):  # the products, and what the first halving does to them
            row, sums, factor = x[top + i, first : first + width], room[i], factors[i]
            if begin > 0 and i + begin < n:
                lower, other = x[top + i + begin, first : first + width], factors[i + begin]
                for j in range(width):
                    sums[j] = row[j] * factor + lower[j] * other
            else:
                for j in range(width):
                    sums[j] = row[j] * factor
        half = begin // 2
        while half > 0:
            for i in range(half):
                sums, others = room[i], room[i + half]
                for j in range(width):
                    sums[j] = sums[j] + others[j]
            half //= 2
        for j in range(width):
            out[start + j] = room[0, j]
