"""Grafting: only what an optimizer worked on is taken over, and by how hard it had to work.

Adam's second moment v is the mean square of a gradient, at no cost to whoever trained with it. Where v·τ² is
small, moving by τ changed the loss little: such elements return to the base. The rest is averaged with √v,
the curvature that Adam itself steps by.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from crdtmerge.arith import Elements, Tensor, lane_sum, masked, nearest, sqrt, weighted_sum
from crdtmerge.strategy import Choice, Group, Number, Tile, strategy

from .parts.consensus import mean, proportions, require_shares
from .parts.delta import Extent
from .parts.mask import Trim
from .parts.scale import onto
from .parts.testimony import speaking
from .parts.totals import Totals


def _second_moments(tile: Tile) -> list[Tensor | None]:
    """Return k times Adam's second moment of the tile, whole or as the product of its sums."""
    kinds = ("adam.v", "adam.v.row", "adam.v.col")
    return [
        v if v is not None else _outer(tile, row, column)
        for v, row, column in zip(*(tile.evidence[kind] for kind in kinds), strict=True)
    ]


def _outer(tile: Tile, row: Tensor | None, column: Tensor | None) -> Tensor | None:
    """Return elements of ``r cᵀ / Σ r``; 0 if the sum is 0."""
    if row is None or column is None or len(tile.shape) != 2:
        return None
    columns, total = tile.shape[1], lane_sum(row)
    first, last = tile.start // columns, -(-tile.stop // columns)
    product = row[first:last].reshape(-1, 1) * column.reshape(1, -1)
    product = product.reshape(-1)[tile.start - first * columns : tile.stop - first * columns]
    return product / total if total else product * 0.0


class Grafting:
    """What `ota_merge` must know first: where each member's graft ends, and how large its moments are."""

    def __init__(
        self, group: Group, *, power: str, normalize: str, density: Fraction | None, scope: str, missing: str
    ) -> None:
        require_shares("ota_merge", group)
        self.power = sqrt if power == "0.5" else lambda v: v
        self._weights, self._normalize, self._missing = proportions(group.weights), normalize, missing
        self._sizes = Totals(group, self.power)
        self._trim = None if density is None else Trim(group, Extent(group, scope), density)
        self._summed = False
        self.factors: list[Fraction] = []

    def feed(self, tile: Tile) -> None:
        """Take one tile into account."""
        said = _second_moments(tile)
        speaking(tile, said, "adam.v", self._missing)
        if not self._summed:
            self._sizes.feed(tile, said)
        if self._trim is not None:
            self._trim.feed(tile, scores(tile, said))

    def finish(self) -> bool:
        """End a pass; True when the grafts are known."""
        if not self._summed:
            self._summed = self._sizes.finish()
            means = [total / max(self._sizes.elements, 1) for total in self._sizes.sums]
            self.factors = [
                w / Fraction(m) if m and self._normalize == "global" else w
                for w, m in zip(self._weights, means, strict=True)
            ]
        return self._trim is None or self._trim.finish()

    def masks(self, tile: Tile, values: Sequence[Tensor], threshold: Fraction | None) -> list[Tensor]:
        """Return the k grafts: 1.0 where a score is large enough."""
        if threshold is not None:
            return [(score >= nearest(threshold)).double() for score in values]
        return (
            [score * 0.0 + 1.0 for score in values] if self._trim is None else self._trim.masks(tile, values)
        )


def scores(tile: Tile, moments: Sequence[Tensor | None]) -> list[Tensor]:
    """Return k times ``v τ²``; 0 of a member that says nothing."""
    return [tau * 0.0 if v is None else v * (tau * tau) for v, tau in zip(moments, tile.deltas, strict=True)]


def survey_of_ota(
    group: Group,
    *,
    power: str,
    density: Fraction,
    threshold: Fraction | None,
    scope: str,
    normalize: str,
    epsilon: Fraction,
    fallback: str,
    missing: str,
) -> Grafting:
    """Return what `ota_merge` must know first."""
    ranked = None if threshold is not None or density == 1 else density
    return Grafting(group, power=power, normalize=normalize, density=ranked, scope=scope, missing=missing)


@strategy(
    "ota_merge",
    version=1,
    source="OTA merging with Fast Fisher Grafting, arXiv:2509.11167, and its published code",
    parameters=[
        Choice("power", ("0.5", "1"), "of the second moment, by which elements weigh"),
        Number("density", "0.4", "fraction of every difference that is grafted", above="0", maximum="1"),
        Number("threshold", None, "graft where v·τ² is at least this, in place of density", minimum="0"),
        Choice("scope", ("global", "tensor"), "rank over all tensors as one vector, or over each by itself"),
        Choice("normalize", ("global", "none"), "divide each member's powers by their mean, or do not"),
        Number("epsilon", "0.00000000000000000000000001", "added to every weight", minimum="0"),
        Choice("fallback", ("base", "mean"), "what stands where no member is grafted"),
        Choice("missing", ("error", "exclude"), "contributions without evidence are an error, or left out"),
    ],
    needs_base=True,
    evidence=["adam.v|adam.v.row"],
    optional_evidence=["adam.v.col"],
    survey=survey_of_ota,
)
def ota_merge(
    tile: Tile,
    survey: Grafting,
    *,
    power: str,
    density: Fraction,
    threshold: Fraction | None,
    scope: str,
    normalize: str,
    epsilon: Fraction,
    fallback: str,
    missing: str,
) -> Elements:
    """OTA merging: graft what Adam's second moment says mattered, weighted by its root.

    With ``v`` Adam's second moment (``r cᵀ / Σ r`` where only row and column sums are brought):

    1. graft: ``mᵢ = 1`` on the ``⌊density · D⌋`` elements of largest ``vᵢ τᵢ²``, or where that is at least
       ``threshold``;
    2. ``gᵢ = (cᵢ vᵢ^power + epsilon) mᵢ``, ``cᵢ = wᵢ`` divided by the mean of ``vᵢ^power`` over all tensors
       about which anybody speaks;
    3. ``θ = θ₀ + Σ gᵢ τᵢ / Σ gᵢ``; where all ``gᵢ`` are 0 the base stands, or base plus the mean of τ.

    Tensors about which fewer than half of the members speak move by the weighted mean of τ. [n] float64
    throughout.

    Determinism: of equal scores at the cut the lower flat index is grafted; means are lane sums of tensors,
    added by a correctly rounded sum; sums over contributions run in canonical order, then one division.

    Raises:
        ParameterError: if a weight is negative or all are 0; if some members lack moments of a tensor, unless
            ``missing=exclude``.

    Source: arXiv:2509.11167 after its code, where masks count only together with rescaling and a fully masked
    element is 0/0. Powers are brought to a mean of 1 by default, so that nobody's claims outweigh others';
    rescaling to the former operator norm is left out.
    """
    said = _second_moments(tile)
    found = speaking(tile, said, "adam.v", missing)
    average = mean(tile.changes, tile.weights)
    if not found:
        return onto(tile, average, Fraction(1))
    masks = survey.masks(tile, scores(tile, said), threshold)
    ones = [Fraction(1)] * len(found)
    weights = [
        masked(weighted_sum([survey.power(v)], [survey.factors[i]]) + nearest(epsilon), masks[i])
        for i, v in enumerate(said)
        if v is not None
    ]
    divisor = weighted_sum(weights, ones)
    total = weighted_sum([g * tile.deltas[i] for g, i in zip(weights, found, strict=True)], ones)
    nowhere = (divisor == 0).double()
    moved = total / (divisor + nowhere)
    return onto(tile, moved + average * nowhere if fallback == "mean" else moved, Fraction(1))
