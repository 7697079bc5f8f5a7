"""One linear layer that answers as every contribution's own would, on that contribution's inputs.

    min over W of  Σ aᵢ ‖Xᵢ (W - Wᵢ)ᵀ‖²     ⇔     (Σ aᵢ Gᵢ) (W - A)ᵀ = Σ aᵢ Gᵢ (Wᵢ - A)ᵀ,   Gᵢ = Xᵢᵀ Xᵢ

for any *anchor* A. Gᵢ, the Gram matrix of a layer's inputs, is all that is needed of the data. The anchor
matters where no contribution had inputs: the matrix is singular there, gets a ridge, and the anchor stands.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

from crdtmerge.arith import Tensor, lane_sum, linear, nearest
from crdtmerge.errors import NonFiniteError
from crdtmerge.strategy import Tile

from .testimony import speaking


class Inputs(NamedTuple):
    """Gram matrices of a layer's inputs.

    Attributes:
        members: indices of those that bring one.
        packed: their lower triangles, k times [n(n+1)/2].
        first: whether inputs are the first dimension of the weights, not the last.
    """

    members: list[int]
    packed: list[Tensor]
    first: bool

    def traces(self) -> list[float]:
        """Return the trace of each."""
        return [lane_sum(linear.diagonal(packed)) for packed in self.packed]


def inputs_of(tile: Tile, missing: str) -> Inputs | None:
    """Return the Gram matrices about a tile, which is a whole tensor; None if there are none.

    If members disagree about where a layer keeps its inputs, more of them decide, or the last dimension.

    Raises:
        ParameterError: if some members lack one, and that is to be an error.
    """
    last, first = tile.evidence["gram"], tile.evidence["gram.first"]
    transposed = len(first) - first.count(None) > len(last) - last.count(None)
    said = first if transposed else last
    found = speaking(tile, said, "gram", missing)
    return Inputs(found, [g for g in said if g is not None], transposed) if found else None


def alike(sizes: Sequence[float]) -> list[Fraction]:
    """Return the factors that bring all sizes to their mean; 1 for one that is 0."""
    typical = Fraction(math.fsum(sizes)) / len(sizes)
    return [typical / Fraction(size) if size else Fraction(1) for size in sizes]


def completed(tile: Tile, inputs: Inputs) -> Inputs:
    """Return the Gram matrices with a multiple of the unit matrix, of their mean trace, for who has none."""
    size = tile.shape[0 if inputs.first else -1]
    typical = linear.unit(size) * (math.fsum(inputs.traces()) / len(inputs.packed) / size)
    known = dict(zip(inputs.members, inputs.packed, strict=True))
    return inputs._replace(
        members=list(range(tile.count)), packed=[known.get(i, typical) for i in range(tile.count)]
    )


def regress(
    tile: Tile,
    inputs: Inputs,
    factors: Sequence[Fraction],
    moved: Sequence[Tensor],
    *,
    shrink: Fraction = Fraction(1),
    ridge: Fraction = Fraction(),
) -> Tensor | None:
    """Return how far the solution is from the anchor, [d], for a whole tensor; None if there is none.

    Args:
        tile: of the tensor.
        inputs: Gᵢ.
        factors: aᵢ, one for each of ``inputs``.
        moved: k times Wᵢ - A, [d] float64.
        shrink: by which elements of Gᵢ beside the diagonal are multiplied.
        ridge: ρ; ρ · trace / n is added to the diagonal, and more if that does not suffice.

    Determinism: aᵢ Gᵢ by one product each; these, and their exact products with the differences, are summed
    in canonical order; then `linear.solve_positive`.
    """
    size = tile.shape[0 if inputs.first else -1]
    matrix, right = None, None
    for i, packed, factor in zip(inputs.members, inputs.packed, factors, strict=True):
        gram = linear.unpack(packed, nearest(shrink)) * nearest(factor)
        columns = moved[i].reshape(size, -1) if inputs.first else moved[i].reshape(-1, size).mT
        part = linear.product(gram, columns)
        matrix, right = (gram, part) if matrix is None or right is None else (matrix + gram, right + part)
    if matrix is None or right is None:
        return None
    ladder = (ridge, *(step for step in linear.RIDGES if step > ridge))
    try:
        solved = linear.solve_positive(matrix, right, ladder).x
    except (linear.NotPositiveDefiniteError, NonFiniteError):
        return None
    return (solved if inputs.first else solved.mT).reshape(-1)
