"""Lane sums: elements are added to as many lanes as there are, in turn, rows going downwards."""

from __future__ import annotations

from crdtmerge.arith.kernels.compiler import Array, loop


@loop
def add_to_lanes(lanes: Array, x: Array, first: int) -> None:
    """Add [n] float64 to [L] lanes; the first of them belongs to lane ``first``."""
    begin, lane = 0, first
    while begin < x.size:
        size = min(x.size - begin, lanes.size - lane)
        row, sums = x[begin : begin + size], lanes[lane : lane + size]
        for i in range(size):
            sums[i] = sums[i] + row[i]
        begin, lane = begin + size, 0


@loop
def add_products_to_lanes(lanes: Array, x: Array, y: Array, first: int) -> None:
    """Add the products of two [n] float64 to [L] lanes, each rounded; the first belongs to lane ``first``."""
    begin, lane = 0, first
    while begin < x.size:
        size = min(x.size - begin, lanes.size - lane)
        left, right, sums = x[begin : begin + size], y[begin : begin + size], lanes[lane : lane + size]
        for i in range(size):
            product = left[i] * right[i]
            sums[i] = sums[i] + product
        begin, lane = begin + size, 0
