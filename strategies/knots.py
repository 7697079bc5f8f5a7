"""KnOTS: contributions are turned into a common basis before they meet.

    [τ₁ | τ₂ | … | τₖ] = U · Σ · [V₁ᵀ | V₂ᵀ | … | Vₖᵀ]        Pᵢ = Σ·Vᵢᵀ = Uᵀ·τᵢ        τᵢ = U·Pᵢ

Low-rank updates of different tasks hardly overlap element by element; their parts Pᵢ in the shared basis do,
and a method that votes about signs and magnitudes finds something to vote about. The inner method sees
nothing but the parts, as the differences of a model whose base is 0.

A basis is needed in every pass. Those that fit are held until the merge, up to `HELD` numbers in all; the
others are computed again each time, which is the same to the bit and cheap where contributions are of low
rank.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Final

from crdtmerge.arith import Elements, Tensor, linear
from crdtmerge.strategy import Bound, Choice, Flag, Group, Inner, Number, Survey, Tile, strategy

from .parts.matrix import Matrix, averaged, beside, matrices, spectrum
from .parts.scale import onto

HELD: Final = 1 << 25
"""Numbers in all bases that a survey holds: 256 MiB. Decides time and memory, no bit."""


def common_basis(differences: list[Matrix]) -> Tensor:
    """Return U of the singular values of all differences side by side, [m, r].

    A difference of low rank B·A stands there as B·Rᵀ with Aᵀ = Q·R: as far as U goes it is the same.
    """
    blocks = [
        m.whole if m.factors is None else linear.product(m.factors[0], linear.qr(m.factors[1].mT).r.mT)
        for m in differences
    ]
    return spectrum(Matrix(beside(blocks))).u


class Knots:
    """What must be known of all matrices first: the size of each basis, and what the inner method asks.

    Args:
        group: what is merged.
        inner: merges the parts.
        axis: whether matrices stand side by side ("columns") or one below the other ("rows").
    """

    def __init__(self, group: Group, inner: Bound, axis: str) -> None:
        self._given, self._inner, self._axis = group, inner, axis
        self._held: dict[str, Tensor] = {}
        self._room = HELD
        self._shapes: list[tuple[str, tuple[int, ...]]] = []
        self._group: Group | None = None
        self._survey: Survey | None = None

    def feed(self, tile: Tile) -> None:
        """Take one tensor into account."""
        differences = self._differences(tile)
        if differences is None:
            return
        if self._group is None:
            basis = common_basis(differences)
            self._shapes.append((tile.tensor, (basis.shape[1], differences[0].whole.shape[1])))
            if basis.numel() <= self._room:
                self._held[tile.tensor] = basis
                self._room -= basis.numel()
        elif self._survey is not None:
            basis = self._basis(tile, differences)
            if basis.numel():
                self._survey.feed(self._parts(tile, basis, differences))

    def finish(self) -> bool:
        """End a pass; True when bases and the inner method's survey are complete."""
        if self._group is None:
            self._group = replace(self._given, tensors=tuple(self._shapes), coefficients=None)
            self._survey = self._inner.survey(self._group)
            return self._survey is None
        return self._survey is None or self._survey.finish()

    def merge(self, tile: Tile) -> Tensor | None:
        """Return the merged difference, [n]; None if the tensor is no matrix."""
        differences = self._differences(tile)
        if differences is None:
            return None
        basis = self._basis(tile, differences)
        if not basis.numel():
            return tile.deltas[0] * 0.0 + 0.0
        parts = self._inner.merge(self._parts(tile, basis, differences), self._survey)
        merged = linear.product(basis, parts.reshape(basis.shape[1], -1))
        return (merged.mT if self._axis == "rows" else merged).flatten()

    def _differences(self, tile: Tile) -> list[Matrix] | None:
        differences = matrices(tile)
        if differences is None or self._axis == "columns":
            return differences
        return [matrix.mT for matrix in differences]

    def _basis(self, tile: Tile, differences: list[Matrix]) -> Tensor:
        held = self._held.get(tile.tensor)
        return common_basis(differences) if held is None else held

    def _parts(self, tile: Tile, basis: Tensor, differences: list[Matrix]) -> Tile:
        assert self._group is not None  # noqa: S101 - there is one after the first pass
        parts = [linear.product(basis.mT, matrix.whole) for matrix in differences]
        return replace(
            tile.moved([part.flatten() for part in parts]),
            shape=tuple(parts[0].shape),
            stored_base=parts[0].new_zeros(parts[0].numel()),
            group=self._group,
        )


def knots(group: Group, *, inner: Bound, scale: Fraction, axis: str, merge_other: bool) -> Knots:
    """Return what `svd_knot_tying` must see first."""
    return Knots(group, inner, axis)


@strategy(
    "svd_knot_tying",
    version=1,
    source="Stoica et al. 2025 (ICLR), arXiv:2410.19735",
    parameters=[
        Inner(
            "inner",
            "ties",
            "merges the parts; a linear one gives what it gives without the basis",
            choices=("ties", "dare_ties", "dare", "task_arithmetic", "weight_average"),
        ),
        Number("scale", "0.6", "λ, by which the merged difference is multiplied"),
        Choice("axis", ("columns", "rows"), "matrices side by side, or one below the other"),
        Flag("merge_other", False, "move what is no matrix by the mean of its differences"),
    ],
    needs_base=True,
    scope="tensor",
    symmetric=False,
    survey=knots,
)
def svd_knot_tying(
    tile: Tile, survey: Knots, *, inner: Bound, scale: Fraction, axis: str, merge_other: bool
) -> Elements:
    """KnOTS: turn the differences into a common singular basis, merge their parts there, turn back.

    For every matrix ``[τ₁ | … | τₖ] = U Σ [V₁ᵀ | … | Vₖᵀ]`` (``axis=rows``: of the transposed differences);
    the parts ``Pᵢ = Σ Vᵢᵀ = Uᵀ τᵢ`` [r, n] of all matrices are merged to P by ``inner`` as if they were
    differences from a base of zeros, so TIES trims each contribution over the whole model; ``θ = θ₀ +
    λ U P``, λ the parameter ``scale``. What is no matrix stays at the base, or moves by λ times the mean of τ
    with ``merge_other``. ``inner.density``, ``inner.p`` and so on are the inner method's own parameters;
    ``inner=weight_average`` is the mean, ``inner=task_arithmetic inner.scale=1`` the sum. [n] float64, a
    whole tensor at a time.

    Determinism: U by `linear.svd`, singular values up to 1e-9 of the first count as 0; a contribution of low
    rank, B·A with Aᵀ = Q·R, enters it as B·Rᵀ. Parts are products Uᵀ·τᵢ, row-major, of tensors ascending by
    name; a density counts their elements. Draws are those of the tensor. The order of the columns is
    canonical and changes U by rounding, and in clusters of equal values as a whole: there, and where parts
    are equal up to rounding, the digests decide.

    Raises:
        ParameterError: if the weights sum to 0 where a mean is asked for, or the inner method refuses.
        NonFiniteError: if a difference is not finite.

    Source: Stoica et al. 2025, sections 3 and 4, λ = 0.6 of its vision models. The published code cuts
    singular values at 1e-5, whatever the others are; it appends a bias as a column to its weight and writes
    the weight of a norm as a diagonal, which are vectors here.
    """
    merged = survey.merge(tile)
    if merged is not None:
        return onto(tile, merged, scale)
    moved = averaged(tile, tile.deltas, "svd_knot_tying") if merge_other else tile.deltas[0] * 0.0 + 0.0
    return onto(tile, moved, scale if merge_other else Fraction(1))
