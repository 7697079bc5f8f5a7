"""Methods that take something out of a model.

Either contributions were trained on what is to be forgotten, and their differences are subtracted; or they
were trained to forget, and theirs are added. Members of one topic (a forget set, an attribute) belong
together and speak with one voice, however many they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Final

from crdtmerge.arith import Elements, Tensor, masked, positive_zero, sign, weighted_sum
from crdtmerge.errors import ParameterError
from crdtmerge.strategy import Choice, Group, Number, Tile, strategy

from .parts.consensus import mean
from .parts.members import by_topic
from .parts.scale import onto
from .sparse import SCOPE, ZERO, Ballot

_ALIKE: Final = Fraction(1)


def unanimous(taus: Sequence[Tensor]) -> Tensor:
    """Return the mean where all k differences have one sign, +0 elsewhere."""
    alike = [_ALIKE] * len(taus)
    votes = weighted_sum([sign(tau) for tau in taus], alike)
    return masked(mean(taus, alike), (abs(votes) == len(taus)).double())


@strategy(
    "negative_merge",
    version=1,
    source="Kim et al. 2025 (NegMerge), arXiv:2410.05583; Ilharco et al. 2023, arXiv:2212.04089",
    parameters=[
        Choice("mode", ("negmerge", "task_negation"), "subtract what a forget set agrees on, or everything"),
        Number("scale", "1", "λ, by which what is forgotten is multiplied"),
        Number("retain_scale", "1", "by which what is retained is multiplied"),
    ],
    needs_base=True,
    roles=("forget",),
    weighted=False,
)
def negative_merge(tile: Tile, *, mode: str, scale: Fraction, retain_scale: Fraction) -> Elements:
    """NegMerge: subtract from the base what all models of a forget set agree on.

    Members have the role ``forget`` and a topic, which names their forget set (those without one are one
    set), or the role ``retain``. With ``τᵢ = θᵢ - θ₀``, for each forget set g: ``τg`` is the mean of its
    ``τᵢ`` where all have one sign and 0 elsewhere, a zero in one of them included;
    ``θ = θ₀ - λ Σ τg + λ₊ Σ τᵢ`` over the retained i, λ₊ the parameter ``retain_scale``.
    ``mode=task_negation`` subtracts ``λ Σ τᵢ`` over all that are to be forgotten instead. [n] float64.

    Determinism: the mean in canonical order; then forget sets ascending by topic, products by the floats
    nearest to -λ and λ₊, one sum, one sum with the base.

    Raises:
        ParameterError: if weights differ, or a member has neither role.

    Source: Kim et al. 2025, section 4; task negation: Ilharco et al. 2023, section 3. Several forget sets and
    what is retained are our addition; both papers tune λ on [0, 1].
    """
    tile.group.unweighted("negative_merge")
    forget, retain = tile.group.having("forget"), tile.group.having("retain")
    if len(forget) + len(retain) < tile.count:
        raise ParameterError("negative_merge: every contribution has the role forget or retain")
    sets = [[i] for i in forget] if mode == "task_negation" else list(by_topic(tile.group, forget).values())
    parts = [unanimous([tile.deltas[i] for i in members]) for members in sets]
    parts += [tile.deltas[i] for i in retain]
    factors = [-scale] * len(sets) + [retain_scale] * len(retain)
    return onto(tile, positive_zero(weighted_sum(parts, factors)), _ALIKE)


class Attributes:
    """What `split_unlearn_merge` must see first: TIES' cuts and majority, over the attributes' means."""

    def __init__(self, group: Group, density: Fraction, scope: str, zero: str) -> None:
        group.unweighted("split_unlearn_merge")
        topics = by_topic(group, range(group.count))
        alone = [[i] for i in topics.pop(None, [])]
        self._members = [*topics.values(), *alone]
        speakers = tuple(replace(group.members[members[0]], weight=_ALIKE) for members in self._members)
        self._group = Group(group.tensors, speakers)
        self._ballot = Ballot(self._group, lambda tile: tile.deltas, density=density, scope=scope, zero=zero)

    def feed(self, tile: Tile) -> None:
        """Take one tile into account."""
        self._ballot.feed(self._split(tile))

    def finish(self) -> bool:
        """End a pass; True when cuts and majorities are known."""
        return self._ballot.finish()

    def merge(self, tile: Tile, rule: str) -> Elements:
        """Return the tile's merged difference."""
        return self._ballot.merge(self._split(tile), rule)

    def _split(self, tile: Tile) -> Tile:
        """Return the tile with one difference for each attribute."""
        means = tuple(
            mean([tile.deltas[i] for i in members], [_ALIKE] * len(members)) for members in self._members
        )
        return replace(tile, stored=means, is_delta=(True,) * len(means), group=self._group)


def attributes(
    group: Group, *, density: Fraction, scale: Fraction, merge_func: str, scope: str, zero: str
) -> Attributes:
    """Return what `split_unlearn_merge` must see first."""
    return Attributes(group, density, scope, zero)


@strategy(
    "split_unlearn_merge",
    version=1,
    source="Kadhe et al. 2024 (SPUNGE), arXiv:2406.11780, over Yadav et al. 2023, arXiv:2306.01708",
    parameters=[
        Number(
            "density", "0.2", "fraction of every attribute's difference that is kept", above="0", maximum="1"
        ),
        Number("scale", "1", "λ, by which the merged difference is multiplied"),
        Choice("merge_func", ("mean", "sum", "max"), "how those that agree with the elected sign are merged"),
        SCOPE,
        ZERO,
    ],
    needs_base=True,
    weighted=False,
    survey=attributes,
)
def split_unlearn_merge(
    tile: Tile,
    survey: Attributes,
    *,
    density: Fraction,
    scale: Fraction,
    merge_func: str,
    scope: str,
    zero: str,
) -> Elements:
    """SPUNGE's merge: TIES of models that unlearned one attribute each, attributes weighing alike.

    Every contribution was trained to forget part of an unlearning set, the part that its topic names; its
    ``τᵢ = θᵢ - θ₀`` *is* the direction of unlearning, so it is added. Differences of one topic are averaged
    first; contributions without a topic are attributes of their own. What follows is `ties`, with its
    parameters. [n] float64 throughout.

    Determinism: means in canonical order; then as `ties`, attributes ascending by topic and after them, in
    canonical order, those without one.

    Raises:
        ParameterError: if weights differ.

    Source: Kadhe et al. 2024; splitting and unlearning happen in training. That its merge is TIES and that
    attributes weigh alike is our reading.
    """
    return onto(tile, survey.merge(tile, merge_func), scale)
