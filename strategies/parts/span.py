"""Geometry among k vectors, from nothing but their dot products.

Directions, angles and means on the sphere never leave the span of the vectors they are made of:

    r = c₁ v₁ + … + cₖ vₖ        r · vᵢ = Σⱼ cⱼ Gᵢⱼ        |r|² = Σᵢⱼ cᵢ cⱼ Gᵢⱼ

So one pass for the k(k+1)/2 dot products G of a tensor, then arithmetic on k coefficients, and the merged
tensor is one weighted sum, whatever a method iterates. Coefficients are Python floats; sums of them are
``math.fsum``, correctly rounded and therefore free of order, and angles are `crdtmerge.arith.scalar`'s.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Final, TypeAlias

from crdtmerge.arith import LaneGram, Tensor, scalar
from crdtmerge.errors import NonFiniteError
from crdtmerge.strategy import Group, Tile

Matrix: TypeAlias = "Sequence[Sequence[float]]"

_SQUARE_MAX: Final = 2.0**1000
"""Squared norms up to here leave room for products with coefficients and for sums of them."""

_CANCELLED: Final = 2.0**-40
"""A squared norm this small beside its terms is what their rounding left over: it counts as 0."""


class Coefficients:
    """Finds the k coefficients of every tensor, once its dot products are known; alone, a vector has 1.

    Sums of products are lane sums, so tiles do not show; their state is held for one tensor at a time.

    Args:
        group: what is merged.
        solve: from a Gram matrix to coefficients.
        vectors: from a tile to its k vectors, the contributions' values unless said otherwise.
    """

    def __init__(
        self,
        group: Group,
        solve: Callable[[Matrix], Sequence[float]],
        vectors: Callable[[Tile], Sequence[Tensor]] = attrgetter("models"),
    ) -> None:
        self._count, self._solve, self._vectors = group.count, solve, vectors
        self._sizes = {name: math.prod(shape) for name, shape in group.tensors}
        self._gram = LaneGram(group.count)
        self._of: dict[str, tuple[float, ...]] = {}

    def feed(self, tile: Tile) -> None:
        """Take one tile into account.

        Raises:
            NonFiniteError: if a tensor's squared norm exceeds what can be computed with.
        """
        if self._count == 1:
            return
        try:
            self._gram.feed(self._vectors(tile), tile.start)
            if tile.stop == self._sizes[tile.tensor]:
                gram = self._gram.result()
                self._gram = LaneGram(self._count)
                if not all(gram[i][i] < _SQUARE_MAX for i in range(self._count)):
                    raise NonFiniteError("a squared norm exceeds 2¹⁰⁰⁰")
                self._of[tile.tensor] = tuple(self._solve(gram))
        except NonFiniteError as error:
            raise NonFiniteError(
                f"{tile.tensor}: its elements are too large for angles to be computed", tile.tensor
            ) from error

    def finish(self) -> bool:
        """One pass suffices."""
        return True

    def __getitem__(self, tensor: str) -> tuple[float, ...]:
        """Return the coefficients of a tensor."""
        return (1.0,) if self._count == 1 else self._of[tensor]


def dot(gram: Matrix, i: int, a: Sequence[float]) -> float:
    """Return the dot product of vᵢ and the vector with coefficients ``a``."""
    return math.fsum(g * x for g, x in zip(gram[i], a, strict=True))


def norm(gram: Matrix, a: Sequence[float]) -> float:
    """Return the length of the vector with coefficients ``a``; 0 if its terms cancel."""
    terms = [x * y * gram[i][j] for i, x in enumerate(a) for j, y in enumerate(a)]
    squared = math.fsum(terms)
    cancelled = squared <= _CANCELLED * math.fsum(abs(term) for term in terms)
    return 0.0 if cancelled else scalar.sqrt(squared)


def units(gram: Matrix) -> tuple[list[float], list[list[float]]]:
    """Return the k lengths, and the cosines between the vectors; those of a zero vector are 0."""
    lengths = [scalar.sqrt(row[i]) for i, row in enumerate(gram)]
    cosines = [
        [g / (m * n) if m and n else 0.0 for g, n in zip(row, lengths, strict=True)]
        for row, m in zip(gram, lengths, strict=True)
    ]
    return lengths, cosines
