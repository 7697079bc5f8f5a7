"""Functions of tensors stay within their stated errors wherever their arguments lie."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final

import mpmath
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from crdtmerge import arith
from crdtmerge.arith import Tensor, draw, functions
from crdtmerge.errors import NonFiniteError, ParameterError
from reference import functions as reference

EXP_MAX: Final = 709.782712893384
LN2: Final = math.log(2)

FINITE = st.floats(allow_nan=False, allow_infinity=False)
TINY = st.floats(-1e-300, 1e-300)
HALVES = st.integers(-1074, 1023).map(lambda n: (n + 0.5) * LN2)  # where the reduction changes over
ARGUMENTS = FINITE | TINY | st.floats(-746, EXP_MAX) | st.floats(-1, 1) | st.floats(-40, 40) | HALVES
NEGATIVE = st.floats(-1.7e308, EXP_MAX) | ARGUMENTS.filter(lambda x: x <= EXP_MAX)
POSITIVE = (
    st.floats(5e-324, allow_infinity=False, allow_nan=False)
    | st.floats(0.25, 4)
    | st.floats(1 - 1e-8, 1 + 1e-8)
    | st.floats(5e-324, 1e-307)
    | st.sampled_from([math.sqrt(0.5), math.sqrt(2), math.nextafter(math.sqrt(0.5), 0), 1.0])
)


def float64(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def true(function: Callable[[Any], Any], x: float) -> Any:
    with mpmath.workprec(2400):
        return function(mpmath.mpf(x))


def errors(function: Callable[[Tensor], Tensor], exact: Callable[[Any], Any], xs: Sequence[float]) -> float:
    """The largest distance from the true value, in ulps of it."""
    found = []
    with mpmath.workprec(2400):
        for x, y in zip(xs, function(float64(*xs)).tolist(), strict=True):
            value = exact(mpmath.mpf(x))
            assert y or math.copysign(1, y) == 1, "negative zero"
            found.append(float(abs(y - value) / math.ulp(float(value))))
    return max(found, default=0.0)


def logistic(x: Any) -> Any:
    return 1 / (1 + mpmath.exp(-x))


@given(st.lists(NEGATIVE, max_size=8), st.lists(POSITIVE, max_size=8), st.lists(ARGUMENTS, max_size=8))
def test_every_bit_is_that_of_the_definition(
    low: list[float], positive: list[float], any_: list[float]
) -> None:
    assert arith.exp(float64(*low)).tolist() == [reference.exp(x) for x in low]
    assert arith.log(float64(*positive)).tolist() == [reference.log(x) for x in positive]
    assert arith.tanh(float64(*any_)).tolist() == [reference.tanh(x) for x in any_]
    assert arith.sigmoid(float64(*any_)).tolist() == [reference.sigmoid(x) for x in any_]
    if any_:
        assert arith.softmax(float64(*any_)).tolist() == reference.softmax(any_)


@pytest.mark.parametrize("n", [1, 2, 3, 7, 8, 9, 63, 64, 65])
def test_softmax_of_any_length_sums_by_halving(n: int) -> None:
    x = draw.uniform(bytes([n]) * 32, 0, n) * 9.0
    assert arith.softmax(x).tolist() == reference.softmax(x.tolist())


@given(st.lists(NEGATIVE, max_size=8))
def test_exp_errs_by_less_than_an_ulp_and_a_half(xs: list[float]) -> None:
    assert errors(arith.exp, mpmath.exp, [x for x in xs if x >= -800]) < 1.5
    assert arith.exp(float64(*[x for x in xs if x < -746])).count_nonzero() == 0


@given(st.lists(POSITIVE, max_size=8))
def test_log_errs_by_less_than_an_ulp(xs: list[float]) -> None:
    assert errors(arith.log, mpmath.log, xs) < 1


@given(st.lists(ARGUMENTS, max_size=8))
def test_tanh_errs_by_less_than_four_ulps(xs: list[float]) -> None:
    assert errors(arith.tanh, mpmath.tanh, [x for x in xs if abs(x) < 800]) < 4
    far = [x for x in xs if abs(x) >= 20]
    assert arith.tanh(float64(*far)).tolist() == [math.copysign(1.0, x) for x in far]


@given(st.lists(ARGUMENTS, max_size=8))
def test_the_logistic_function_errs_by_less_than_three_ulps(xs: list[float]) -> None:
    assert errors(arith.sigmoid, logistic, [x for x in xs if abs(x) < 800]) < 3
    far = [x for x in xs if abs(x) >= 800]
    assert arith.sigmoid(float64(*far)).tolist() == [float(x > 0) for x in far]


def test_no_error_of_a_hundred_thousand_is_larger_than_stated() -> None:
    # Bounds that single examples would hardly reach; libm is good to an ulp, so one is left for it.
    unit = draw.words(bytes(32), 0, 100_000) * 2.0**-31 - 1.0
    for function, libm, scale, bound in (
        (arith.exp, math.exp, 1.0, 1.5),
        (arith.exp, math.exp, 700.0, 1.5),
        (arith.tanh, math.tanh, 1.0, 4),
        (arith.tanh, math.tanh, 19.0, 4),
    ):
        x = unit * scale
        wanted = [libm(v) for v in x.tolist()]
        got = function(x).tolist()
        worst = max(abs(a - b) / math.ulp(b) for a, b in zip(got, wanted, strict=True))
        assert 0 < worst < bound + 1


@given(st.lists(ARGUMENTS, min_size=1, max_size=9))
def test_softmax_errs_by_less_than_it_states(xs: list[float]) -> None:
    got = arith.softmax(float64(*xs)).tolist()
    n, largest = len(xs), max(xs)
    with mpmath.workprec(2400):
        powers = [mpmath.exp(max(mpmath.mpf(x) - mpmath.mpf(largest), -10_000)) for x in xs]
        for x, y, power in zip(xs, got, powers, strict=True):
            value = power / sum(powers)
            allowed = (min(largest - x, 800) + 2 * math.log2(n) + 8) * 2.0**-53
            assert abs(y - value) <= value * allowed + 2.0**-1073


@given(st.integers(1, 40), st.integers(1, 5))
def test_softmax_of_rows_is_softmax_of_each_row(columns: int, rows: int) -> None:
    x = (draw.words(bytes(32), 0, rows * columns) * 2.0**-28).reshape(rows, columns)
    assert torch.equal(arith.softmax(x), torch.stack([arith.softmax(row) for row in x]))
    wide = arith.softmax(x.reshape(1, rows, 1, columns))
    assert torch.equal(wide.reshape(rows, columns), arith.softmax(x))


def test_softmax_of_equals_is_uniform_and_of_distant_numbers_a_choice() -> None:
    assert arith.softmax(float64(-7.5, -7.5, -7.5, -7.5)).tolist() == [0.25] * 4
    assert arith.softmax(float64(-1.7e308, 1.7e308)).tolist() == [0.0, 1.0]
    assert arith.softmax(float64(3.0)).tolist() == [1.0]
    assert arith.softmax(torch.empty(0, 3, dtype=torch.float64)).shape == (0, 3)
    with pytest.raises(ParameterError, match=r"\[2, 0\]"):
        arith.softmax(torch.empty(2, 0, dtype=torch.float64))


def test_exact_cases_are_exact() -> None:
    zeros = float64(0.0, -0.0)
    assert arith.exp(zeros).tolist() == [1.0, 1.0]
    assert arith.sigmoid(zeros).tolist() == [0.5, 0.5]
    assert str(arith.tanh(zeros).tolist()) == str([0.0, 0.0])
    assert str(arith.log(float64(1.0)).tolist()) == str([0.0])
    assert arith.tanh(float64(5e-324, -5e-324, 1e-310)).tolist() == [5e-324, -5e-324, 1e-310]


@given(st.lists(ARGUMENTS, max_size=8))
def test_tanh_is_odd(xs: list[float]) -> None:
    assert torch.equal(arith.tanh(-float64(*xs)), -arith.tanh(float64(*xs)))


@pytest.mark.parametrize("n", [0, 1, (1 << 14) - 1, 1 << 14, (1 << 14) + 1, 40_000])
def test_tiles_and_alignment_do_not_show(n: int) -> None:
    x = draw.words(bytes(32), 0, n + 3)[3:] * 2.0**-28 - 8.0
    for function in (arith.exp, lambda t: arith.log(t + 9.0), arith.tanh, arith.sigmoid):
        parts = [function(x[start : start + 1013].clone()) for start in range(0, n, 1013)]
        assert torch.equal(torch.cat([*parts, x[:0]]), function(x))


def test_arguments_are_left_alone() -> None:
    x = float64(0.5, -2.0, 3.0)
    for function in (arith.exp, arith.tanh, arith.sigmoid, arith.softmax):
        function(x)
    assert x.tolist() == [0.5, -2.0, 3.0]


def test_what_exceeds_float64_is_refused() -> None:
    assert math.isfinite(arith.exp(float64(EXP_MAX)).item())
    for beyond in (math.nextafter(EXP_MAX, 800), 1.7e308, math.nan):
        with pytest.raises(NonFiniteError):
            arith.exp(float64(0.0, beyond))


@pytest.mark.parametrize("bad", [0.0, -0.0, -5e-324, -1.0, math.nan])
def test_logarithms_of_what_is_not_positive_are_refused(bad: float) -> None:
    with pytest.raises(ParameterError, match="x > 0"):
        arith.log(float64(1.0, bad))


def test_the_constants_are_those_of_the_specification() -> None:
    assert functions._EXP[0].hex() == "0x1.6124613a86d09p-33"
    assert functions._EXP[-3:] == (1 / 6, 0.5, 1.0)
    assert len(functions._EXP) == 13
    assert functions._LOG[0].hex() == "0x1.642c8590b2164p-4"
    assert functions._LOG[-2:] == (0.4, 2 / 3)
    assert len(functions._LOG) == 11
    total = true(mpmath.log, 2.0) - mpmath.mpf(functions._LN2_HIGH)
    assert float(total) == functions._LN2_LOW
