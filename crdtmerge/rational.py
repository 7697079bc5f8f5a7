"""Exact numbers in recipes and manifests: decimal text in, fractions out.

``int(0.29 * 100)`` is 28. A density of 0.29 must keep 29 of 100 elements on every machine, so numbers
that people write are never binary floating point: they are decimal text, read as exact rationals.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Final

from crdtmerge.errors import ParameterError

_DECIMAL: Final = re.compile(r"-?(0|[1-9][0-9]{0,17})(\.[0-9]{0,29}[1-9])?")
_PLAIN: Final = re.compile(r"[+-]?[0-9]{1,18}(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,2})?")


def is_decimal(text: str) -> bool:
    """Whether ``text`` is the one canonical way to write its number (``0.5``; not ``.50``)."""
    return _DECIMAL.fullmatch(text) is not None and text != "-0"


def decimal(number: str | int | float | Fraction) -> str:
    """Return the canonical decimal text of ``number``.

    A float is taken as the shortest decimal that people would write for it: ``0.1`` is one tenth.

    Raises:
        ParameterError: if the number is not finite, not a decimal, or needs more than 18 digits before
            or 30 after the point.
    """
    text = repr(number) if isinstance(number, float) else str(number)
    if isinstance(number, Fraction):
        exact = number
    elif _PLAIN.fullmatch(text):
        exact = Fraction(text)
    else:
        raise ParameterError(f"wanted a decimal number such as 0.25, got {text!r}")
    sign, magnitude = ("-" if exact < 0 else ""), abs(exact)
    scaled = magnitude * 10**30
    if scaled.denominator != 1 or magnitude >= 10**18:
        raise ParameterError(f"{text} has no decimal form with 18 digits before and 30 after the point")
    whole, fraction = divmod(scaled.numerator, 10**30)
    digits = f"{fraction:030d}".rstrip("0")
    return f"{sign}{whole}.{digits}" if digits else f"{sign}{whole}"


def rational(text: str) -> Fraction:
    """Parse canonical decimal text.

    Raises:
        ParameterError: if ``text`` is not canonical.
    """
    if not is_decimal(text):
        raise ParameterError(f"wanted a canonical decimal such as 0.25, got {text!r}")
    return Fraction(text)
