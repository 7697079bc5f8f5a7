"""Choices follow from the seed alone."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtmerge.sync.chance import Chance


def test_equal_seeds_choose_alike_and_others_do_not() -> None:
    assert Chance(b"a").draw(5000) == Chance(b"a").draw(5000)
    assert Chance(b"a").draw(32) != Chance(b"b").draw(32)


def test_how_much_is_drawn_at_a_time_does_not_change_what_is_drawn() -> None:
    whole, parts = Chance(b"a"), Chance(b"a")
    assert whole.draw(4000) == b"".join(parts.draw(size) for size in (1, 999, 1500, 0, 1500))


def test_a_fork_does_not_disturb_its_parent() -> None:
    one, other = Chance(b"a"), Chance(b"a")
    fork = one.fork("x")
    fork.draw(100)
    assert one.draw(100) == other.draw(100) != one.fork("x").draw(100)


@given(st.integers(1, 1 << 40), st.binary(max_size=8))
def test_a_number_below_a_bound_is_below_it(bound: int, seed: bytes) -> None:
    assert 0 <= Chance(seed).below(bound) < bound


def test_every_number_below_a_bound_comes_equally_often() -> None:
    chance = Chance(b"fair")
    counts = Counter(chance.below(7) for _ in range(7000))
    assert sorted(counts) == list(range(7))
    assert all(850 < count < 1150 for count in counts.values())


@given(st.lists(st.integers(), max_size=20), st.integers(0, 25))
def test_a_sample_takes_each_position_at_most_once(items: list[int], count: int) -> None:
    sample = Chance(b"s").sample(items, count)
    assert len(sample) == min(count, len(items))
    assert not Counter(sample) - Counter(items)


def test_there_is_no_number_below_zero() -> None:
    with pytest.raises(ValueError, match="positive bound"):
        Chance(b"").below(0)
