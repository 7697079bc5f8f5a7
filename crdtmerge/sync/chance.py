"""Choices that look random and are not: all of them follow from a seed.

The machines of this folder draw nothing from the system, so a simulation can be replayed bit for bit.
A node seeds its `Chance` from the operating system once; nobody outside can foresee its choices.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeVar

from crdtmerge.digest import Domain, digest, stream

T = TypeVar("T")

_REFILL_BYTES: Final = 1024


class Chance:
    """An endless stream of choices, given by its seed.

    Args:
        seed: any bytes.
    """

    __slots__ = ("_buffer", "_key", "_offset", "_position")

    def __init__(self, seed: bytes) -> None:
        self._key = digest(Domain.CHANCE, seed)
        self._buffer = b""
        self._position = 0
        self._offset = 0

    def draw(self, count: int) -> bytes:
        """Return the next ``count`` bytes."""
        if self._position + count > len(self._buffer):
            length = max(count, _REFILL_BYTES)
            left = self._buffer[self._position :]
            self._buffer = left + stream(self._key, length=length, offset=self._offset)
            self._offset += length
            self._position = 0
        start, self._position = self._position, self._position + count
        return self._buffer[start : self._position]

    def below(self, bound: int) -> int:
        """Return an integer of ``[0, bound)``, each with the same probability."""
        if bound < 1:
            raise ValueError(f"wanted a positive bound, got {bound}")
        size = (bound.bit_length() + 15) // 8  # at least one byte more than needed: few rejections
        limit = (1 << 8 * size) // bound * bound
        while (drawn := int.from_bytes(self.draw(size), "little")) >= limit:
            pass
        return drawn % bound

    def between(self, low: int, high: int) -> int:
        """Return an integer of ``[low, high]``."""
        return low + self.below(high - low + 1)

    def choose(self, items: Sequence[T]) -> T:
        """Return one of ``items``, which are in an order that does not depend on memory addresses."""
        return items[self.below(len(items))]

    def sample(self, items: Sequence[T], count: int) -> list[T]:
        """Return ``count`` different positions' items (all, shuffled, if there are fewer)."""
        pool = list(items)
        count = min(count, len(pool))
        for index in range(count):
            other = index + self.below(len(pool) - index)
            pool[index], pool[other] = pool[other], pool[index]
        return pool[:count]

    def fork(self, label: str) -> Chance:
        """Return another stream that draws from this one no more: its choices do not disturb ours."""
        return Chance(self._key + label.encode())
