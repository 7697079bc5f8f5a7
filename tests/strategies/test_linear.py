"""Weighted sums: the catalogue's examples, and what weights may be."""

from __future__ import annotations

import struct
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies_harness import BASE, F4, Contribution, merge, merged

from crdtmerge.digest import Digest
from crdtmerge.errors import MissingBaseError, ParameterError
from crdtmerge.strategies.linear import task_arithmetic, weight_average
from crdtmerge.strategy import Group, Member, Tile

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)


def bits(values: list[float]) -> bytes:
    return struct.pack(f"<{len(values)}d", *values)


def test_average_of_the_fixture_is_the_catalogues() -> None:
    assert merged("weight_average", F4) == [17 / 12, 11 / 6, 13 / 6, 47 / 12]


def test_average_by_weights_1_1_2_is_exact() -> None:
    assert merged("weight_average", F4, weights=[1, 1, 2]) == [1.25, 2.0, 1.875, 3.9375]


@given(st.lists(FLOATS, min_size=1, max_size=4), st.fractions(min_value=Fraction(1, 1000), max_value=1000))
def test_a_contribution_alone_is_itself_whatever_it_weighs(row: list[float], weight: Fraction) -> None:
    for strategy in ("weight_average", "linear"):
        assert bits(merged(strategy, [row], weights=[weight])) == bits(row)


def test_a_contribution_alone_keeps_its_negative_zero() -> None:
    assert bits(merged("weight_average", [[-0.0, 0.0]], weights=[3])) == bits([-0.0, 0.0])


@given(st.lists(FLOATS, min_size=1, max_size=4), st.integers(1, 4))
def test_two_to_the_k_equal_contributions_merge_to_themselves(row: list[float], doublings: int) -> None:
    assert bits(merged("weight_average", [row] * 2**doublings)) == bits(row)


@given(
    st.lists(st.tuples(FLOATS, st.integers(1, 50)), min_size=1, max_size=5),
    st.fractions(min_value=Fraction(1, 7), max_value=7).filter(bool),
)
def test_a_common_factor_of_all_weights_shows_in_no_bit(
    pairs: list[tuple[float, int]], factor: Fraction
) -> None:
    rows, weights = [[x] for x, _ in pairs], [w for _, w in pairs]
    scaled = [factor * w for w in weights]
    assert bits(merged("weight_average", rows, weights=weights)) == bits(
        merged("weight_average", rows, weights=scaled)
    )


@pytest.mark.parametrize("weights", [[1, -1, 1], [0, 0, 0], [-1, -1, -1]])
def test_average_refuses_negative_weights_and_none_at_all(weights: list[int]) -> None:
    with pytest.raises(ParameterError, match="must not be negative"):
        merged("weight_average", F4, weights=weights)


def test_a_contribution_of_weight_zero_moves_nothing() -> None:
    assert merged("weight_average", F4, weights=[1, 1, 0]) == merged("weight_average", F4[:2])


def test_linear_divides_by_the_sum_of_the_weights() -> None:
    weights = ["0.5", "0.25", "0.5"]
    assert merged("linear", F4, weights=weights) == [1.3, 2.0, 1.9, 4.0]
    assert merged("linear", F4, weights=weights, normalize=False) == [1.625, 2.5, 2.375, 5.0]


def test_linear_between_two_at_a_quarter_is_the_catalogues() -> None:
    assert merged("linear", F4[:2], t="0.25") == [1.625, 1.75, 2.375, 4.0625]


def test_linear_counts_t_from_the_contribution_of_lower_digest() -> None:
    b, a = Contribution("B", {"w": [2.0]}), Contribution("A", {"w": [1.0]})
    assert merge("linear", [b, a], parameters={"t": 0})["w"].tolist() == [1.0]


@pytest.mark.parametrize(
    ("rows", "weights"),
    [(F4, [1, 1, 1]), (F4[:1], [1]), (F4[:2], [1, 2])],
    ids=["three", "one", "two of different weight"],
)
def test_linear_refuses_t_where_it_would_have_to_ignore_something(
    rows: tuple[list[float], ...], weights: list[int]
) -> None:
    with pytest.raises(ParameterError, match="t is for two contributions of equal weight"):
        merged("linear", rows, weights=weights, t="0.25")


@pytest.mark.parametrize("weights", [["1", "-1"], ["0.1", "-0.099999991"], ["0.1", "-0.1"]])
def test_linear_refuses_to_normalise_weights_that_cancel(weights: list[str]) -> None:
    with pytest.raises(ParameterError, match="cannot be normalised"):
        merged("linear", F4[:2], weights=weights)


def test_linear_normalises_weights_whose_sum_is_exactly_the_least_allowed() -> None:
    assert merged("linear", [[1.0], [1.0]], weights=["0.1", "-0.09999999"]) == [1.0]


def test_weights_that_cancel_may_stay_unnormalised() -> None:
    assert merged("linear", F4[:2], weights=[1, -1], normalize=False) == [-0.5, 1.0, -1.5, 0.75]


def test_task_arithmetic_of_the_fixture_is_the_catalogues() -> None:
    assert merged("task_arithmetic", F4, BASE, scale=1) == [2.25, 1.5, 0.5, 3.75]
    assert merged("task_arithmetic", F4, BASE, scale="0.5") == [1.625, 1.75, 1.75, 3.875]


def test_task_arithmetic_scales_by_three_tenths_unless_told() -> None:
    assert merged("task_arithmetic", F4, BASE) == merged("task_arithmetic", F4, BASE, scale="0.3")


def test_task_arithmetic_normalises_by_the_sum_of_the_weights_if_told() -> None:
    assert merged("task_arithmetic", F4, BASE, [1, 1, 2], scale=1, normalize=True) == [
        1.25,
        2.0,
        1.875,
        3.9375,
    ]


def test_task_arithmetic_normalises_weights_that_cancel_by_one() -> None:
    plain = merged("task_arithmetic", F4[:2], BASE, [1, -1], scale=1)
    assert merged("task_arithmetic", F4[:2], BASE, [1, -1], scale=1, normalize=True) == plain


def test_task_arithmetic_takes_no_shortcut_for_one_contribution() -> None:
    theta, base = 1e-17, 1.0
    assert merged("task_arithmetic", [[theta]], [base], scale=1) == [base + (theta - base)] == [0.0]


def test_task_arithmetic_of_copies_of_the_base_is_the_base() -> None:
    assert bits(merged("task_arithmetic", [BASE, BASE], BASE)) == bits(BASE)


def test_a_published_difference_and_the_model_it_leads_to_merge_alike() -> None:
    model = Contribution("A", {"w": F4[0]})
    difference = Contribution("A", {"w": [0.5, 0.0, -1.0, 0.25]}, is_delta=True)
    other = Contribution("B", {"w": F4[1]})
    for strategy in ("weight_average", "task_arithmetic", "ties"):
        results = [merge(strategy, [c, other], {"w": BASE})["w"].tolist() for c in (model, difference)]
        assert results[0] == results[1]


def test_a_difference_without_base_is_an_error_and_not_a_model() -> None:

    one = torch.ones(1, dtype=torch.float64)
    tile = Tile("w", (1,), 0, None, (one,), (True,), Group((("w", (1,)),), (Member(Digest(bytes(32))),)))
    with pytest.raises(ParameterError, match="base"):
        weight_average(tile)
    with pytest.raises(MissingBaseError):
        task_arithmetic(tile, scale=Fraction(1), normalize=False)
