"""Averages in which every element counts by how much its contribution's data asked for it.

    θ = Σ cᵢ Fᵢ ⊙ θᵢ / Σ cᵢ Fᵢ         F: the diagonal of the Fisher information

A flat direction of one contribution yields to a steep one of another. The evidence is the author's claim: it
is brought to the same size for everybody before it weighs, so that a claim of certainty about everything
moves nothing more than a modest one. Within that size, an author can still stake all on a few elements.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

from crdtmerge.arith import Tensor, maximum, nearest, scalar, weighted_sum
from crdtmerge.strategy import Choice, Flag, Group, Number, Text, Tile, strategy

from .parts.consensus import mean, proportions, require_shares
from .parts.members import named
from .parts.testimony import MISSING, speaking
from .parts.totals import Totals


class Fisher:
    """What `fisher_merge` must know first: the length of every member's Fisher information."""

    def __init__(self, group: Group, *, normalize: bool, missing: str) -> None:
        require_shares("fisher_merge", group)
        self._weights, self._normalize, self._missing = proportions(group.weights), normalize, missing
        self._squares = Totals(group, lambda fisher: fisher * fisher)
        self._factors: list[Fraction] = []
        self._constant = 0.0

    def feed(self, tile: Tile) -> None:
        """Take one tile into account."""
        said = tile.evidence["fisher.diag"]
        speaking(tile, said, "fisher.diag", self._missing)
        if tile.count > 1:
            self._squares.feed(tile, said)

    def finish(self) -> bool:
        """One pass suffices."""
        self._squares.finish()
        lengths = [scalar.sqrt(square) for square in self._squares.sums]
        self._factors = list(self._weights)
        if self._normalize:
            self._factors = [w / Fraction(n) if n else w for w, n in zip(self._weights, lengths, strict=True)]
        known = [n for n in lengths if n]
        if known:
            typical = 1.0 if self._normalize else math.fsum(known) / len(known)
            self._constant = typical / scalar.sqrt(float(self._squares.elements))
        return True

    def precisions(self, tile: Tile, floored: Callable[[int, Tensor], Tensor]) -> dict[int, Tensor]:
        """Return the precisions of those members that take part in a tile, by index."""
        said = tile.evidence["fisher.diag"]
        found = speaking(tile, said, "fisher.diag", self._missing)
        if not found:
            return {}
        weighed = {
            i: weighted_sum([floored(i, f)], [self._factors[i]]) for i, f in enumerate(said) if f is not None
        }
        if self._missing == "neutral":
            for i in set(range(tile.count)) - set(found):
                weighed[i] = tile.given[i] * 0.0 + self._constant * nearest(self._weights[i])
        return dict(sorted(weighed.items()))


def survey_of_fisher(
    group: Group, *, normalize: bool, floor: Fraction, favor: str, missing: str, compat: str
) -> Fisher:
    """Return what `fisher_merge` must know first.

    Raises:
        ParameterError: if ``favor`` names no member, or several.
    """
    if favor != "none":
        named(group, favor, "favor")
    return Fisher(group, normalize=normalize, missing=missing)


@strategy(
    "fisher_merge",
    version=1,
    source="Matena and Raffel 2022, arXiv:2111.09832",
    parameters=[
        Flag("normalize", True, "divide each Fisher information by its length over all tensors"),
        Number("floor", "0.000001", "least Fisher information of an element", minimum="0"),
        Text(
            "favor", "none", "label or digest of the one contribution whose Fisher is floored; none: all are"
        ),
        MISSING,
        Choice("compat", ("none", "fusion_bench"), "fusion_bench: the floor is added, instead of a maximum"),
    ],
    evidence=["fisher.diag"],
    alone_is_itself=True,
    survey=survey_of_fisher,
)
def fisher_merge(
    tile: Tile, survey: Fisher, *, normalize: bool, floor: Fraction, favor: str, missing: str, compat: str
) -> Tensor:
    """Fisher merging: an average in which every element counts as much as its contribution knows of it.

    ``θ = Σ cᵢ F̂ᵢ θᵢ / Σ cᵢ F̂ᵢ`` with ``F̂ᵢ = max(Fᵢ, floor)`` and ``cᵢ = wᵢ / ‖Fᵢ‖₂``, the length taken over
    all tensors of the group (``cᵢ = wᵢ`` without ``normalize``, or if the length is 0). Where the divisor is
    0, and for tensors about which fewer than half of the members speak, the weighted mean stands. Who says
    nothing about another tensor is an error, or does not take part in it (``exclude``), or counts with a
    constant: the root mean square of the others' (``neutral``). [n] float64 throughout.

    Determinism: squares are summed per tensor as lane sums, these by a correctly rounded sum; cᵢ is the float
    nearest to the exact quotient of a whole-number weight and the float length; products, then sums in
    canonical order, then one division. A contribution alone comes out to the bit.

    Raises:
        ParameterError: if a weight is negative or all are 0; if ``favor`` names no or several members; if
            some members lack Fisher information of a tensor, unless ``missing`` says otherwise.

    Source: Matena and Raffel 2022, section 3; maximum and length from the authors' code, whose default of
    flooring the target alone is ``favor`` here, since a set of contributions has no first. fusion_bench adds
    the floor. Evidence is a mean of squares over examples, never the square of a batch's sum.
    """
    if tile.count == 1:
        return tile.models[0]
    chosen = None if favor == "none" else named(tile.group, favor, "favor")
    least = nearest(floor)

    def floored(i: int, fisher: Tensor) -> Tensor:
        if chosen not in (None, i):
            return fisher
        return fisher + least if compat == "fusion_bench" else maximum(fisher, fisher * 0.0 + least)

    precisions = survey.precisions(tile, floored)
    average = mean(tile.models, tile.weights)
    if not precisions:
        return average
    parts = list(precisions.values())
    ones = [Fraction(1)] * len(parts)
    divisor = weighted_sum(parts, ones)
    total = weighted_sum([p * tile.models[i] for i, p in precisions.items()], ones)
    unknown = (divisor == 0).double()
    return total / (divisor + unknown) + average * unknown if unknown.any() else total / divisor
