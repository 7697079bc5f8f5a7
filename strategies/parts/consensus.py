"""How k contributions become one.

Sums run over the contributions in canonical order, one float64 addition after the other. A *mean* is one
sum and one division; its weights are first brought to `proportions`, because 1/3 is no binary number and
neither is 0.1 + 0.2 - 0.3 zero.

An *election* gives every element the sign that most of the weight moves it to; *disjoint* rules then merge
only those contributions that agree with it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache, reduce
from typing import Final

from crdtmerge.arith import (
    Elements,
    LaneSum,
    Tensor,
    agreeing,
    agreeing_mean,
    maximum,
    positive_zero,
    sign,
    weighted_sum,
)
from crdtmerge.errors import ParameterError
from crdtmerge.strategy import Group, Tile

from .delta import Extent

SUM_MIN: Final = Fraction(1, 10**8)
"""Weights whose sum is closer to 0 than this cancel: nothing is divided by it."""


def cancel(weights: Sequence[Fraction]) -> bool:
    """Whether the weights sum to nearly 0, exactly compared."""
    return abs(sum(weights, Fraction())) < SUM_MIN


def require_shares(name: str, group: Group) -> None:
    """Check that weights are shares of a mean: none negative, and not all 0.

    Raises:
        ParameterError: if they are not, in the name of the strategy.
    """
    if min(group.weights) < 0 or not any(group.weights):
        raise ParameterError(f"{name}: weights must not be negative, and one must be positive")


def proportions(weights: Sequence[Fraction]) -> tuple[Fraction, ...]:
    """Return the whole numbers without common divisor that stand in the same proportion.

    Equal weights become 1 whatever they were, so a contribution alone is merged to itself to the bit; and
    sums of weights are exact, so that weights which cancel do so to exactly 0.
    """
    return _proportions(tuple(weights))


@lru_cache(maxsize=64)
def _proportions(weights: tuple[Fraction, ...]) -> tuple[Fraction, ...]:
    denominator = math.lcm(*(w.denominator for w in weights))
    whole = [int(w * denominator) for w in weights]
    divisor = math.gcd(*whole) or 1
    return tuple(Fraction(w // divisor) for w in whole)


def mean(values: Sequence[Elements], weights: Sequence[Fraction]) -> Tensor:
    """Return ``Σ wᵢ xᵢ / Σ wᵢ`` of k times [n]; the weights must not `cancel`."""
    parts = proportions(weights)
    return weighted_sum(values, parts, divisor=sum(parts, Fraction()))


class Election:
    """The sign that each element moves to: that of ``Σ wᵢ xᵢ``.

    Args:
        group: what is merged.
        extent: over which elements a majority is counted.
        zero: the sign where the sum is 0. ``majority``: that of the sum of all signs of the extent, + if
            that is 0 too; ``plus``: +; ``drop``: none, the element stays at the base.
    """

    def __init__(self, group: Group, extent: Extent, zero: str) -> None:
        self._weights, self._extent, self._zero = proportions(group.weights), extent, zero
        self._counting: dict[str, LaneSum] = {}
        self._balance: dict[str, float] = {}

    def feed(self, tile: Tile, values: Sequence[Tensor]) -> None:
        """Count a tile's signs."""
        name = self._extent.name(tile)
        count = self._counting.setdefault(name, LaneSum())  # exact: whole numbers far below 2^53
        count.feed(sign(self._sum(values)), self._extent.start(tile))
        if self._extent.ends(tile):
            self._balance[name] = self._counting.pop(name).result()

    def finish(self) -> bool:
        """One pass counts everything."""
        return True

    def __call__(self, tile: Tile, values: Sequence[Tensor]) -> Tensor:
        """Return the elected signs, [n] of 1, -1 and, if zeros are dropped, 0."""
        total = self._sum(values)
        if self._zero == "drop":
            return sign(total)
        if self._balance.get(self._extent.name(tile), 0.0) < 0:
            return total.gt_(0).mul_(2).sub_(1)
        return total.ge_(0).mul_(2).sub_(1)

    def _sum(self, values: Sequence[Tensor]) -> Tensor:
        return weighted_sum(values, self._weights)


def elected(values: Sequence[Tensor], weights: Sequence[Fraction]) -> Tensor:
    """Return the sign of ``Σ wᵢ xᵢ`` at each element, + where it is 0: [n] of 1 and -1."""
    return weighted_sum(values, proportions(weights)).ge_(0).mul_(2).sub_(1)


def disjoint(values: Sequence[Tensor], weights: Sequence[Fraction], elected: Tensor, rule: str) -> Tensor:
    """Merge at each element those contributions whose ``wᵢ xᵢ`` has the elected sign; +0 where none has.

    Args:
        values: k times [n].
        weights: k; a negative one turns its contribution's vote and value round.
        elected: [n] of 1, -1 and 0.
        rule: ``mean``: ``Σ wᵢ xᵢ / Σ wᵢ`` over those that agree (a divisor of 0 counts as 1); ``sum``:
            ``Σ wᵢ xᵢ``; ``max``: the ``wᵢ xᵢ`` of largest magnitude.
    """
    if rule == "mean":
        return agreeing_mean(values, proportions(weights), elected)
    agree = agreement(values, weights, elected)
    chosen = [x * mask for x, mask in zip(values, agree, strict=True)]  # -0 among them goes in the end
    if rule == "sum":
        return positive_zero(weighted_sum(chosen, weights))
    sizes = (abs(weighted_sum([x], [w])) for x, w in zip(chosen, weights, strict=True))
    return positive_zero(reduce(maximum, sizes) * elected)


def agreement(values: Sequence[Tensor], weights: Sequence[Fraction], elected: Tensor) -> list[Tensor]:
    """Return k masks: 1.0 where a contribution's ``wᵢ xᵢ`` has the elected sign, else 0.0."""
    return [agreeing(x, w, elected) for x, w in zip(values, weights, strict=True)]
