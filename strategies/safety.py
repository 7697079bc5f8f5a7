"""Methods that keep what safety training put into a model while tasks are merged into it.

Both look at where a difference lies rather than at how large it is: SafeMERGE layer by layer, at how much of
a difference lies in the directions that alignment moved; LED element by element, at who elected it.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Final

from crdtmerge.arith import (
    Elements,
    Tensor,
    cosine,
    linear,
    masked,
    nearest,
    scalar,
    squared_norm,
    weighted_sum,
)
from crdtmerge.errors import ParameterError
from crdtmerge.strategy import Choice, Factors, Group, Number, Tile, strategy

from .parts.consensus import mean
from .parts.delta import Extent
from .parts.mask import Trim
from .parts.scale import onto

_DIRECTIONLESS: Final = 1e-9
"""An alignment shorter than this has no direction."""


@strategy(
    "safe_merge",
    version=1,
    source="Djuhera et al. 2025, arXiv:2503.17239 (SafeMERGE)",
    parameters=[
        Number("threshold", "0.35", "cosine below which a layer is merged with the safe one"),
        Number("task_weight", "0.8", "share of the task in such a layer", minimum="0"),
        Number("safe_weight", "0.2", "share of the safe contributions in it", minimum="0"),
        Choice("compat", ("none", "peft_linear"), "peft_linear: combine the factors of LoRA, as PEFT does"),
        Choice(
            "missing", ("error", "exclude"), "safe contributions without alignment: an error, or left out"
        ),
    ],
    needs_base=True,
    scope="tensor",
    evidence=["alignment"],
    evidence_of="safety",
    roles=("task", "safety"),
    members_min=2,
)
def safe_merge(
    tile: Tile,
    *,
    threshold: Fraction,
    task_weight: Fraction,
    safe_weight: Fraction,
    compat: str,
    missing: str,
) -> Elements:
    """SafeMERGE: layers of a task that leave the directions of alignment are mixed with safe ones.

    Members have the role ``task`` or ``safety``. With V the alignment (aligned minus unaligned weights, the
    mean of what the safe members bring), ``Δs`` the weighted mean of their differences, ``Δf`` a task's, all
    as matrices [out, rest]:  ``c = cos(V Vᵀ Δf, Δf)``, 0 if ``‖V‖ < 1e-9`` or ``Δf = 0``. Where ``c`` is
    below ``threshold``, ``Δf`` becomes ``task_weight · Δf + safe_weight · Δs``. The result is the base plus
    the weighted mean of the tasks' differences. Tensors of fewer than two dimensions, and those about which
    there is no alignment, keep ``Δf``. Whole tensors, float64.

    With ``compat=peft_linear`` the mixed difference is ``(Σ √(w s) B) (Σ √(w s) A)`` over the LoRA factors
    B, A of scale s, which has products of one's B and another's A in it.

    Determinism: products of matrices round once, ``(V Vᵀ) Δf`` if V has fewer rows than columns, else
    ``V (Vᵀ Δf)``; the cosine is the float nearest to the true one and is
    compared exactly; sums over contributions run in canonical order.

    Raises:
        ParameterError: if a member has another role; if the weights of one role are negative or all 0; with
            ``peft_linear``, if a member has no factors, or of another rank or a negative scale.

    Source: Djuhera et al. 2025, section 3, and its code, which rounds the cosine to five decimals and pairs
    layers by their place instead of their names. Several tasks are gated one by one and averaged. Mixing
    differences instead of factors is our default.
    """
    tasks, safe = tile.group.having("task"), tile.group.having("safety")
    if len(tasks) + len(safe) < tile.count:
        raise ParameterError("safe_merge: every contribution has the role task or safety")
    for indices in (tasks, safe):
        weights = [tile.weights[i] for i in indices]
        if weights and (min(weights) < 0 or not any(weights)):
            raise ParameterError("safe_merge: weights must not be negative, and one of each role positive")
    alignment = _alignment(tile, safe)
    gated = [tile.deltas[i] for i in tasks]
    if alignment is not None:
        shares = [task_weight, *_shares(tile, safe, safe_weight)]
        for place, i in enumerate(tasks):
            if Fraction(_agreement(alignment, gated[place].reshape(alignment.shape))) < threshold:
                mix = _of_factors if compat == "peft_linear" else _of_differences
                gated[place] = mix(tile, [i, *safe], shares)
    return onto(tile, mean(gated, [tile.weights[i] for i in tasks]), Fraction(1))


def _alignment(tile: Tile, safe: Sequence[int]) -> Tensor | None:
    """Return V as a matrix, zeros if it has no direction; None if there is none for this tensor."""
    brought = [v for i in safe if (v := tile.evidence["alignment"][i]) is not None]
    if not brought or len(tile.shape) < 2:
        return None
    alignment = mean(brought, [Fraction(1)] * len(brought))
    known = scalar.sqrt(squared_norm(alignment)) >= _DIRECTIONLESS
    return (alignment if known else alignment * 0.0).reshape(tile.shape[0], -1)


def _agreement(alignment: Tensor, delta: Tensor) -> float:
    """Return the cosine between V·Vᵀ·Δ and Δ; 0 if one of them is 0. The smaller square is formed."""
    rows, columns = alignment.shape
    if rows < columns:
        kept = linear.product(linear.gram(alignment), delta)
    else:
        kept = linear.product(alignment, linear.product(alignment.mT, delta))
    return cosine(kept.reshape(-1), delta.reshape(-1)) if kept.any() and delta.any() else 0.0


def _shares(tile: Tile, safe: Sequence[int], share: Fraction) -> list[Fraction]:
    whole = sum((tile.weights[i] for i in safe), Fraction())
    return [share * tile.weights[i] / whole for i in safe]


def _of_differences(tile: Tile, members: Sequence[int], shares: Sequence[Fraction]) -> Tensor:
    return weighted_sum([tile.deltas[i] for i in members], shares)


def _of_factors(tile: Tile, members: Sequence[int], shares: Sequence[Fraction]) -> Tensor:
    factors = [_factors_of(tile, i) for i in members]
    if len({len(f.a) for f in factors}) > 1:
        raise ParameterError(f"safe_merge: {tile.tensor} has LoRA factors of several ranks; use compat=none")
    roots = [scalar.sqrt(nearest(w * f.scale)) for w, f in zip(shares, factors, strict=True)]
    parts = [Fraction(root) for root in roots]
    left, right = weighted_sum([f.b for f in factors], parts), weighted_sum([f.a for f in factors], parts)
    return linear.product(left, right).reshape(-1)


def _factors_of(tile: Tile, member: int) -> Factors:
    found = tile.factors[member]
    if found is None or found.scale < 0:
        raise ParameterError(
            f"safe_merge: compat=peft_linear takes LoRA factors of positive scale, and contribution "
            f"{tile.group.members[member].digest.hex()[:12]}… has none of {tile.tensor}; use compat=none"
        )
    return found


class Elections:
    """What `led_merge` must see first: which elements rank high in both scores of a member."""

    def __init__(self, group: Group, rate: Fraction) -> None:
        extent = Extent(group, "tensor")
        self._ranks = {kind: Trim(group, extent, rate) for kind in ("saliency.abs", "saliency.abs.base")}
        self._waiting = set(self._ranks)

    def feed(self, tile: Tile) -> None:
        """Take one tile into account."""
        for kind in sorted(self._waiting):
            self._ranks[kind].feed(tile, _scores(tile, kind))

    def finish(self) -> bool:
        """End a pass; True when all elections are known."""
        self._waiting = {kind for kind in sorted(self._waiting) if not self._ranks[kind].finish()}
        return not self._waiting

    def __call__(self, tile: Tile) -> list[Tensor]:
        """Return k masks of what each member elects: its own, or what ranks high in both scores."""
        high = [ranks.masks(tile, _scores(tile, kind)) for kind, ranks in self._ranks.items()]
        said = zip(tile.evidence["mask"], *(tile.evidence[kind] for kind in self._ranks), strict=True)
        elected = []
        for i, (mask, fine, base) in enumerate(said):
            both = tile.given[i] * 0.0 if fine is None or base is None else high[0][i] * high[1][i]
            elected.append(both if mask is None else mask)
        return elected


def _scores(tile: Tile, kind: str) -> list[Tensor]:
    return [
        given * 0.0 if score is None else score
        for given, score in zip(tile.given, tile.evidence[kind], strict=True)
    ]


def survey_of_led(group: Group, *, rate: Fraction, scale: Fraction, missing: str) -> Elections:
    """Return what `led_merge` must see first."""
    return Elections(group, rate)


@strategy(
    "led_merge",
    version=1,
    source="Ma et al. 2025, arXiv:2502.16770 (LED-Merging)",
    parameters=[
        Number("rate", "0.4", "fraction of every tensor that each score may elect", minimum="0", maximum="1"),
        Number("scale", "1", "λ, by which the merged difference is multiplied"),
        Choice("missing", ("error", "exclude"), "contributions without evidence are an error, or left out"),
    ],
    needs_base=True,
    evidence=["mask|saliency.abs"],
    optional_evidence=["saliency.abs.base"],
    survey=survey_of_led,
)
def led_merge(tile: Tile, survey: Elections, *, rate: Fraction, scale: Fraction, missing: str) -> Elements:
    """LED: every contribution elects its elements, and only those that nobody else elected are merged.

    Per tensor of d elements, ``Nᵢ`` is the mask that a member brings, else the ``⌊rate · d⌋`` elements of
    largest saliency ``|θ ⊙ ∂L/∂θ|`` of the fine-tune that are also among as many of the base's.
    ``Dᵢ = Nᵢ - ∪ⱼ≠ᵢ Nⱼ`` and ``θ = θ₀ + λ Σ wᵢ Dᵢ ⊙ τᵢ``. Elements that two elect stay at the base, and so
    does what nobody elects. About a tensor of which a member says nothing it elects nothing. [n] float64. Who
    elects everything leaves nothing to anybody: among strangers a recipe selects whom it merges.

    Determinism: of equal scores at the cut the lower flat index is elected; one sum in canonical order, one
    product by the float nearest to λ.

    Source: Ma et al. 2025, section 4. One rate for all, where the published example has one for each task
    (0.1, 0.4, 0.5): an author who brings a mask chooses it. There λ = 0.9. For a rate that elects nothing the
    published code takes everything.
    """
    elected = survey(tile)
    ones = [Fraction(1)] * tile.count
    alone = (weighted_sum(elected, ones) == 1).double()
    kept = [masked(tau, mask * alone) for tau, mask in zip(tile.deltas, elected, strict=True)]
    return onto(tile, weighted_sum(kept, tile.weights), scale)
