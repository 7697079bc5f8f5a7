"""Which elements of a contribution take part.

A mask is float64, 1.0 where an element stays and 0.0 where it goes; what goes becomes +0, and so does a -0
that stays.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

from crdtmerge.arith import Cut, Tensor, TopSelection, keep_mask, masked
from crdtmerge.errors import ParameterError
from crdtmerge.strategy import Group, Tile

from .delta import Extent


def bernoulli(tile: Tile, probability: Fraction) -> list[Tensor]:
    """Return k masks that keep each element with ``probability``.

    A draw belongs to (contribution, tensor, element): it depends neither on the other contributions nor on
    the tile.
    """
    return [keep_mask(key, tile.start, tile.stop - tile.start, probability) for key in tile.keys]


class Trim:
    """Keeps the ``⌊density · size⌋`` elements of largest magnitude of each contribution's vector.

    The order is total, (-|x|, flat index): of equal magnitudes at the threshold the lower index stays.

    Args:
        group: what is merged.
        extent: over which vectors to rank.
        density: the fraction that stays, exact.
        official: instead keep everything not smaller than the magnitude after the last kept one, as the
            published code does: one element more, and all that equal it.

    Raises:
        ParameterError: if ``official`` is asked for with a density that keeps everything, where the
            published code has no such magnitude and fails.
    """

    def __init__(self, group: Group, extent: Extent, density: Fraction, *, official: bool = False) -> None:
        if official and density == 1:
            raise ParameterError("compat=official cannot keep everything: density must be less than 1")
        self._count, self._extent, self._density, self._official = group.count, extent, density, official
        self._searching: dict[str, list[TopSelection | Cut]] = {}
        self._cuts: dict[str, list[Cut]] = {}

    def feed(self, tile: Tile, values: Sequence[Tensor]) -> None:
        """Take a tile of the k vectors into account."""
        name, start = self._extent.name(tile), self._extent.start(tile)
        if name in self._cuts:
            return
        if name not in self._searching:
            total = self._extent.size(tile)
            kept = math.floor(self._density * total) + self._official
            self._searching[name] = [TopSelection(kept, total) for _ in values]
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

    def __call__(self, tile: Tile, values: Sequence[Tensor]) -> list[Tensor]:
        """Return the k vectors with only their largest elements, +0 elsewhere."""
        cuts, start = self._cuts[self._extent.name(tile)], self._extent.start(tile)
        return [masked(x, cut.mask(x, start)) for cut, x in zip(cuts, values, strict=True)]
