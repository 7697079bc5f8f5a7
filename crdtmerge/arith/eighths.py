"""Numbers of eight bits: between patterns and float64, by integers, rounded once.

    E4M3   s eeee mmm    bias 7, largest 448; only s 1111 111 is no number, and there is no infinity
    E5M2   s eeeee mm    bias 15, largest 57344; infinity and NaN as in IEEE 754

(Micikevicius and others 2022, *FP8 formats for deep learning*, arXiv 2209.05433; in torch ``float8_e4m3fn``
and ``float8_e5m2``.) There are 256 patterns, so decoding looks them up. Encoding cuts a float64 to five bits
behind the point and sets the last of them if anything was cut off: this *rounding to odd* makes a second
rounding harmless, and what it leaves, 2^17 patterns, is looked up too. No cast of a library takes part.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Final, TypeAlias

import numpy as np
import torch
from torch import Tensor

from crdtmerge.dtypes import DType

Bytes: TypeAlias = np.ndarray[tuple[int], np.dtype[np.uint8]]

_MAGNITUDE: Final = (1 << 63) - 1
_FRACTION_BITS: Final = 52
_BIAS: Final = 1023

_ODD_BITS: Final = 17
"""Sign, exponent and five bits of the fraction: two more than any format here has."""


@dataclass(frozen=True)
class Eighth:
    """A format of eight bits.

    Attributes:
        fraction: bits behind the point.
        bias: of the exponent.
        beyond: the first pattern without sign that is no finite number.
    """

    fraction: int
    bias: int
    beyond: int

    @cached_property
    def table(self) -> Tensor:
        """The number of each pattern, [256] float64; what is not finite as NaN."""
        values = [self._value(pattern) for pattern in range(128)]
        return torch.tensor([*values, *(-value for value in values)], dtype=torch.float64)

    def _value(self, pattern: int) -> float:
        if pattern >= self.beyond:
            return math.nan
        exponent, fraction = divmod(pattern, 1 << self.fraction)
        if exponent:
            fraction += 1 << self.fraction
        return math.ldexp(fraction, max(exponent, 1) - self.bias - self.fraction)

    def decode(self, patterns: Bytes) -> Tensor:
        """Return the numbers of [n] patterns as [n] float64."""
        return torch.from_numpy(np.take(self.table.numpy(), patterns))

    def encode(self, values: Tensor) -> Tensor:
        """Return the patterns nearest to [n] float64, ties to even, as [n] uint8; 255 where none is near."""
        bits = values.cpu().numpy().view(np.int64)
        cut = 64 - _ODD_BITS
        odd = bits >> cut  # negative for negative numbers: they are looked up from the end
        odd |= (bits & ((1 << cut) - 1)) != 0
        return torch.from_numpy(np.take(self._nearest, odd))

    @cached_property
    def _nearest(self) -> Bytes:
        """The pattern nearest to the float64 that begins with each pattern of 17 bits, and is 0 behind it."""
        bits = torch.from_numpy(np.arange(1 << _ODD_BITS)) << (64 - _ODD_BITS)
        sizes = bits & _MAGNITUDE
        # An integer that grows with the magnitude; its rounding may carry into the exponent, as it should.
        cut = _FRACTION_BITS - self.fraction
        even = (sizes >> cut) & 1
        patterns = (sizes + even + ((1 << (cut - 1)) - 1)) >> cut
        patterns -= (_BIAS - self.bias) << self.fraction
        # Subnormal: a multiple of the smallest number. The others are cut down to keep the cast in range.
        magnitudes = sizes.view(torch.float64)
        least_normal = math.ldexp(1.0, 1 - self.bias)
        steps = magnitudes.clamp(0.0, least_normal).mul_(math.ldexp(1.0, self.bias - 1 + self.fraction))
        patterns = torch.where(magnitudes < least_normal, steps.round_().to(torch.int64), patterns)
        signed = patterns | (bits >> 63 & 1) << 7
        return torch.where(patterns < self.beyond, signed, 0xFF).to(torch.uint8).numpy()


EIGHTHS: Final = {
    DType.F8_E4M3: Eighth(fraction=3, bias=7, beyond=0x7F),
    DType.F8_E5M2: Eighth(fraction=2, bias=15, beyond=0x7C),
}
