"""Methods that drop elements at random and match what is left to what was there.

Where DARE divides by the probability of staying, these either let that probability grow with an element's
magnitude in its row, or restore each tensor's L1 norm as mergekit does:

    delta ──► keep probability: one, or by rank ──► draw ──► rescale ──► elected mean, or sum ──► onto the
    base

Elections here go to plus where a sum is 0. What is dropped becomes +0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Final

from crdtmerge.arith import Dropped, Elements, Tensor, WeightedSum, decoded, draw, masked, nearest
from crdtmerge.errors import ParameterError
from crdtmerge.strategy import Choice, Flag, Group, Number, Tile, strategy

from .parts.consensus import cancel, disjoint, pending_mean
from .parts.mask import bernoulli
from .parts.norms import NormRatios
from .parts.rows import ascending, columns, rows
from .parts.scale import onto

_DENSITY: Final = Number("density", "0.7", "probability with which an element stays", above="0", maximum="1")
_EPSILON: Final = Number(
    "epsilon",
    "0.07",
    "how far that probability lies lower for the smallest, higher for the largest",
    minimum="0",
)
_SCALE: Final = Number("scale", "1", "λ, by which the merged difference is multiplied")
_DIVIDE: Final = "divide by the sum of the weights"
_WORDS: Final = 2.0**32


def probabilities(tile: Tile, density: Fraction, epsilon: Fraction) -> list[Tensor]:
    """Return k times [n]: the probability of staying, by the rank of an element's magnitude in its row.

    Rank r of n elements, ascending from 0, has ``(density - ε) + r · (2ε / (n - 1))``, one product and one
    sum; an element alone has the density, and a density of 1 keeps everything.
    """
    alone = columns(tile) == 1
    low = nearest(density if alone or density == 1 else density - epsilon)
    step = nearest(Fraction(0) if alone or density == 1 else 2 * epsilon / (columns(tile) - 1))
    return [(ascending(rows(tile, tau)) * step + low).reshape(-1) for tau in tile.deltas]


def ranked(tile: Tile, chances: list[Tensor]) -> list[Tensor]:
    """Return k masks: 1.0 where a contribution's word is less than ``⌊chance · 2³²⌋``, else 0.0."""
    count = tile.stop - tile.start
    return [
        (draw.words(key, tile.start, count) < (chance * _WORDS).floor()).double()
        for key, chance in zip(tile.keys, chances, strict=True)
    ]


def pruned(tile: Tile, density: Fraction, epsilon: Fraction, rescale: str) -> list[Tensor]:
    """Return the k differences, +0 where dropped; with ``inv_prob`` divided by their probabilities."""
    chances = probabilities(tile, density, epsilon)
    left = [masked(x, mask) for x, mask in zip(tile.deltas, ranked(tile, chances), strict=True)]
    if rescale == "inv_prob":
        return [x / chance for x, chance in zip(left, chances, strict=True)]
    return left


class Restored:
    """Norms of each difference and of what `left` makes of it, to be restored.

    Args:
        group: what is merged.
        left: from a tile to its k differences with some elements dropped.
    """

    def __init__(self, group: Group, left: Callable[[Tile], list[Tensor]]) -> None:
        self._left, self._ratios = left, NormRatios(group)

    def feed(self, tile: Tile) -> None:
        """Take one tile into account."""
        self._ratios.feed(tile, tile.deltas, self._left(tile))

    def finish(self) -> bool:
        """One pass suffices."""
        return self._ratios.finish()

    def __call__(self, tile: Tile) -> list[Tensor]:
        """Return what is left of the k differences, with the norms that they had."""
        return self._ratios(tile, self._left(tile))


def prune(
    group: Group, *, density: Fraction, epsilon: Fraction, scale: Fraction, normalize: bool, rescale: str
) -> Restored | None:
    """Return what `della` and `della_linear` must see first: norms, if these are to be restored.

    Raises:
        ParameterError: if a probability would lie outside of (0, 1].
    """
    if density < 1 and not epsilon < density <= 1 - epsilon:
        raise ParameterError(
            f"density must be more than epsilon and at most 1 - epsilon, got {density} and {epsilon}"
        )
    if rescale != "l1":
        return None
    return Restored(group, lambda tile: pruned(tile, density, epsilon, rescale))


@strategy(
    "della",
    version=1,
    source="Deep, Bhardwaj and Poria 2024, arXiv:2406.11617",
    parameters=[
        _DENSITY,
        _EPSILON,
        _SCALE,
        Flag("normalize", True, _DIVIDE + " of those that agree"),
        Choice("rescale", ("inv_prob", "l1", "none"), "divide by each probability, or restore L1 norms"),
    ],
    needs_base=True,
    draws=True,
    scope="row",
    survey=prune,
)
def della(
    tile: Tile,
    survey: Restored | None,
    *,
    density: Fraction,
    epsilon: Fraction,
    scale: Fraction,
    normalize: bool,
    rescale: str,
) -> Elements:
    """DELLA: drop at random, small elements of a row more often, then elect a sign and merge what agrees.

    With ``τᵢ = θᵢ - θ₀`` and r the ascending rank of ``|τᵢ|`` in its row of n elements (the last dimension;
    a vector is one row):

    1. keep with probability ``q = ρ - ε + 2ε r / (n - 1)``, ρ the ``density`` (n = 1: ρ); what stays is
       divided by *its own* q (``inv_prob``), or the tensor is multiplied so that its ``Σ |τᵢ|`` is what it
       was (``l1``, 1 if a norm is below 10⁻⁷), or stays as it is (``none``);
    2. elect ``γ = sgn Σ wᵢ τ̃ᵢ``, + where that is 0;
    3. merge over the i with ``sgn(wᵢ τ̃ᵢ) = γ``: ``Σ wᵢ τ̃ᵢ / Σ wᵢ``, without ``normalize`` the sum;
    4. ``θ = θ₀ + λ τ``, λ the parameter ``scale``.

    A density of 1 keeps everything, whatever ε is. [n] float64 throughout.

    Determinism: of equal magnitudes the lower index has the lower rank; q is one product and one sum of the
    floats nearest to ``ρ - ε`` and ``2ε / (n - 1)``; element j is kept iff the j-th 32-bit word of the
    contribution's stream is below ``⌊q · 2³²⌋``. Norms are lane sums; sums over contributions run in
    canonical order.

    Raises:
        ParameterError: if not ``0 < ρ - ε`` and ``ρ + ε <= 1``.

    Source: Deep, Bhardwaj and Poria 2024, section 3 (MagPrune); ρ, the window 2ε = 0.14 and ``inv_prob``
    from the authors' code, where λ is 1.1. mergekit's `della` is ``rescale=l1 normalize=false`` with ε =
    0.15.
    """
    values = survey(tile) if survey else pruned(tile, density, epsilon, rescale)
    return onto(tile, disjoint(values, tile.weights, 1, "mean" if normalize else "sum"), scale)


@strategy(
    "della_linear",
    version=1,
    source="mergekit `della_linear`; Deep, Bhardwaj and Poria 2024, arXiv:2406.11617",
    parameters=[
        _DENSITY,
        _EPSILON,
        _SCALE,
        Flag("normalize", False, _DIVIDE),
        Choice("rescale", ("l1", "inv_prob", "none"), "restore L1 norms, or divide by each probability"),
    ],
    needs_base=True,
    draws=True,
    scope="row",
    survey=prune,
)
def della_linear(
    tile: Tile,
    survey: Restored | None,
    *,
    density: Fraction,
    epsilon: Fraction,
    scale: Fraction,
    normalize: bool,
    rescale: str,
) -> Elements:
    """DELLA without election: drop at random by rank, restore each tensor's L1 norm, sum.

    ``θ = θ₀ + λ Σ wᵢ τ̃ᵢ`` with ``τ̃ᵢ`` as in `della`, here by default with ``rescale=l1``; with
    ``normalize`` divided by ``Σ wᵢ`` (by 1 if ``|Σ wᵢ| < 10⁻⁸``). [n] float64 throughout.

    Determinism: as `della`; one sum in canonical order, with ``normalize`` one division.

    Raises:
        ParameterError: as `della`.

    Source: mergekit `della_linear`; defaults of ρ and ε as in `della`.
    """
    values = survey(tile) if survey else pruned(tile, density, epsilon, rescale)
    return onto(tile, _summed(values, tile, normalize), scale)


def _summed(values: Sequence[Elements], tile: Tile, normalize: bool) -> Elements:
    normalizes = normalize and not cancel(tile.weights)
    return (pending_mean if normalizes else WeightedSum)(values, tile.weights)


def thinned(tile: Tile, density: Fraction) -> Sequence[Elements]:
    """Return the k differences, +0 where they are dropped, all with one probability."""
    masks = bernoulli(tile, density)
    return [Dropped(x, mask) for x, mask in zip(tile.changes, masks, strict=True)]


def thin(
    group: Group, *, density: Fraction, scale: Fraction, normalize: bool, rescale: bool
) -> Restored | None:
    """Return what `dare_linear` must see first: norms, if these are to be restored."""
    if not rescale or density == 1:
        return None
    return Restored(group, lambda tile: [decoded(x) for x in thinned(tile, density)])


@strategy(
    "dare_linear",
    version=1,
    source="mergekit `dare_linear`; Yu et al. 2024, arXiv:2311.03099",
    parameters=[
        Number("density", "0.1", "probability with which an element stays", minimum="0", maximum="1"),
        _SCALE,
        Flag("normalize", False, _DIVIDE),
        Flag("rescale", True, "restore each tensor's L1 norm"),
    ],
    needs_base=True,
    draws=True,
    survey=thin,
)
def dare_linear(
    tile: Tile,
    survey: Restored | None,
    *,
    density: Fraction,
    scale: Fraction,
    normalize: bool,
    rescale: bool,
) -> Elements:
    """DARE as mergekit has it: drop at random, restore each tensor's L1 norm, sum.

    ``mᵢ ~ Bernoulli(ρ)``, ρ the ``density``; ``τ̃ᵢ = mᵢ ⊙ τᵢ · (Σ |τᵢ| / Σ |mᵢ ⊙ τᵢ|)`` with sums over the
    tensor, not rescaled if either is below 10⁻⁷; ``θ = θ₀ + λ Σ wᵢ τ̃ᵢ``, with ``normalize`` divided by
    ``Σ wᵢ`` (by 1 if ``|Σ wᵢ| < 10⁻⁸``). [n] float64 throughout. Biased, unlike `dare`: norms are restored,
    not expectations.

    Determinism: draws as in `dare`; norms are lane sums, their ratio one division, rescaling one product;
    one sum over contributions in canonical order.

    Source: mergekit `dare_linear`, which drops nothing by default; ρ = 0.1 is DARE's usual p = 0.9.
    """
    return onto(tile, _summed(survey(tile) if survey else thinned(tile, density), tile, normalize), scale)
