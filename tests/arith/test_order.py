"""The k largest magnitudes are one set, found in bounded memory; of equal ones the first are kept."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from crdtmerge.arith import Cut, Tensor, TopSelection, draw, masked, mirrored, order
from crdtmerge.errors import ParameterError
from reference import arith as reference

FINITE = st.floats(allow_nan=False, allow_infinity=False)
FEW = st.sampled_from([0.0, -0.0, 1.0, -1.0, 5e-324, -5e-324, 2.0, math.nextafter(2.0, 3.0), 1.7e308])
VALUES = st.lists(FINITE | FEW, max_size=60)
CUTS = st.lists(st.integers(0, 60), max_size=4)


@pytest.fixture(params=[order.CANDIDATES_MAX, 3], ids=["roomy", "cramped"], autouse=True)
def room(request: pytest.FixtureRequest) -> Iterator[int]:
    """Everything holds as well when hardly any element may be held at once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(order, "CANDIDATES_MAX", request.param)
        yield request.param


@pytest.fixture(params=[order.SAMPLED_MIN, 0], ids=["counted", "guessed"], autouse=True)
def sampled(request: pytest.FixtureRequest) -> Iterator[int]:
    """And when the first pass looks at a sample, however few elements there are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(order, "SAMPLED_MIN", request.param)
        yield request.param


def float64(values: Sequence[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def tiles(n: int, cuts: Sequence[int]) -> list[tuple[int, int]]:
    return list(pairwise([0, *sorted(cut % (n + 1) for cut in cuts), n]))


def select(x: Tensor, k: int, cuts: Sequence[int] = ()) -> tuple[Cut, int]:
    """The cut and the number of passes that it took."""
    selection = TopSelection(k, len(x))
    for passes in range(1, 10):
        for start, stop in tiles(len(x), cuts):
            selection.feed(x[start:stop], start)
        if selection.finish():
            return selection.cut, passes
    raise AssertionError("no end of passes")


def kept(x: Tensor, cut: Cut, cuts: Sequence[int] = ()) -> set[int]:
    mask = torch.cat([cut.mask(x[start:stop], start) for start, stop in tiles(len(x), cuts)])
    assert set(mask.tolist()) <= {0.0, 1.0}
    return set(mask.nonzero().flatten().tolist())


@given(VALUES, st.integers(0, 61), CUTS, CUTS)
def test_the_largest_are_kept_and_of_equal_ones_the_first(
    values: list[float], k: int, fed: list[int], masked: list[int]
) -> None:
    cut, _ = select(float64(values), k, fed)
    assert kept(float64(values), cut, masked) == reference.largest(values, k)


@given(VALUES, st.integers(0, 61), CUTS)
def test_what_is_kept_is_what_the_mask_leaves_to_the_bit(
    values: list[float], k: int, cuts: list[int]
) -> None:
    x = float64(values)
    cut, _ = select(x, k)
    for chosen in (cut, replace(cut, last=Cut.all.last), Cut.all, Cut.none):
        for start, stop in tiles(len(x), cuts):
            left, mask = chosen.keep(x[start:stop], start), chosen.mask(x[start:stop], start)
            assert torch.equal(left.view(torch.int64), masked(x[start:stop], mask).view(torch.int64))
    assert torch.equal(x.view(torch.int64), float64(values).view(torch.int64))


@given(st.lists(FEW, min_size=2, max_size=60), st.data())
def test_the_cut_names_the_last_element_that_is_kept(values: list[float], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(values) - 1))
    cut, _ = select(float64(values), k)
    last = sorted(range(len(values)), key=lambda i: (-abs(values[i]), i))[k - 1]
    assert cut == Cut(abs(values[last]), last)


@given(FINITE, st.integers(1, 40), st.integers(0, 41), CUTS)
def test_among_equals_the_first_k_are_kept(value: float, n: int, k: int, cuts: list[int]) -> None:
    x = float64([value, -value] * n)
    assert kept(x, select(x, k, cuts)[0], cuts) == set(range(min(k, 2 * n)))


def test_both_zeros_have_the_same_magnitude() -> None:
    x = float64([0.0, -0.0, 0.0, -0.0])
    assert kept(x, select(x, 3)[0]) == {0, 1, 2}


@pytest.mark.parametrize("k", [0, -0])
def test_none_of_anything_is_nothing(k: int) -> None:
    x = float64([1.7e308, -math.inf])
    assert select(x, k) == (Cut.none, 1)
    assert kept(x, Cut.none) == set()


@pytest.mark.parametrize("k", [3, 4, 1000])
def test_all_and_more_than_all_is_everything(k: int) -> None:
    x = float64([0.0, -0.0, 1.0])
    assert select(x, k) == (Cut.all, 1)
    assert kept(x, Cut.all) == {0, 1, 2}


def test_indices_may_begin_anywhere_and_have_gaps() -> None:
    x = float64([3.0, 1.0, 1.0, 2.0])
    selection = TopSelection(3, 4)
    done = False
    while not done:
        selection.feed(x[:2], 100)
        selection.feed(x[2:], 1 << 40)
        done = selection.finish()
    assert selection.cut == Cut(1.0, 101)
    assert selection.cut.mask(x[:2], 100).tolist() == [1.0, 1.0]
    assert selection.cut.mask(x[2:], 1 << 40).tolist() == [0.0, 1.0]


@pytest.mark.parametrize("n", [(1 << 16) - 1, 1 << 16, (1 << 16) + 1])
def test_more_elements_than_are_worked_on_together(n: int) -> None:
    x = draw.words(bytes(32), 0, n) - 2.0**31
    wanted = set((-x.abs()).sort(stable=True).indices[: n // 3].tolist())
    assert kept(x, select(x, n // 3)[0]) == wanted


def test_masses_of_ties_take_few_passes_and_little_memory(room: int) -> None:
    x = (draw.words(bytes(32), 0, 200_000) * 2.0**-30).floor()  # 0, 1, 2 or 3: 50 000 of each
    wanted = set((-x).sort(stable=True).indices[:90_001].tolist())
    cut, passes = select(x, 90_001)
    assert kept(x, cut) == wanted
    assert passes <= (2 if room > len(x) else 6)


def test_distinct_numbers_are_held_as_soon_as_they_are_few(room: int, sampled: int) -> None:
    x = float64(range(1, 2000))
    mistaken = 2 if sampled == 0 else 0  # the sample, and a pass that shows how little it is worth
    assert select(x, 700)[1] <= (1 if room > len(x) else 3) + mistaken


def test_where_a_sample_promises_few_and_there_are_many_no_more_are_held_than_allowed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(order, "SAMPLED_MIN", 0)
    monkeypatch.setattr(order, "CANDIDATES_MAX", 1000)
    x = torch.zeros(200 * order._SAMPLE, dtype=torch.float64)
    x[1:2001] = 0.75
    x[:: order._SAMPLE] = 2.0 ** -torch.arange(200, dtype=torch.float64)
    cut, passes = select(x, 1500, [5000, 9000])
    assert kept(x, cut) == set((-x).sort(stable=True).indices[:1500].tolist())
    assert passes > 3
    assert kept(x, select(x, order._SAMPLE)[0]) == set(
        (-x).sort(stable=True).indices[: order._SAMPLE].tolist()
    )


def test_the_answer_waits_for_the_last_pass() -> None:
    selection = TopSelection(1, 2)
    with pytest.raises(ParameterError, match="another pass"):
        _ = selection.cut


def test_tiles_out_of_order_are_refused() -> None:
    selection = TopSelection(1, 20)
    selection.feed(float64(range(10)), 0)
    with pytest.raises(ParameterError, match="wanted 10 or later, got 9"):
        selection.feed(float64(range(10)), 9)


@pytest.mark.parametrize("given_", [9, 11])
def test_a_stream_of_another_length_than_announced_is_refused(given_: int) -> None:
    selection = TopSelection(1, 10)
    selection.feed(float64(range(given_)), 0)
    with pytest.raises(ParameterError, match=f"10 elements, got {given_}"):
        selection.finish()


def test_a_stream_that_changes_between_passes_is_refused(room: int, sampled: int) -> None:
    if room == 3:
        selection = TopSelection(2, 10)
        for _ in range(1 + (sampled == 0)):  # a sample is no fact
            selection.feed(float64([1.0] * 10), 0)
            assert not selection.finish()
        selection.feed(float64([1.0] * 9 + [2.0]), 0)
        with pytest.raises(ParameterError, match="10 elements, got 9"):
            selection.finish()


@pytest.mark.parametrize(("k", "total"), [(-1, 3), (1, -1)])
def test_negative_counts_are_refused(k: int, total: int) -> None:
    with pytest.raises(ParameterError, match="largest of"):
        TopSelection(k, total)


@given(VALUES, st.integers(0, 61))
def test_of_mirrored_elements_the_smallest_are_kept_and_of_equal_ones_the_first(
    values: list[float], k: int
) -> None:
    x = float64(values)
    cut, _ = select(mirrored(x), k)
    ascending = sorted(range(len(values)), key=lambda i: (abs(values[i]), i))
    assert kept(mirrored(x), cut) == set(ascending[:k])
