"""EMR-Merging: elect, mask, rescale. One unified difference, and what leads from it back to each task.

    τuni  one difference for all         Mᵢ  which of its elements task i takes         λᵢ  how long they are

The unified model needs no pass over the data; a task's model needs the two L1 norms behind λᵢ.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from functools import reduce
from typing import Final

from crdtmerge.arith import Elements, LaneSum, Tensor, masked, maximum, positive_zero, weighted_sum
from crdtmerge.strategy import Choice, Group, Text, Tile, strategy

from .parts.delta import Extent
from .parts.members import named
from .parts.scale import onto

UNIFIED: Final = "unified"
_ALIKE: Final = Fraction(1)


def elect(taus: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Return the unified difference, [n], and the k masks of what has its sign."""
    total = weighted_sum(taus, [_ALIKE] * len(taus))
    gamma = (total > 0).double() * 2.0 - 1.0
    masks = [(tau * gamma > 0).double() for tau in taus]
    sizes = [masked(tau.abs(), mask) for tau, mask in zip(taus, masks, strict=True)]
    return positive_zero(reduce(maximum, sizes) * gamma), masks


class Length:
    """λ of one member: its L1 norm over that of what it takes of the unified difference.

    Args:
        group: what is merged.
        member: its index.
        by_tensor: sum the means of tensors, not their elements.
    """

    def __init__(self, group: Group, member: int, *, by_tensor: bool) -> None:
        self.member, self._by_tensor = member, by_tensor
        self._extent = Extent(group, "tensor" if by_tensor else "global")
        self._begin()
        self._own: list[float] = []
        self._taken: list[float] = []

    def feed(self, tile: Tile) -> None:
        """Take one tile into account."""
        start = self._extent.start(tile)
        unified, masks = elect(tile.deltas)
        self._sums[0].feed(tile.deltas[self.member].abs(), start)
        self._sums[1].feed(masked(unified, masks[self.member]).abs(), start)
        if self._extent.ends(tile):
            count = self._extent.size(tile) if self._by_tensor else 1
            self._own.append(self._sums[0].result() / count)
            self._taken.append(self._sums[1].result() / count)
            self._begin()

    def finish(self) -> bool:
        """One pass suffices."""
        return True

    @property
    def factor(self) -> float:
        """λ; 1 if nothing is taken."""
        own, taken = math.fsum(self._own), math.fsum(self._taken)
        return own / taken if taken else 1.0

    def _begin(self) -> None:
        self._sums = LaneSum(), LaneSum()


def length(group: Group, *, emit: str, compat: str) -> Length | None:
    """Return what `emr` must see first, if the model of one task is asked for."""
    group.unweighted("emr")
    if emit == UNIFIED:
        return None
    return Length(group, named(group, emit, "emit"), by_tensor=compat == "fusion_bench")


@strategy(
    "emr",
    version=1,
    source="Huang et al. 2024, arXiv:2405.17461",
    parameters=[
        Text(
            "emit", UNIFIED, "unified, or the task's model to give: a label, or the first digits of a digest"
        ),
        Choice(
            "compat", ("none", "fusion_bench"), "fusion_bench: λ of sums over tensors of per-tensor means"
        ),
    ],
    needs_base=True,
    weighted=False,
    survey=length,
)
def emr(tile: Tile, survey: Length | None, *, emit: str, compat: str) -> Elements:
    """EMR-Merging: the elected, largest difference; or one task's mask and multiple of it.

    With ``τᵢ = θᵢ - θ₀``: ``γ = +1`` where ``Σ τᵢ > 0``, else -1; ``τuni = γ · max |τᵢ|`` over the i with
    ``τᵢ γ > 0`` (+0 if there are none); ``Mᵢ = [τᵢ γ > 0]``; ``λᵢ = Σ |τᵢ| / Σ |Mᵢ ⊙ τuni|`` with sums over
    all tensors of the group, 1 if the divisor is 0.

    * ``emit=unified``: ``θ = θ₀ + τuni``, one model for all tasks;
    * else: ``θ = θ₀ + λᵢ · Mᵢ ⊙ τuni`` for the member i that is named.

    [n] float64 throughout. One contribution gives itself up to rounding.

    Determinism: ``Σ τᵢ`` in canonical order, L1 norms as lane sums over all tensors by name, one division.
    With ``compat=fusion_bench`` each tensor's norms are divided by its size and summed with one rounding.

    Raises:
        ParameterError: if weights differ; if ``emit`` names no member, or several.

    Source: Huang et al. 2024, section 3.2. The authors' code has both forms of λ, and divides by 0 where a
    task agrees nowhere.
    """
    unified, masks = elect(tile.deltas)
    if survey is None:
        return onto(tile, unified, _ALIKE)
    return onto(tile, masked(unified, masks[survey.member]) * survey.factor, _ALIKE)
