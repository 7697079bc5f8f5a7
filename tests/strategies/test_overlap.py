"""RAM and SCE: the catalogue's examples, who is alone, and what is selected."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies_harness import BASE, F4, Contribution, merge, merged

from crdtmerge.arith import order
from reference import dropping as slow

PAIR = ([1.0, 0.0, 2.0, 0.0], [3.0, 4.0, 0.0, 0.0])
ZERO = [0.0] * 4


def bits(values: Sequence[float]) -> bytes:
    return struct.pack(f"<{len(values)}d", *values)


# -- ram ------------------------------------------------------------------------------------------------


def test_ram_of_the_pair_is_the_catalogues() -> None:
    assert merged("ram", PAIR, ZERO) == [2.0, 4.0, 2.0, 0.0]


def test_ramplus_of_the_pair_is_the_catalogues() -> None:
    assert merged("ramplus_tl", PAIR, ZERO) == pytest.approx([2.0, 4.08, 2.04, 0.0], rel=1e-15)


def test_a_difference_no_larger_than_epsilon_is_none() -> None:
    assert merged("ram", [[0.5, -0.75], [2.0, 2.0]], [0.0, 0.0], epsilon="0.5") == [2.0, 0.625]


def test_factors_count_by_tensor_and_stop_at_the_limit() -> None:
    base = {"a": [0.0] * 5, "b": [0.0] * 2}
    one = Contribution("A", {"a": [1.0, 1.0, 1.0, 1.0, 1.0], "b": [1.0, 0.0]})
    two = Contribution("B", {"a": [1.0, 0.0, 0.0, 0.0, 0.0], "b": [0.0, 1.0]})
    result = merge("ramplus_tl", [one, two], base, parameters={"rate": "1", "limit": "0.5"}, widths=(2, 1))
    assert result["a"].tolist() == [1.0, 1.25, 1.25, 1.25, 1.25]
    assert result["b"].tolist() == [1.0, 1.0]
    limited = merge("ramplus_tl", [one, two], base, parameters={"rate": "1", "limit": "0.125"})
    assert limited["a"].tolist() == [1.0, 1.125, 1.125, 1.125, 1.125]


@pytest.mark.parametrize("name", ["ram", "ramplus_tl", "sce"])
def test_one_contribution_and_equal_ones_are_themselves(name: str) -> None:
    assert merged(name, F4[:1], BASE) == F4[0]
    assert merged(name, [F4[1], F4[1]], BASE) == F4[1]


@pytest.mark.parametrize("name", ["ram", "ramplus_tl", "sce"])
def test_no_difference_at_all_leaves_the_base(name: str) -> None:
    base = [1.0, 0.1, -7.5, -0.0]
    assert bits(merged(name, [base, base], base)) == bits([1.0, 0.1, -7.5, 0.0])


@pytest.mark.parametrize("weight", ["2", "-1", "0"])
def test_weights_that_are_alike_do_not_count(weight: str) -> None:
    for name in ("ram", "ramplus_tl", "sce"):
        assert merged(name, F4, BASE, [weight] * 3) == merged(name, F4, BASE)


# -- sce ------------------------------------------------------------------------------------------------


def test_sce_of_the_fixture_is_the_catalogues() -> None:
    assert merged("sce", F4, BASE) == pytest.approx([1.8278689, 1.0, 1.2333333, 3.5], rel=1e-7)
    selected = merged("sce", F4, BASE, density="0.5")
    assert selected == pytest.approx([1.0, 1.0, 1.1904762, 4.0], rel=1e-7)


def test_only_elements_that_vary_are_counted() -> None:
    # Two of four vary, so half of them is one: the one with the larger variance, though others move more.
    rows = [[9.0, 9.0, 1.0, 2.0], [9.0, 9.0, 2.0, 4.0]]
    assert merged("sce", rows, ZERO, density="0.5") == pytest.approx([0.0, 0.0, 0.0, (2 * 4 + 4 * 16) / 20])


def test_of_equal_variances_the_lower_index_is_selected() -> None:
    assert merged("sce", [[0.0, 0.0], [2.0, -2.0]], [0.0, 0.0], density="0.5") == [2.0, 0.0]


def test_a_selection_of_less_than_one_element_leaves_the_base() -> None:
    assert merged("sce", F4, BASE, density="0.2") == BASE


def test_signs_that_cancel_go_to_plus() -> None:
    assert merged("sce", [[2.0], [-2.0]], [0.0]) == [2.0]


def test_weights_are_equal_where_there_is_hardly_anything_to_weigh() -> None:
    rows = [[2.0**-11], [2.0**-12]]
    assert merged("sce", rows, [0.0]) == [1.5 * 2.0**-12]
    assert merged("sce", [[2.0], [1.0]], [0.0]) == [1.8]


@pytest.mark.parametrize("room", [order.CANDIDATES_MAX, 3], ids=["roomy", "cramped"])
def test_where_tiles_are_cut_and_how_many_passes_it_takes_never_shows(
    monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    base = {"a": [0.0] * 21, "b": [0.0] * 8}
    given = [
        Contribution(n, {"a": [float(i * j % 5) for j in range(21)], "b": [float(j % i) for j in range(8)]})
        for i, n in enumerate("ABC", start=2)
    ]
    whole = merge("sce", given, base, parameters={"density": "0.6"})
    monkeypatch.setattr(order, "CANDIDATES_MAX", room)
    cut = merge("sce", given, base, widths=(1, 5, 2), parameters={"density": "0.6"})
    assert {n: x.tolist() for n, x in cut.items()} == {n: x.tolist() for n, x in whole.items()}
    for name, row in base.items():
        rows = [[float(x) for x in c.tensors[name]] for c in given]
        assert whole[name].tolist() == pytest.approx(slow.sce(row, rows, Fraction("0.6")), rel=1e-13)


NUMBERS = st.one_of(st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.5]), st.floats(-100, 100, width=16))


@given(st.data(), st.integers(1, 9), st.integers(1, 4), st.sampled_from(["0.3", "0.5", "1"]))
def test_sce_is_its_reference(data: st.DataObject, size: int, count: int, density: str) -> None:
    row = st.lists(NUMBERS, min_size=size, max_size=size)
    base, *rows = data.draw(st.lists(row, min_size=count + 1, max_size=count + 1))
    expected = slow.sce(base, rows, Fraction(density))
    result = merged("sce", rows, base, density=density)
    assert all(
        math.isclose(x, y, rel_tol=1e-12, abs_tol=1e-12) for x, y in zip(result, expected, strict=True)
    )
