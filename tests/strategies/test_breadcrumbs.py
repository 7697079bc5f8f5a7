"""Keeping the middle: the catalogue's examples, ties at both ends, and exact counts."""

from __future__ import annotations

import math
import struct
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies_harness import BASE, F4, Contribution, merge, merged

from crdtmerge.arith import order
from reference import dropping as slow

HALF = {"density": "0.5", "gamma": "0.25"}


def test_model_breadcrumbs_of_the_fixture_is_the_catalogues() -> None:
    assert merged("model_breadcrumbs", F4, BASE, **HALF, scale="0.5") == [1.125, 1.75, 3.25, 4.125]


def test_breadcrumbs_of_the_fixture_is_the_catalogues() -> None:
    assert merged("breadcrumbs", F4, BASE, **HALF) == [2.25, 2.5, 3.0, 3.75]


def test_breadcrumbs_ties_of_the_fixture_is_the_catalogues() -> None:
    assert merged("breadcrumbs_ties", F4, BASE, **HALF) == [2.5, 2.5, 3.0, 3.5]


def test_normalizing_divides_by_the_weights_that_take_part() -> None:
    assert merged("breadcrumbs", F4, BASE, **HALF, normalize=True, scale=3) == [2.25, 2.5, 3.0, 3.75]
    assert merged("breadcrumbs_ties", F4, BASE, **HALF, normalize=True) == [1.75, 2.5, 3.0, 3.5]
    assert merged("breadcrumbs", F4[:2], BASE, [1, -1], normalize=True) == [0.5, 3.0, 1.5, 4.75]


def test_of_equal_magnitudes_in_a_row_the_first_is_the_outlier() -> None:
    result = merged("model_breadcrumbs", [[1.0, -1.0, 1.0, -1.0]], [0.0] * 4, **HALF, scale=1)
    assert result == [0.0, -1.0, 1.0, 0.0]


def test_of_equal_magnitudes_in_a_tensor_the_last_is_the_outlier() -> None:
    result = merged("breadcrumbs", [[1.0, -1.0, 1.0, -1.0]], [0.0] * 4, **HALF)
    assert result == [0.0, -1.0, 1.0, 0.0]


def test_rows_are_ranked_by_themselves_and_tensors_as_a_whole() -> None:
    model, base = {"w": [1.0, 2.0, 9.0, 8.0]}, {"w": [0.0] * 4}
    shapes = {"w": (2, 2)}
    parameters = {"density": "0.5", "gamma": "0", "scale": "1"}
    by_row = merge(
        "model_breadcrumbs", [Contribution("A", model)], base, shapes=shapes, parameters=parameters
    )
    assert by_row["w"].tolist() == [0.0, 2.0, 9.0, 0.0]
    whole = merge("breadcrumbs", [Contribution("A", model)], base, shapes=shapes, parameters=parameters)
    assert whole["w"].tolist() == [0.0, 0.0, 9.0, 8.0]


def test_a_scalar_is_kept() -> None:
    given = [Contribution("A", {"s": [3.0]})]
    assert merge("model_breadcrumbs", given, {"s": [1.0]}, shapes={"s": ()})["s"].tolist() == [1.4]


def test_a_density_of_one_keeps_everything_whatever_gamma_is() -> None:
    assert merged("breadcrumbs", F4[:1], BASE, gamma="0.9") == F4[0]
    assert merged("breadcrumbs_ties", F4[:1], BASE, gamma="0.9") == F4[0]


def test_nothing_is_an_outlier_where_gamma_is_less_than_one_element() -> None:
    # What mergekit makes of it is the base: it slices off the last 0 elements, so all.
    model = [float(i) for i in range(1, 51)]
    result = merged("breadcrumbs", [model], [0.0] * 50, density="0.9")
    assert result == [0.0] * 5 + model[5:]


def test_outliers_give_way_where_too_much_would_be_dropped() -> None:
    result = merged("breadcrumbs", [[4.0, 3.0, 2.0, 1.0]], [0.0] * 4, density="0.75", gamma="0.5")
    assert result == [0.0, 3.0, 2.0, 1.0]


def test_fractions_are_exact_and_not_floats() -> None:
    # int(0.29 * 100) is 28.
    model = [float(i) for i in range(1, 101)]
    for name in ("model_breadcrumbs", "breadcrumbs"):
        result = merged(name, [model], [0.0] * 100, density="0.29", gamma="0.58", scale=1)
        assert sum(x != 0 for x in result) == 29
        assert result[41] != 0
        assert result[42] == 0


def test_what_is_dropped_is_plus_zero() -> None:
    for name in ("model_breadcrumbs", "breadcrumbs", "breadcrumbs_ties"):
        result = merged(name, [[-9.0, -1.0]] * 2, [-0.0, -0.0], density="0.5", gamma="0")
        assert math.copysign(1, result[1]) == 1


def test_an_election_that_cancels_goes_to_plus() -> None:
    assert merged("breadcrumbs_ties", [[2.0], [-2.0]], [0.0]) == [2.0]


@pytest.mark.parametrize("room", [order.CANDIDATES_MAX, 3], ids=["roomy", "cramped"])
def test_where_tiles_are_cut_and_how_many_passes_it_takes_never_shows(
    monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    base = {"a": [0.0] * 40, "b": [0.0] * 23}
    model = {"a": [float(i % 5 - 2) for i in range(40)], "b": [float(i * 7 % 11) for i in range(23)]}
    expected = {
        name: slow.middle_of_tensor(row, Fraction(1, 2), Fraction(1, 5)) for name, row in model.items()
    }
    monkeypatch.setattr(order, "CANDIDATES_MAX", room)
    for widths in ((1 << 16,), (1, 5, 7)):
        result = merge(
            "breadcrumbs",
            [Contribution("A", model)],
            base,
            widths=widths,
            parameters={"density": "0.5", "gamma": "0.2"},
        )
        assert {name: x.tolist() for name, x in result.items()} == expected


NUMBERS = st.one_of(st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.5]), st.floats(-100, 100, width=16))
FRACTIONS = st.integers(1, 20).map(lambda n: Fraction(n, 20))


@given(st.data(), st.integers(1, 12), st.integers(1, 3), FRACTIONS, FRACTIONS)
def test_breadcrumbs_are_their_reference_to_the_bit(
    data: st.DataObject, size: int, count: int, density: Fraction, gamma: Fraction
) -> None:
    row = st.lists(NUMBERS, min_size=size, max_size=size)
    base, *rows = data.draw(st.lists(row, min_size=count + 1, max_size=count + 1))
    taus = [[x - b for x, b in zip(r, base, strict=True)] for r in rows]
    weights = [Fraction(1), Fraction("0.7"), Fraction(2)][:count]
    for name, rule in (("model_breadcrumbs", slow.middle_of_row), ("breadcrumbs", slow.middle_of_tensor)):
        expected = slow.summed(base, [rule(t, density, gamma) for t in taus], weights, Fraction("0.3"))
        result = merged(name, rows, base, weights, density=density, gamma=gamma, scale="0.3")
        assert struct.pack(f"<{size}d", *result) == struct.pack(f"<{size}d", *(x + 0.0 for x in expected))
