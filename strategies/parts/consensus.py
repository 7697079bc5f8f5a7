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
    AgreeingMean,
    Elements,
    Tensor,
    WeightedSum,
    agreeing,
    balance,
    decoded,
    maximum,
    positive_zero,
    signs,
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
    return pending_mean(values, weights).decoded()


def pending_mean(values: Sequence[Elements], weights: Sequence[Fraction]) -> WeightedSum:
    """Return what `mean` does, for the engine to compute where the result belongs."""
    parts = proportions(weights)
    return WeightedSum(values, parts, divisor=sum(parts, Fraction()))


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
        self._balance: dict[str, int] = {}

    def feed(self, tile: Tile, values: Sequence[Elements]) -> None:
        """Count a tile's signs."""
        name = self._extent.name(tile)
        self._balance[name] = self._balance.get(name, 0) + balance(values, self._weights)

    def finish(self) -> bool:
        """One pass counts everything."""
        return True

    def __call__(self, tile: Tile, values: Sequence[Elements]) -> Tensor:
        """Return the elected signs, [n] of 1, -1 and, if zeros are dropped, 0."""
        return signs(values, self._weights, self.tie(tile))

    def tie(self, tile: Tile) -> int:
        """Return the sign of a tile's elements whose sum is 0; 0 if it is none."""
        if self._zero == "drop":
            return 0
        return -1 if self._balance.get(self._extent.name(tile), 0) < 0 else 1


def elected(values: Sequence[Tensor], weights: Sequence[Fraction]) -> Tensor:
    """Return the sign of ``Σ wᵢ xᵢ`` at each element, + where it is 0: [n] of 1 and -1."""
    return signs(values, proportions(weights), 1)


def disjoint(
    values: Sequence[Elements], weights: Sequence[Fraction], elected: Tensor | int, rule: str
) -> Elements:
    """Merge at each element those contributions whose ``wᵢ xᵢ`` has the elected sign; +0 where none has.

    Args:
        values: k times [n].
        weights: k; a negative one turns its contribution's vote and value round.
        elected: [n] of 1, -1 and 0; or only the sign where ``Σ wᵢ xᵢ`` is 0, elected is that of it.
        rule: ``mean``: ``Σ wᵢ xᵢ / Σ wᵢ`` over those that agree (a divisor of 0 counts as 1); ``sum``:
            ``Σ wᵢ xᵢ``; ``max``: the ``wᵢ xᵢ`` of largest magnitude.
    """
    if rule == "mean":
        return AgreeingMean(values, proportions(weights), elected)
    numbers = [decoded(x) for x in values]
    if isinstance(elected, int):
        elected = signs(numbers, proportions(weights), elected)
    agree = agreement(numbers, weights, elected)
    chosen = [x * mask for x, mask in zip(numbers, agree, strict=True)]  # -0 among them goes in the end
    if rule == "sum":
        return positive_zero(weighted_sum(chosen, weights))
    sizes = (abs(weighted_sum([x], [w])) for x, w in zip(chosen, weights, strict=True))
    return positive_zero(reduce(maximum, sizes) * elected)


def agreement(values: Sequence[Tensor], weights: Sequence[Fraction], elected: Tensor) -> list[Tensor]:
    """Return k masks: 1.0 where a contribution's ``wᵢ xᵢ`` has the elected sign, else 0.0."""
    return [agreeing(x, w, elected) for x, w in zip(values, weights, strict=True)]
