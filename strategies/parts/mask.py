"""Which elements of a contribution take part.

A mask is float64, 1.0 where an element stays and 0.0 where it goes; what goes becomes +0, and so does a -0
that stays.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import TypeAlias

from crdtmerge.arith import Cut, Drawn, Elements, Tensor, TopSelection
from crdtmerge.errors import ParameterError
from crdtmerge.strategy import Group, Tile

from .delta import Extent

Rates: TypeAlias = "Fraction | Sequence[Fraction]"
"""One fraction for all contributions, or one for each of them."""


def each(rates: Rates, count: int) -> list[Fraction]:
    """Return the fraction of each contribution."""
    return [rates] * count if isinstance(rates, Fraction) else list(rates)


def bernoulli(tile: Tile, probability: Rates) -> Sequence[Elements]:
    """Return k masks that keep each element with ``probability``.

    A draw belongs to (contribution, tensor, element): it depends neither on the other contributions nor on
    the tile.
    """
    rates = zip(tile.keys, each(probability, tile.count), strict=True)
    return [Drawn(key, tile.start, tile.stop - tile.start, rate) for key, rate in rates]


class Trim:
    """Keeps the ``⌊density · size⌋`` elements of largest magnitude of each contribution's vector.

    The order is total, (-|x|, flat index): of equal magnitudes at the threshold the lower index stays.

    Args:
        group: what is merged.
        extent: over which vectors to rank.
        density: the fraction that stays, exact.
        count: instead, from a tile to how many elements of its vector stay.
        official: instead keep everything not smaller than the magnitude after the last kept one, as the
            published code does: one element more, and all that equal it.

    Raises:
        ParameterError: if ``official`` is asked for with a density that keeps everything, where the
            published code has no such magnitude and fails.
    """

    def __init__(
        self,
        group: Group,
        extent: Extent,
        density: Rates = Fraction(1),
        *,
        count: Callable[[Tile], int] | None = None,
        official: bool = False,
    ) -> None:
        densities = each(density, group.count)
        if official and max(densities) == 1:
            raise ParameterError("compat=official cannot keep everything: density must be less than 1")
        self._count, self._extent, self._densities, self._official = group.count, extent, densities, official
        self._kept = count
        self._searching: dict[str, list[TopSelection | Cut]] = {}
        self._cuts: dict[str, list[Cut]] = {}

    def feed(self, tile: Tile, values: Sequence[Elements]) -> None:
        """Take a tile of the k vectors into account."""
        name, start = self._extent.name(tile), self._extent.start(tile)
        if name in self._cuts:
            return
        if name not in self._searching:
            total = self._extent.size(tile)
            self._searching[name] = [TopSelection(self.kept(tile, i), total) for i in range(self._count)]
        searching = self._searching[name]
        for selection, x in zip(searching, values, strict=True):
            if isinstance(selection, TopSelection):
                selection.feed(x, start)
        if self._extent.ends(tile):
            # A selection that has its cut is let go: it may hold megabytes.
            searching[:] = [s.cut if isinstance(s, TopSelection) and s.finish() else s for s in searching]
            cuts = [cut for cut in searching if isinstance(cut, Cut)]
            if len(cuts) == self._count:
                if self._official:
                    cuts = [replace(cut, last=Cut.all.last) for cut in cuts]
                self._cuts[name] = cuts
                del self._searching[name]

    def finish(self) -> bool:
        """End a pass; True when every cut is known."""
        return not self._searching

    def __call__(self, tile: Tile, values: Sequence[Elements]) -> Sequence[Elements]:
        """Return the k vectors with only their largest elements, +0 elsewhere."""
        cuts, start = self._cuts[self._extent.name(tile)], self._extent.start(tile)
        return [cut.trimmed(x, start) for cut, x in zip(cuts, values, strict=True)]

    def masks(self, tile: Tile, values: Sequence[Tensor]) -> list[Tensor]:
        """Return the k masks of what is kept."""
        cuts, start = self._cuts[self._extent.name(tile)], self._extent.start(tile)
        return [cut.mask(x, start) for cut, x in zip(cuts, values, strict=True)]

    def kept(self, tile: Tile, member: int = 0) -> int:
        """Return how many elements of a member's vector stay that the tile belongs to."""
        if self._kept is not None:
            return self._kept(tile)
        return math.floor(self._densities[member] * self._extent.size(tile)) + self._official
