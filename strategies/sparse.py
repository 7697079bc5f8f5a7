"""Methods that drop most of every difference before contributions meet.

    delta ──► mask: random, or the largest ──► consensus: elected sign, or sum ──► scale ──► onto the base

Most of a fine-tune's difference is redundant: dropping it leaves a contribution nearly as good, and leaves
the contributions fewer elements to disagree about. Masking gives +0, so an element that every contribution
drops comes out as its base (and a base of -0 as +0).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Final

from crdtmerge.arith import Dropped, Elements, Tensor, WeightedSum, decoded, masked
from crdtmerge.errors import ParameterError
from crdtmerge.strategy import Choice, Flag, Group, Number, Tile, strategy

from .parts.consensus import Election, agreement, cancel, disjoint, pending_mean
from .parts.delta import Extent
from .parts.mask import Rates, Trim, bernoulli, each
from .parts.scale import onto

ZERO: Final = Choice(
    "zero",
    ("majority", "plus", "drop"),
    "the sign of an election that ends in 0: that of the majority of all signs, plus, or none",
)
SCOPE: Final = Choice(
    "scope", ("global", "tensor"), "rank and count over all tensors as one vector, or over each by itself"
)
P: Final = Number("p", "0.9", "probability with which an element is dropped", minimum="0", maximum="1")
RESCALE: Final = Flag("rescale", True, "divide what is kept by 1 - p, so that its expectation is unchanged")


class Ballot:
    """What TIES must see of all tiles first: where to trim, and then the majority of the elected signs.

    Args:
        group: what is merged.
        vectors: from a tile to its k vectors, before trimming.
        density: the fraction that trimming keeps; None does not trim.
        scope, zero: the parameters of those names.
        official: trim as the published code does.
    """

    def __init__(
        self,
        group: Group,
        vectors: Callable[[Tile], Sequence[Elements]],
        *,
        density: Rates | None,
        scope: str,
        zero: str,
        official: bool = False,
    ) -> None:
        extent = Extent(group, scope)
        self._vectors = vectors
        self._trim = None
        if density is not None and (min(each(density, group.count)) < 1 or official):
            self._trim = Trim(group, extent, density, official=official)
        self._election = Election(group, extent, zero)
        self._stages: list[Trim | Election] = [self._trim] if self._trim else []
        if zero == "majority":
            self._stages.append(self._election)

    def feed(self, tile: Tile) -> None:
        """Take one tile into account."""
        if self._stages:
            stage = self._stages[0]
            if isinstance(stage, Trim):
                stage.feed(tile, self._vectors(tile))
            else:
                stage.feed(tile, self._candidates(tile))

    def finish(self) -> bool:
        """End a pass; True when cuts and majorities are known."""
        if self._stages and self._stages[0].finish():
            self._stages.pop(0)
        return not self._stages

    def merge(self, tile: Tile, rule: str) -> Elements:
        """Return the tile's merged difference: trimmed, elected and merged by `disjoint`'s ``rule``."""
        return disjoint(self._candidates(tile), tile.weights, self._election.tie(tile), rule)

    def select(self, tile: Tile) -> list[Tensor]:
        """Return the k trimmed differences where they have the elected sign, and +0 elsewhere."""
        values = [decoded(x) for x in self._candidates(tile)]
        masks = agreement(values, tile.weights, self._election(tile, values))
        return [masked(x, mask) for x, mask in zip(values, masks, strict=True)]

    def _candidates(self, tile: Tile) -> Sequence[Elements]:
        values = self._vectors(tile)
        return values if self._trim is None else self._trim(tile, values)


def _deltas(tile: Tile) -> Sequence[Elements]:
    return tile.changes


def ballot_of_ties(
    group: Group,
    *,
    density: Fraction,
    scale: Fraction,
    merge_func: str,
    scope: str,
    zero: str,
    compat: str,
) -> Ballot:
    """Return what `ties` must see first."""
    official = compat == "official"
    return Ballot(group, _deltas, density=density, scope=scope, zero=zero, official=official)


@strategy(
    "ties",
    version=1,
    source="Yadav et al. 2023, arXiv:2306.01708",
    parameters=[
        Number("density", "0.2", "fraction of every difference that is kept", above="0", maximum="1"),
        Number("scale", "1", "λ, by which the merged difference is multiplied"),
        Choice("merge_func", ("mean", "sum", "max"), "how those that agree with the elected sign are merged"),
        SCOPE,
        ZERO,
        Choice("compat", ("none", "official"), "official: trim one element more, and all of equal magnitude"),
    ],
    needs_base=True,
    survey=ballot_of_ties,
)
def ties(
    tile: Tile,
    survey: Ballot,
    *,
    density: Fraction,
    scale: Fraction,
    merge_func: str,
    scope: str,
    zero: str,
    compat: str,
) -> Elements:
    """TIES: trim each difference, elect a sign per element, merge only what agrees with it.

    With ``τᵢ = θᵢ - θ₀`` and D elements in all tensors of the group:

    1. trim: ``τ̂ᵢ`` keeps the ``⌊density · D⌋`` elements of largest ``|τᵢ|`` and has +0 elsewhere;
    2. elect: ``γ = sgn Σ wᵢ τ̂ᵢ``, element by element, and ``zero`` says what it is where the sum is 0;
    3. merge over the i with ``sgn(wᵢ τ̂ᵢ) = γ``: ``mean`` ``Σ wᵢ τ̂ᵢ / Σ wᵢ`` (a divisor of 0 counts as 1),
       ``sum`` ``Σ wᵢ τ̂ᵢ``, or ``max`` the ``wᵢ τ̂ᵢ`` of largest magnitude; +0 where none agrees;
    4. ``θ = θ₀ + λ τ``, λ the parameter ``scale``.

    [n] float64 throughout. One contribution is trimmed as well. ``scope=tensor`` trims and counts every
    tensor by itself. A negative weight turns its contribution's vote and value round.

    Determinism: of equal magnitudes at the threshold the lower flat index stays, tensors ascending by name;
    density is an exact rational; sums over contributions run in canonical order, weights of elections and
    means as whole numbers in proportion; the majority of signs is an integer. Where rounding decides whether
    a sum of three or more contributions is exactly 0, the canonical order decides.

    Raises:
        ParameterError: if ``compat=official`` is to keep everything.

    Source: Yadav et al. 2023, section 3. The paper keeps density · D elements, its code one more and all ties
    (``compat=official``); the code's elections of a model that sums to 0 everywhere pick the negative
    elements, here +. ``sum`` is fusion_bench's default; ``scope=tensor zero=plus`` is mergekit's TIES.
    """
    return onto(tile, survey.merge(tile, merge_func), scale)


def staying(tile: Tile, p: Rates) -> list[Fraction]:
    """Return the probabilities ``1 - p`` with which elements of the k contributions stay."""
    return [1 - rate for rate in each(p, tile.count)]


def dropped(tile: Tile, masks: Sequence[Elements], p: Rates, rescale: bool) -> Sequence[Elements]:
    """Return the k differences where their masks are 1, divided by ``1 - p`` if wanted, and +0 elsewhere.

    So what is kept has its expectation again.
    """
    divisors = [s if rescale and s else Fraction(1) for s in staying(tile, p)]
    return [Dropped(*each) for each in zip(tile.changes, masks, divisors, strict=True)]


def dare_with(
    tile: Tile, masks: Sequence[Elements], *, p: Rates, rescale: bool, scale: Fraction | None
) -> Elements:
    """Return what `dare` returns if these are the masks that it drew."""
    values = dropped(tile, masks, p, rescale)
    if scale is not None:
        return onto(tile, WeightedSum(values, tile.weights), scale)
    if cancel(tile.weights):
        raise ParameterError("dare: the weights sum to 0, so there is no mean; choose a scale")
    return onto(tile, pending_mean(values, tile.weights), Fraction(1))


@strategy(
    "dare",
    version=1,
    source="Yu et al. 2024, arXiv:2311.03099",
    parameters=[
        P,
        RESCALE,
        Number("scale", None, "λ, by which the sum is multiplied; none: the weighted mean instead"),
    ],
    needs_base=True,
    draws=True,
)
def dare(tile: Tile, *, p: Fraction, rescale: bool, scale: Fraction | None) -> Elements:
    """DARE: drop elements of each difference at random, rescale the rest, average.

    ``mᵢ ~ Bernoulli(1 - p)`` for every element of every contribution, ``τ̃ᵢ = mᵢ ⊙ τᵢ / (1 - p)``,
    ``θ = θ₀ + λ Σ wᵢ τ̃ᵢ``. Without ``scale`` the sum becomes the mean ``Σ wᵢ τ̃ᵢ / Σ wᵢ``, which is λ = 1/k
    for equal weights and safe for any k. With p = 1 everything is dropped and the result is the base. [n]
    float64 throughout.

    Determinism: element j of contribution i is kept iff the j-th 32-bit word of the stream that belongs to
    (seed, strategy, parameters, contribution, tensor) is below ``⌊(1 - p) · 2³²⌋``. Masking is one product,
    rescaling one division by the float nearest to ``1 - p``; then the sum in canonical order, the mean as in
    `weight_average`, or one product by the float nearest to λ.

    Raises:
        ParameterError: if ``|Σ wᵢ| < 10⁻⁸`` and no ``scale`` is given.

    Source: Yu et al. 2024, section 3.2. Masks are drawn per contribution and tensor, never from one stream
    shared between them; drawn masks cannot equal those of another implementation.
    """
    return dare_with(tile, bernoulli(tile, staying(tile, p)), p=p, rescale=rescale, scale=scale)


def ballot_of_dare_ties(
    group: Group,
    *,
    p: Fraction,
    rescale: bool,
    trim: Fraction | None,
    scale: Fraction,
    merge_func: str,
    scope: str,
    zero: str,
) -> Ballot:
    """Return what `dare_ties` must see first: it draws the same masks as the merge does."""
    return Ballot(
        group,
        lambda tile: dropped(tile, bernoulli(tile, staying(tile, p)), p, rescale),
        density=trim,
        scope=scope,
        zero=zero,
    )


@strategy(
    "dare_ties",
    version=1,
    source="Yu et al. 2024, arXiv:2311.03099, over Yadav et al. 2023, arXiv:2306.01708",
    parameters=[
        P,
        RESCALE,
        Number("trim", None, "fraction of all elements kept then; none: no trim", above="0", maximum="1"),
        Number("scale", "1", "λ, by which the merged difference is multiplied"),
        Choice("merge_func", ("mean", "sum"), "how those that agree with the elected sign are merged"),
        SCOPE,
        ZERO,
    ],
    needs_base=True,
    draws=True,
    survey=ballot_of_dare_ties,
)
def dare_ties(
    tile: Tile,
    survey: Ballot,
    *,
    p: Fraction,
    rescale: bool,
    trim: Fraction | None,
    scale: Fraction,
    merge_func: str,
    scope: str,
    zero: str,
) -> Elements:
    """DARE, then the election of TIES: drop at random, rescale, merge only what agrees.

    ``τ̃ᵢ = mᵢ ⊙ τᵢ / (1 - p)`` as `dare`, then steps 2 to 4 of `ties` on τ̃; with ``trim`` its step 1 too,
    which ranks the dropped elements as zeros. [n] float64 throughout.

    Determinism: that of `dare` and of `ties`.

    Source: mergekit `dare_ties` (no trim) and MergeLM (``trim``; its election). mergekit sums where our
    default divides by the weight that agrees (``merge_func=sum`` for mergekit's), and rescales each tensor to
    its L1 norm where this divides by ``1 - p``.
    """
    return onto(tile, survey.merge(tile, merge_func), scale)
