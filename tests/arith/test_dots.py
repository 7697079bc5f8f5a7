"""Means, variances, dot products and cosines are the nearest floats to the true ones, in any order."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from crdtmerge import arith
from crdtmerge.arith import Cosine, ExactDot, Moments, Tensor, draw
from crdtmerge.errors import NonFiniteError, ParameterError
from reference import arith as reference

EDGES = [0.0, -0.0, 5e-324, -5e-324, 2.0**-1022, 1.7976931348623157e308, -1.7e308, 2.0**340, 2.0**-340, 1.0]
EDGES += [math.nextafter(2.0**340, 0), math.nextafter(2.0**-340, 0), 1 + 2.0**-52, -1 + 2.0**-53]
NUMBERS = st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from(EDGES) | st.floats(-2, 2)
PAIRS = st.lists(st.tuples(NUMBERS, NUMBERS), max_size=30)
VALUES = st.lists(NUMBERS, min_size=1, max_size=30)

Pairs = list[tuple[float, float]]


def columns(pairs: Pairs) -> tuple[Tensor, Tensor]:
    both = torch.tensor(pairs, dtype=torch.float64).reshape(-1, 2)
    return both[:, 0].contiguous(), both[:, 1].contiguous()


def fed(*tiles: Pairs) -> ExactDot:
    total = ExactDot()
    for tile in tiles:
        total.feed(*columns(tile))
    return total


def or_infinite(compute: Callable[[], float]) -> float:
    try:
        return compute()
    except NonFiniteError:
        return math.inf


@given(PAIRS)
def test_the_dot_product_is_exact_even_where_single_products_overflow_or_vanish(pairs: Pairs) -> None:
    assert fed(pairs).exact == sum((Fraction(x) * Fraction(y) for x, y in pairs), Fraction())


@given(PAIRS)
def test_the_dot_product_is_rounded_once(pairs: Pairs) -> None:
    x, y = columns(pairs)
    wanted = reference.exact_dot(x.tolist(), y.tolist())
    assert or_infinite(lambda: arith.exact_dot(x, y)) == (wanted if math.isfinite(wanted) else math.inf)


def test_large_products_may_cancel() -> None:
    x = torch.tensor([1e300, 1e300, 5e-324], dtype=torch.float64)
    y = torch.tensor([1e300, -1e300, 1e300], dtype=torch.float64)
    assert arith.exact_dot(x, y) == 5e-324 * 1e300
    with pytest.raises(NonFiniteError):
        arith.exact_squared_norm(x)


@given(PAIRS, PAIRS, PAIRS)
def test_order_grouping_and_what_was_removed_do_not_show(a: Pairs, b: Pairs, c: Pairs) -> None:
    merged = fed(c)
    merged.merge(fed(b, a))
    assert merged.exact == fed(a, b, c).exact == fed((a + b + c)[::-1]).exact
    merged.remove(*columns(b))
    assert merged.exact == fed(a + c).exact


@pytest.mark.parametrize("n", [(1 << 16) - 1, 1 << 16, (1 << 16) + 1])
def test_tiles_do_not_show(n: int) -> None:
    x, y = (draw.words(bytes([i]) * 32, 0, n) * 2.0**-31 - 1.0 for i in range(2))
    moments, angle, total = Moments(), Cosine(), ExactDot()
    for start in range(0, n, 10_007):
        tile = slice(start, start + 10_007)
        moments.feed(x[tile])
        angle.feed(x[tile], y[tile])
        total.feed(x[tile], y[tile])
    assert (moments.mean(), moments.variance()) == (arith.mean(x), arith.variance(x))
    assert (angle.result(), total.result()) == (arith.cosine(x, y), arith.exact_dot(x, y))
    assert total.exact == sum(Fraction(a) * Fraction(b) for a, b in zip(x.tolist(), y.tolist(), strict=True))


@given(VALUES)
def test_means_and_variances_are_rounded_once(values: list[float]) -> None:
    x = torch.tensor(values, dtype=torch.float64)
    assert arith.mean(x) == reference.mean(values)
    wanted = reference.variance(values)
    assert or_infinite(lambda: arith.variance(x)) == (wanted if math.isfinite(wanted) else math.inf)


@given(VALUES, VALUES)
def test_moments_merge_and_forget(a: list[float], b: list[float]) -> None:
    x, y = (torch.tensor(v, dtype=torch.float64) for v in (a, b))
    both, other = Moments(), Moments()
    both.feed(x)
    other.feed(y)
    both.merge(other)
    assert both.count == len(a) + len(b)
    assert both.mean() == arith.mean(torch.cat([y, x]))
    both.remove(y)
    assert or_infinite(both.variance) == or_infinite(lambda: arith.variance(x))


@given(st.floats(-1e308, 1e308), st.integers(1, 9))
def test_a_constant_is_its_own_mean_and_does_not_vary(value: float, n: int) -> None:
    x = torch.full((n,), value, dtype=torch.float64)
    assert (arith.mean(x), arith.variance(x)) == (value, 0.0)


@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=8))
def test_the_cosine_is_the_nearest_float(pairs: Pairs) -> None:
    x, y = columns(pairs)
    if not (x.any() and y.any()):
        with pytest.raises(ParameterError, match="no direction"):
            arith.cosine(x, y)
    else:
        assert arith.cosine(x, y) == reference.cosine(x.tolist(), y.tolist())


@given(st.lists(NUMBERS, min_size=1, max_size=8).filter(any))
def test_a_vector_has_cosine_one_to_itself_and_minus_one_to_its_opposite(values: list[float]) -> None:
    x = torch.tensor(values, dtype=torch.float64)
    assert (arith.cosine(x, x), arith.cosine(x, -x)) == (1.0, -1.0)


def test_cosines_merge_and_forget() -> None:
    x, y = (draw.words(bytes([i]) * 32, 0, 100) * 2.0**-31 - 1.0 for i in range(2))
    angle, other = Cosine(), Cosine()
    angle.feed(x[:40], y[:40])
    other.feed(x[40:], y[40:])
    angle.merge(other)
    assert angle.result() == arith.cosine(x, y)
    angle.remove(x[:40], y[:40])
    assert angle.result() == arith.cosine(x[40:], y[40:])


def test_vectors_at_right_angles_have_cosine_zero() -> None:
    x, y = torch.tensor([3.0, 4.0]).double(), torch.tensor([-4.0, 3.0]).double()
    assert math.copysign(1, arith.cosine(x, y)) == 1.0
    assert arith.cosine(x, y) == 0.0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_refused_and_nothing_of_it_stays(bad: float) -> None:
    good, broken = torch.ones(2).double(), torch.tensor([1.0, bad]).double()
    dots, angle, moments = fed([(1.0, 1.0)]), Cosine(), Moments()
    angle.feed(good, good)
    moments.feed(good)
    attempts: list[Callable[[], None]] = [
        lambda: dots.feed(broken, good),
        lambda: dots.remove(good, broken),
        lambda: angle.feed(good, broken),
        lambda: moments.feed(broken),
        lambda: moments.remove(broken),
    ]
    for attempt in attempts:
        with pytest.raises(NonFiniteError):
            attempt()
    assert (dots.result(), angle.result(), moments.count, moments.mean()) == (1.0, 1.0, 2, 1.0)


def test_what_vanishes_is_positive_zero() -> None:
    x, y = torch.tensor([-5e-324, 0.0]).double(), torch.tensor([0.25, 5e-324]).double()
    x[0] = -5e-324
    for value in (arith.mean(x), arith.exact_dot(x, y), arith.variance(x), arith.median(x)):
        assert (value, math.copysign(1, value)) == (0.0, 1.0)


def test_nothing_has_a_dot_product_but_no_mean() -> None:
    nothing = torch.empty(0, dtype=torch.float64)
    assert arith.exact_dot(nothing, nothing) == 0.0
    for function in (arith.mean, arith.variance):
        with pytest.raises(ParameterError):
            function(nothing)


def test_streams_of_different_length_are_refused() -> None:
    with pytest.raises(ParameterError, match="2 and 3"):
        arith.exact_dot(torch.ones(2).double(), torch.ones(3).double())
