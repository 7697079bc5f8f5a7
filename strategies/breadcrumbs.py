"""Methods that keep the middle: neither the smallest differences, which are noise, nor the largest, outliers.

    |τ| ascending    ├── dropped ──┼────── kept ──────┼─ γ: dropped ─┤

The original ranks within rows and keeps a small fraction below the outliers; mergekit ranks the whole tensor.
What is dropped becomes +0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Final

from crdtmerge.arith import Elements, WeightedSum, masked, mirrored
from crdtmerge.strategy import Flag, Group, Number, Tile, strategy

from .parts.consensus import cancel, disjoint, pending_mean
from .parts.delta import Extent
from .parts.mask import Trim
from .parts.rows import columns, descending, rows
from .parts.scale import onto


@strategy(
    "model_breadcrumbs",
    version=1,
    source="Davari and Belilovsky 2024, arXiv:2312.06795",
    parameters=[
        Number("density", "0.15", "β, the fraction of each row that is kept", minimum="0", maximum="1"),
        Number("gamma", "0.006", "γ, the fraction dropped first: the largest", minimum="0", maximum="1"),
        Number("scale", "0.2", "α, by which the sum of differences is multiplied"),
    ],
    needs_base=True,
    scope="row",
)
def model_breadcrumbs(tile: Tile, *, density: Fraction, gamma: Fraction, scale: Fraction) -> Elements:
    """Model breadcrumbs: of each row, drop the outliers, keep the largest of the rest, sum.

    With ``τᵢ = θᵢ - θ₀``, in every row of n elements (the last dimension; a vector is one row): the ``⌊γ n⌋``
    elements of largest ``|τᵢ|`` are dropped, the next ``⌊β n⌋`` are kept, the rest is dropped. A scalar is
    kept. ``θ = θ₀ + α Σ wᵢ τ̂ᵢ``, α the parameter ``scale``. [n] float64 throughout.

    Determinism: elements are ranked by (-|τ|, index); fractions are exact rationals; one sum in canonical
    order, one product by the float nearest to α, one sum with the base.

    Source: Davari and Belilovsky 2024, section 3, by rows as the authors' code has it (the paper ranks by
    layer; for whole tensors see `breadcrumbs`). Of equal magnitudes the first counts as the larger, which
    the code leaves open.
    """
    n = columns(tile)
    outliers, kept = math.floor(gamma * n), math.floor(density * n)
    values = []
    for tau in tile.deltas:
        place = descending(rows(tile, tau)).reshape(-1)
        middle = (place >= outliers) & (place < outliers + kept)
        values.append(masked(tau, middle.double()) if tile.shape else tau)
    return onto(tile, WeightedSum(values, tile.weights), scale)


class Middle:
    """What `breadcrumbs` must see first: the two cuts between which elements stay."""

    def __init__(self, group: Group, density: Fraction, gamma: Fraction) -> None:
        extent = Extent(group, "tensor")

        def high(tile: Tile) -> int:
            size = extent.size(tile)
            return max(size - math.floor(gamma * size), math.floor(density * size))

        def low(tile: Tile) -> int:
            return high(tile) - math.floor(density * extent.size(tile))

        self._cuts = [Trim(group, extent, count=end) for end in (high, low)]

    def feed(self, tile: Tile) -> None:
        """Take one tile into account."""
        smallest_first = [mirrored(tau) for tau in tile.deltas]
        for cut in self._cuts:
            cut.feed(tile, smallest_first)

    def finish(self) -> bool:
        """End a pass; True when the cuts are known."""
        known = [cut.finish() for cut in self._cuts]  # each of them has to end its pass
        return all(known)

    def __call__(self, tile: Tile) -> Sequence[Elements]:
        """Return the k differences, +0 where they are dropped."""
        smallest_first = [mirrored(tau) for tau in tile.deltas]
        high, low = (cut.masks(tile, smallest_first) for cut in self._cuts)
        return [masked(tau, upper - lower) for tau, upper, lower in zip(tile.deltas, high, low, strict=True)]


def middle(
    group: Group, *, density: Fraction, gamma: Fraction, scale: Fraction, normalize: bool
) -> Middle | None:
    """Return what `breadcrumbs` and `breadcrumbs_ties` must see first, unless they keep everything."""
    return None if density == 1 else Middle(group, density, gamma)


_PARAMETERS: Final = (
    Number(
        "density", "1", "ρ, the fraction of each tensor that is kept; 1 drops nothing", above="0", maximum="1"
    ),
    Number("gamma", "0.01", "γ, the fraction dropped as too large", minimum="0", maximum="1"),
    Number("scale", "1", "λ, by which the merged difference is multiplied"),
    Flag("normalize", False, "divide by the sum of the weights that take part"),
)


@strategy(
    "breadcrumbs",
    version=1,
    source="mergekit `breadcrumbs`; Davari and Belilovsky 2024, arXiv:2312.06795",
    parameters=_PARAMETERS,
    needs_base=True,
    survey=middle,
)
def breadcrumbs(
    tile: Tile, survey: Middle | None, *, density: Fraction, gamma: Fraction, scale: Fraction, normalize: bool
) -> Elements:
    """Breadcrumbs as mergekit has them: of each tensor, drop the largest and the smallest differences, sum.

    Of a tensor's n elements in ascending order of ``|τᵢ|``, the last ``⌊γ n⌋`` are dropped, the ``⌊ρ n⌋``
    before them are kept, the rest is dropped; where both are more than n, fewer are dropped as too large.
    ρ = 1, the default, keeps everything whatever γ is. ``θ = θ₀ + λ Σ wᵢ τ̂ᵢ``, with ``normalize`` divided by
    ``Σ wᵢ`` (by 1 if ``|Σ wᵢ| < 10⁻⁸``). [n] float64 throughout.

    Determinism: elements are ranked by (|τ|, flat index), so that of equal magnitudes the last are dropped as
    too large and the first as too small; fractions are exact rationals; one sum in canonical order.

    Source: mergekit `breadcrumbs`, whose stable sort is this order. Deviation: where ``⌊γ n⌋ = 0`` mergekit
    drops the whole difference, here nothing is too large.
    """
    values = survey(tile) if survey else tile.changes
    normalizes = normalize and not cancel(tile.weights)
    return onto(tile, (pending_mean if normalizes else WeightedSum)(values, tile.weights), scale)


@strategy(
    "breadcrumbs_ties",
    version=1,
    source="mergekit `breadcrumbs_ties`; Davari and Belilovsky 2024, arXiv:2312.06795",
    parameters=_PARAMETERS,
    needs_base=True,
    survey=middle,
)
def breadcrumbs_ties(
    tile: Tile, survey: Middle | None, *, density: Fraction, gamma: Fraction, scale: Fraction, normalize: bool
) -> Elements:
    """Breadcrumbs with an elected sign: keep the middle of each tensor, merge what agrees.

    ``τ̂ᵢ`` as in `breadcrumbs`; ``γ = sgn Σ wᵢ τ̂ᵢ``, + where that is 0; over the i with ``sgn(wᵢ τ̂ᵢ) = γ``
    the sum ``Σ wᵢ τ̂ᵢ``, with ``normalize`` divided by their ``Σ wᵢ`` (a divisor of 0 counts as 1);
    ``θ = θ₀ + λ τ``. [n] float64 throughout.

    Determinism: as `breadcrumbs`; elections and divisors as in `ties`.

    Source: mergekit `breadcrumbs_ties`; deviation as in `breadcrumbs`.
    """
    values = survey(tile) if survey else tile.changes
    return onto(tile, disjoint(values, tile.weights, 1, "mean" if normalize else "sum"), scale)
