"""STAR and AdaRank: which singular components stay, and what becomes of their size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from spectral_harness import F4, F4_BASE, contributions, low, merged, near, normal
from strategies_harness import Contribution, merge

from crdtmerge.coefficients import Coefficients, check
from crdtmerge.digest import Digest
from crdtmerge.errors import MalformedError, NonFiniteError, ParameterError
from crdtmerge.strategy import find
from reference import spectral as slow

D31 = [[3, 0], [0, 1]]
OFF = [[0, 2], [1, 0]]
SEEDS = st.integers(0, 2**32 - 1)
SIZES = st.tuples(st.integers(1, 5), st.integers(1, 5))


@pytest.mark.parametrize(
    ("rows", "expected"),
    [([D31], [[4, 0], [0, 0]]), ([OFF], [[0, 3], [0, 0]]), ([D31, OFF], [[2, 1.5], [0, 0]])],
    ids=["diagonal", "off the diagonal", "merged"],
)
def test_star_examples_are_the_catalogues(rows: list[list[list[float]]], expected: list[list[float]]) -> None:
    assert merged("star", rows) == near(expected, 1e-15)


def test_star_of_the_fixture_is_the_catalogues() -> None:
    assert merged("star", F4, F4_BASE) == near([[1.3983537, 1.6348396], [1.9681730, 3.9349796]])


@pytest.mark.parametrize("eta", [76, 80, 100])
def test_star_that_cuts_nothing_changes_no_bit(eta: int) -> None:
    assert merged("star", [D31], eta=eta).tolist() == D31


def test_star_reaches_a_share_exactly_on_its_edge() -> None:
    assert merged("star", [D31], eta=75) == near([[4, 0], [0, 0]], 1e-15)
    assert merged("star", [D31], eta="75.000001").tolist() == D31


def test_star_keeps_equal_singular_values_together() -> None:
    assert merged("star", [[[1, 0], [0, 1]]]).tolist() == [[1, 0], [0, 1]]
    assert merged("star", [np.diag([2.0, 2, 1])], eta=30) == near(np.diag([2.5, 2.5, 0]), 1e-15)


@given(SEEDS, SIZES, st.integers(1, 3), st.integers(1, 100))
def test_star_is_its_reference(seed: int, size: tuple[int, int], count: int, eta: int) -> None:
    rows = [normal(seed + i, *size) for i in range(count)]
    assert merged("star", rows, eta=eta) == near(slow.star(rows, eta), 1e-9)


def test_star_weighs_its_mean() -> None:
    assert merged("star", [D31, OFF], weights=[3, 1]) == near([[3, 0.75], [0, 0]], 1e-15)
    with pytest.raises(ParameterError, match="star: the weights sum to 0"):
        merged("star", [D31, OFF], weights=[1, -1])


@pytest.mark.parametrize("strategy", ["star", "adarank"])
def test_low_rank_factors_give_what_the_whole_matrix_gives(strategy: str) -> None:
    pairs = [(normal(i, 12, 3), normal(i + 9, 3, 10)) for i in range(3)]
    parameters: dict[str, Any] = {"ratio": "0.2"} if strategy == "adarank" else {"eta": "60"}
    whole = merged(strategy, contributions([2 * b @ a for b, a in pairs]), **parameters)
    assert merged(strategy, low(pairs), **parameters) == near(whole, 1e-13)


def test_low_rank_differences_from_their_mean_keep_the_rank_of_all() -> None:
    pairs = [(normal(i, 12, 2), normal(i + 9, 2, 10)) for i in range(3)]
    whole = merged("adarank", contributions([2 * b @ a for b, a in pairs]), origin="cart", ratio="0.3")
    assert merged("adarank", low(pairs), origin="cart", ratio="0.3") == near(whole, 1e-12)


@pytest.mark.parametrize("strategy", ["star", "adarank"])
def test_a_kernel_of_a_convolution_is_a_matrix_of_its_filters(strategy: str) -> None:
    rows = [normal(i, 3, 8) for i in range(2)]
    parameters: dict[str, Any] = {"ratio": "0.4"} if strategy == "adarank" else {}
    kernels = merged(strategy, [row.reshape(3, 2, 2, 2) for row in rows], **parameters)
    assert kernels.reshape(3, 8).tolist() == merged(strategy, rows, **parameters).tolist()


@pytest.mark.parametrize("strategy", ["star", "adarank"])
@pytest.mark.parametrize("shape", [(3,), (2, 2), (2, 0)], ids=str)
def test_what_nobody_changed_comes_out_as_its_base(strategy: str, shape: tuple[int, ...]) -> None:
    base = np.full(shape, 0.1)
    assert merged(strategy, [np.zeros(shape)] * 3, base).tolist() == base.tolist()


def test_one_zero_difference_takes_part_in_the_mean() -> None:
    assert merged("star", [D31, [[0, 0], [-0.0, 0]]]) == near([[2, 0], [0, 0]], 1e-15)


def test_vectors_and_scalars_are_moved_by_their_mean() -> None:
    assert merged("star", [[3.0, 1.0], [1.0, 0.0]], [1.0, 1.0]).tolist() == [3.0, 1.5]
    assert merged("star", [3.0, 1.0], 1.0).tolist() == 3.0


def test_identical_contributions_are_merged_as_one() -> None:
    assert merged("star", [D31, D31]) == near(merged("star", [D31]), 1e-15)


def test_a_difference_beyond_float64_is_refused() -> None:
    huge = [Contribution("A", {"w": [1.7e308] * 4})]
    with pytest.raises(NonFiniteError):
        merge("star", huge, {"w": [-1.7e308] * 4}, shapes={"w": (2, 2)})


# AdaRank

T1, T2 = [[2, 0], [0, 1]], [[0, 3], [1, 0]]


def payload(
    arrays: Mapping[str, list[list[float]] | list[float]], bytes_of: str = "masks", **settings: str
) -> Coefficients:
    """Coefficients for two contributions of one tensor w [2, 2], checked as they are before they count."""
    held = {name: torch.tensor(values, dtype=torch.float64) for name, values in arrays.items()}
    found = Coefficients(
        digest=Digest(bytes(32)),
        strategy="adarank",
        payload="masks" if any(name.startswith("masks") for name in arrays) else "coeffs",
        settings={"form": "components", **settings},
        shapes={name: tuple(values.shape) for name, values in held.items()},
        octets=frozenset(name for name in held if name.startswith(bytes_of)),
        count=2,
        tensors=(("w", (2, 2)),),
        read=lambda name, start, stop: held[name].flatten()[start:stop],
    )
    check(found)
    find("adarank").suits(found, origin="ta", ratio=None, scale=None)  # type: ignore[misc]
    return found


FIRST = {"masks/w": [[1.0, 0.0], [1.0, 0.0]]}


def test_adarank_example_is_the_catalogues() -> None:
    found = payload({**FIRST, "weights": [0.5, 0.5]}, granularity="model")
    assert merged("adarank", [T1, T2], coefficients=found) == near([[1, 1.5], [0, 0]], 1e-15)


def test_adarank_around_the_mean_is_the_catalogues() -> None:
    found = payload({**FIRST, "weights": [1.0, 1.0]}, granularity="model", origin="cart")
    expected = [[1, 1.5], [0.5, 0.5]]
    assert merged("adarank", [T1, T2], coefficients=found) == near(expected, 1e-15)
    assert merged("adarank", [T1, T2], origin="cart", ratio="0.5", scale=1) == near(expected, 1e-15)


def test_any_component_may_be_chosen_and_any_weight_given() -> None:
    found = payload({"masks/w": [[0.0, 1.0], [1.0, 1.0]], "weights/w": [2.0, -1.0]}, granularity="group")
    assert merged("adarank", [T1, T2], coefficients=found) == near([[0, -3], [-1, 2]], 1e-15)


def test_one_row_of_bits_may_be_shared() -> None:
    found = payload({"masks/w": [1.0, 0.0], "weights": [0.5, 0.5]}, granularity="model", shared="yes")
    assert merged("adarank", [T1, T2], coefficients=found) == near([[1, 1.5], [0, 0]], 1e-15)


def test_weights_alone_leave_every_component() -> None:
    found = payload({"weights": [1.0, 0.5]}, granularity="model")
    assert merged("adarank", [T1, T2], coefficients=found).tolist() == [[2, 1.5], [0.5, 1]]


def test_masks_alone_are_weighed_as_the_initial_point() -> None:
    assert merged("adarank", [T1, T2], coefficients=payload(FIRST)) == near([[0.6, 0.9], [0, 0]], 1e-15)


def test_equal_singular_values_stay_only_if_all_their_bits_are_set() -> None:
    equal = [[1, 0], [0, 1]]
    found = payload({"masks/w": [[1.0, 0.0], [1.0, 1.0]], "weights": [1.0, 1.0]}, granularity="model")
    assert merged("adarank", [equal, equal], coefficients=found).tolist() == equal


def test_the_initial_point_is_truncated_task_arithmetic() -> None:
    rows = [normal(i, 4, 6) for i in range(3)]
    assert merged("adarank", rows) == near(0.3 * np.sum(rows, axis=0), 1e-15)
    expected = 0.5 * np.sum([slow.truncated(row, 2) for row in rows], axis=0)
    assert merged("adarank", rows, ratio="0.5", scale="0.5") == near(expected, 1e-13)


def test_the_initial_point_around_the_mean_truncates_differences_from_it() -> None:
    rows = [normal(i, 7, 8) for i in range(3)]
    mean = np.mean(rows, axis=0)
    expected = mean + 1.3 * np.sum([slow.truncated(row - mean, 1) for row in rows], axis=0)
    assert merged("adarank", rows, origin="cart") == near(expected, 1e-12)


def test_a_ratio_of_nothing_leaves_matrices_where_they_were_and_averages_the_rest() -> None:
    assert merged("adarank", [T1, T2], ratio=0).tolist() == [[0, 0], [0, 0]]
    assert merged("adarank", [[2.0, 0.0], [0.0, 4.0]], ratio=0).tolist() == [1.0, 2.0]
    assert merged("adarank", [T1, T2], ratio=0, origin="cart").tolist() == [[1, 1.5], [0.5, 0.5]]


def test_masks_of_elements_are_none_that_adarank_applies() -> None:
    with pytest.raises(MalformedError, match="form components"):
        payload({"masks/w": [[1.0], [2.0]]}, form="bits")


def test_masks_of_another_rank_are_refused() -> None:
    with pytest.raises(MalformedError, match=r"wanted \[2, 2\]"):
        payload({"masks/w": [[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]]})


def test_weights_for_models_are_none_that_adarank_applies() -> None:
    with pytest.raises(MalformedError, match="mode linear"):
        payload({"weights": [1.0, 0.5]}, granularity="model", mode="linear")


def test_an_unknown_origin_is_refused() -> None:
    with pytest.raises(MalformedError, match="origin = 'nowhere'"):
        payload(FIRST, origin="nowhere")


def test_recipe_weights_have_no_place_in_adarank() -> None:
    with pytest.raises(ParameterError, match="no place for weights"):
        merged("adarank", [T1, T2], weights=[1, 2])


def test_contributions_that_agree_are_their_own_mean() -> None:
    assert merged("adarank", [T1, T1], origin="cart", ratio="0.5").tolist() == T1
