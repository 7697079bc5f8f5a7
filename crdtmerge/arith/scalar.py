"""Functions of one number, rounded correctly: the float64 nearest to the true value, ties to even.

A C library may return a neighbour instead, and another one than the next machine's. Here the value is
computed to ever more digits (Ziv's loop) until every number it can still be rounds to the same float64.
The loop ends: apart from the exact cases named below, these functions take rational arguments to
irrational values, which never lie half-way between two floats.

Each call takes some 50 µs: these are for a handful of coefficients, not for tensors.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from itertools import count
from typing import Any, Final

from mpmath import libmp

from crdtmerge.errors import NonFiniteError, ParameterError

_FIRST_PRECISION: Final = 80
"""Bits: 53 and enough for all but one argument in a hundred thousand."""

_DOUBT_BITS: Final = 10
"""mpmath is good to about one unit in its last place; a thousand are doubted."""

_EXP_OVERFLOWS: Final = 709.782712893384
"""log(2**1024): exp of anything above it, and of nothing below, has no float64."""

_EXP_VANISHES: Final = -746.0
"""Below log(2**-1076): exp rounds to zero. Spares mpmath numbers with 2**1000 digits."""

_POW_OVERFLOWS: Final = 1025.0
_POW_VANISHES: Final = -1077.0
"""Powers of two between which the range of float64 lies, with room for a rough logarithm."""

_POW_GUARD_BITS: Final = 16
"""An error of a logarithm grows 745-fold in the power, so it is taken to more digits."""

_TIE_BITS: Final = 60
"""A number of more significant bits is neither a float64 nor half-way between two."""


def nearest(exact: Fraction) -> float:
    """Return the float64 nearest to ``exact``, ties to even.

    Raises:
        NonFiniteError: if it is beyond the range of float64.
    """
    try:
        return exact.numerator / exact.denominator  # Python divides integers with one rounding
    except OverflowError:
        raise NonFiniteError(f"a number of {exact.numerator.bit_length()} bits exceeds float64") from None


def sqrt(x: float) -> float:
    """Return the square root of ``x`` >= 0.

    Raises:
        ParameterError: if ``x`` is negative or not finite.
    """
    _require(math.isfinite(x) and x >= 0, "sqrt", "x >= 0", x)
    return math.sqrt(x)  # IEEE 754 demands correct rounding of this one


def sin(x: float) -> float:
    """Return the sine of ``x`` radians.

    Raises:
        ParameterError: if ``x`` is not finite.
    """
    _require(math.isfinite(x), "sin", "a finite number", x)
    return x if x == 0 else _round(libmp.mpf_sin, x)


def cos(x: float) -> float:
    """Return the cosine of ``x`` radians.

    Raises:
        ParameterError: if ``x`` is not finite.
    """
    _require(math.isfinite(x), "cos", "a finite number", x)
    return 1.0 if x == 0 else _round(libmp.mpf_cos, x)


def acos(x: float) -> float:
    """Return the angle in [0, π] whose cosine is ``x``.

    Raises:
        ParameterError: if ``x`` is outside [-1, 1].
    """
    _require(-1 <= x <= 1, "acos", "-1 <= x <= 1", x)
    return 0.0 if x == 1 else _round(libmp.mpf_acos, x)


def exp(x: float) -> float:
    """Return e to the power ``x``.

    Raises:
        ParameterError: if ``x`` is not finite.
        NonFiniteError: if the result exceeds float64.
    """
    _require(math.isfinite(x), "exp", "a finite number", x)
    if x > _EXP_OVERFLOWS:
        raise NonFiniteError(f"exp({x!r}) exceeds float64")
    if x < _EXP_VANISHES:
        return 0.0
    return 1.0 if x == 0 else _round(libmp.mpf_exp, x)


def log(x: float) -> float:
    """Return the natural logarithm of ``x`` > 0.

    Raises:
        ParameterError: if ``x`` is not positive and finite.
    """
    _require(math.isfinite(x) and x > 0, "log", "x > 0", x)
    return 0.0 if x == 1 else _round(libmp.mpf_log, x)


def pow(x: float, y: float) -> float:  # noqa: A001 - the field's name; always called as scalar.pow
    """Return ``x`` to the power ``y``, for ``x`` >= 0 or a whole ``y``; 1 for ``y`` = 0, never -0.0.

    Raises:
        ParameterError: if there is no real value, or an argument is not finite.
        NonFiniteError: if the result exceeds float64.
    """
    _require(math.isfinite(x) and math.isfinite(y), "pow", "finite numbers", x if math.isfinite(y) else y)
    _require(x >= 0 or y.is_integer(), "pow", "x >= 0 or a whole exponent", x)
    _require(x != 0 or y >= 0, "pow", "an exponent >= 0 of zero", y)
    if y == 0 or x == 0:
        return 1.0 if y == 0 else 0.0
    sign = -1.0 if x < 0 and y % 2 == 1 else 1.0
    magnitude = _power(abs(x), y)
    return sign * magnitude if magnitude else 0.0


def _power(x: float, y: float) -> float:
    """Return ``x`` to the power ``y``, ``x`` > 0 and ``y`` not 0."""
    size = y * math.log2(x)  # roughly; only what is far beyond the ends of the range is decided by it
    if size > _POW_OVERFLOWS:
        raise NonFiniteError(f"pow({x!r}, {y!r}) exceeds float64")
    if size < _POW_VANISHES:
        return 0.0
    exact = _exact_power(Fraction(x), Fraction(y))
    if exact is not None:
        return nearest(exact)
    exponent = libmp.from_float(y)

    def function(base: Any, precision: int, rounding: str) -> Any:
        logarithm = libmp.mpf_log(base, precision + _POW_GUARD_BITS, rounding)
        return libmp.mpf_exp(libmp.mpf_mul(exponent, logarithm), precision + _POW_GUARD_BITS, rounding)

    return _round(function, x)


def _exact_power(x: Fraction, y: Fraction) -> Fraction | None:
    """Return x to the power y if that is a binary number of few digits: all that Ziv's loop cannot decide.

    With x = m · 2^e, m odd, and y = n / 2^j in lowest terms: the power is rational iff x has a rational
    2^j-th root. It is then binary iff m = 1 or n > 0, and has as many digits as m^n.
    """
    while y.denominator > 1:
        root = Fraction(math.isqrt(x.numerator), math.isqrt(x.denominator))
        if root * root != x:
            return None
        x, y = root, 2 * y
    odd = x.numerator // (x.numerator & -x.numerator)
    if odd == 1 and x.denominator & (x.denominator - 1) == 0:
        return x**y.numerator
    if y < 0 or y * math.log2(odd) > _TIE_BITS:
        return None
    return x**y.numerator


def _require(holds: bool, name: str, wanted: str, got: float) -> None:
    if not holds:
        raise ParameterError(f"{name}: wanted {wanted}, got {got!r}")


def _round(function: Callable[[Any, int, str], Any], x: float) -> float:
    argument = libmp.from_float(x)
    for doublings in count():
        precision = _FIRST_PRECISION << doublings
        numerator, denominator = libmp.to_rational(function(argument, precision, libmp.round_nearest))
        value = Fraction(int(numerator), int(denominator))
        doubt = abs(value) / (1 << (precision - _DOUBT_BITS))
        low, high = _nearest_or_infinite(value - doubt), _nearest_or_infinite(value + doubt)
        if low == high:
            if math.isinf(low):
                raise NonFiniteError(f"a function of {x!r} exceeds float64")
            return low
    raise AssertionError("count() is endless")


def _nearest_or_infinite(exact: Fraction) -> float:
    try:
        return nearest(exact)
    except NonFiniteError:
        return math.inf if exact > 0 else -math.inf
