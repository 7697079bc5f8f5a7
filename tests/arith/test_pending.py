"""What is left pending comes out as it would have at once, wherever a loop writes it.

A strategy's last step is rounded to where it is stored without an array of float64 in between; masks, cuts
and elections on the way there are never written at all. Each test computes a thing twice, once by torch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import TypeAlias

import numpy as np
import pytest
import torch
from arith.both_ways import READ, SEEDS, SIZES, WRITTEN, numbers, stored, twice
from hypothesis import given
from hypothesis import strategies as st

from crdtmerge import arith
from crdtmerge.arith import (
    AgreeingMean,
    Change,
    Cut,
    Drawn,
    Dropped,
    Elements,
    Values,
    WeightedSum,
    compiled,
)
from crdtmerge.dtypes import DType
from crdtmerge.errors import NonFiniteError

Forms: TypeAlias = "list[tuple[DType | None, list[str]]]"
"""How each stream is given, and what is done with it."""

Made: TypeAlias = "tuple[int, int, Forms, list[Fraction]]"
"""Number of elements, seed, streams and their weights."""

WEIGHTS = st.sampled_from([Fraction(1), Fraction(1), Fraction(3), Fraction(1, 3), Fraction(-2), Fraction(0)])
KINDS = st.sampled_from([*READ, DType.F32, DType.F32, None])
"""How elements are given; None: as float64."""
STEPS = st.lists(st.sampled_from(["change", "drop", "rescale", "trim"]), max_size=3)
ALIKE = st.sampled_from([None, *READ])
"""All streams of one kind, so that four of them are read side by side; None: as it comes."""


@pytest.fixture(autouse=True)
def loops() -> None:
    assert compiled.load(), "numba is among what `make setup` installs"


def given_as(kind: DType | None, size: int, seed: int) -> Values:
    row = numbers(size, seed).clamp(-400, 400)
    return row if kind is None else stored(row, kind)


def prepared(x: Values, base: Values, steps: Sequence[str], seed: int) -> Elements:
    """A stream after some steps, in the order of which there is only one that loops take."""
    start, size = seed % 1000, len(x)
    result: Elements = Change(x, base) if "change" in steps else x
    if "drop" in steps or "rescale" in steps:
        kept = Fraction(seed % 9, 8) if seed % 9 < 8 else Fraction(1)
        mask = Drawn(seed.to_bytes(32, "big"), start, size, kept)
        result = Dropped(result, mask, Fraction(1, 3) if "rescale" in steps else Fraction(1))
    if "trim" in steps:
        result = Cut(threshold=(0.0, 0.25, 1.5)[seed % 3], last=start + seed % (size + 1) - 1).trimmed(
            result, start
        )
    return result


@st.composite
def streams(draw: st.DrawFn) -> Made:
    """Up to nine streams."""
    k = draw(st.integers(1, 9))
    kind, steps = draw(ALIKE), draw(STEPS)
    mixed = draw(st.booleans())
    forms = [(draw(KINDS), draw(STEPS)) if mixed else (kind, steps) for _ in range(k)]
    return draw(SIZES), draw(SEEDS), forms, draw(st.lists(WEIGHTS, min_size=k, max_size=k))


def rounded(total: WeightedSum, written: DType | None) -> torch.Tensor | bytes:
    """What is stored, or why it is not: means over weights that nearly cancel may be too large."""
    if written is None:
        return total.decoded()
    try:
        return arith.encode(total, written)
    except NonFiniteError as error:
        return str(error).encode()


def terms(size: int, seed: int, forms: Forms) -> list[Elements]:
    base = given_as(forms[-1][0], size, seed + 99)
    rows = [given_as(kind, size, seed + i) for i, (kind, _) in enumerate(forms)]
    return [
        prepared(row, base, steps, seed + i)
        for i, (row, (_, steps)) in enumerate(zip(rows, forms, strict=True))
    ]


@given(streams(), st.sampled_from([Fraction(1), Fraction(4), Fraction(7)]), st.sampled_from([*WRITTEN, None]))
def test_sums_of_streams_after_any_steps(
    made: Made,
    divisor: Fraction,
    written: DType | None,
) -> None:
    size, seed, forms, weights = made

    def summed() -> torch.Tensor | bytes:
        total = WeightedSum(terms(size, seed, forms), weights, divisor=divisor)
        return rounded(total, written)

    ours, theirs = twice(summed)
    assert ours == theirs


@given(
    streams(), st.sampled_from([-1, 0, 1]), st.sampled_from([*WRITTEN, None]), st.sampled_from([*READ, None])
)
def test_means_of_those_that_agree_with_what_they_elect_put_onto_a_base(
    made: Made,
    tie: int,
    written: DType | None,
    kind: DType | None,
) -> None:
    size, seed, forms, weights = made

    def merged() -> torch.Tensor | bytes:
        mean = AgreeingMean(terms(size, seed, forms), weights, tie)
        total = WeightedSum([given_as(kind, size, seed + 50), mean], [Fraction(1), Fraction(3, 10)])
        return rounded(total, written)

    ours, theirs = twice(merged)
    assert ours == theirs


def test_what_is_never_dropped_is_not_divided_and_what_stays_is_divided_by_the_nearest_float() -> None:
    x, mask = torch.tensor([0.1, -0.0], dtype=torch.float64), torch.ones(2, dtype=torch.float64)
    assert torch.equal(Dropped(x, mask).decoded(), x)
    assert Dropped(x, mask, Fraction(1, 10)).decoded().tolist() == [0.1 / 0.1, 0.0]
    assert str(Dropped(x, mask).decoded().tolist()) == "[0.1, 0.0]", "no -0.0"


@pytest.mark.parametrize("tie", [-1, 0, 1])
@pytest.mark.parametrize("k", [2, 4, 5])
def test_infinities_that_differences_became_are_what_they_are_to_torch(k: int, tie: int) -> None:
    large = torch.tensor([1.7e308, -1.7e308, 1.0, -1.0] * 4, dtype=torch.float64)

    def merged() -> torch.Tensor:
        rows: list[Elements] = [Change(large.roll(i), -large.roll(i)) for i in range(k)]
        mean = AgreeingMean(rows, [Fraction(1)] * k, tie).decoded()
        return torch.where(mean.isnan(), torch.tensor(7.0, dtype=torch.float64), mean)

    ours, theirs = twice(merged)
    assert ours == theirs
    assert torch.tensor(7.0, dtype=torch.float64).numpy().tobytes() in ours


@given(streams(), st.sampled_from(WRITTEN), st.sampled_from([Fraction(1), Fraction(-1, 3)]))
def test_a_sum_put_onto_a_base_is_rounded_once_and_where_it_belongs(
    made: Made,
    written: DType,
    scale: Fraction,
) -> None:
    size, seed, forms, weights = made

    def moved() -> torch.Tensor | bytes:
        base = given_as(DType.F32, size, seed + 50)
        total = WeightedSum(terms(size, seed, forms), weights, divisor=Fraction(3))
        return rounded(WeightedSum([base, total], [Fraction(1), scale]), written)

    ours, theirs = twice(moved)
    assert ours == theirs


@given(streams())
def test_signs_are_counted_alike_and_elected_alike(
    made: Made,
) -> None:
    size, seed, forms, weights = made

    def counted() -> torch.Tensor:
        count = arith.balance(terms(size, seed, forms), weights)
        elected = [arith.signs(terms(size, seed, forms), weights, tie) for tie in (-1, 0, 1)]
        assert count == int(elected[1].sum())
        return torch.cat([*elected, torch.tensor([float(count)], dtype=torch.float64)])

    ours, theirs = twice(counted)
    assert ours == theirs


@given(streams())
def test_a_stream_by_itself(
    made: Made,
) -> None:
    size, seed, forms, _ = made
    ours, theirs = twice(lambda: torch.cat([arith.decoded(x) for x in terms(size, seed, forms)]))
    assert ours == theirs


@given(
    st.integers(4, 9), SIZES, SEEDS, st.sampled_from([-1, 0, 1]), st.sampled_from([0.0, 0.25, 0.5, math.inf])
)
def test_of_many_equal_magnitudes_those_up_to_the_last_are_kept(
    k: int, size: int, seed: int, tie: int, threshold: float
) -> None:
    draw = np.random.default_rng(seed)
    rows = [torch.from_numpy(draw.integers(-2, 3, size) / 4) for _ in range(k + 1)]
    cuts = [Cut(threshold, int(draw.choice([-1, 511, size // 2, size]))) for _ in range(k)]
    weights = [Fraction(int(draw.choice([1, 1, 2, -1]))) for _ in range(k)]

    def merged() -> torch.Tensor:
        base, *given = [stored(row, DType.F32) for row in rows]
        kept = [cut.trimmed(Change(x, base), 0) for cut, x in zip(cuts, given, strict=True)]
        count = arith.balance(kept, weights)
        results = [WeightedSum(kept, weights).decoded(), AgreeingMean(kept, weights, tie).decoded()]
        return torch.cat([*results, torch.tensor([float(count)], dtype=torch.float64)])

    ours, theirs = twice(merged)
    assert ours == theirs


NARROW = st.sampled_from([DType.F32, DType.BF16, DType.F16])


@given(
    st.lists(NARROW, min_size=5, max_size=5),
    SIZES,
    SEEDS,
    st.lists(st.sampled_from([1, 1, 2, 3, -1]), min_size=4, max_size=4),
    st.lists(st.sampled_from([None, 0.0, 0.25, 1.5, math.inf]), min_size=4, max_size=4),
    st.sampled_from([-1, 0, 1]),
    st.sampled_from([*WRITTEN, None]),
)
def test_four_differences_are_trimmed_elected_and_merged_as_one_by_one(
    kinds: list[DType],
    size: int,
    seed: int,
    parts: list[int],
    thresholds: list[float | None],
    tie: int,
    written: DType | None,
) -> None:
    weights, last = [Fraction(part) for part in parts], seed % (size + 1) - 1

    def merged() -> torch.Tensor | bytes:
        base, *given = [given_as(kind, size, seed + i) for i, kind in enumerate(kinds)]
        # Some elements differ by little, or by as much as others do: they cancel.
        given[3] = (
            stored(arith.decoded(base) * 2 - arith.decoded(given[2]), kinds[4]) if seed % 2 else given[3]
        )
        changes = [Change(x, base) for x in given]
        kept = [
            x if threshold is None else Cut(threshold, last).trimmed(x, 0)
            for x, threshold in zip(changes, thresholds, strict=True)
        ]
        return rounded(WeightedSum([base, AgreeingMean(kept, weights, tie)], [Fraction(1)] * 2), written)

    ours, theirs = twice(merged)
    assert ours == theirs


def test_a_mask_that_is_no_draw_drops_what_it_says() -> None:
    x = torch.tensor([3.0, -0.0, 5.0], dtype=torch.float64)
    mask = torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64)
    assert str(Dropped(x, mask, Fraction(2)).decoded().tolist()) == "[1.5, 0.0, 0.0]"


def test_what_was_computed_once_is_not_computed_again() -> None:
    x = Change(numbers(9, 0), numbers(9, 1))
    assert x.fresh
    assert x.decoded() is x.decoded()
    assert not x.fresh


def test_a_cut_that_was_made_on_a_cut_is_made_by_torch() -> None:
    x = numbers(600, 3)
    ours, theirs = twice(lambda: Cut(1.0, 5).trimmed(Cut(2.0, 500).trimmed(x, 0), 0).decoded())
    assert ours == theirs
