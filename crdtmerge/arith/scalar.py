"""Functions of one number, rounded correctly: the float64 nearest to the true value, ties to even.

A C library may return a neighbour instead, and another one than the next machine's. Here the value is
computed to ever more digits (Ziv's loop) until every number it can still be rounds to the same float64.
The loop ends: apart from the exact cases named below, these functions take rational arguments to
transcendental values, which never lie half-way between two floats.

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
        low, high = nearest(value - doubt), nearest(value + doubt)
        if low == high:
            return low
    raise AssertionError("count() is endless")
