"""Sums without any rounding but the last.

A float64 is an integer times 2^-1074, so a sum of them is one too, and Python's integers hold it. What
is fed can be taken out again, sums merge, and neither order nor grouping nor tiles can show: for sums
that grow and shrink as contributions come and go, and for decisions that one unit in the last place
would flip.

Tiles are cut into slices of 36 bits, from the largest magnitude down:

    x = ± 1 0110…1011 | 0011…0001 | 01…        each slice of a tile is a vector of small integers,
          slice 1       slice 2     …          whose sum fits an int64 with room to spare
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Final

import torch
from torch import Tensor

from crdtmerge.arith.scalar import nearest
from crdtmerge.errors import NonFiniteError

_UNIT_EXPONENT: Final = -1074
"""Every float64 is a multiple of 2 to this."""

_SLICE_BITS: Final = 36
_TILE: Final = 1 << 16
"""Elements summed at once: 2^16 integers below 2^36 stay below 2^53, and the tile in the cache."""


class ExactSum:
    """A multiset's sum, exact; order-free, and what was fed can be removed."""

    __slots__ = ("_units",)

    def __init__(self) -> None:
        self._units = 0

    def feed(self, values: Tensor) -> None:
        """Add every element of [n] float64.

        Raises:
            NonFiniteError: if one is not finite; then none is added.
        """
        self._units += _units(values)

    def remove(self, values: Tensor) -> None:
        """Take every element of [n] float64 out again.

        Raises:
            NonFiniteError: if one is not finite; then none is removed.
        """
        self._units -= _units(values)

    def merge(self, other: ExactSum) -> None:
        """Add all that ``other`` holds."""
        self._units += other._units

    @property
    def exact(self) -> Fraction:
        """The sum itself."""
        return Fraction(self._units, 1 << -_UNIT_EXPONENT)

    def result(self) -> float:
        """Return the float64 nearest to the sum, ties to even.

        Raises:
            NonFiniteError: if it exceeds float64.
        """
        return nearest(self.exact)


def _units(values: Tensor) -> int:
    return sum(_tile_units(values[start : start + _TILE]) for start in range(0, len(values), _TILE))


def _tile_units(tile: Tensor) -> int:
    total = 0
    rest = tile
    while largest := max(rest.amax().item(), -rest.amin().item()):
        if not math.isfinite(largest):
            raise NonFiniteError("an exact sum was fed a value that is not finite")
        low = max(math.frexp(largest)[1] - _SLICE_BITS, _UNIT_EXPONENT)
        # Scaling by a power of two, cutting and subtracting what was cut are all exact.
        slice_ = _scaled(rest, -low).trunc_()
        total += int(slice_.to(torch.int64).sum()) << (low - _UNIT_EXPONENT)
        rest = rest - _scaled(slice_, low)
    return total


def _scaled(x: Tensor, exponent: int) -> Tensor:
    """Return x · 2^exponent; in two steps, because 2^1074 is no float64."""
    half = exponent // 2
    return (x * math.ldexp(1.0, half)).mul_(math.ldexp(1.0, exponent - half))
