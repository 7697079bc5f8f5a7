"""An exact sum forgets order, grouping and whatever was taken out again."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from crdtmerge.arith import ExactSum, Tensor
from crdtmerge.errors import NonFiniteError
from reference import arith as reference

FINITE = st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.lists(
    FINITE | st.sampled_from([5e-324, -5e-324, 2.0**-1022, 1.7e308, -1.7e308, -0.0]), max_size=50
)


def float64(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def summed(*tiles: list[float]) -> ExactSum:
    total = ExactSum()
    for tile in tiles:
        total.feed(float64(tile))
    return total


@given(VALUES)
def test_the_sum_is_exact(values: list[float]) -> None:
    assert summed(values).exact == sum((Fraction(v) for v in values), Fraction(0))


@given(VALUES)
def test_the_result_is_the_nearest_float_to_the_sum(values: list[float]) -> None:
    if not math.isfinite(wanted := reference.exact_sum(values)):
        with pytest.raises(NonFiniteError):
            summed(values).result()
    else:
        assert summed(values).result() == wanted


@given(VALUES, VALUES, VALUES)
def test_order_and_grouping_do_not_show(a: list[float], b: list[float], c: list[float]) -> None:
    merged = summed(c)
    merged.merge(summed(b, a))
    assert merged.exact == summed(a, b, c).exact == summed((a + b + c)[::-1]).exact


@given(VALUES, VALUES)
def test_what_is_removed_was_never_there(kept: list[float], gone: list[float]) -> None:
    total = summed(kept, gone)
    total.remove(float64(gone))
    assert total.exact == summed(kept).exact


def test_a_merge_leaves_the_other_sum_alone() -> None:
    other = summed([1.0])
    summed([2.0]).merge(other)
    assert other.exact == 1


@pytest.mark.parametrize("n", [1, (1 << 16) - 1, 1 << 16, (1 << 16) + 1])
@pytest.mark.parametrize(
    "value", [math.nextafter(1.0, 0.0), -math.nextafter(2.0, 0.0), 1.7976931348623157e308, 5e-324]
)
def test_the_worst_tiles_do_not_overflow_their_slices(n: int, value: float) -> None:
    assert summed([value] * n).exact == n * Fraction(value)


def test_a_tile_may_span_the_whole_range() -> None:
    values = [math.ldexp(1.0, exponent) for exponent in range(-1074, 1024)]
    assert summed(values).exact == sum(Fraction(2) ** exponent for exponent in range(-1074, 1024))


def test_cancellation_leaves_what_is_left() -> None:
    assert summed([1e308, 5e-324, 1.0, -1e308, -1.0]).result() == 5e-324


def test_the_sum_of_nothing_is_zero() -> None:
    assert math.copysign(1.0, summed([]).result()) == 1.0
    assert math.copysign(1.0, summed([-0.0]).result()) == 1.0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_tile_that_is_not_finite_is_refused_as_a_whole(bad: float) -> None:
    total = summed([1.0])
    for take in (total.feed, total.remove):
        with pytest.raises(NonFiniteError):
            take(float64([2.0, bad]))
    assert total.exact == 1


def test_sums_beyond_float64_come_back_when_the_excess_is_removed() -> None:
    total = summed([1.7e308, 1.7e308])
    with pytest.raises(NonFiniteError):
        total.result()
    total.remove(float64([1.7e308]))
    assert total.result() == 1.7e308
