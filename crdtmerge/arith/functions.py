"""Exponential functions of tensors, out of single additions and multiplications, in one order.

A vendor's exp is fast and its last bits are its own. These here are plain formulas whose every step is an
IEEE 754 operation, written down in docs/spec/arith.md: not correctly rounded (for that see `scalar`), but
the same everywhere, with errors below bounds that the tests hold them to:

    exp   1.5 ulp        log   1 ulp        tanh   4 ulp        sigmoid   3 ulp
    softmax   relative (|x - max| + 2 log₂ n + 8) · 2^-53

An ulp is the distance of neighbours at the true value, so for results among the subnormal numbers it is
2^-1074. Arguments are finite; no result is -0.0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor

from crdtmerge.arith.fold import fold
from crdtmerge.errors import NonFiniteError, ParameterError

_CHUNK: Final = 1 << 14
"""Elements worked on together, so that what is made from them stays in the cache; decides no bit."""

_EXP_OVERFLOWS: Final = 709.782712893384
"""exp of anything above it, and of nothing below, has no float64."""

_EXP_VANISHES: Final = -746.0
"""exp of anything below 2^-1075's logarithm, -745.13…, rounds to zero."""

_PER_LN2: Final = float.fromhex("0x1.71547652b82fep+0")
_LN2_HIGH: Final = float.fromhex("0x1.62e42fee00000p-1")
"""32 bits of ln 2: its product with any exponent is exact."""
_LN2_LOW: Final = float.fromhex("0x1.a39ef35793c76p-33")
_ROOT_HALF_BITS: Final = 0x3FE6A09E667F3BCD
"""The pattern of √½: logarithms are taken of [√½, √2)."""

_EXP: Final = tuple(1.0 / math.factorial(k) for k in range(13, 0, -1))
"""1/13!, 1/12!, …, 1/1!, each rounded once: at most ln 2 / 2 to the 14th / 14! = 4e-18 is left out."""

_LOG: Final = tuple(2.0 / k for k in range(23, 1, -2))
"""2/23, 2/21, …, 2/3, each rounded once: of log((1 + s) / (1 - s)) = 2s + 2/3 s³ + … for |s| < 0.172."""

_MANTISSA: Final = (1 << 52) - 1
_ONE_BITS: Final = 0x3FF0 << 48


def exp(x: Tensor) -> Tensor:
    """Return e to the power of each element, [n] to [n].

    Raises:
        NonFiniteError: if a result exceeds float64.
    """
    if x.numel() and not x.amax().item() <= _EXP_OVERFLOWS:
        raise NonFiniteError(f"exp of {x.amax().item()!r} exceeds float64")
    return _chunked(_exp, x)


def log(x: Tensor) -> Tensor:
    """Return the natural logarithm of each element of ``x`` > 0, [n] to [n].

    Raises:
        ParameterError: if an element is not positive.
    """
    if x.numel() and not x.amin().item() > 0:
        raise ParameterError(f"log: wanted x > 0, got {x.amin().item()!r}")
    return _chunked(_log, x)


def tanh(x: Tensor) -> Tensor:
    """Return the hyperbolic tangent of each element, [n] to [n]."""
    return _chunked(_tanh, x)


def sigmoid(x: Tensor) -> Tensor:
    """Return 1 / (1 + e^-x) of each element, [n] to [n]."""
    return _chunked(_sigmoid, x)


def softmax(x: Tensor) -> Tensor:
    """Return e^x / Σ e^x along the last dimension, [..., n] to [..., n].

    Determinism: the largest element is subtracted first; the sum is `fold` over the last dimension.

    Raises:
        ParameterError: if the last dimension is empty or there is none.
    """
    if x.dim() == 0 or x.shape[-1] == 0:
        raise ParameterError(f"softmax of a tensor of shape {list(x.shape)}")
    if not x.numel():
        return x.clone()
    powers = exp(x - x.amax(-1, keepdim=True))
    return powers / fold(powers.movedim(-1, 0)).unsqueeze(-1)


def _chunked(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    flat = x.reshape(-1)
    result = torch.empty_like(flat)
    for start in range(0, len(flat), _CHUNK):
        result[start : start + _CHUNK] = function(flat[start : start + _CHUNK])
    return result.reshape(x.shape)


def _reduced(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return whole numbers n and e^r - 1 such that x = n ln 2 + r, |r| <= ln 2 / 2."""
    n = (x * _PER_LN2).round_()
    r = x - n * _LN2_HIGH
    r -= n * _LN2_LOW
    series = r * _EXP[0]
    for coefficient in _EXP[1:]:
        series += coefficient
        series *= r
    return n, series


def _power_of_two(n: Tensor) -> Tensor:
    """Return 2 to whole numbers in [-1022, 1023], by the exponent's bits."""
    return (n.to(torch.int64) + 1023 << 52).view(torch.float64)


def _exp(x: Tensor) -> Tensor:
    n, series = _reduced(torch.clamp(x, _EXP_VANISHES, _EXP_OVERFLOWS))
    # In two steps: 2^1024 and 2^-1074 are no normal numbers. The first is exact, the second may round.
    half = (n * 0.5).trunc_()
    series += 1.0
    series *= _power_of_two(half)
    series *= _power_of_two(n - half)
    return series


def _exp_minus_one(x: Tensor) -> Tensor:
    """Return e^x - 1 of -746 <= x <= 0; tiny numbers stay what they are."""
    n, series = _reduced(x)
    scale = _power_of_two(n.clamp_(-1000.0, 0.0))  # below -53 already, the result is -1
    series *= scale
    series += scale - 1.0
    return series


def _log(x: Tensor) -> Tensor:
    subnormal = (x < 2.0**-1022).double()
    bits = (x * (1.0 + subnormal * (2.0**54 - 1.0))).view(torch.int64)
    # Adding what takes √½ to 1 carries into the exponent's bits just where the fraction is at least √½.
    moved = bits + (_ONE_BITS - _ROOT_HALF_BITS)
    exponent = ((moved >> 52) - 1023).double() - subnormal * 54.0
    f = ((moved & _MANTISSA) + _ROOT_HALF_BITS).view(torch.float64) - 1.0
    s = f / (f + 2.0)
    square = s * s
    series = square * _LOG[0]
    for coefficient in _LOG[1:]:
        series += coefficient
        series *= square
    # log(1 + f) = f - (f²/2 - s · (f²/2 + series)): the large terms come without error, and last.
    half_square = (f * 0.5).mul_(f)
    series += half_square
    series *= s
    series += exponent * _LN2_LOW
    result = half_square - series
    result -= f
    return (exponent * _LN2_HIGH).sub_(result).add_(0.0)


def _tanh(x: Tensor) -> Tensor:
    # Beyond 350 nothing changes any more: e^-700 is far below an ulp of 1.
    rest = _exp_minus_one(x.abs().clamp_(0.0, 350.0).mul_(-2.0))
    size = rest / (rest + 2.0)
    return torch.where(x < 0.0, size, size * -1.0).add_(0.0)


def _sigmoid(x: Tensor) -> Tensor:
    # With t = e^-|x|: 1 / (1 + t) to the right, t / (1 + t) to the left.
    power = _exp(x.abs().mul_(-1.0))
    return torch.where(x < 0.0, power, torch.ones_like(power)) / (power + 1.0)
