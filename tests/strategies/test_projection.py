"""Dual projection: the minimum for all contributions at once, and the published descent of two by two."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from spectral_harness import contributions, low, merged, near, normal

from crdtmerge.errors import ParameterError
from crdtmerge.strategies.parts.descent import adam, least_norm
from reference import spectral as slow

DOP = "dual_projection"
X1, X2 = [[2, 0], [0, 0]], [[1, 0], [0, 1]]
SEEDS = st.integers(0, 2**32 - 1)


def test_examples_are_the_catalogues() -> None:
    assert merged(DOP, [X1, X2]) == near([[1.8, 0], [0, 1]], 1e-15)
    assert merged(DOP, [X1, X2], weights=["0.8", "0.2"]) == near([[1.9411765, 0], [0, 1]])


@given(
    SEEDS,
    st.tuples(st.integers(1, 4), st.integers(1, 4)),
    st.integers(2, 4),
    st.sampled_from(["uv", "u", "v"]),
)
def test_it_is_the_minimum(seed: int, size: tuple[int, int], count: int, space: str) -> None:
    rows = [normal(seed + i, *size) for i in range(count)]
    expected = slow.dual_projection(rows, [1, 2, 3, 1][:count], space)
    assert merged(DOP, rows, weights=[1, 2, 3, 1][:count], space=space) == near(expected, 1e-6)


def test_directions_that_span_less_than_the_matrix_are_enough() -> None:
    # 9 and 7 dimensions, 2 of each used by each contribution: the equation is 4 by 4.
    pairs = [(normal(i, 9, 2), normal(i + 5, 2, 7)) for i in range(2)]
    whole = contributions([2 * b @ a for b, a in pairs])
    expected = slow.dual_projection([2 * b @ a for b, a in pairs], [1, 1], "uv")
    assert merged(DOP, low(pairs)) == near(expected, 1e-9)
    assert merged(DOP, whole) == near(expected, 1e-9)
    tall = [normal(i, 20, 2) for i in range(3)]
    assert merged(DOP, tall) == near(slow.dual_projection(tall, [1, 1, 1], "uv"), 1e-9)


def test_directions_without_a_share_do_not_count() -> None:
    rows = [[[4, 0], [0, 1]], [[0, 0], [0, 3]]]
    assert merged(DOP, rows) == near([[4, 0], [0, 2.8]], 1e-15)
    assert merged(DOP, rows, epsilon="0.8") == near([[4, 0], [0, 3]], 1e-15)


def test_what_no_contribution_cares_for_is_the_mean() -> None:
    # With outputs alone, the second row of the first contribution is free, and so is the first of the second.
    rows = [[[2, 0], [0, 0]], [[0, 0], [0, 4]]]
    assert merged(DOP, rows, space="u") == near([[2, 0], [0, 4]], 1e-15)
    assert merged(DOP, [[[1e-9, 0], [0, 1]], [[3e-9, 0], [0, 1]]]) == near([[2e-9, 0], [0, 1]], 1e-15)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_what_all_agree_on_comes_out_to_the_bit(count: int) -> None:
    row = normal(1, 3, 4).astype(np.float32).astype(float)
    assert merged(DOP, [row] * count).tolist() == row.tolist()


@pytest.mark.parametrize("mode", ["sylvester", "official_fixed_alpha", "official_mgda"])
def test_what_nobody_changed_comes_out_as_its_base(mode: str) -> None:
    base = [[0.1, -2.0], [0.0, 3.0]]
    assert merged(DOP, [np.zeros((2, 2))] * 3, base, mode=mode, steps=3).tolist() == base


def test_it_scales_with_its_differences_and_never_overflows() -> None:
    rows = [normal(i, 3, 3) for i in range(2)]
    for power in (2.0**-600, 2.0**600):
        assert (merged(DOP, [row * power for row in rows]) / power).tolist() == merged(DOP, rows).tolist()


def test_the_order_of_digests_shows_by_rounding_alone() -> None:
    rows = [normal(i, 3, 4) for i in range(3)]
    assert merged(DOP, rows) == near(merged(DOP, rows[::-1]), 1e-12)


def test_vectors_are_moved_by_the_weighted_mean() -> None:
    assert merged(DOP, [[2.0, 0.0], [4.0, 1.0]], [1.0, 1.0], weights=[1, 3]).tolist() == [4.5, 1.75]


@pytest.mark.parametrize("weights", [[1, -1], [0, 0]])
def test_weights_that_make_no_minimum_are_refused(weights: list[int]) -> None:
    with pytest.raises(ParameterError, match="weights must not be negative"):
        merged(DOP, [X1, X2], weights=weights)


# The published descent


@pytest.mark.parametrize(
    ("steps", "expected"), [(0, (1.5, 0.5)), (1, (1.6, 0.6)), (2, (1.6970352, 0.6988126))]
)
def test_steps_of_the_descent_are_the_catalogues(steps: int, expected: tuple[float, float]) -> None:
    result = merged(DOP, [X1, X2], mode="official_fixed_alpha", alpha="0.5", lr="0.1", steps=steps)
    assert result == near(np.diag(expected))


@given(SEEDS, st.integers(2, 3), st.booleans(), st.booleans())
def test_the_descent_is_the_published_one(seed: int, count: int, mgda: bool, official: bool) -> None:
    rows = [normal(seed + i, 3, 4) for i in range(count)]
    expected = slow.descent(rows, alpha=0.8, lr=0.01, steps=6, mgda=mgda, beta=0.9, drop=1 if official else 0)
    result = merged(
        DOP,
        rows,
        mode="official_mgda" if mgda else "official_fixed_alpha",
        lr="0.01",
        steps=6,
        beta="0.9",
        compat="official" if official else "none",
    )
    assert result == near(expected, 1e-6)


def test_without_a_moving_mean_the_weights_are_those_of_the_step() -> None:
    rows = [normal(i, 3, 4) for i in range(2)]
    expected = slow.descent(rows, alpha=0.8, lr=0.01, steps=5, mgda=True, beta=0.0)
    assert merged(DOP, rows, mode="official_mgda", lr="0.01", steps=5, ema=False) == near(expected, 1e-9)


def test_long_factors_are_multiplied_one_after_the_other() -> None:
    rows = [normal(i, 12, 3) for i in range(2)]
    expected = slow.descent(rows, alpha=0.8, lr=0.01, steps=4, mgda=False, beta=0.0)
    assert merged(DOP, rows, mode="official_fixed_alpha", lr="0.01", steps=4) == near(expected, 1e-9)


def test_the_published_code_ignores_a_difference_of_rank_one() -> None:
    # Its last component is its only one: what is left pulls towards the other contribution.
    ours, theirs = (
        merged(DOP, [X1, X2], mode="official_fixed_alpha", lr="0.1", steps=1, compat=compat)
        for compat in ("none", "official")
    )
    assert ours == near([[1.6, 0], [0, 0.6]])
    assert theirs[0, 0] == pytest.approx(1.5)


def test_a_descent_takes_the_lower_digest_first() -> None:
    rows = [normal(i, 3, 3) for i in range(3)]
    results = [
        merged(DOP, order, mode="official_fixed_alpha", lr="0.01", steps=3) for order in (rows, rows[::-1])
    ]
    assert np.abs(results[0] - results[1]).max() > 1e-3


def test_the_last_vector_of_a_descent_counts_one_half() -> None:
    rows = [[8.0], [0.0], [1.0]]
    assert merged(DOP, rows, mode="official_mgda").tolist() == [2.5]


def test_weights_have_no_place_in_the_published_descent() -> None:
    with pytest.raises(ParameterError, match="mode=official_mgda has no place for weights"):
        merged(DOP, [X1, X2], mode="official_mgda", weights=[1, 2])


@pytest.mark.parametrize(
    ("a", "b", "gamma"),
    [([2.0, 0.0], [0.0, 1.0], 0.2), ([1.0, 0.0], [2.0, 0.0], 0.999), ([2.0, 0.0], [1.0, 0.0], 0.001)],
)
def test_the_shortest_mixture_of_two_gradients(a: list[float], b: list[float], gamma: float) -> None:
    assert least_norm(torch.tensor(a).double(), torch.tensor(b).double()) == pytest.approx(gamma)


def test_adam_moves_every_element_by_the_rate_at_first() -> None:
    start = torch.tensor([1.0, -2.0, 0.0], dtype=torch.float64)
    assert adam(start, lambda x: x, Fraction(1, 8), 1).tolist() == pytest.approx([0.875, -1.875, 0.0])
    assert torch.equal(adam(start, lambda x: x, Fraction(1, 8), 0), start)
