"""docs/spec/arith.md line by line, in exact rationals and Python's floats; slow on purpose.

Nothing here shares code with crdtmerge.arith: storage formats are read off their bit patterns, rounding
compares fractions, sums are loops over Python floats (one IEEE 754 operation each), and functions are
bracketed by power series.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from blake3 import blake3

LANES = 1 << 14


@dataclass(frozen=True)
class Format:
    """A binary interchange format: ``width`` bits, of which ``fraction`` are stored behind the point."""

    width: int
    fraction: int
    infinite: bool = True

    @property
    def exponent_max(self) -> int:
        """Largest exponent of a finite number, and the bias."""
        return (1 << (self.width - self.fraction - 2)) - 1

    @property
    def infinity(self) -> int:
        """The pattern of +infinity, or of the only NaN: larger magnitudes of patterns are NaN."""
        if not self.infinite:
            return (1 << (self.width - 1)) - 1
        return (1 << (self.width - 1)) - (1 << self.fraction)

    def value(self, pattern: int) -> Fraction:
        """The number that a finite pattern stands for (both zeros are 0)."""
        sign, magnitude = divmod(pattern, 1 << (self.width - 1))
        exponent, fraction = divmod(magnitude, 1 << self.fraction)
        if exponent:
            fraction += 1 << self.fraction
        unit = Fraction(2) ** (max(exponent, 1) - self.exponent_max - self.fraction)
        return (1 - 2 * sign) * fraction * unit

    def round(self, exact: Fraction, *, negative_zero: bool = False) -> int:
        """The pattern of the nearest number, ties to even; too large a magnitude gives infinity."""
        negative = exact < 0 or (exact == 0 and negative_zero)
        # Patterns without sign ascend with the magnitude: find the last one that is not above it.
        low, high = 0, self.infinity
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.value(middle) <= abs(exact) else (low, middle)
        successor = self.value(low + 1)  # of the largest number: what the format would go on with
        twice = 2 * abs(exact)
        middle_value = self.value(low) + successor
        up = twice > middle_value or (twice == middle_value and low % 2 == 1)
        return low + up + (negative << (self.width - 1))


FORMATS = {
    "F64": Format(64, 52),
    "F32": Format(32, 23),
    "F16": Format(16, 10),
    "BF16": Format(16, 7),
    "F8_E4M3": Format(8, 3, infinite=False),
    "F8_E5M2": Format(8, 2),
}


def float64(exact: Fraction) -> float:
    """The float64 nearest to ``exact``."""
    return struct.unpack("<d", struct.pack("<Q", FORMATS["F64"].round(exact)))[0]  # type: ignore[no-any-return]


def encode(values: Sequence[float], code: str) -> list[int]:
    """The patterns of ``values`` in a storage format."""
    to = FORMATS[code]
    return [to.round(Fraction(v), negative_zero=math.copysign(1, v) < 0) for v in values]


def weighted_sum(columns: Sequence[Sequence[float]], weights: Sequence[Fraction]) -> list[float]:
    """((w₀x₀ + w₁x₁) + w₂x₂) + … for every element."""
    factors = [float64(w) for w in weights]
    results = []
    for row in zip(*columns, strict=True):
        total = row[0] * factors[0]
        for x, factor in zip(row[1:], factors[1:], strict=True):
            total = total + x * factor
        results.append(total)
    return results


def lane_sum(values: Sequence[float]) -> float:
    """Element i goes to lane i mod 2^14; then halves are added until one lane is left."""
    lanes = [0.0] * LANES
    for i, value in enumerate(values):
        lanes[i % LANES] = lanes[i % LANES] + value
    while len(lanes) > 1:
        half = len(lanes) // 2
        lanes = [lanes[j] + lanes[half + j] for j in range(half)]
    return lanes[0]


def dot(x: Sequence[float], y: Sequence[float]) -> float:
    """The lane sum of the rounded products."""
    return lane_sum([a * b for a, b in zip(x, y, strict=True)])


def exact_sum(values: Sequence[float]) -> float:
    """The sum as a fraction, rounded once."""
    return float64(sum((Fraction(v) for v in values), Fraction(0)))


def exact_dot(x: Sequence[float], y: Sequence[float]) -> float:
    """The sum of the products as a fraction, rounded once."""
    return float64(sum((Fraction(a) * Fraction(b) for a, b in zip(x, y, strict=True)), Fraction(0)))


def mean(values: Sequence[float]) -> float:
    """The mean as a fraction, rounded once."""
    return float64(_mean([Fraction(v) for v in values]))


def variance(values: Sequence[float]) -> float:
    """The mean square distance from the mean as a fraction, rounded once."""
    middle = _mean([Fraction(v) for v in values])
    return float64(_mean([(Fraction(v) - middle) ** 2 for v in values]))


def _mean(values: Sequence[Fraction]) -> Fraction:
    return sum(values, Fraction(0)) / len(values)


def cosine(x: Sequence[float], y: Sequence[float]) -> float:
    """The float64 nearest to Σxy / √(Σx² Σy²): the one in whose cell the true value lies."""
    xy, xx, yy = (
        sum((Fraction(a) * Fraction(b) for a, b in zip(*pair, strict=True)), Fraction(0))
        for pair in ((x, y), (x, x), (y, y))
    )
    scale = 1 << 4500
    root = math.isqrt(xy * xy * scale * scale // (xx * yy))
    low, high = float64(Fraction(root, scale)), float64(Fraction(root + 1, scale))
    exact = Fraction(root, scale) ** 2 * xx * yy == xy * xy
    assert exact or low == high, "the reference is not sure"
    return -low if xy < 0 else low


def largest(values: Sequence[float], k: int) -> set[int]:
    """The indices of the k largest magnitudes; of equal ones the lower indices first."""
    return set(sorted(range(len(values)), key=lambda i: (-abs(values[i]), i))[:k])


def ranked(values: Sequence[float], rank: int) -> float:
    """The element with this place, from 0, in ascending order; a zero is +0."""
    return sorted(values)[rank] + 0.0


def quantile(values: Sequence[float], q: Fraction) -> float:
    """The element with the place ⌊q · (n - 1)⌋."""
    return ranked(values, math.floor(q * (len(values) - 1)))


def median(values: Sequence[float]) -> float:
    """The mean of the middle two, which may be one, rounded once."""
    n = len(values)
    return float64((Fraction(ranked(values, (n - 1) // 2)) + Fraction(ranked(values, n // 2))) / 2) + 0.0


def sqrt(x: float) -> float:
    """The float64 nearest to the square root of ``x`` >= 0."""
    if x == 0:
        return x
    exact = Fraction(x)
    scale = 1 << 1200
    root = math.isqrt(exact.numerator * scale**2 // exact.denominator)
    # A root that is no integer lies strictly above: a quarter more keeps it off every tie.
    return float64(Fraction(4 * root + (Fraction(root, scale) ** 2 != exact), 4 * scale))


def words(key: bytes, start: int, length: int) -> list[int]:
    """32-bit little-endian words ``start`` and on of the key's stream."""
    stream = blake3(b"", key=key).digest(length=4 * (start + length))
    return [int.from_bytes(stream[4 * i : 4 * i + 4], "little") for i in range(start, start + length)]


def keep_mask(key: bytes, start: int, length: int, probability: Fraction) -> list[float]:
    """1.0 where a word is below ⌊p · 2^32⌋."""
    return [float(word < math.floor(probability * 2**32)) for word in words(key, start, length)]


def long_words(key: bytes, kind: str, start: int, length: int) -> list[int]:
    """64-bit little-endian words ``start`` and on of the stream that belongs to a kind of draw."""
    below = blake3(kind.encode(), key=key).digest()
    raw = blake3(b"", key=below).digest(length=8 * length, seek=8 * start)
    return [int.from_bytes(raw[8 * i : 8 * i + 8], "little") for i in range(length)]


def uniform(key: bytes, start: int, length: int) -> list[float]:
    """The upper 53 bits of each word, behind the point."""
    return [float(Fraction(w // 2**11, 2**53)) for w in long_words(key, "uniform", start, length)]


def odd_shares(key: bytes, start: int, length: int) -> list[float]:
    """What normal numbers are quantiles of: the middles of 2^52 equal parts of the unit interval."""
    return [float(Fraction(2 * (w // 2**12) + 1, 2**53)) for w in long_words(key, "normal", start, length)]


def permutation(key: bytes, length: int) -> list[int]:
    """Numbers in the order of their words, equal ones ascending."""
    words_ = long_words(key, "permutation", 0, length)
    return sorted(range(length), key=lambda i: (words_[i], i))


# --- elementary functions: power series in integers of 3000 bits ---------------------------------

_POINT = 3000
_ERROR = Fraction(1, 1 << 1800)
"""Of a series for |x| <= 746: terms stay below 2^1077, and some thousand of them are cut at 2^-3000."""


def _series(x: Fraction, first: int, step: int, alternating: bool) -> tuple[Fraction, Fraction]:
    """Bounds of x^first/first! ± x^(first+step)/(first+step)! + … for x >= 0."""
    fixed = (x.numerator << _POINT) // x.denominator
    term, n, sign, total = (fixed if first else 1 << _POINT), first, 1, 0
    while term:
        total += sign * term
        for factor in range(n + 1, n + step + 1):
            term = (term * fixed >> _POINT) // factor
        n += step
        sign = -sign if alternating else 1
    value = Fraction(total, 1 << _POINT)
    return value - _ERROR, value + _ERROR


def exp_bounds(x: Fraction) -> tuple[Fraction, Fraction]:
    """Two numbers around e^x, for |x| <= 746."""
    return _series(abs(x), 0, 1, alternating=x < 0)


def sin_bounds(x: Fraction) -> tuple[Fraction, Fraction]:
    """Two numbers around sin x, for |x| <= 746."""
    low, high = _series(abs(x), 1, 2, alternating=True)
    return (low, high) if x >= 0 else (-high, -low)


def cos_bounds(x: Fraction) -> tuple[Fraction, Fraction]:
    """Two numbers around cos x, for |x| <= 746."""
    return _series(abs(x), 0, 2, alternating=True)


def cell(y: float) -> tuple[Fraction, Fraction]:
    """The numbers half-way from ``y`` to its neighbours: what lies between rounds to ``y``."""
    below, above = (Fraction(math.nextafter(y, towards)) for towards in (-math.inf, math.inf))
    return (below + Fraction(y)) / 2, (Fraction(y) + above) / 2
