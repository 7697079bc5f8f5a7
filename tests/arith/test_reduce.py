"""The lane sum is one order of additions, wherever tiles begin and end."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from crdtmerge import arith
from crdtmerge.arith import LaneDot, LaneGram, LaneSum, Tensor, draw
from crdtmerge.arith.reduce import LANES
from crdtmerge.errors import NonFiniteError, ParameterError
from reference import arith as reference


def numbers(n: int, *, seed: int = 1) -> Tensor:
    """Products of uniform numbers: both signs and many magnitudes, so that every order of sums shows."""
    key = bytes([seed]) * 32
    factors = [draw.words(key, i * n, n) * 2.0**-31 - 1.0 for i in range(3)]
    return factors[0] * factors[1] * factors[2]


X, Y = numbers(40_000), numbers(40_000, seed=2)
LENGTHS = [0, 1, 2, LANES - 1, LANES, LANES + 1, 2 * LANES - 1, 2 * LANES, 2 * LANES + 1, len(X)]


def cuts_of(n: int, cuts: Sequence[int]) -> list[tuple[int, int]]:
    edges = [0, *sorted(cut % (n + 1) for cut in cuts), n]
    return list(pairwise(edges))


@pytest.mark.parametrize("n", LENGTHS)
def test_sums_agree_with_the_definition_at_every_boundary(n: int) -> None:
    x, y = X[:n], Y[:n]
    assert arith.lane_sum(x) == reference.lane_sum(x.tolist())
    assert arith.dot(x, y) == reference.dot(x.tolist(), y.tolist())
    assert arith.squared_norm(x) == reference.dot(x.tolist(), x.tolist())


def test_the_order_can_be_seen_in_these_numbers() -> None:
    backwards = X.flip(0)
    assert arith.lane_sum(X) != arith.lane_sum(backwards)
    assert arith.lane_sum(X) != sum(X.tolist())


@given(st.lists(st.integers(0, len(X)), max_size=12), st.integers(0, len(X)))
def test_cuts_between_tiles_do_not_show(cuts: list[int], n: int) -> None:
    sums, dots = LaneSum(), LaneDot()
    for start, stop in cuts_of(n, cuts):
        sums.feed(X[start:stop], start)
        dots.feed(X[start:stop], Y[start:stop], start)
    assert sums.result() == arith.lane_sum(X[:n])
    assert dots.result() == arith.dot(X[:n], Y[:n])


def test_threads_do_not_show() -> None:
    results = set()
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        results.add((arith.lane_sum(X), arith.dot(X, Y)))
    assert len(results) == 1


def test_a_result_may_be_asked_for_on_the_way() -> None:
    total = LaneSum()
    total.feed(X[:5000], 0)
    assert total.result() == arith.lane_sum(X[:5000])
    total.feed(X[5000:], 5000)
    assert total.result() == arith.lane_sum(X)


def test_the_tiles_that_were_fed_are_left_alone() -> None:
    x = X.clone()
    arith.lane_sum(x)
    arith.dot(x, x)
    assert torch.equal(x, X)


def test_every_pair_of_a_gram_matrix_is_the_dot_product() -> None:
    streams = [X, Y, numbers(len(X), seed=3)]
    gram = LaneGram(3)
    for start, stop in cuts_of(len(X), [7, 16_500, 16_501]):
        gram.feed([stream[start:stop] for stream in streams], start)
    assert gram.result() == tuple(tuple(arith.dot(a, b) for b in streams) for a in streams)


def test_a_gram_matrix_of_nothing_is_empty() -> None:
    assert LaneGram(0).result() == ()
    assert LaneGram(1).result() == ((0.0,),)


def test_a_tile_out_of_order_is_refused() -> None:
    total = LaneSum()
    total.feed(X[:10], 0)
    for start in (0, 9, 11):
        with pytest.raises(ParameterError, match="wanted element 10 next"):
            total.feed(X[:10], start)


def test_streams_of_different_length_or_number_are_refused() -> None:
    with pytest.raises(ParameterError, match="3 and 4"):
        arith.dot(X[:3], X[:4])
    with pytest.raises(ParameterError, match="2 streams was fed 1"):
        LaneGram(2).feed([X], 0)


@pytest.mark.parametrize("reduce", [arith.lane_sum, arith.squared_norm])
def test_a_sum_beyond_float64_is_refused(reduce: Callable[[Tensor], float]) -> None:
    with pytest.raises(NonFiniteError, match="exceeds"):
        reduce(torch.tensor([1.7e308, 1.7e308], dtype=torch.float64))


def test_shuffled_numbers_give_another_sum_but_a_near_one() -> None:
    order = list(range(len(X)))
    random.Random(5).shuffle(order)
    shuffled = arith.lane_sum(X[order])
    assert shuffled != arith.lane_sum(X)
    assert shuffled == pytest.approx(reference.exact_sum(X.tolist()), rel=1e-9)
