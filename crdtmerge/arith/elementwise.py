"""Elementwise operations on float64 tensors: those that are the same on every machine, and mends.

IEEE 754 fixes every bit of a single + − × ÷ on two tensors, and torch's operators do just that: use
them freely. What looks elementwise and is not is replaced here. Three things to remember:

* one operator at a time: ``x + y * c`` is two roundings, while ``add(x, y, alpha=c)`` and ``addcmul``
  contract to one on some processors;
* ``torch.sqrt`` goes through a vendor's library on x86 and rounds wrongly in 0.7 % of cases;
* which zero a maximum of 0.0 and -0.0 returns is the processor's choice, so results here have no -0.0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Final

import numpy as np
import torch
from torch import Tensor

from crdtmerge.arith import compiled
from crdtmerge.arith.scalar import nearest
from crdtmerge.arith.stored import Change, Elements, decoded, located, plain
from crdtmerge.errors import ParameterError

_ONE: Final = Fraction(1)


def weighted_sum(
    terms: Sequence[Elements], weights: Sequence[Fraction], *, divisor: Fraction = _ONE
) -> Tensor:
    """Return Σ wᵢ·xᵢ / d, one product and one addition after the other, and one division at the end.

    Args:
        terms: k times [n], float64 (of any shape, which is kept) or as they are stored, in canonical order,
            k >= 1.
        weights: k exact weights; each is rounded to float64 once.
        divisor: d, rounded to float64 once.

    Returns:
        [n] float64, in storage of its own.

    Determinism: (((w₀x₀ + w₁x₁) + w₂x₂) + …) ÷ d, every product, every sum and the quotient rounded.

    Raises:
        ParameterError: if there are no terms, or not as many weights.
    """
    if not terms or len(terms) != len(weights):
        raise ParameterError(f"weighted_sum: {len(terms)} tensors and {len(weights)} weights")
    factors, parts = [nearest(weight) for weight in weights], nearest(divisor)
    total = _combined(terms, factors, parts)
    if total is not None:
        return total
    tensors = [decoded(term) for term in terms]
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
    return total if parts == 1 else total.div_(parts)


def agreeing_mean(values: Sequence[Tensor], weights: Sequence[Fraction], elected: Tensor) -> Tensor:
    """Return Σ wᵢ·xᵢ / Σ wᵢ over those i whose wᵢ·xᵢ has the elected sign; 0 where none has; never -0.0.

    Args:
        values: k times [n] float64, in canonical order.
        weights: k, each rounded to float64 once; a negative one turns its stream's sign round.
        elected: [n] of 1.0, -1.0 and 0.0.

    Determinism: both sums as in `weighted_sum`, whose terms are +0 where a stream disagrees; one division,
    by 1 where the weights sum to 0.
    """
    factors = [nearest(weight) for weight in weights]
    loops = compiled.kernels()
    if loops is not None and all(plain(x) and x.shape == elected.shape for x in (*values, elected)):
        out = torch.empty_like(elected)
        places = np.array([x.data_ptr() for x in values], np.uint64)
        loops.agreeing_mean(out.view(-1).numpy(), places, np.array(factors), elected.view(-1).numpy())
        return out
    masks = [agreeing(x, weight, elected) for x, weight in zip(values, weights, strict=True)]
    divisor = weighted_sum(masks, weights)
    divisor += divisor.clone().eq_(0)
    chosen = [x * mask for x, mask in zip(values, masks, strict=True)]  # -0 among them goes in the end
    return weighted_sum(chosen, weights).div_(divisor).add_(0.0)


def agreeing(x: Tensor, weight: Fraction, elected: Tensor) -> Tensor:
    """Return 1.0 where ``weight · x`` has the elected sign, else 0.0; the product itself might vanish."""
    agreement = x * elected if weight > 0 else x * (-elected if weight else 0.0)
    return agreement.gt_(0)


def _combined(terms: Sequence[Elements], factors: list[float], divisor: float) -> Tensor | None:
    """Return the sum by a compiled loop; None if there is none, or it cannot read the terms."""
    loops = compiled.kernels()
    shape = terms[0].shape
    if loops is None or not shape.numel() or any(term.shape != shape for term in terms):
        return None
    pending = [term if isinstance(term, Change) and term.fresh else None for term in terms]
    bases = {id(change.base): change.base for change in pending if change is not None}
    if len(bases) > 1:
        return None
    places = [
        located(term if change is None else change.x) for term, change in zip(terms, pending, strict=True)
    ]
    under = [located(base) for base in bases.values()]
    found = [place for place in (*places, *under) if place is not None]
    if len(found) < len(terms) + len(bases):
        return None
    # Where 1 / d is a power of two, the product with it is the quotient: both round the same number.
    exact = abs(math.frexp(divisor)[0]) == 0.5 and 2.0**-1000 < abs(divisor) < 2.0**1000
    out = torch.empty(shape, dtype=torch.float64)
    streams = (
        out.view(-1).numpy(),
        np.array([address for address, _, _ in found[: len(terms)]], np.uint64),
        np.array([kind for _, kind, _ in found[: len(terms)]], np.uint8),
        np.array(factors),
    )
    last = (1.0, 1.0 / divisor) if exact else (divisor, 1.0)
    if under:
        changes = np.array([change is not None for change in pending])
        loops.combine_changes(*streams, changes, found[-1][0], found[-1][1], *last)
    else:
        loops.combine(*streams, *last)
    return out


def sqrt(x: Tensor) -> Tensor:
    """Return the correctly rounded square roots of ``x`` >= 0, [n] to [n]; -0.0 stays -0.0.

    Raises:
        ParameterError: if an element is negative.
    """
    try:
        with np.errstate(invalid="raise"):
            return torch.from_numpy(np.sqrt(x.cpu().numpy())).to(x.device)
    except FloatingPointError:
        raise ParameterError("sqrt: wanted x >= 0, got a negative element") from None


def positive_zero(x: Tensor) -> Tensor:
    """Return ``x`` with every -0.0 replaced by 0.0."""
    return x + 0.0


def sign(x: Tensor) -> Tensor:
    """Return -1.0, 0.0 or 1.0 by the sign of each element; never -0.0."""
    return torch.sign(x).add_(0.0)


def maximum(x: Tensor, y: Tensor) -> Tensor:
    """Return the larger of each two elements; never -0.0."""
    return torch.maximum(x, y).add_(0.0)


def minimum(x: Tensor, y: Tensor) -> Tensor:
    """Return the smaller of each two elements; never -0.0."""
    return torch.minimum(x, y).add_(0.0)


def clamp(x: Tensor, low: float, high: float) -> Tensor:
    """Return ``x`` confined to [low, high]; never -0.0.

    Raises:
        ParameterError: if ``low`` exceeds ``high``.
    """
    if not low <= high:
        raise ParameterError(f"clamp: wanted low <= high, got [{low!r}, {high!r}]")
    return torch.clamp(x, low, high).add_(0.0)


def masked(x: Tensor, mask: Tensor) -> Tensor:
    """Return ``x`` where ``mask`` is 1.0 and 0.0 where it is 0.0; never -0.0."""
    return (x * mask).add_(0.0)
