"""KnOTS: what contributions share is found in a basis of all, merged there, and turned back."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from spectral_harness import F4, F4_BASE, Values, contributions, low, merged, near, normal, numbers
from strategies_harness import Contribution, merge

from crdtmerge.errors import ParameterError
from crdtmerge.recipe import Given
from crdtmerge.strategies import knots
from reference import spectral as slow

KNOTS = "svd_knot_tying"
APART = [[[1, 0], [1, 0]], [[0, 1], [0, 1]]]
DIAGONAL = [[[2, 0], [0, 1]], [[2, 0], [0, -0.5]]]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (APART, [[1, 1], [1, 1]]),
        (DIAGONAL, [[2, 0], [0, 1]]),
        ([[[1, 1], [0, 0]], [[1, -1], [0, 0.2]]], [[1, -1.002494], [0, 0.150502]]),
    ],
    ids=["apart", "diagonal", "crossing"],
)
def test_examples_are_the_catalogues(rows: Values, expected: Values) -> None:
    assert merged(KNOTS, rows, scale=1, inner_density=1) == near(expected, 1e-6)


def test_the_fixture_is_the_catalogues() -> None:
    expected = [[1.2072739, 1.3540063], [1.4750895, 3.3928155]]
    assert merged(KNOTS, F4, F4_BASE, scale=1, inner_density=1) == near(expected)


def test_scale_multiplies_the_difference() -> None:
    assert merged(KNOTS, APART, F4_BASE, inner_density=1) == near([[1.6, 2.6], [3.6, 4.6]], 1e-15)


@given(st.integers(0, 2**32 - 1), st.integers(1, 3), st.integers(1, 20).map(lambda n: Fraction(n, 20)))
def test_trimming_over_all_layers_is_the_references(seed: int, count: int, density: Fraction) -> None:
    layers = {"a": (3, 4), "b": (5, 2), "c": (2, 2)}
    rows = [
        {n: normal(seed + 9 * i + j, *s) for j, (n, s) in enumerate(layers.items())} for i in range(count)
    ]
    members = [
        Contribution(chr(65 + i), {name: numbers(tau) for name, tau in row.items()}, is_delta=True)
        for i, row in enumerate(rows)
    ]
    base = {name: numbers(np.zeros(shape)) for name, shape in layers.items()}
    result = merge(KNOTS, members, base, shapes=layers, parameters={"inner.density": density})
    expected = slow.knots([[row[name] for row in rows] for name in layers], density, 0.6)
    for name, wanted in zip(layers, expected, strict=True):
        assert result[name].numpy() == near(wanted.flatten(), 1e-9)


def test_low_rank_factors_give_what_the_whole_matrices_give() -> None:
    pairs = [(normal(i, 12, 3), normal(i + 9, 3, 10)) for i in range(3)]
    for axis in ("columns", "rows"):
        whole = merged(KNOTS, contributions([2 * b @ a for b, a in pairs]), axis=axis)
        assert merged(KNOTS, low(pairs), axis=axis) == near(whole, 1e-13)
    mixed = [*low(pairs)[:2], *contributions([2 * b @ a for b, a in pairs])[2:]]
    assert merged(KNOTS, mixed) == near(merged(KNOTS, low(pairs)), 1e-13)


def test_a_linear_inner_method_gives_what_it_gives_without_the_basis() -> None:
    rows = [normal(i, 4, 5) for i in range(3)]
    assert merged(KNOTS, rows, inner="weight_average", scale=1) == near(np.mean(rows, axis=0), 1e-14)
    summed = merged(KNOTS, rows, inner="task_arithmetic", inner_scale=1, scale=1)
    assert summed == near(np.sum(rows, axis=0), 1e-14)


def test_rows_are_columns_of_the_transposed() -> None:
    rows = [normal(i, 4, 5) for i in range(3)]
    assert merged(KNOTS, rows, axis="rows").T.tolist() == merged(KNOTS, [row.T for row in rows]).tolist()


def test_one_contribution_is_trimmed_in_its_own_basis() -> None:
    # Σ·Vᵀ is diagonal: trimming to half of its four elements leaves both.
    assert merged(KNOTS, [[[3, 0], [0, 1]]], scale=1, inner_density="0.5") == near([[3, 0], [0, 1]], 1e-15)
    assert merged(KNOTS, [[[3, 0], [0, 1]]], scale=1, inner_density="0.25") == near([[3, 0], [0, 0]], 1e-15)


def test_identical_contributions_merge_to_themselves_where_nothing_is_trimmed() -> None:
    row = normal(1, 3, 4)
    assert merged(KNOTS, [row, row, row], scale=1, inner_density=1) == near(row, 1e-14)


def test_drawn_masks_are_those_of_the_contributions() -> None:
    rows = [np.diag([5.0, 4, 3, 2, 1]) for _ in range(2)]
    first, second = (
        merged(KNOTS, contributions(rows, names=names), inner="dare_ties", inner_p="0.5")
        for names in ("AB", "AC")
    )
    assert first.tolist() != second.tolist()
    assert first.tolist() == merged(KNOTS, contributions(rows), inner="dare_ties", inner_p="0.5").tolist()


def test_weights_reach_the_inner_method() -> None:
    rows = [[[2.0, 0], [0, 0]], [[-1.0, 0], [0, 0]]]
    assert merged(KNOTS, rows, scale=1, inner_density=1) == near([[2, 0], [0, 0]], 1e-15)
    assert merged(KNOTS, rows, weights=[1, 3], scale=1, inner_density=1) == near([[-1, 0], [0, 0]], 1e-15)


@pytest.mark.parametrize("inner", ["ties", "dare_ties", "weight_average"])
def test_what_nobody_changed_comes_out_as_its_base(inner: str) -> None:
    base = [[0.1, -2.0], [0.0, 3.0]]
    assert merged(KNOTS, [np.zeros((2, 2))] * 3, base, inner=inner).tolist() == base


@pytest.mark.parametrize("inner", ["ties", "dare_ties"])
def test_a_layer_that_nobody_changed_does_not_count_among_the_parts(inner: str) -> None:
    shapes = {"a": (2, 2), "b": (2, 2), "c": (2, 2)}
    zero, layer = numbers(np.zeros((2, 2))), numbers(np.diag([3.0, 1]))
    base = dict.fromkeys(shapes, zero)
    parameters: dict[str, Given] = {
        "inner": inner,
        "scale": 1,
        "inner.p" if inner == "dare_ties" else "inner.density": "0.5",
    }
    with_it = merge(
        KNOTS,
        [Contribution("A", {"a": zero, "b": layer, "c": zero}, is_delta=True)],
        base,
        shapes=shapes,
        parameters=parameters,
    )
    without = merge(
        KNOTS,
        [Contribution("A", {"b": layer}, is_delta=True)],
        {"b": base["b"]},
        shapes={"b": (2, 2)},
        parameters=parameters,
    )
    assert with_it["b"].tolist() == without["b"].tolist()
    assert with_it["a"].tolist() == with_it["c"].tolist() == [0.0] * 4


def test_what_is_no_matrix_stays_at_the_base_unless_asked_to_move() -> None:
    rows = [[2.0, 0.0], [4.0, 1.0]]
    assert merged(KNOTS, rows, [1.0, 1.0]).tolist() == [1.0, 1.0]
    assert merged(KNOTS, rows, [1.0, 1.0], merge_other=True, scale="0.5").tolist() == [2.5, 1.25]
    with pytest.raises(ParameterError, match="sum to 0"):
        merged(KNOTS, rows, weights=[1, -1], merge_other=True)


def test_only_methods_that_look_at_nothing_but_numbers_merge_parts() -> None:
    with pytest.raises(ParameterError, match="inner is one of"):
        merged(KNOTS, APART, inner="slerp")


def test_a_basis_that_is_not_held_is_found_again_to_the_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [normal(i, 6, 5) for i in range(3)]
    held = merged(KNOTS, rows)
    monkeypatch.setattr(knots, "HELD", 0)
    assert merged(KNOTS, rows).tolist() == held.tolist()
