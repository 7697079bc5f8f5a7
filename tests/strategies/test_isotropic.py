"""TSV-Merge, Iso-C and Iso-CTS: whose directions stay, and how large they become."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from spectral_harness import contributions, low, merged, near, normal

from crdtmerge.errors import ParameterError
from reference import spectral as slow

METHODS = ("tsv_merge", "iso_c", "iso_cts")
SEEDS = st.integers(0, 2**32 - 1)
D1, D2 = np.diag([4.0, 3, 2, 1]), np.diag([1.0, 0, 5, 3])


def test_tsv_of_vectors_that_are_not_orthogonal_is_the_catalogues() -> None:
    rows = [[[3, 0], [0, 0]], [[1, 1], [1, 1]]]
    assert merged("tsv_merge", rows) == near([[2.853553, -0.353553], [-0.353553, 2.146447]], 1e-6)


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [("tsv_merge", [4, 3, 5, 3]), ("iso_c", [4.75] * 4), ("iso_cts", [4.5] * 4)],
)
def test_diagonals_are_the_catalogues(strategy: str, expected: list[float]) -> None:
    parameters: dict[str, Any] = {"common": "0.5"} if strategy == "iso_cts" else {}
    assert merged(strategy, [D1, D2], **parameters) == near(np.diag(expected), 1e-14)


def test_a_direction_that_two_share_is_not_replaced_by_an_invented_one() -> None:
    assert merged("tsv_merge", [D1, np.diag([1.0, 0, 0, 3])]) == near(np.diag([2.5, 3, 0, 3]), 1e-14)


@given(SEEDS, st.tuples(st.integers(3, 5), st.integers(3, 5)), st.integers(1, 3))
def test_tsv_is_its_reference(seed: int, size: tuple[int, int], count: int) -> None:
    rows = [normal(seed + i, *size) for i in range(count)]
    assert merged("tsv_merge", rows) == near(slow.tsv_merge(rows), 1e-6)


@given(SEEDS, st.tuples(st.integers(1, 5), st.integers(1, 5)), st.integers(1, 3))
def test_iso_c_is_its_reference(seed: int, size: tuple[int, int], count: int) -> None:
    rows = [normal(seed + i, *size) for i in range(count)]
    assert merged("iso_c", rows) == near(slow.iso_c(rows), 1e-6)


@given(SEEDS, st.integers(1, 3), st.sampled_from(["0.25", "0.5", "0.8"]))
def test_iso_cts_is_its_reference(seed: int, count: int, common: str) -> None:
    rows = [normal(seed + i, 6, 5) for i in range(count)]
    assert merged("iso_cts", rows, common=common) == near(slow.iso_cts(rows, float(common)), 1e-6)


@pytest.mark.parametrize("strategy", METHODS)
def test_low_rank_factors_give_what_the_whole_matrices_give(strategy: str) -> None:
    pairs = [(normal(i, 12, 3), normal(i + 9, 3, 10)) for i in range(3)]
    whole = merged(strategy, contributions([2 * b @ a for b, a in pairs]))
    assert merged(strategy, low(pairs)) == near(whole, 1e-12)


def test_more_contributions_than_directions_leave_matrices_at_the_base() -> None:
    base = [[1.0, 2], [3, 4]]
    assert merged("tsv_merge", [np.eye(2) * i for i in (1, 2, 3)], base).tolist() == base


def test_the_mean_of_singular_values_is_over_those_that_are_there_or_over_all() -> None:
    row = np.diag([6.0, 3, 0])
    assert merged("iso_c", [row]) == near(np.diag([4.5, 4.5, 0]), 1e-15)
    assert merged("iso_c", [row], mean_over="full") == near(np.diag([3.0, 3, 0]), 1e-15)


def test_what_projection_leaves_by_rounding_is_no_direction() -> None:
    # The second contribution lies in the common directions: it has none of its own.
    first, second = normal(1, 8, 3) @ normal(2, 3, 8), normal(1, 8, 3) @ normal(3, 3, 8)
    result = merged("iso_cts", [first, second], common="0.5")
    assert np.linalg.matrix_rank(result, tol=1e-6) == 3
    sizes = np.linalg.svd(first + second, compute_uv=False)[:3]
    assert np.linalg.svd(result, compute_uv=False)[:3] == pytest.approx([sizes.mean()] * 3)


@pytest.mark.parametrize("strategy", METHODS)
def test_scale_and_weights_are_factors(strategy: str) -> None:
    rows = [normal(i, 6, 7) for i in range(2)]
    plain = merged(strategy, rows)
    assert merged(strategy, rows, scale="0.5") == near(plain / 2, 1e-13)
    assert merged(strategy, rows, weights=[3, 3]) == near(plain * 3, 1e-12)
    assert merged(strategy, rows, weights=[2, 1]) == near(merged(strategy, [rows[0] * 2, rows[1]]), 1e-13)


@pytest.mark.parametrize("strategy", METHODS)
def test_a_weight_of_zero_leaves_a_place_and_nothing_in_it(strategy: str) -> None:
    rows = [normal(i, 6, 7) for i in range(2)]
    assert merged(strategy, rows, weights=[1, 0]) == near(merged(strategy, [rows[0], 0 * rows[1]]), 1e-13)


@pytest.mark.parametrize("strategy", METHODS)
def test_what_nobody_changed_comes_out_as_its_base(strategy: str) -> None:
    base = [[0.1, -2.0], [0.0, 3.0]]
    assert merged(strategy, [np.zeros((2, 2))] * 2, base).tolist() == base


@pytest.mark.parametrize("strategy", METHODS)
def test_vectors_are_moved_by_the_weighted_mean(strategy: str) -> None:
    rows = [[2.0, 0.0], [4.0, 1.0]]
    assert merged(strategy, rows, [1.0, 1.0], weights=[1, 3]).tolist() == [4.5, 1.75]
    with pytest.raises(ParameterError, match=f"{strategy}: the weights sum to 0"):
        merged(strategy, rows, weights=[1, -1])
