"""Dot products, means, variances and cosines that are rounded once, at the very end.

A product of two float64 is the sum of two float64 (Dekker 1971, *A floating-point technique for extending
the available precision*): the rounded product p and what rounding took from it,

    x · y = p + e        each number cut in two halves of 26 bits, whose products are exact

and sums of such p and e are exact integers in `exact`. So everything here is the float64 nearest to the
true value of a *multiset* of elements (or of pairs): order, tiles and grouping cannot show, because there
is nothing left that they could decide. What was fed can be removed, and accumulators merge. What rounds to
zero is 0.0, whatever its sign was.

Exponents need care only at the ends of the range: where p would overflow or e would vanish, elements are
scaled by a power of two first, band by band.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Final

import torch
from torch import Tensor

from crdtmerge.arith.exact import ExactSum
from crdtmerge.arith.scalar import nearest
from crdtmerge.errors import NonFiniteError, ParameterError

_TILE: Final = 1 << 14
"""Elements worked on together, so that what is made from them stays in the cache."""

_CUT: Final = float((1 << 27) + 1)
"""x · this - (x · this - x) is x rounded to 26 bits (Veltkamp)."""

_EDGE: Final = 2.0**340
_BAND: Final = 700
"""Magnitudes below 1 / edge are scaled by 2^band and those from edge on by 2^-band: then all are between
2^-374 and 2^360, products between 2^-748 and 2^720, and what rounding took from them is a multiple of
2^-854. Nothing overflows or vanishes."""


class ExactDot:
    """A multiset of pairs' sum of products, exact; order-free, and what was fed can be removed."""

    __slots__ = ("_sums",)

    def __init__(self) -> None:
        self._sums: dict[int, ExactSum] = {}  # by the power of two that scales what was fed

    def feed(self, x: Tensor, y: Tensor) -> None:
        """Add the products of ``x`` and ``y``, both [n] float64.

        Raises:
            ParameterError: if the lengths differ.
            NonFiniteError: if an element is not finite; then nothing is added.
        """
        self.merge(_products(x, y))

    def remove(self, x: Tensor, y: Tensor) -> None:
        """Take the products of ``x`` and ``y`` out again.

        Raises:
            ParameterError: if the lengths differ.
            NonFiniteError: if an element is not finite; then nothing is removed.
        """
        self.merge(_products(-x, y))

    def merge(self, other: ExactDot) -> None:
        """Add all that ``other`` holds."""
        for power, total in other._sums.items():
            self._sums.setdefault(power, ExactSum()).merge(total)

    @property
    def exact(self) -> Fraction:
        """The sum itself."""
        return sum((t.exact * Fraction(2) ** power for power, t in self._sums.items()), Fraction())

    def result(self) -> float:
        """Return the float64 nearest to the sum, ties to even.

        Raises:
            NonFiniteError: if it exceeds float64.
        """
        return nearest(self.exact) + 0.0


class Moments:
    """Mean and variance of a multiset of elements; order-free, and what was fed can be removed."""

    __slots__ = ("_squares", "_sum", "count")

    def __init__(self) -> None:
        self.count = 0
        self._sum, self._squares = ExactSum(), ExactDot()

    def feed(self, values: Tensor) -> None:
        """Take [n] float64 into account.

        Raises:
            NonFiniteError: if an element is not finite; then none is taken.
        """
        self._sum.feed(values)
        self._squares.feed(values, values)
        self.count += len(values)

    def remove(self, values: Tensor) -> None:
        """Forget [n] float64.

        Raises:
            NonFiniteError: if an element is not finite; then none is forgotten.
        """
        self._sum.remove(values)
        self._squares.remove(values, values)
        self.count -= len(values)

    def merge(self, other: Moments) -> None:
        """Take into account all that ``other`` has."""
        self._sum.merge(other._sum)
        self._squares.merge(other._squares)
        self.count += other.count

    def mean(self) -> float:
        """Return the float64 nearest to Σx / n.

        Raises:
            ParameterError: if nothing was fed.
        """
        return nearest(self._sum.exact / self._some()) + 0.0

    def variance(self) -> float:
        """Return the float64 nearest to Σ(x - m)² / n with m the exact mean: of the population, never < 0.

        Raises:
            ParameterError: if nothing was fed.
            NonFiniteError: if it exceeds float64.
        """
        count = self._some()
        return nearest(self._squares.exact / count - (self._sum.exact / count) ** 2)

    def _some(self) -> int:
        if self.count < 1:
            raise ParameterError("nothing has neither mean nor variance")
        return self.count


class Cosine:
    """The cosine of the angle between two streams; order-free, and what was fed can be removed."""

    __slots__ = ("_xx", "_xy", "_yy")

    def __init__(self) -> None:
        self._xx, self._xy, self._yy = ExactDot(), ExactDot(), ExactDot()

    def feed(self, x: Tensor, y: Tensor) -> None:
        """Take the next elements of both streams into account, both [n] float64.

        Raises:
            ParameterError: if the lengths differ.
            NonFiniteError: if an element is not finite; then none is taken.
        """
        self._xy.feed(x, y)
        self._xx.feed(x, x)
        self._yy.feed(y, y)

    def remove(self, x: Tensor, y: Tensor) -> None:
        """Forget elements of both streams.

        Raises:
            ParameterError: if the lengths differ.
            NonFiniteError: if an element is not finite; then none is forgotten.
        """
        self._xy.remove(x, y)
        self._xx.remove(x, x)
        self._yy.remove(y, y)

    def merge(self, other: Cosine) -> None:
        """Take into account all that ``other`` has."""
        self._xy.merge(other._xy)
        self._xx.merge(other._xx)
        self._yy.merge(other._yy)

    def result(self) -> float:
        """Return the float64 nearest to Σxy / √(Σx² Σy²), which is in [-1, 1].

        Raises:
            ParameterError: if one of the streams is zero, so that there is no angle.
        """
        xy, norms = self._xy.exact, self._xx.exact * self._yy.exact
        if norms == 0:
            raise ParameterError("a stream of zeros has no direction")
        return (1 if xy > 0 else -1) * _root(xy * xy / norms) + 0.0 if xy else 0.0


def exact_dot(x: Tensor, y: Tensor) -> float:
    """Return the float64 nearest to the sum of the products of two [n] float64."""
    total = ExactDot()
    total.feed(x, y)
    return total.result()


def exact_squared_norm(x: Tensor) -> float:
    """Return the float64 nearest to the sum of the squares of [n] float64."""
    return exact_dot(x, x)


def mean(x: Tensor) -> float:
    """Return the float64 nearest to the mean of [n] float64, n >= 1.

    Raises:
        ParameterError: if there are no elements.
    """
    if not len(x):
        raise ParameterError("nothing has no mean")
    total = ExactSum()
    total.feed(x)
    return nearest(total.exact / len(x)) + 0.0


def variance(x: Tensor) -> float:
    """Return the float64 nearest to the variance (divisor n) of [n] float64, n >= 1."""
    moments = Moments()
    moments.feed(x)
    return moments.variance()


def cosine(x: Tensor, y: Tensor) -> float:
    """Return the float64 nearest to the cosine of the angle between two [n] float64."""
    angle = Cosine()
    angle.feed(x, y)
    return angle.result()


def _products(x: Tensor, y: Tensor) -> ExactDot:
    if len(x) != len(y):
        raise ParameterError(f"a dot product of {len(x)} and {len(y)} elements")
    dot = ExactDot()
    for start in range(0, len(x), _TILE):
        y_bands = _bands(y[start : start + _TILE])
        for x_power, x_band in _bands(x[start : start + _TILE]).items():
            for y_power, y_band in y_bands.items():
                total = dot._sums.setdefault(x_power + y_power, ExactSum())
                for part in _two_products(x_band, y_band):
                    total.feed(part)
    return dot


def _bands(x: Tensor) -> dict[int, Tensor]:
    """Return tensors of moderate magnitudes that sum, each times 2 to its key, to ``x``."""
    magnitudes = x.abs()
    largest = magnitudes.amax().item()
    if not math.isfinite(largest):
        raise NonFiniteError("a dot product was fed a value that is not finite")
    if largest < _EDGE and magnitudes.amin().item() >= 1.0 / _EDGE:
        return {0: x}
    small = x * (magnitudes < 1.0 / _EDGE).double()
    large = x * (magnitudes >= _EDGE).double()
    # Zeros are small, and belong to no band.
    bands = {0: x - small - large} if largest >= 1.0 / _EDGE else {}
    if torch.count_nonzero(small):
        bands[-_BAND] = small * 2.0**_BAND
    if largest >= _EDGE:
        bands[_BAND] = large * 2.0**-_BAND
    return bands


def _two_products(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return the rounded products and, exactly, what rounding took from them."""
    product = x * y
    (x_high, x_low), (y_high, y_low) = _halves(x), _halves(y)
    # Each of the four sums is exact: the order is Dekker's.
    rest = x_high * y_high - product
    rest += x_high * y_low
    rest += x_low * y_high
    rest += x_low * y_low
    return product, rest


def _halves(x: Tensor) -> tuple[Tensor, Tensor]:
    scaled = x * _CUT
    high = scaled - (scaled - x)
    return high, x - high


def _root(square: Fraction) -> float:
    """Return the float64 nearest to the square root of 0 < ``square`` <= 1."""
    # An integer root of 60 bits or more and a sticky bit below it: one rounding is left.
    shift = 60 + max(0, square.denominator.bit_length() - square.numerator.bit_length()) // 2
    scaled, rest = divmod(square.numerator << (2 * shift), square.denominator)
    root = math.isqrt(scaled)
    sticky = rest != 0 or root * root != scaled
    return nearest(Fraction(2 * root + sticky, 1 << (shift + 1)))
