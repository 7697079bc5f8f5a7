"""How far contributions are from each other and from a centre, over the whole model.

    points: c, x₁ … xₖ            d²(i, j) = Σ (xᵢ - xⱼ)², exact

Distances decide which contributions count, so they are sums without any rounding but that of each element's
difference and square: equal distances are equal, and neither tiles nor tensors' order can show. Points that
are combinations of these need no further pass over the model:

    z = Σ cᵢ xᵢ with Σ c = 1        |xⱼ - z|² = Σᵢ cᵢ d²(i, j) - ½ Σᵢₗ cᵢ cₗ d²(i, l)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import combinations

from crdtmerge.arith import ExactSum, Tensor, nearest, scalar
from crdtmerge.strategy import Tile


class Distances:
    """All squared distances among the points of a tile stream, exact.

    State: one integer for each pair. Cost: for each pair and element a few operations of an exact sum.

    Args:
        points: from a tile to its points, each [n]; always the same number of them.
    """

    def __init__(self, points: Callable[[Tile], Sequence[Tensor]]) -> None:
        self._points = points
        self._sums: dict[tuple[int, int], ExactSum] = {}

    def feed(self, tile: Tile) -> None:
        """Take one tile into account.

        Raises:
            NonFiniteError: if a squared difference exceeds float64.
        """
        for (i, x), (j, y) in combinations(enumerate(self._points(tile)), 2):
            difference = x - y
            self._sums.setdefault((i, j), ExactSum()).feed(difference * difference)

    def finish(self) -> bool:
        """One pass suffices."""
        return True

    def squared(self, i: int, j: int) -> Fraction:
        """Return the squared distance of two points."""
        pair = self._sums.get((min(i, j), max(i, j)))
        return Fraction(0) if pair is None else pair.exact

    def between(self, count: int) -> list[list[Fraction]]:
        """Return the squared distances of the first ``count`` points."""
        return [[self.squared(i, j) for j in range(count)] for i in range(count)]


def from_combination(squared: Sequence[Sequence[Fraction]], weights: Sequence[Fraction]) -> list[float]:
    """Return the distances of all points from ``Σ cᵢ xᵢ``, given their squared distances; ``Σ c = 1``.

    Determinism: exact, then rounded to float64 and its square root rounded again. Far points next to near
    ones would otherwise leave nothing but rounding. What falls below 0, since each element's difference and
    square were rounded, is 0.

    Raises:
        NonFiniteError: if a squared distance exceeds float64.
    """
    pulls = [sum((c * d for c, d in zip(weights, row, strict=True)), Fraction()) for row in squared]
    spread = sum((c * pull for c, pull in zip(weights, pulls, strict=True)), Fraction())
    return [scalar.sqrt(nearest(max(pull - spread / 2, Fraction()))) for pull in pulls]
