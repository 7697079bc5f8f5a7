"""Sums in float64 in one fixed order.

The *lane sum*: element i is added to lane i mod 2^14, elements in ascending order; then the upper half
of the lanes is added to the lower half until one is left.

    elements    0     1     2   …  16383
            16384 16385 16386   …  32767      rows are added downwards,
              …                               wherever a tile begins or ends
    lanes     a₀    a₁    a₂    …  a₁₆₃₈₃
              a₀+a₈₁₉₂   …   a₈₁₉₁+a₁₆₃₈₃     then 13 more halvings

Every addition is an elementwise one on vectors of 2^14, so it is as fast as the processor's and free of
its taste in summation. The number of lanes decides bits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations_with_replacement
from typing import Final

import torch
from torch import Tensor

from crdtmerge.arith import compiled
from crdtmerge.arith.pending import plain
from crdtmerge.errors import NonFiniteError, ParameterError

LANES: Final = 1 << 14


class _Lanes:
    """2^14 running sums and the flat index of the element that comes next."""

    __slots__ = ("_lanes", "_next")

    def __init__(self) -> None:
        self._lanes = torch.zeros(LANES, dtype=torch.float64)
        self._next = 0

    def _add(self, x: Tensor, y: Tensor | None, start: int) -> None:
        if start != self._next:
            raise ParameterError(f"a sum is fed in order: wanted element {self._next} next, got {start}")
        if y is not None and len(x) != len(y):
            raise ParameterError(f"a dot product of {len(x)} and {len(y)} elements")
        if self._lanes.device != x.device:
            self._lanes = self._lanes.to(x.device)
        self._next += len(x)
        loops = compiled.kernels()
        if loops is not None and all(v is None or plain(v) for v in (x, y)):
            if y is None:
                loops.add_to_lanes(self._lanes.numpy(), x.numpy(), start % LANES)
            else:
                loops.add_products_to_lanes(self._lanes.numpy(), x.numpy(), y.numpy(), start % LANES)
            return
        product = torch.empty_like(self._lanes) if y is not None else None
        begin = 0
        while begin < len(x):
            lane = (start + begin) % LANES
            end = min(len(x), begin + LANES - lane)
            row = x[begin:end]
            if y is not None and product is not None:
                row = torch.mul(row, y[begin:end], out=product[: end - begin])
            self._lanes[lane : lane + end - begin] += row
            begin = end

    def result(self) -> float:
        """Return the sum of everything fed so far.

        Raises:
            NonFiniteError: if a partial sum exceeded float64.
        """
        lanes = self._lanes
        while len(lanes) > 1:
            half = len(lanes) // 2
            lanes = lanes[:half] + lanes[half:]
        total = lanes.item()
        if not math.isfinite(total):
            raise NonFiniteError("a sum exceeds the range of float64")
        return total


class LaneSum(_Lanes):
    """The lane sum of a stream of tiles."""

    __slots__ = ()

    def feed(self, values: Tensor, start: int) -> None:
        """Add ``values``, [n] float64, the elements from flat index ``start`` on.

        Raises:
            ParameterError: if ``start`` is not where the last tile ended.
        """
        self._add(values, None, start)


class LaneDot(_Lanes):
    """The lane sum of the products of two streams; every product is rounded before it is added."""

    __slots__ = ()

    def feed(self, x: Tensor, y: Tensor, start: int) -> None:
        """Add the products of ``x`` and ``y``, both [n] float64, the elements from ``start`` on.

        Raises:
            ParameterError: if the lengths differ or ``start`` is not where the last tile ended.
        """
        self._add(x, y, start)


class LaneGram:
    """All dot products among k streams: norms on the diagonal, symmetric to the bit.

    State: 128 KiB for each of the k(k+1)/2 pairs: 4.5 MiB for 8 streams, 630 MiB for 100.
    """

    __slots__ = ("_dots", "_k")

    def __init__(self, k: int) -> None:
        self._k = k
        self._dots = {pair: LaneDot() for pair in combinations_with_replacement(range(k), 2)}

    def feed(self, tensors: Sequence[Tensor], start: int) -> None:
        """Add the products of all pairs of k tensors, each [n] float64, the elements from ``start`` on.

        Raises:
            ParameterError: if there are not k of them, lengths differ, or ``start`` is out of order.
        """
        if len(tensors) != self._k:
            raise ParameterError(f"a Gram matrix of {self._k} streams was fed {len(tensors)}")
        for (i, j), products in self._dots.items():
            products.feed(tensors[i], tensors[j], start)

    def result(self) -> tuple[tuple[float, ...], ...]:
        """Return the k × k dot products.

        Raises:
            NonFiniteError: if a partial sum exceeded float64.
        """
        dots = {pair: products.result() for pair, products in self._dots.items()}
        return tuple(tuple(dots[min(i, j), max(i, j)] for j in range(self._k)) for i in range(self._k))


def lane_sum(x: Tensor) -> float:
    """Return the lane sum of [n] float64; 0.0 of nothing."""
    total = LaneSum()
    total.feed(x, 0)
    return total.result()


def dot(x: Tensor, y: Tensor) -> float:
    """Return the lane sum of the products of two [n] float64."""
    total = LaneDot()
    total.feed(x, y, 0)
    return total.result()


def squared_norm(x: Tensor) -> float:
    """Return the lane sum of the squares of [n] float64."""
    return dot(x, x)
