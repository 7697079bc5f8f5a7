"""What methods are composed of, each part by itself."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies_harness import tensor

from crdtmerge.arith import decoded
from crdtmerge.digest import Digest
from crdtmerge.errors import MissingBaseError
from crdtmerge.strategies.parts import consensus, scale, span
from crdtmerge.strategies.parts.delta import Extent
from crdtmerge.strategies.parts.mask import Trim
from crdtmerge.strategy import Group, Member, Tile

GROUP = Group((("a", (2, 3)), ("b", ()), ("c", (0,)), ("d", (4,))), (Member(Digest(bytes(32))),))


def tile(name: str, start: int, values: list[float]) -> Tile:
    shape = dict(GROUP.tensors)[name]
    row = tensor(values)
    return Tile(name, shape, start, torch.zeros_like(row), (row,), (False,), GROUP)


@given(st.lists(st.fractions(), min_size=1, max_size=6))
def test_proportions_are_whole_coprime_and_the_same_proportions(weights: list[Fraction]) -> None:
    parts = consensus.proportions(weights)
    assert all(part.denominator == 1 for part in parts)
    assert all(
        a * y == b * x
        for a, x in zip(parts, weights, strict=True)
        for b, y in zip(parts, weights, strict=True)
    )
    assert [part > 0 for part in parts] == [weight > 0 for weight in weights]
    assert consensus.proportions(parts) == parts


def test_equal_weights_count_one_each() -> None:
    assert consensus.proportions([Fraction("0.3")] * 3) == (Fraction(1),) * 3
    assert consensus.proportions([Fraction(0)] * 2) == (Fraction(0),) * 2


def test_weights_cancel_below_a_hundred_millionth_exactly() -> None:
    assert consensus.cancel([Fraction("0.1"), Fraction("0.2"), Fraction("-0.3")])
    assert consensus.cancel([Fraction(1), Fraction("-0.999999990000000001")])
    assert not consensus.cancel([Fraction(1), Fraction("-0.99999999")])


def test_an_extent_of_all_tensors_counts_on_from_one_to_the_next() -> None:
    extent = Extent(GROUP, "global")
    tiles = [tile("a", 0, [0] * 4), tile("a", 4, [0] * 2), tile("b", 0, [0]), tile("d", 0, [0] * 4)]
    assert [extent.start(t) for t in tiles] == [0, 4, 6, 7]
    assert [extent.ends(t) for t in tiles] == [False, False, False, True]
    assert {(extent.name(t), extent.size(t)) for t in tiles} == {("", 11)}


def test_an_extent_of_one_tensor_ends_with_it() -> None:
    extent = Extent(GROUP, "tensor")
    tiles = [tile("a", 0, [0] * 4), tile("a", 4, [0] * 2), tile("b", 0, [0])]
    assert [extent.start(t) for t in tiles] == [0, 4, 0]
    assert [extent.ends(t) for t in tiles] == [False, True, True]
    assert [(extent.name(t), extent.size(t)) for t in tiles] == [("a", 6), ("a", 6), ("b", 1)]


def test_a_trim_that_needs_several_passes_asks_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crdtmerge.arith.order.CANDIDATES_MAX", 2)
    trim = Trim(GROUP, Extent(GROUP, "tensor"), Fraction(1, 2))
    tiles = [
        tile("a", 0, [1, -1, 1]),
        tile("a", 3, [1, 1, 1]),
        tile("b", 0, [5]),
        tile("d", 0, [1, 4, -3, 2]),
    ]
    passes = 0
    complete = False
    while not complete:
        passes += 1
        for t in tiles:
            trim.feed(t, t.deltas)
        complete = trim.finish()
    assert passes > 1
    trimmed = [decoded(trim(t, t.deltas)[0]).tolist() for t in tiles]
    assert trimmed == [[1, -1, 1], [0, 0, 0], [0], [0, 4, -3, 0]]


@pytest.mark.parametrize("zero", ["majority", "plus", "drop"])
@pytest.mark.parametrize("rule", ["mean", "sum", "max"])
def test_electing_and_merging_leave_the_values_as_they_were(zero: str, rule: str) -> None:
    values = [tensor([1.0, -2.0, 0.0, 3.0]), tensor([-1.0, -4.0, -0.0, 1.0])]
    before = [x.clone() for x in values]
    group = Group((("w", (4,)),), tuple(Member(Digest(bytes([i] * 32))) for i in range(2)))
    tile = Tile("w", (4,), 0, None, tuple(values), (True, True), group)
    election = consensus.Election(group, Extent(group, "global"), zero)
    election.feed(tile, values)
    assert election.finish()
    elected = election(tile, values)
    undecided = 0.0 if zero == "drop" else 1.0  # of one plus and one minus there is no majority
    assert elected.tolist() == [undecided, -1.0, undecided, 1.0]
    signs = elected.clone()
    decoded(consensus.disjoint(values, group.weights, elected, rule)).zero_()
    assert torch.equal(elected, signs)
    assert all(
        torch.equal(x.view(torch.int64), y.view(torch.int64)) for x, y in zip(values, before, strict=True)
    )


def test_a_difference_goes_onto_a_base_or_nowhere() -> None:
    t = tile("b", 0, [1.0])
    assert decoded(scale.onto(t, tensor([2.0]), Fraction(1, 2))).tolist() == [1.0]
    bare = Tile("b", (), 0, None, t.given, (True,), GROUP)
    with pytest.raises(MissingBaseError, match="there is none"):
        scale.onto(bare, tensor([2.0]), Fraction(1))


def test_lengths_come_from_dot_products_alone() -> None:
    gram = [[1.0, 1.0], [1.0, 2.0]]  # of (1, 0) and (1, 1)
    assert span.norm(gram, [3.0, 4.0]) == (7**2 + 4**2) ** 0.5
    assert span.dot(gram, 1, [3.0, 4.0]) == 11.0
    lengths, cosines = span.units(gram)
    assert lengths == [1.0, 2**0.5]
    assert cosines[0][1] == 1 / 2**0.5


def test_what_rounding_leaves_of_a_cancelled_vector_has_no_length() -> None:
    v = [0.1, 0.7, -0.3]
    square = sum(x * x for x in v)
    off = square * (1 - 2**-52)
    assert span.norm([[square, off], [off, square]], [1.0, -1.0]) == 0.0
    assert span.norm([[0.0]], [1.0]) == 0.0
