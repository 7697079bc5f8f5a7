"""Functions of one number give the float64 nearest to the true value."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import mpmath
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtmerge.arith import nearest, scalar
from crdtmerge.errors import NonFiniteError, ParameterError
from reference import arith as reference

POSITIVE = st.floats(5e-324, allow_infinity=False, allow_nan=False)
ANGLES = st.floats(-100, 100)


def between(bounds: tuple[Fraction, Fraction]) -> float:
    low, high = map(reference.float64, bounds)
    assert low == high, "the reference is not sure"
    return low


@given(st.fractions())
def test_a_fraction_is_rounded_to_the_nearest_float(f: Fraction) -> None:
    assert nearest(f) == reference.float64(f)


@given(st.floats(5e-324, 1e308), st.integers(-1, 1))
def test_a_fraction_half_way_goes_to_the_even_float(x: float, nudge: int) -> None:
    tie = reference.cell(x)[1] + Fraction(nudge, 1 << 1200)
    assert nearest(tie) == reference.float64(tie)
    assert nearest(-tie) == -nearest(tie)


def test_a_fraction_beyond_float64_is_refused() -> None:
    half_way = Fraction(2) ** 1024 - Fraction(2) ** 970
    assert nearest(half_way - 1) == math.nextafter(math.inf, 0)
    for beyond in (half_way, -half_way, Fraction(10) ** 5000):
        with pytest.raises(NonFiniteError):
            nearest(beyond)


@given(POSITIVE)
def test_square_roots(x: float) -> None:
    assert scalar.sqrt(x) == reference.sqrt(x)


@given(ANGLES | st.floats(-1e-200, 1e-200))
def test_sines_and_cosines(x: float) -> None:
    assert scalar.cos(x) == between(reference.cos_bounds(Fraction(x)))
    assert x == 0 or scalar.sin(x) == between(reference.sin_bounds(Fraction(x)))


@given(st.floats(-744, 709.75) | st.floats(-1e-10, 1e-10))
def test_exponentials(x: float) -> None:
    assert scalar.exp(x) == between(reference.exp_bounds(Fraction(x)))


@given(POSITIVE | st.floats(0.5, 2))
def test_logarithms(x: float) -> None:
    if x != 1:
        below, above = reference.cell(scalar.log(x))
        assert reference.exp_bounds(below)[1] < x < reference.exp_bounds(above)[0]


@given(st.floats(-1, 1, exclude_min=True, exclude_max=True))
def test_arc_cosines(x: float) -> None:
    below, above = reference.cell(scalar.acos(x))
    assert reference.cos_bounds(above)[1] < x < reference.cos_bounds(below)[0]


BASES = (
    POSITIVE
    | st.floats(0.99, 1.01)
    | st.integers(1, 2000).map(float)
    | st.integers(1, 99).map(lambda n: n**4.0)
)
EXPONENTS = st.floats(-4, 4) | st.integers(-40, 40).map(float) | st.integers(-99, 99).map(lambda n: n / 32)


@given(BASES, EXPONENTS)
def test_powers(x: float, y: float) -> None:
    if abs(y * math.log2(x)) < 1000:
        with mpmath.workprec(1500):
            numerator, denominator = mpmath.libmp.to_rational((mpmath.mpf(x) ** mpmath.mpf(y))._mpf_)
        assert scalar.pow(x, y) == reference.float64(Fraction(int(numerator), int(denominator)))


@given(st.integers(-(2**53), 2**53), st.integers(0, 12))
def test_whole_powers_of_whole_numbers(x: int, y: int) -> None:
    assert scalar.pow(float(x), float(y)) == reference.float64(Fraction(x**y))


@given(POSITIVE)
def test_the_power_of_a_half_is_the_square_root(x: float) -> None:
    assert scalar.pow(x, 0.5) == scalar.sqrt(x)
    assert scalar.pow(x, 1.0) == x


def test_powers_half_way_between_two_floats_are_decided() -> None:
    # (2^27 - 1)² has 54 bits: a tie, which no number of digits in Ziv's loop would decide.
    for x, y in ((134217727.0, 2.0), (134217727.0**2, 1.0), (3.0, 34.0), (9.0, 17.0), (3.0**33, 1.0)):
        assert scalar.pow(x, y) == reference.float64(Fraction(x) ** int(y))
    assert scalar.pow(2.0**52 + 2.0**26 + 0.25, 0.5) == 2.0**26 + 0.5
    assert [scalar.pow(4.0, -0.5), scalar.pow(81.0, 0.75), scalar.pow(2.0**-1056, 1 / 32)] == [
        0.5,
        27.0,
        2.0**-33,
    ]


def test_the_ends_of_the_range_of_powers() -> None:
    largest = math.nextafter(math.inf, 0)
    assert scalar.pow(largest, 1.0) == largest
    assert scalar.pow(2.0, -1074.0) == scalar.pow(5e-324, 1.0) == 5e-324
    assert scalar.pow(2.0, -1075.0) == scalar.pow(0.5, 1e300) == 0.0
    assert scalar.pow(2.0**-537 * 1.0000001, 2.0) == 5e-324
    assert scalar.pow(math.nextafter(1.0, 2.0), 5e-324) == 1.0
    for x, y in ((2.0, 1024.0), (largest, 1.0000000001), (10.0, 1e300), (5e-324, -1.0)):
        with pytest.raises(NonFiniteError):
            scalar.pow(x, y)


def test_powers_of_zero_one_and_negative_numbers() -> None:
    assert [scalar.pow(0.0, 0.0), scalar.pow(-0.0, 0.0), scalar.pow(1.0, 1e308), scalar.pow(-7.5, 0.0)] == [
        1.0
    ] * 4
    assert [scalar.pow(-2.0, 3.0), scalar.pow(-2.0, -2.0), scalar.pow(-3.0, 1.0)] == [-8.0, 0.25, -3.0]
    for zero in (scalar.pow(-0.0, 3.0), scalar.pow(-0.5, 3001.0), scalar.pow(0.0, 5e-324)):
        assert math.copysign(1.0, zero) == 1.0
        assert zero == 0.0


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (-2.0, 0.5),
        (0.0, -1.0),
        (-0.0, -2.0),
        (math.nan, 0.0),
        (1.0, math.nan),
        (math.inf, 1.0),
        (1.0, -math.inf),
    ],
)
def test_powers_without_a_value_are_refused(x: float, y: float) -> None:
    with pytest.raises(ParameterError, match="pow"):
        scalar.pow(x, y)


def test_exact_cases_are_exact() -> None:
    assert [scalar.sqrt(float(n * n)) for n in range(1000)] == [float(n) for n in range(1000)]
    assert (scalar.cos(0.0), scalar.exp(0.0), scalar.exp(-0.0)) == (1.0, 1.0, 1.0)
    assert (scalar.acos(1.0), scalar.log(1.0)) == (0.0, 0.0)
    for zero in (0.0, -0.0):
        assert (
            math.copysign(1, scalar.sin(zero))
            == math.copysign(1, scalar.sqrt(zero))
            == math.copysign(1, zero)
        )


def test_known_values() -> None:
    assert scalar.acos(-1.0) == math.pi
    assert scalar.acos(0.0) == math.pi / 2
    assert scalar.exp(1.0) == math.e
    assert scalar.sin(1e22) == -0.8522008497671888  # where careless reduction of the argument fails
    assert scalar.sin(5e-324) == 5e-324
    assert scalar.cos(5e-324) == 1.0


@pytest.mark.parametrize(
    ("function", "bounds", "x"),
    [
        (scalar.exp, reference.exp_bounds, "0x1.9e9cbbfd6080bp-31"),
        (scalar.sin, reference.sin_bounds, "0x1.598bae9e632f6p-7"),
        (scalar.cos, reference.cos_bounds, "0x1.34ec2f9fc9c00p+1"),
    ],
)
def test_values_almost_half_way_between_two_floats_are_decided(
    function: Callable[[float], float], bounds: Callable[[Fraction], tuple[Fraction, Fraction]], x: str
) -> None:
    # Lefèvre and Muller, "Worst cases for correct rounding of the elementary functions in double
    # precision", ARITH 2001: after the 53rd bit comes one and then 58 or more of the other kind.
    argument = float.fromhex(x)
    true, _ = exact = bounds(Fraction(argument))
    y = function(argument)
    assert y == between(exact)
    assert min(abs(true - edge) for edge in reference.cell(y)) < Fraction(math.ulp(y)) / (1 << 57)


def test_arc_cosines_almost_half_way_between_two_floats_are_decided() -> None:
    for x in ("0x1.fd737be914578p-11", "-0x1.124411a0ec32ep-5"):
        below, above = reference.cell(scalar.acos(float.fromhex(x)))
        assert reference.cos_bounds(above)[1] < float.fromhex(x) < reference.cos_bounds(below)[0]


def test_the_ends_of_the_range_of_exp() -> None:
    assert scalar.exp(709.782712893384) < math.inf
    with pytest.raises(NonFiniteError):
        scalar.exp(math.nextafter(709.782712893384, 1000))
    with pytest.raises(NonFiniteError):
        scalar.exp(1.7e308)
    assert scalar.exp(-745.1332191019411) == 5e-324
    assert scalar.exp(-745.1332191019413) == 0.0
    assert scalar.exp(-746.5) == scalar.exp(-1.7e308) == 0.0


@pytest.mark.parametrize(
    ("function", "x"),
    [
        (scalar.sqrt, -5e-324),
        (scalar.log, 0.0),
        (scalar.log, -1.0),
        (scalar.acos, math.nextafter(1.0, 2.0)),
        (scalar.acos, -1.5),
        *[
            (function, x)
            for function in (scalar.sqrt, scalar.sin, scalar.cos, scalar.acos, scalar.exp, scalar.log)
            for x in (math.nan, math.inf, -math.inf)
        ],
    ],
)
def test_arguments_without_a_value_are_refused(function: Callable[[float], float], x: float) -> None:
    with pytest.raises(ParameterError, match=function.__name__):
        function(x)
