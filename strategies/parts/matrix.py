"""Tensors as matrices, for methods that look at rows, columns and singular values.

A tensor [o, i] is a matrix, a convolution kernel [o, i, h, w] the matrix of o rows and i·h·w columns; what
has fewer than two dimensions is none, and methods fall back to the mean. Embeddings are matrices like any
other: a recipe that should not treat them as such gives them a rule of their own.

A difference that came as a product B·A of low rank keeps its factors, so that its singular values are those
of a small matrix. Which factors there are follows from the contributions alone, never from the machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import accumulate
from typing import NamedTuple

from crdtmerge.arith import Tensor, linear, nearest, weighted_sum
from crdtmerge.errors import ParameterError
from crdtmerge.strategy import Tile

from .consensus import cancel, mean


class Matrix(NamedTuple):
    """A matrix, and its factors of low rank where it has some.

    Attributes:
        whole: [m, n] float64.
        factors: (B [m, r], A [r, n]) with B·A = whole up to rounding, or None.
    """

    whole: Tensor
    factors: tuple[Tensor, Tensor] | None = None

    @property
    def mT(self) -> Matrix:  # noqa: N802 - as tensors call it
        """The transposed matrix."""
        return Matrix(self.whole.mT, self.factors and (self.factors[1].mT, self.factors[0].mT))


def matrices(tile: Tile) -> list[Matrix] | None:
    """Return the k differences of a whole tensor as matrices; None if its shape is no matrix's."""
    if len(tile.shape) < 2:
        return None
    made = []
    for tau, given in zip(tile.deltas, tile.factors or (None,) * tile.count, strict=True):
        factors = None if given is None else (given.b * nearest(given.scale), given.a)
        made.append(Matrix(tau.reshape(tile.shape[0], -1), factors))
    return made


def averaged(tile: Tile, values: Sequence[Tensor], name: str) -> Tensor:
    """Return the weighted mean of k tensors of one shape, as `consensus.mean`.

    Raises:
        ParameterError: if the weights sum to 0, in the name of the strategy.
    """
    if cancel(tile.weights):
        raise ParameterError(f"{name}: the weights sum to 0, so there is no mean; change the weights")
    return mean(values, tile.weights)


def combined(differences: Sequence[Matrix], weights: Sequence[Fraction]) -> Matrix:
    """Return ``Σ wᵢ τᵢ``, of low rank if all of them are.

    Determinism: the whole is one weighted sum; the factors are those of all, B's multiplied by the float
    nearest to wᵢ.
    """
    whole = weighted_sum([m.whole for m in differences], weights)
    factors = [m.factors for m in differences if m.factors is not None]
    if len(factors) < len(differences):
        return Matrix(whole)
    scaled = [b * nearest(w) for (b, _), w in zip(factors, weights, strict=True)]
    return Matrix(whole, (beside(scaled), beside([a.mT for _, a in factors]).mT))


def spectrum(matrix: Matrix) -> linear.SVD:
    """Return the singular values above 1e-9 of the largest, descending, and their vectors.

    Determinism: `linear.svd_product` of the factors if there are some, else `linear.svd`; nothing is computed
    for a matrix of zeros.

    Raises:
        NonFiniteError: if an element is not finite.
    """
    if matrix.factors is not None:
        return linear.svd_product(*matrix.factors)
    if not matrix.whole.any():
        return linear.SVD(matrix.whole[:, :0], matrix.whole[0, :0], matrix.whole.mT[:, :0])
    return linear.svd(matrix.whole)


def leading(found: linear.SVD, count: int) -> linear.SVD:
    """Return the first ``count`` components; fewer if that would cut through equal values."""
    kept = linear.cut(found.values, count)
    return linear.SVD(found.u[:, :kept], found.values[:kept], found.v[:, :kept])


def reaching(values: Tensor, share: Fraction) -> int:
    """Return how many of [k] descending values are needed to reach ``share`` of their sum.

    Sums are exact. Equal values are needed together: the answer is never a cut through them.
    """
    sums = list(accumulate(Fraction(value) for value in values.tolist()))
    ends = [cluster.stop for cluster in linear.clusters(values)]
    return next((end for end in ends if sums[end - 1] >= share * sums[-1]), 0)


def rebuilt(found: linear.SVD, values: Tensor) -> Tensor:
    """Return U·diag(values)·Vᵀ, [m, n], with other singular ``values`` [k] for the same vectors."""
    return linear.product(found.u * values, found.v.mT)


def beside(blocks: Sequence[Tensor]) -> Tensor:
    """Return [m, n₁], [m, n₂], … as one matrix [m, n₁ + n₂ + …]."""
    ends = list(accumulate(block.shape[1] for block in blocks))
    whole = blocks[0].new_empty(len(blocks[0]), ends[-1])
    for block, end in zip(blocks, ends, strict=True):
        whole[:, end - block.shape[1] : end] = block
    return whole
