"""Sums of magnitudes, before and after elements were dropped.

    factor = Σ |x| before / Σ |x| after        of each contribution, over a tensor

Multiplied by it, what is left has the L1 norm that the whole had. Sums are lane sums, so tiles do not show.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from crdtmerge.arith import LaneSum, Tensor
from crdtmerge.strategy import Group, Tile

_NOTHING: Final = 1e-7
"""Norms below this are not restored: nothing was there, or nothing is left of it."""


class NormRatios:
    """The factors that restore the L1 norm of each contribution's tensor; 1 where a norm is below 1e-7.

    State: 256 KiB for each contribution, for one tensor at a time.
    """

    def __init__(self, group: Group) -> None:
        self._count = group.count
        self._sizes = {name: math.prod(shape) for name, shape in group.tensors}
        self._sums: list[tuple[LaneSum, LaneSum]] = []
        self._factors: dict[str, list[float]] = {}

    def feed(self, tile: Tile, before: Sequence[Tensor], after: Sequence[Tensor]) -> None:
        """Take a tile of the k tensors into account.

        Raises:
            NonFiniteError: if a norm exceeds float64.
        """
        if tile.start == 0:
            self._sums = [(LaneSum(), LaneSum()) for _ in range(self._count)]
        for (whole, left), x, y in zip(self._sums, before, after, strict=True):
            whole.feed(x.abs(), tile.start)
            left.feed(y.abs(), tile.start)
        if tile.stop == self._sizes[tile.tensor]:
            self._factors[tile.tensor] = [_ratio(whole.result(), left.result()) for whole, left in self._sums]
            self._sums = []

    def finish(self) -> bool:
        """One pass suffices."""
        return True

    def __call__(self, tile: Tile, values: Sequence[Tensor]) -> list[Tensor]:
        """Return the k tensors, each times its factor."""
        factors = self._factors[tile.tensor]
        return [x if factor == 1 else x * factor for x, factor in zip(values, factors, strict=True)]


def _ratio(whole: float, left: float) -> float:
    return whole / left if min(whole, left) >= _NOTHING else 1.0
