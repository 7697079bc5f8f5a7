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
from hypothesis import given
from hypothesis import strategies as st

from crdtmerge import arith
from crdtmerge.arith import Change, Elements, Stored, Values, compiled, elementwise, order
from crdtmerge.dtypes import DType
from crdtmerge.errors import NonFiniteError

READ = (DType.F64, DType.F32, DType.BF16, DType.F16)
"""The last is decoded by torch in either case."""

SIZES = st.sampled_from([1, 2, 7, 2047, 2048, 2049, 5000])
SEEDS = st.integers(0, 2**32 - 1)


@pytest.fixture(autouse=True)
def loops() -> None:
    assert compiled.load(), "numba is among what `make setup` installs"


def twice(work: Callable[[], torch.Tensor | bytes]) -> tuple[bytes, bytes]:
    def run() -> bytes:
        result = work()
        return result if isinstance(result, bytes) else result.numpy().tobytes()

    with compiled.without():
        by_torch = run()
    return run(), by_torch


def numbers(size: int, seed: int) -> torch.Tensor:
    """[n] float64 of all magnitudes, with zeros of both signs, ties and half-way points among them."""
    draw = np.random.default_rng(seed)
    values = draw.normal(size=size) * 10.0 ** draw.integers(-12, 12, size)
    values[draw.random(size) < 0.1] = 0.0
    values[draw.random(size) < 0.1] *= -0.0
    few = draw.random(size) < 0.2
    values[few] = np.round(values[few] % 8) / 4
    halfway = draw.random(size) < 0.1
    values[halfway] = (1 + (2 * draw.integers(0, 128, size)[halfway] + 1) / 256) * 2.0**-3
    return torch.from_numpy(values)


def stored(values: torch.Tensor, dtype: DType, *, offset: int = 0) -> Stored:
    raw = bytes(offset) + arith.encode(values.clamp(-6e4, 6e4), dtype)
    return Stored(lambda: memoryview(raw)[offset:], dtype, len(values))


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
        arith.agreeing_mean([row, row[:50]], [Fraction(1)] * 2, row.sign())


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


@given(SIZES, SEEDS, st.sampled_from([DType.F32, DType.BF16]))
def test_encoding(size: int, seed: int, dtype: DType) -> None:
    ours, theirs = twice(lambda: arith.encode(numbers(size, seed), dtype))
    assert ours == theirs


def test_encoding_of_every_pattern_between_and_beside_two_neighbours_of_a_half_type() -> None:
    low = torch.arange(0, 0x7F7F, dtype=torch.int16).view(torch.bfloat16).double()
    high = torch.arange(1, 0x7F80, dtype=torch.int16).view(torch.bfloat16).double()
    middle = low * 0.5 + high * 0.5
    up, down = torch.nextafter(middle, high), torch.nextafter(middle, low)
    both = torch.cat([low, middle, up, down])
    ours, theirs = twice(lambda: arith.encode(torch.cat([both, -both]), DType.BF16))
    assert ours == theirs


@pytest.mark.parametrize("dtype", [DType.F32, DType.BF16])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e300, 3.5e38, -3.4e38 * 1.01])
def test_what_fits_no_number_is_refused_alike(dtype: DType, value: float) -> None:
    values = torch.zeros(3000, dtype=torch.float64)
    values[2500] = value
    with pytest.raises(NonFiniteError, match="element 2500"):
        arith.encode(values, dtype)


@given(st.data(), SIZES, SEEDS, st.integers(1, 5))
def test_means_of_those_that_agree(data: st.DataObject, size: int, seed: int, k: int) -> None:
    weights = data.draw(st.lists(st.fractions(-3, 3, max_denominator=10), min_size=k, max_size=k))
    rows = [numbers(size, seed + i) for i in range(k)]
    elected = torch.from_numpy(np.random.default_rng(seed).integers(-1, 2, size).astype(np.float64))
    ours, theirs = twice(lambda: elementwise.agreeing_mean(rows, weights, elected))
    assert ours == theirs


@given(SIZES, SEEDS, st.integers(1, 5000), st.sampled_from([*READ, None]), st.booleans())
def test_the_largest_of_a_stream(size: int, seed: int, k: int, kind: DType | None, change: bool) -> None:
    values, base = numbers(size, seed), numbers(size, seed + 1)

    def tile(start: int) -> Elements:
        row = values[start : start + 777]
        part: Values = row if kind is None else stored(row, kind)
        return Change(part, base[start : start + 777]) if change else part

    def kept() -> torch.Tensor:
        before, order.CANDIDATES_MAX = order.CANDIDATES_MAX, 50  # type: ignore[misc]
        try:
            selection = arith.TopSelection(min(k, size), size)
            for _ in range(9):
                for start in range(0, size, 777):
                    selection.feed(tile(start), start)
                if selection.finish():
                    break
            cut = selection.cut
            chosen = [cut.keep(tile(start), start) for start in range(0, size, 777)]
            return torch.cat([*chosen, torch.tensor([cut.threshold, float(cut.last)], dtype=torch.float64)])
        finally:
            order.CANDIDATES_MAX = before  # type: ignore[misc]

    ours, theirs = twice(kept)
    assert ours == theirs


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
