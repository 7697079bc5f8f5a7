"""What looks elementwise does one rounding for each operation written down, and never a -0.0 by chance."""

from __future__ import annotations

import math
import struct
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from crdtmerge.arith import (
    Tensor,
    clamp,
    masked,
    maximum,
    minimum,
    positive_zero,
    sign,
    sqrt,
    weighted_sum,
)
from crdtmerge.errors import NonFiniteError, ParameterError
from reference import arith as reference

FINITE = st.floats(-1e100, 1e100)
WEIGHTS = st.fractions(-100, 100, max_denominator=1000)


def float64(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def bits(x: Tensor) -> list[int]:
    return x.view(torch.int64).tolist()


def bits_of(values: list[float]) -> list[int]:
    return list(struct.unpack(f"<{len(values)}q", struct.pack(f"<{len(values)}d", *values)))


@given(
    st.integers(0, 5).flatmap(
        lambda n: st.lists(
            st.tuples(WEIGHTS, st.lists(FINITE, min_size=n, max_size=n)), min_size=1, max_size=5
        )
    )
)
def test_a_weighted_sum_is_products_and_sums_one_after_the_other(
    terms: list[tuple[Fraction, list[float]]],
) -> None:
    weights, columns = [w for w, _ in terms], [x for _, x in terms]
    got = weighted_sum([float64(*column) for column in columns], weights)
    assert bits(got) == bits_of(reference.weighted_sum(columns, weights))


@pytest.mark.parametrize("weights", [[1], [1, 1, 1], [3, 1, 2], [1, 2, 1]])
def test_a_weighted_sum_leaves_its_inputs_and_earlier_results_as_they_were(weights: list[int]) -> None:
    columns = [float64(1.0, -0.0), float64(2.0, 3.0), float64(5.0, 7.0)][: len(weights)]
    before = [bits(column) for column in columns]
    first = weighted_sum(columns, [Fraction(w) for w in weights])
    seen = bits(first)
    weighted_sum(columns, [Fraction(-w) for w in weights]).zero_()
    assert bits(first) == seen
    assert [bits(column) for column in columns] == before
    first.zero_()
    assert [bits(column) for column in columns] == before


@given(st.lists(st.lists(FINITE, min_size=3, max_size=3), min_size=1, max_size=5))
def test_weights_of_one_change_no_bit(columns: list[list[float]]) -> None:
    got = weighted_sum([float64(*column) for column in columns], [Fraction(1)] * len(columns))
    assert bits(got) == bits_of(reference.weighted_sum(columns, [Fraction(1)] * len(columns)))


def test_product_and_sum_are_rounded_separately() -> None:
    # (1 + 2^-30)² is 1 + 2^-29 + 2^-60: fused with the sum, the last term would survive.
    x = 1 + 2.0**-30
    fused = float(Fraction(x) * Fraction(x) - Fraction(1 + 2.0**-29))
    got = weighted_sum([float64(-(1 + 2.0**-29)), float64(x)], [Fraction(1), Fraction(x)])
    assert (got.item(), fused) == (0.0, 2.0**-60)


def test_a_weighted_sum_shares_no_storage_with_its_terms() -> None:
    x = float64(1.0, 2.0)
    weighted_sum([x], [Fraction(1)]).zero_()
    assert x.tolist() == [1.0, 2.0]


def test_a_single_term_of_weight_one_keeps_its_negative_zero() -> None:
    assert bits(weighted_sum([float64(-0.0)], [Fraction(1)])) == bits_of([-0.0])


@pytest.mark.parametrize(("terms", "weights"), [(0, 0), (2, 1), (1, 2)])
def test_terms_and_weights_come_in_pairs(terms: int, weights: int) -> None:
    with pytest.raises(ParameterError, match=f"{terms} tensors and {weights} weights"):
        weighted_sum([float64(1.0)] * terms, [Fraction(1)] * weights)


def test_a_weight_beyond_float64_is_refused() -> None:
    with pytest.raises(NonFiniteError):
        weighted_sum([float64(1.0)], [Fraction(10**400)])


@given(st.lists(st.floats(0, allow_infinity=False), min_size=1))
def test_square_roots_are_the_nearest_numbers(values: list[float]) -> None:
    assert sqrt(float64(*values)).tolist() == [reference.sqrt(x) for x in values]


@given(st.integers(0, (1 << 26) - 1), st.integers(-480, 480))
def test_square_roots_of_squares_are_exact(root: int, exponent: int) -> None:
    x = math.ldexp(root, exponent)
    assert sqrt(float64(x * x)).item() == x


def test_square_roots_next_to_a_tie_are_the_nearest_numbers() -> None:
    # y² for y half-way between two floats is the hardest x: take the floats around it.
    hard = []
    for i in range(1, 2000, 7):
        tie = Fraction(2 * (1 << 52) + 2 * i * 10**9 + 1, 1 << 53)
        x = float(tie * tie)
        hard += [math.nextafter(x, 0), x, math.nextafter(x, 4)]
    assert sqrt(float64(*hard)).tolist() == [reference.sqrt(x) for x in hard]


def test_the_square_root_of_a_negative_number_is_refused() -> None:
    assert bits(sqrt(float64(-0.0))) == bits_of([-0.0])
    with pytest.raises(ParameterError, match="negative"):
        sqrt(float64(4.0, -5e-324))


@given(st.lists(st.tuples(FINITE | st.just(-0.0), FINITE | st.just(-0.0)), max_size=40))
def test_maximum_and_minimum_never_give_negative_zero(pairs: list[tuple[float, float]]) -> None:
    x, y = float64(*(a for a, _ in pairs)), float64(*(b for _, b in pairs))
    assert bits(maximum(x, y)) == bits_of([max(a, b) + 0.0 for a, b in pairs])
    assert bits(minimum(x, y)) == bits_of([min(a, b) + 0.0 for a, b in pairs])


def test_every_zero_becomes_positive() -> None:
    zeros = float64(*[-0.0] * 37)
    ones = torch.ones_like(zeros)
    for result in (
        positive_zero(zeros),
        sign(zeros),
        maximum(zeros, zeros),
        minimum(zeros, -zeros),
        clamp(-ones, 0.0, 1.0),
        clamp(ones, -1.0, -0.0),
        clamp(zeros, -0.0, 1.0),
        masked(-ones, torch.zeros_like(ones)),
        masked(zeros, ones),
    ):
        assert bits(result) == [0] * 37


def test_signs_are_minus_one_zero_and_one() -> None:
    assert sign(float64(-5e-324, -7.0, 0.0, 5e-324, 1e308)).tolist() == [-1.0, -1.0, 0.0, 1.0, 1.0]


def test_a_clamp_confines_and_wants_its_bounds_in_order() -> None:
    assert clamp(float64(-3.0, 0.25, 3.0), -1.0, 0.5).tolist() == [-1.0, 0.25, 0.5]
    with pytest.raises(ParameterError, match="low <= high"):
        clamp(float64(1.0), 1.0, 0.0)


def test_a_mask_keeps_what_it_keeps_to_the_bit() -> None:
    x = float64(5e-324, -1.5, 1e308, 7.0)
    assert masked(x, float64(1.0, 1.0, 1.0, 0.0)).tolist() == [5e-324, -1.5, 1e308, 0.0]
