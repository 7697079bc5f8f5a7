"""Triangles, a block at a time: what `cholesky`, `triangular` and `secular` do elementwise."""

from __future__ import annotations

import math

import numpy as np

from crdtmerge.arith.kernels.compiler import Array, loop
from crdtmerge.arith.kernels.folds import fold


@loop
def finish_panel(panel: Array) -> int:
    """Factor a panel of columns, [m, n] with m >= n; return which pivot is not positive, or -1."""
    rows, width = panel.shape
    for c in range(width):
        pivot = panel[c, c]
        if not pivot > 0.0:
            return c
        root = math.sqrt(pivot)
        for i in range(c, rows):
            panel[i, c] = panel[i, c] / root
        top = panel[:width, c].copy()
        for i in range(c + 1, rows):
            factor, rest = panel[i, c], panel[i, :width]
            for j in range(c + 1, width):
                rest[j] = rest[j] - factor * top[j]
    return -1


@loop
def solve_block(lower: Array, x: Array) -> None:
    """Replace X, [n, k], by L⁻¹·X for a lower triangle, [n, n]."""
    n = len(lower)
    for i in range(n):
        row, divisor = x[i], lower[i, i]
        for j in range(row.size):
            row[j] = row[j] / divisor
        for below in range(i + 1, n):
            rest, factor = x[below], lower[below, i]
            for j in range(row.size):
                rest[j] = rest[j] - factor * row[j]


@loop
def secular_roots(apart: Array, weights: Array, lower: Array, ends: Array, halvings: int) -> None:
    """Replace the ends of intervals by the roots in them, all found by halving.

    Args:
        apart: [k, k] float64; row j has the distances of all poles from the one that root j is near to.
        weights: [k] float64, of the poles.
        lower: [k] float64, 1.0 where that pole lies below the root, else 0.0.
        ends: [k], bit patterns of the upper ends; the lower ones are 0.
        halvings: how often.
    """
    room = np.empty(weights.size)
    for j in range(ends.size):
        row, side = apart[j], lower[j] * 2.0 - 1.0
        low, high = np.int64(0), ends[j]
        for _ in range(halvings):
            middle = np.int64(low + ((high - low) >> 1))
            shift = side * middle.view(np.float64)
            for i in range(room.size):
                room[i] = weights[i] / (row[i] - shift)
            rises = fold(room, room.size) + 1.0 >= 0.0
            if rises == (lower[j] > 0.0):
                high = middle
            else:
                low = middle
        ends[j] = high
