"""Sums over all that one member says, tensor after tensor.

Tensors that no one speaks about do not count; what a method divides by is then the same for everybody.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from crdtmerge.arith import LaneSum, Tensor
from crdtmerge.strategy import Group, Tile

from .delta import Extent


class Totals:
    """Sums of a function of each member's evidence over all tensors of the group that it speaks about.

    Lane sums of tensors, added by ``math.fsum``; so tiles do not show.

    Attributes:
        sums: k sums.
        elements: of the tensors about which anybody speaks.
    """

    def __init__(self, group: Group, function: Callable[[Tensor], Tensor]) -> None:
        self._extent, self._function = Extent(group, "tensor"), function
        self._parts: list[list[float]] = [[] for _ in group.members]
        self._lanes: dict[int, LaneSum] = {}
        self.sums: list[float] = []
        self.elements = 0

    def feed(self, tile: Tile, said: Sequence[Tensor | None]) -> None:
        """Take what the members say about a tile into account."""
        for i, evidence in enumerate(said):
            if evidence is not None:
                self._lanes.setdefault(i, LaneSum()).feed(self._function(evidence), tile.start)
        if self._extent.ends(tile):
            self.elements += self._extent.size(tile) if self._lanes else 0
            for i, lanes in self._lanes.items():
                self._parts[i].append(lanes.result())
            self._lanes = {}

    def finish(self) -> bool:
        """One pass suffices."""
        self.sums = [math.fsum(parts) for parts in self._parts]
        return True
