"""Powers of two: scaling by them is exact, and so keeps what follows away from the ends of float64."""

from __future__ import annotations

import torch
from torch import Tensor

from crdtmerge.errors import NonFiniteError


def scaled(x: Tensor, exponent: Tensor) -> Tensor:
    """Return ``x · 2^exponent`` for exponents in [-2044, 2046]: in two steps, for 2^1074 is no float64.

    Exact unless a subnormal number is lost on the way.
    """
    half = exponent >> 1
    return x * power_of_two(half) * power_of_two(exponent - half)


def power_of_two(exponent: Tensor) -> Tensor:
    """Return 2 to integers in [-1022, 1023], exactly."""
    return ((exponent.to(torch.int64) + 1023) << 52).view(torch.float64)


def exponent_of(x: Tensor, dim: int | tuple[int, ...]) -> Tensor:
    """Return the least integer e with |x| < 2^e along ``dim``, which is kept with length 1; 0 where x = 0.

    Raises:
        NonFiniteError: if an element is not finite.
    """
    peak = torch.maximum(x.amax(dim, keepdim=True), -x.amin(dim, keepdim=True))
    require_finite(good=bool(torch.isfinite(peak).all()))
    return torch.frexp(peak).exponent.to(torch.int64)


def require_finite(*, good: bool) -> None:
    """Refuse a matrix of which this does not hold.

    Raises:
        NonFiniteError: if it does not.
    """
    if not good:
        raise NonFiniteError("a matrix has an element that is not finite")


def finite(x: Tensor, what: str) -> Tensor:
    """Return ``x``.

    Raises:
        NonFiniteError: if an element is not finite; ``what`` names it.
    """
    if not torch.isfinite(x).all():
        raise NonFiniteError(f"{what} exceeds the range of float64")
    return x
