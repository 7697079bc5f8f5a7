"""Where a tile lies in the vector that a method looks at as a whole.

A contribution's differences from the base, all tensors one behind the other in order of their names, are
its *task vector*:

    tensor a     tensor b          tensor c
    ├────────────┼─────────────────┼────────┤
    0            offset of b       offset of c

Some methods rank or count over the whole task vector, some over every tensor by itself. An `Extent` is that
choice; the rest of a method does not notice which it was.
"""

from __future__ import annotations

import math
from itertools import accumulate

from crdtmerge.strategy import Group, Tile


class Extent:
    """The vectors over which a method ranks or counts: one per tensor, or one for all of them.

    Args:
        group: the tensors.
        scope: ``"global"`` for one vector, ``"tensor"`` for one per tensor.
    """

    def __init__(self, group: Group, scope: str) -> None:
        names = [name for name, _ in group.tensors]
        sizes = [math.prod(shape) for _, shape in group.tensors]
        self._whole = scope == "global"
        *offsets, self._total = accumulate(sizes, initial=0)
        self._offsets = dict(zip(names, offsets, strict=True))
        self._sizes = dict(zip(names, sizes, strict=True))

    def name(self, tile: Tile) -> str:
        """Return what identifies the vector that the tile belongs to."""
        return "" if self._whole else tile.tensor

    def start(self, tile: Tile) -> int:
        """Return the flat index of the tile's first element in its vector."""
        return tile.start + self._offsets[tile.tensor] if self._whole else tile.start

    def size(self, tile: Tile) -> int:
        """Return the number of elements of the vector that the tile belongs to."""
        return self._total if self._whole else self._sizes[tile.tensor]

    def ends(self, tile: Tile) -> bool:
        """Whether the tile is the last of its vector."""
        return self.start(tile) + tile.stop - tile.start == self.size(tile)
