"""A place in sorted order names one value, whether everything is at hand or streams by."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from crdtmerge import arith
from crdtmerge.arith import RankSelection, Tensor, draw, order
from crdtmerge.errors import ParameterError
from reference import arith as reference

FINITE = st.floats(allow_nan=False, allow_infinity=False)
FEW = st.sampled_from(
    [0.0, -0.0, 1.0, -1.0, 5e-324, -5e-324, 2.0, math.nextafter(2.0, 3.0), 1.7e308, -1.7e308]
)
VALUES = st.lists(FINITE | FEW, min_size=1, max_size=40)
SHARES = st.fractions(0, 1)


@pytest.fixture(params=[order.CANDIDATES_MAX, 3], ids=["roomy", "cramped"], autouse=True)
def room(request: pytest.FixtureRequest) -> Iterator[int]:
    """Everything holds as well when hardly any element may be held at once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(order, "CANDIDATES_MAX", request.param)
        yield request.param


def float64(values: Sequence[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def same(a: float, b: float) -> bool:
    return a == b and math.copysign(1, a) == math.copysign(1, b)


def streamed(x: Tensor, rank: int, cuts: Sequence[int] = ()) -> float:
    selection = RankSelection(rank, len(x))
    edges = [0, *sorted(cut % (len(x) + 1) for cut in cuts), len(x)]
    for _ in range(10):
        for start, stop in pairwise(edges):
            selection.feed(x[start:stop])
        if selection.finish():
            return selection.value
    raise AssertionError("no end of passes")


@given(VALUES, st.data(), st.lists(st.integers(0, 40), max_size=4))
def test_the_place_of_a_stream_is_that_of_the_sorted_list(
    values: list[float], data: st.DataObject, cuts: list[int]
) -> None:
    rank = data.draw(st.integers(0, len(values) - 1))
    assert same(streamed(float64(values), rank, cuts), reference.ranked(values, rank))


@given(st.lists(FEW, min_size=4, max_size=40))
def test_every_place_among_ties_is_found(values: list[float]) -> None:
    x = float64(values)
    for rank in range(len(values)):
        assert same(streamed(x, rank), reference.ranked(values, rank))


@given(VALUES, SHARES)
def test_a_quantile_is_the_element_at_its_exact_place(values: list[float], q: Fraction) -> None:
    x = float64(values)
    wanted = reference.quantile(values, q)
    assert same(arith.quantile(x, q), wanted)
    assert same(streamed(x, arith.quantile_rank(q, len(x))), wanted)
    rows = arith.quantile_rows(torch.stack([x, -x, x]), q)
    assert same(rows[0].item(), wanted)
    assert same(rows[2].item(), wanted)
    assert same(rows[1].item(), reference.quantile([-v for v in values], q))


@given(VALUES)
def test_the_median_is_the_middle_or_between_the_middle_two(values: list[float]) -> None:
    x = float64(values)
    wanted = reference.median(values)
    assert same(arith.median(x), wanted)
    low, high = (streamed(x, rank) for rank in ((len(x) - 1) // 2, len(x) // 2))
    assert same(arith.midpoint(low, high), wanted)
    by_rows = arith.median_rows(x.reshape(1, -1)).item()
    assert by_rows == wanted or abs(by_rows - wanted) <= math.ulp(wanted)


@given(VALUES, st.data())
def test_the_kth_magnitude_is_that_of_the_cut(values: list[float], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(values)))
    assert arith.kth_magnitude(float64(values), k) == sorted(map(abs, values))[-k]


def test_places_are_exact_where_floats_would_miss_them() -> None:
    assert arith.quantile_rank(Fraction(7, 10), 11) == 7  # 0.7 * 10 is 7.000000000000001 or 6.99…
    assert arith.quantile_rank(Fraction(1, 3), 10**18 + 1) == 333333333333333333
    assert [arith.quantile_rank(Fraction(q), 5) for q in (0, 1)] == [0, 4]


def test_ranks_in_a_row_are_places_and_of_equal_values_the_first_is_lower() -> None:
    x = torch.tensor([[3.0, -1.0, 3.0, 0.0], [-0.0, 0.0, -5.0, 5.0]], dtype=torch.float64)
    assert arith.rank_rows(x).tolist() == [[2.0, 0.0, 3.0, 1.0], [1.0, 2.0, 0.0, 3.0]]
    assert arith.rank_rows(x[:, :1]).tolist() == [[0.0], [0.0]]


def test_rows_of_any_shape() -> None:
    x = float64([3.0, 1.0, 2.0, -0.0, 5.0, -7.0]).reshape(1, 2, 3)
    assert arith.median_rows(x).tolist() == [[2.0, 0.0]]
    assert arith.quantile_rows(x, Fraction(1)).tolist() == [[3.0, 5.0]]
    assert arith.median_rows(x.reshape(3, 2)).tolist() == [2.0, 1.0, -1.0]
    assert arith.quantile_rows(x[:, :0], Fraction(1)).shape == (1, 0)


def test_a_large_stream_takes_few_passes(room: int) -> None:
    x = draw.words(bytes(32), 0, 200_000) - 2.0**31
    wanted = x.sort().values
    for rank in (0, 70_000, 99_999, 100_500, 199_999):
        assert streamed(x, rank, [70_000, 140_000]) == wanted[rank].item()


def test_the_largest_negative_and_the_smallest_other_element_take_one_pass(room: int) -> None:
    x = float64([-3.0, -1.0, -2.0, 4.0, 5.0, -0.0])
    for rank, wanted in ((2, -1.0), (3, 0.0)):
        selection = RankSelection(rank, 6)
        selection.feed(x)
        assert selection.finish()
        assert same(selection.value, wanted)
        selection.feed(x)
        assert selection.finish()


def test_what_is_kept_is_not_changed_from_outside() -> None:
    x = float64([1.0, 2.0])
    selection = RankSelection(0, 2)
    selection.feed(x)
    x.zero_()
    assert selection.finish()
    assert selection.value == 1.0


def test_the_answer_waits_for_the_last_pass() -> None:
    with pytest.raises(ParameterError, match="another pass"):
        _ = RankSelection(0, 1).value


@pytest.mark.parametrize("given_", [9, 11])
def test_a_stream_of_another_length_than_announced_is_refused(given_: int) -> None:
    selection = RankSelection(1, 10)
    selection.feed(float64(range(given_)))
    with pytest.raises(ParameterError, match=f"10 elements, got {given_}"):
        selection.finish()


def test_a_stream_that_changes_between_passes_is_refused(room: int) -> None:
    if room == 3:
        selection = RankSelection(7, 10)
        selection.feed(float64(range(-3, 7)))
        assert not selection.finish()
        selection.feed(float64(range(-4, 6)))
        with pytest.raises(ParameterError, match="7 elements, got 6"):
            selection.finish()


@pytest.mark.parametrize(("rank", "total"), [(-1, 3), (3, 3), (0, 0)])
def test_places_that_are_none_are_refused(rank: int, total: int) -> None:
    with pytest.raises(ParameterError, match="a place among"):
        RankSelection(rank, total)


def test_shares_that_are_none_and_empty_tensors_are_refused() -> None:
    x, nothing = float64([1.0]), float64([])
    for q in (Fraction(-1, 9), Fraction(10, 9)):
        with pytest.raises(ParameterError, match="quantile"):
            arith.quantile(x, q)
    for attempt in (
        lambda: arith.quantile(nothing, Fraction(0)),
        lambda: arith.quantile_rows(nothing, Fraction(0)),
        lambda: arith.median(nothing),
        lambda: arith.median_rows(nothing),
        lambda: arith.kth_magnitude(x, 0),
        lambda: arith.kth_magnitude(x, 2),
    ):
        with pytest.raises(ParameterError):
            attempt()
