"""Compiled loops give the bits of the torch operations that they replace, on every path.

Each test computes the same thing twice, once without the loops; what is compared is bytes.
"""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
import torch
from arith.both_ways import READ, SEEDS, SIZES, WRITTEN, numbers, stored, twice
from hypothesis import given
from hypothesis import strategies as st

from crdtmerge import arith
from crdtmerge.arith import AgreeingMean, Change, Elements, Stored, Values, WeightedSum, compiled, order
from crdtmerge.dtypes import DType
from crdtmerge.errors import NonFiniteError


@pytest.fixture(autouse=True)
def loops() -> None:
    assert compiled.load(), "numba is among what `make setup` installs"


@given(st.data(), SIZES, SEEDS, st.integers(1, 9))
def test_weighted_sums_of_any_mixture_of_types(data: st.DataObject, size: int, seed: int, k: int) -> None:
    weights = data.draw(st.lists(st.fractions(-3, 3, max_denominator=10), min_size=k, max_size=k))
    divisor = data.draw(
        st.sampled_from([Fraction(1), Fraction(3), Fraction(4), Fraction(-1, 8), Fraction(7, 3)])
    )
    kinds = data.draw(st.lists(st.sampled_from([*READ, None]), min_size=k, max_size=k))
    offsets = data.draw(st.lists(st.sampled_from([0, 1, 4]), min_size=k, max_size=k))
    rows = [numbers(size, seed + i) for i in range(k)]

    def terms() -> list[Elements]:
        return [
            row if kind is None else stored(row, kind, offset=offset)
            for row, kind, offset in zip(rows, kinds, offsets, strict=True)
        ]

    ours, theirs = twice(lambda: arith.weighted_sum(terms(), weights, divisor=divisor))
    assert ours == theirs


def test_matrices_keep_their_shape() -> None:
    rows = [numbers(60, i).reshape(5, 12) for i in range(3)]
    rows.append(numbers(60, 3).reshape(12, 5).T)
    weights = [Fraction(i + 1) for i in range(4)]
    assert arith.weighted_sum(rows[:3], weights[:3]).shape == (5, 12)
    for few in (rows[:3], rows):
        ours, theirs = twice(lambda few=few: arith.weighted_sum(few, weights[: len(few)]))  # type: ignore[misc]
        assert ours == theirs


def test_what_is_no_plain_float64_is_left_to_torch() -> None:
    row = numbers(100, 0)
    odd = [row.float(), row > 0, numbers(200, 1)[::2]]
    for other in odd:
        ours, theirs = twice(lambda other=other: arith.weighted_sum([row, other], [Fraction(1)] * 2))  # type: ignore[misc]
        assert ours == theirs
    with pytest.raises(RuntimeError, match="size"):
        AgreeingMean([row, row[:50]], [Fraction(1)] * 2, row.sign()).decoded()


@pytest.mark.parametrize("divisor", [2.0**1020, 2.0**-1060, 2.0**-1074, 1.7976931348623157e308])
def test_extreme_divisors_divide(divisor: float) -> None:
    row = torch.tensor([1.5, -3e-310, 5e-324, 0.0, -0.0, 1e300], dtype=torch.float64) * (
        2.0**-40 if divisor < 1 else 1.0
    )
    ours, theirs = twice(lambda: arith.weighted_sum([row], [Fraction(1)], divisor=Fraction(divisor)))
    assert ours == theirs


@given(st.data(), SIZES, SEEDS, st.integers(1, 5))
def test_sums_of_values_and_of_changes_from_a_base(data: st.DataObject, size: int, seed: int, k: int) -> None:
    weights = data.draw(st.lists(st.fractions(-3, 3, max_denominator=10), min_size=k, max_size=k))
    kinds = data.draw(st.lists(st.sampled_from([*READ, None]), min_size=k, max_size=k))
    changes = data.draw(st.lists(st.booleans(), min_size=k, max_size=k))
    kind_of_base = data.draw(st.sampled_from([*READ, None]))
    divisor = data.draw(st.sampled_from([Fraction(1), Fraction(3), Fraction(1, 2)]))

    def values(seed: int, kind: DType | None) -> Values:
        row = numbers(size, seed)
        return row if kind is None else stored(row, kind)

    def terms() -> list[Elements]:
        base = values(seed + 99, kind_of_base)
        given = [values(seed + i, kind) for i, kind in enumerate(kinds)]
        return [Change(x, base) if change else x for x, change in zip(given, changes, strict=True)]

    ours, theirs = twice(lambda: arith.weighted_sum(terms(), weights, divisor=divisor))
    assert ours == theirs


@given(SIZES, SEEDS, st.sampled_from(READ), st.sampled_from([0, 1, 2, 8]))
def test_differences_from_a_base(size: int, seed: int, dtype: DType, offset: int) -> None:
    row, base = numbers(size, seed), numbers(size, seed + 1)
    ours, theirs = twice(lambda: Change(stored(row, dtype, offset=offset), base).decoded())
    assert ours == theirs


@given(SIZES, SEEDS, st.sampled_from(WRITTEN))
def test_encoding(size: int, seed: int, dtype: DType) -> None:
    largest = 65519 if dtype is DType.F16 else 1e13
    values = numbers(size, seed).clamp(-largest, largest)
    ours, theirs = twice(lambda: arith.encode(values, dtype))
    assert ours == theirs


HALVES = {DType.BF16: (torch.bfloat16, 0x7F80), DType.F16: (torch.float16, 0x7C00)}
"""Their infinity, too."""


@pytest.mark.parametrize("dtype", HALVES)
def test_encoding_of_every_pattern_between_and_beside_two_neighbours_of_a_half_type(dtype: DType) -> None:
    half, beyond = HALVES[dtype]
    low = torch.arange(0, beyond - 1, dtype=torch.int16).view(half).float().double()
    high = torch.arange(1, beyond, dtype=torch.int16).view(half).float().double()
    middle = low * 0.5 + high * 0.5
    up, down = torch.nextafter(middle, high), torch.nextafter(middle, low)
    both = torch.cat([low, middle, up, down])
    ours, theirs = twice(lambda: arith.encode(torch.cat([both, -both]), dtype))
    assert ours == theirs


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("least", [0, 1024], ids=["all", "without subnormal numbers"])
def test_every_pattern_of_a_half_type_is_read_as_its_number(dtype: DType, least: int) -> None:
    beyond = HALVES[dtype][1]
    patterns = torch.arange(least, beyond + (least == 0), dtype=torch.int16)
    patterns = torch.cat(
        [patterns, patterns + torch.iinfo(torch.int16).min, torch.zeros(1, dtype=torch.int16)]
    )
    raw, count = patterns.numpy().tobytes(), len(patterns)
    one, zeros = [Fraction(1)], torch.zeros(count, dtype=torch.float64)
    for work in (
        lambda: Change(Stored(lambda: raw, dtype, count), zeros).decoded(),
        lambda: arith.weighted_sum([Stored(lambda: raw, dtype, count)], one),
    ):
        ours, theirs = twice(work)
        assert ours == theirs


BEYOND = {DType.F32: 2.0**128 - 2.0**103, DType.BF16: 2.0**128 - 2.0**119, DType.F16: 65520.0}
"""Half-way between the largest number and the one that would follow it."""


@pytest.mark.parametrize("dtype", BEYOND)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e300, -1e39, None])
def test_what_fits_no_number_is_refused_alike(dtype: DType, value: float | None) -> None:
    values = torch.zeros(3000, dtype=torch.float64)
    values[2500] = BEYOND[dtype] if value is None else value
    for tried in (values, WeightedSum([values, values], [Fraction(1, 2)] * 2)):
        with pytest.raises(NonFiniteError, match="element 2500"):
            arith.encode(tried, dtype)


@pytest.mark.parametrize("dtype", BEYOND)
def test_just_below_that_is_the_largest_number(dtype: DType) -> None:
    values = torch.full((3,), math.nextafter(BEYOND[dtype], 0), dtype=torch.float64)
    ours, theirs = twice(lambda: arith.encode(-values, dtype))
    assert ours == theirs


@given(st.data(), SIZES, SEEDS, st.integers(1, 5))
def test_means_of_those_that_agree(data: st.DataObject, size: int, seed: int, k: int) -> None:
    weights = data.draw(st.lists(st.fractions(-3, 3, max_denominator=10), min_size=k, max_size=k))
    rows = [numbers(size, seed + i) for i in range(k)]
    elected = torch.from_numpy(np.random.default_rng(seed).integers(-1, 2, size).astype(np.float64))
    ours, theirs = twice(lambda: AgreeingMean(rows, weights, elected).decoded())
    assert ours == theirs


ROOM = st.sampled_from([(0, 50), (0, order.CANDIDATES_MAX), (order.SAMPLED_MIN, 50)])
"""From how many elements on a sample is taken, and how many may be held."""


def selected(
    k: int, size: int, tile: Callable[[int, int], Elements], width: int, room: tuple[int, int]
) -> bytes:
    """The cut of the k largest, and what it keeps of them."""
    starts = range(0, size, width)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(order, "SAMPLED_MIN", room[0])
        patch.setattr(order, "CANDIDATES_MAX", room[1])
        selection = arith.TopSelection(k, size)
        for _ in range(9):
            for start in starts:
                selection.feed(tile(start, min(start + width, size)), start)
            if selection.finish():
                break
    cut = selection.cut
    chosen = [cut.keep(tile(start, min(start + width, size)), start) for start in starts]
    return (
        torch.cat([*chosen, torch.tensor([cut.threshold, float(cut.last)], dtype=torch.float64)])
        .numpy()
        .tobytes()
    )


@given(
    st.sampled_from([1, 7, 1025, 4095, 4097, 9000]),
    SEEDS,
    st.integers(1, 9000),
    st.sampled_from([*READ, None]),
    st.booleans(),
    st.sampled_from([97, 777, 5000]),
    ROOM,
)
def test_the_largest_of_a_stream(
    size: int, seed: int, k: int, kind: DType | None, change: bool, width: int, room: tuple[int, int]
) -> None:
    values, base = numbers(size, seed), numbers(size, seed + 1)

    def tile(start: int, stop: int) -> Elements:
        def given(row: torch.Tensor) -> Values:
            return row[start:stop] if kind is None else stored(row[start:stop], kind)

        return Change(given(values), given(base)) if change else given(values)

    ours, theirs = twice(lambda: selected(min(k, size), size, tile, width, room))
    assert ours == theirs


@given(
    st.integers(1, 3000),
    st.sampled_from([DType.F64, DType.F32, DType.BF16, DType.F16]),
    st.lists(
        st.sampled_from([0.0, -0.0, 2.0**-24, -(2.0**-24), 1.0, -1.0, 1.5, 3.0]), min_size=2, max_size=2
    ),
    st.booleans(),
    st.sampled_from([1500, 4288, 9000]),
    ROOM,
)
def test_a_sample_that_is_like_nothing_else_costs_passes_and_changes_nothing(
    k: int, kind: DType, few: list[float], scattered: bool, width: int, room: tuple[int, int]
) -> None:
    size = 9000
    values = (
        torch.linspace(-2.0, 2.0, size, dtype=torch.float64)
        if scattered
        else torch.full((size,), 1.25).double()
    )
    for start in range(0, size, width):
        values[start : start + 64] = few[0]  # what loops look at
        values[start : start + width : order._SAMPLE] = few[1]  # what torch looks at

    def tile(start: int, stop: int) -> Elements:
        zeros = torch.zeros(stop - start, dtype=torch.float64)
        return Change(stored(values[start:stop], kind), stored(zeros, kind))

    ours, theirs = twice(lambda: selected(k, size, tile, width, room))
    assert ours == theirs
    exact = arith.decode(arith.encode(values, kind), kind) if kind is not DType.F64 else values
    last = (-exact.abs()).sort(stable=True).indices[k - 1]
    assert np.frombuffer(ours)[-2:].tolist() == [abs(exact[last].item()), float(last)]


@given(SEEDS, st.lists(st.sampled_from([1, 3, 16383, 16384, 20000]), min_size=1, max_size=4))
def test_lane_sums_and_dots(seed: int, widths: list[int]) -> None:
    tiles = [(numbers(width, seed + i), numbers(width, seed + i + 50)) for i, width in enumerate(widths)]

    def sums() -> torch.Tensor:
        total, products, start = arith.LaneSum(), arith.LaneDot(), 0
        for x, y in tiles:
            total.feed(x, start)
            products.feed(x, y, start)
            start += len(x)
        return torch.tensor([total.result(), products.result()], dtype=torch.float64)

    ours, theirs = twice(sums)
    assert ours == theirs


def test_products_and_sums_are_not_contracted() -> None:
    # (1 + 2^-52)² - 1 is 2^-51 in two roundings, and 2^-51 + 2^-104 in one.
    x = torch.full((4096,), 1 + 2.0**-52, dtype=torch.float64)
    minus = torch.full((4096,), -1.0, dtype=torch.float64)
    total = arith.weighted_sum([minus, x], [Fraction(1), Fraction(1 + 2.0**-52)])
    assert total.eq(2.0**-51).all()


def test_loops_are_loaded_only_by_whom_they_pay_for() -> None:
    script = "import sys; from crdtmerge import merge; import torch; w = {'w': torch.ones(9)}; "
    script += "merge([w, w]); print('numba' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
