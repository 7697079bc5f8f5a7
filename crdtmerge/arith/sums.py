"""Sums over contributions, in the order that the definition gives, and what follows from them.

Each is a description first (`Result`): whoever asks gets float64, and the engine has it rounded to where it
is stored. A loop reads every stream once and writes nothing in between.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from types import ModuleType
from typing import Final

import numpy as np
import torch
from torch import Tensor

from crdtmerge.arith import compiled
from crdtmerge.arith.pending import Elements, Result, Target, decoded
from crdtmerge.arith.scalar import nearest
from crdtmerge.arith.stored import Stored, located
from crdtmerge.arith.streams import traced
from crdtmerge.errors import ParameterError

_ONE: Final = Fraction(1)


class WeightedSum(Result):
    """Σ wᵢ·xᵢ / d, one product and one addition after the other, and one division at the end.

    Determinism: (((w₀x₀ + w₁x₁) + w₂x₂) + …) ÷ d, every product, every sum and the quotient rounded.

    Args:
        terms: k times [n], float64 (of any shape, which is kept) or pending, in canonical order, k >= 1.
        weights: k exact weights; each is rounded to float64 once.
        divisor: d, rounded to float64 once.

    Raises:
        ParameterError: if there are no terms, or not as many weights.
    """

    __slots__ = ("_divisor", "_factors", "_terms")

    def __init__(
        self, terms: Sequence[Elements], weights: Sequence[Fraction], *, divisor: Fraction = _ONE
    ) -> None:
        if not terms or len(terms) != len(weights):
            raise ParameterError(f"weighted_sum: {len(terms)} tensors and {len(weights)} weights")
        super().__init__(terms[0].shape)
        self._terms, self._divisor = terms, nearest(divisor)
        self._factors = [nearest(weight) for weight in weights]

    def write(self, loops: ModuleType, target: Target) -> bool | None:
        """Have a loop write the sum; if it is that of a base and a pending result, in the loop of that."""
        written = self._write_onto(loops, target)
        if written is not None:
            return written
        found = traced(self._terms)
        if found is None:
            return None
        # Where 1 / d is a power of two, the product with it is the quotient: both round the same number.
        divisor = self._divisor
        exact = abs(math.frexp(divisor)[0]) == 0.5 and 2.0**-1000 < abs(divisor) < 2.0**1000
        last = (1.0, 1.0 / divisor) if exact else (divisor, 1.0)
        factors, targets = np.array(self._factors), np.array([target], compiled.TARGET)
        finite: bool = loops.combine(found.streams, factors, *last, self.shape.numel(), targets)
        return finite

    def _write_onto(self, loops: ModuleType, target: Target) -> bool | None:
        if len(self._terms) != 2 or self._factors[0] != 1 or self._divisor != 1 or target.base:
            return None
        origin, result = self._terms
        if not isinstance(result, Result) or not result.fresh or origin.shape != result.shape:
            return None
        base = located(origin) if isinstance(origin, (Tensor, Stored)) else None
        if base is None:
            return None
        onto = target._replace(base=base[0], base_kind=base[1], factor=self._factors[1])
        return result.write(loops, onto)

    def _by_torch(self) -> Tensor:
        tensors, factors = [decoded(term) for term in self._terms], self._factors
        if len(tensors) == 1:
            total = tensors[0] * factors[0]
        else:
            total, product = torch.empty_like(tensors[0]), torch.empty_like(tensors[0])

            def times(place: int, out: Tensor) -> Tensor:
                # A factor of 1 changes no bit, and uniform weights are the common case.
                factor = factors[place]
                return tensors[place] if factor == 1 else torch.mul(tensors[place], factor, out=out)

            torch.add(times(0, total), times(1, product), out=total)
            for place in range(2, len(tensors)):
                total += times(place, product)
        return total if self._divisor == 1 else total.div_(self._divisor)


class AgreeingMean(Result):
    """Σ wᵢ·xᵢ / Σ wᵢ over those i whose wᵢ·xᵢ has the elected sign; 0 where none has; never -0.0.

    Determinism: both sums as in `WeightedSum`, whose terms are +0 where a stream disagrees; one division, by
    1 where the weights sum to 0.

    Args:
        values: k times [n], in canonical order.
        weights: k, each rounded to float64 once; a negative one turns its stream's sign round.
        elected: [n] of 1.0, -1.0 and 0.0; or one of these: the sign where Σ wᵢ·xᵢ is 0, and elsewhere the
            sign of that is elected.
    """

    __slots__ = ("_elected", "_values", "_weights")

    def __init__(
        self, values: Sequence[Elements], weights: Sequence[Fraction], elected: Tensor | int
    ) -> None:
        super().__init__(values[0].shape)
        self._values, self._weights, self._elected = values, weights, elected

    def write(self, loops: ModuleType, target: Target) -> bool | None:
        """Have a loop elect and write the mean."""
        found, signs = traced(self._values), 0
        if found is None:
            return None
        if isinstance(self._elected, Tensor):
            place = located(self._elected)
            if place is None or self._elected.shape != self.shape:
                return None
            signs, tie = place[0], 0.0
        else:
            tie = float(self._elected)
        factors = np.array([nearest(weight) for weight in self._weights])
        targets = np.array([target], compiled.TARGET)
        finite: bool = loops.agreeing_mean(found.streams, factors, signs, tie, self.shape.numel(), targets)
        return finite

    def _by_torch(self) -> Tensor:
        values, weights, elected = [decoded(x) for x in self._values], self._weights, self._elected
        if not isinstance(elected, Tensor):
            elected = signs(values, weights, elected)
        masks = [agreeing(x, weight, elected) for x, weight in zip(values, weights, strict=True)]
        divisor = weighted_sum(masks, weights)
        divisor += divisor.clone().eq_(0)
        chosen = [x * mask for x, mask in zip(values, masks, strict=True)]  # -0 among them goes in the end
        return weighted_sum(chosen, weights).div_(divisor).add_(0.0)


def weighted_sum(
    terms: Sequence[Elements], weights: Sequence[Fraction], *, divisor: Fraction = _ONE
) -> Tensor:
    """Return what `WeightedSum` describes, [n] float64, in storage of its own; raises as it does."""
    return WeightedSum(terms, weights, divisor=divisor).decoded()


def signs(values: Sequence[Elements], weights: Sequence[Fraction], tie: int) -> Tensor:
    """Return the sign of Σ wᵢ·xᵢ, and ``tie`` (1, -1 or 0) where that is 0: [n] of 1.0, -1.0 and 0.0."""
    total = weighted_sum(values, weights)
    if tie == 0:
        return torch.sign(total).add_(0.0)
    return (total.ge_(0) if tie > 0 else total.gt_(0)).mul_(2).sub_(1)


def balance(values: Sequence[Elements], weights: Sequence[Fraction]) -> int:
    """Return how many more of the n sums Σ wᵢ·xᵢ are positive than negative."""
    loops, found = compiled.kernels(), None
    if loops is not None:
        found = traced(values)
    if loops is None or found is None:
        return int(torch.sign(weighted_sum(values, weights)).long().sum())
    count: int = loops.count_signs(
        found.streams, np.array([nearest(weight) for weight in weights]), values[0].shape.numel()
    )
    return count


def agreeing(x: Tensor, weight: Fraction, elected: Tensor) -> Tensor:
    """Return 1.0 where ``weight · x`` has the elected sign, else 0.0; the product itself might vanish."""
    agreement = x * elected if weight > 0 else x * (-elected if weight else 0.0)
    return agreement.gt_(0)
