"""Methods that ask how many contributions change an element, and how much they differ there.

    τ₁  0.5  0    2         alone: as it is          c = how many are active
    τ₂  0.7  1    0         shared: averaged

Counts are whole numbers and variances elementwise, so neither order nor tiles show in them.
"""

from __future__ import annotations

import math
from fractions import Fraction
from functools import reduce
from operator import add
from typing import Final

from crdtmerge.arith import Elements, LaneDot, Tensor, masked, maximum, nearest, positive_zero, weighted_sum
from crdtmerge.strategy import Group, Number, Tile, strategy

from .parts.consensus import agreement, elected
from .parts.delta import Extent
from .parts.mask import Trim
from .parts.scale import onto

_ALIKE: Final = Fraction(1)
_EPSILON: Final = Number("epsilon", "0.00001", "ε: a difference no larger than this is none", minimum="0")
_NOTHING: Final = 1e-6
"""A sum of weights below this divides nothing."""


def active(tile: Tile, epsilon: Fraction) -> tuple[list[Tensor], Tensor]:
    """Return k masks of where ``|τᵢ| > ε``, and how many of them are 1 at each element."""
    masks = [(tau.abs() > nearest(epsilon)).double() for tau in tile.deltas]
    return masks, reduce(add, masks)


@strategy(
    "ram",
    version=1,
    source="mergekit `ram`; Reinforced Agent Merging, 2026, arXiv:2601.13572",
    parameters=[_EPSILON],
    needs_base=True,
    weighted=False,
)
def ram(tile: Tile, *, epsilon: Fraction) -> Elements:
    """RAM: differences that one contribution alone has stay whole, those that several have are averaged.

    ``τᵢ = θᵢ - θ₀`` is active where ``|τᵢ| > ε``; ``θ = θ₀ + Σ τᵢ / c`` over the c that are active, +0 where
    none is. [n] float64 throughout.

    Determinism: one sum in canonical order, one division.

    Raises:
        ParameterError: if weights differ.

    Source: mergekit `ram`. No deviation.
    """
    tile.group.unweighted("ram")
    masks, count = active(tile, epsilon)
    kept = [masked(tau, mask) for tau, mask in zip(tile.deltas, masks, strict=True)]
    return onto(tile, weighted_sum(kept, [_ALIKE] * tile.count) / maximum(count, count * 0.0 + 1.0), _ALIKE)


class Overlap:
    """Counts, for each tensor, the elements that a contribution has alone, and those that it shares."""

    def __init__(self, group: Group, epsilon: Fraction) -> None:
        group.unweighted("ramplus_tl")
        self._epsilon = epsilon
        self._counts = {name: [(0, 0)] * group.count for name, _ in group.tensors}

    def feed(self, tile: Tile) -> None:
        """Take one tile into account."""
        masks, count = active(tile, self._epsilon)
        self._counts[tile.tensor] = [
            (
                unique + int((mask * (count == 1)).count_nonzero()),
                shared + int((mask * (count > 1)).count_nonzero()),
            )
            for (unique, shared), mask in zip(self._counts[tile.tensor], masks, strict=True)
        ]

    def finish(self) -> bool:
        """One pass suffices."""
        return True

    def factors(self, tensor: str, rate: Fraction, limit: Fraction) -> list[Fraction]:
        """Return ``1 + rate · min(shared / unique, limit)`` for each contribution; 1 if nothing is unique."""
        return [
            1 + rate * min(Fraction(shared, unique), limit) if unique else _ALIKE
            for unique, shared in self._counts[tensor]
        ]


def overlap(group: Group, *, epsilon: Fraction, rate: Fraction, limit: Fraction) -> Overlap:
    """Return what `ramplus_tl` must see first."""
    return Overlap(group, epsilon)


@strategy(
    "ramplus_tl",
    version=1,
    source="mergekit `ramplus_tl`; Reinforced Agent Merging, 2026, arXiv:2601.13572",
    parameters=[
        _EPSILON,
        Number("rate", "0.1", "r, how strongly overlap raises what a contribution has alone", minimum="0"),
        Number("limit", "0.2", "α, the largest ratio of shared to unique elements that counts", minimum="0"),
    ],
    needs_base=True,
    weighted=False,
    survey=overlap,
)
def ramplus_tl(
    tile: Tile, survey: Overlap, *, epsilon: Fraction, rate: Fraction, limit: Fraction
) -> Elements:
    """RAM+, tensor-local: what a contribution has alone is raised, the more so the more it shares elsewhere.

    As `ram`, but an element that contribution i alone changes is multiplied by
    ``λᵢ = 1 + r · min(sharedᵢ / uniqueᵢ, α)``, with the numbers of elements of the tensor that it shares and
    that it has alone; r is ``rate``, α is ``limit``. [n] float64 throughout.

    Determinism: counts are whole numbers and λ is exact, rounded once; unique elements are one sum in
    canonical order, shared ones one sum and one division, then both are added.

    Raises:
        ParameterError: if weights differ.

    Source: mergekit `ramplus_tl`, whose counts are those of one tensor; the paper's ratio is presumably that
    of the whole model.
    """
    masks, count = active(tile, epsilon)
    alone = (count == 1).double()
    unique = [masked(tau, mask * alone) for tau, mask in zip(tile.deltas, masks, strict=True)]
    shared = [masked(tau, mask * (count > 1)) for tau, mask in zip(tile.deltas, masks, strict=True)]
    raised = weighted_sum(unique, survey.factors(tile.tensor, rate, limit))
    averaged = weighted_sum(shared, [_ALIKE] * tile.count) / maximum(count, alone + (count == 0))
    return onto(tile, positive_zero(raised + averaged), _ALIKE)


def spread(taus: tuple[Tensor, ...]) -> Tensor:
    """Return the variance of each element over the k contributions (divisor k), [n]."""
    count = float(len(taus))
    mean = weighted_sum(taus, [_ALIKE] * len(taus)) / count
    return weighted_sum([(tau - mean).square() for tau in taus], [_ALIKE] * len(taus)) / count


class Energies:
    """What `sce` must see first: where contributions differ most, then how much each moves there."""

    def __init__(self, group: Group, density: Fraction) -> None:
        group.unweighted("sce")
        self._count = group.count
        self._sizes = {name: math.prod(shape) for name, shape in group.tensors}
        self._varied = dict.fromkeys(self._sizes, 0)
        self._selection = None
        self._pending = []
        if density < 1:
            self._selection = Trim(
                group.select([0]),
                Extent(group, "tensor"),
                count=lambda tile: math.floor(density * self._varied[tile.tensor]),
            )
            self._pending = [self._count_varied, self._select]
        self._dots: list[LaneDot] = []
        self._means: dict[str, list[float]] = {}

    def feed(self, tile: Tile) -> None:
        """Take one tile into account."""
        if self._pending:
            self._pending[0](tile)
            return
        if tile.start == 0:
            self._dots = [LaneDot() for _ in range(self._count)]
        for dot, tau in zip(self._dots, self(tile), strict=True):
            dot.feed(tau, tau, tile.start)
        if tile.stop == self._sizes[tile.tensor]:
            self._means[tile.tensor] = [dot.result() / tile.stop for dot in self._dots]

    def finish(self) -> bool:
        """End a pass; True when the selection and the weights are known."""
        if not self._pending:
            return True
        if len(self._pending) > 1 or self._selection is None or self._selection.finish():
            self._pending.pop(0)
        return False

    def __call__(self, tile: Tile) -> list[Tensor]:
        """Return the k differences where they are selected, +0 elsewhere."""
        if self._selection is None:
            return list(tile.deltas)
        (mask,) = self._selection.masks(tile, [spread(tile.deltas)])
        return [masked(tau, mask) for tau in tile.deltas]

    def weights(self, tensor: str) -> list[float]:
        """Return each contribution's share of the squares; equal shares if these hardly sum to anything."""
        means = self._means[tensor]
        total = math.fsum(means)
        return [1 / self._count if total < _NOTHING else mean / total for mean in means]

    def _count_varied(self, tile: Tile) -> None:
        self._varied[tile.tensor] += int(spread(tile.deltas).count_nonzero())

    def _select(self, tile: Tile) -> None:
        if self._selection is not None:
            self._selection.feed(tile, [spread(tile.deltas)])


def energies(group: Group, *, density: Fraction) -> Energies:
    """Return what `sce` must see first."""
    return Energies(group, density)


@strategy(
    "sce",
    version=1,
    source="Wan et al. 2024 (FuseChat), arXiv:2408.07990; mergekit `sce`",
    parameters=[
        Number(
            "density",
            "1",
            "fraction of the elements that vary that is selected; 1: all",
            above="0",
            maximum="1",
        )
    ],
    needs_base=True,
    weighted=False,
    survey=energies,
)
def sce(tile: Tile, survey: Energies, *, density: Fraction) -> Elements:
    """SCE: select where contributions differ most, weigh them by their squares, erase minority signs.

    With ``τᵢ = θᵢ - θ₀``, for each tensor:

    1. select: of the elements whose variance over the contributions is not 0, the ``density`` of largest
       variance; the rest is +0;
    2. calculate: ``wᵢ = mean τᵢ² / Σⱼ mean τⱼ²`` over the tensor, 1/k if the divisor is below 10⁻⁶;
    3. erase: of the sign of ``Σ τᵢ``, + where that is 0, only those that agree stay;
    4. ``θ = θ₀ + Σ wᵢ τᵢ / max(Σ wᵢ, 10⁻⁶)`` over those that agree.

    [n] float64 throughout. One contribution gives itself up to rounding.

    Determinism: of equal variances the lower flat index is selected; mean squares are lane sums, their total
    is rounded once; sums over contributions run in canonical order.

    Raises:
        ParameterError: if weights differ: the method finds its own.

    Source: Wan et al. 2024, section 3.3; mergekit `sce`, where density is ``select_topk``. No deviation.
    """
    taus = survey(tile)
    alike = [_ALIKE] * tile.count
    masks = agreement(taus, alike, elected(taus, alike))
    weights = [Fraction(weight) for weight in survey.weights(tile.tensor)]
    agreeing = [masked(tau, mask) for tau, mask in zip(taus, masks, strict=True)]
    divisor = weighted_sum(masks, weights)
    merged = weighted_sum(agreeing, weights) / maximum(divisor, divisor * 0.0 + _NOTHING)
    return onto(tile, positive_zero(merged), _ALIKE)
