"""NearSwap and Arcee Fusion: the catalogue's examples, thresholds, and means over several."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from strategies_harness import BASE, F4, Contribution, merge, merged

from crdtmerge.arith import order
from crdtmerge.errors import ParameterError
from reference import dropping as slow

SPREAD = [0.1, 0.11, 0.12, 0.13, 0.14, 0.15, 0.16, 1.0]


def bits(values: Sequence[float]) -> bytes:
    return struct.pack(f"<{len(values)}d", *values)


# -- nearswap -------------------------------------------------------------------------------------------


def test_nearswap_of_the_fixture_is_the_catalogues() -> None:
    assert merged("nearswap", F4[1:2], BASE, t="0.25") == [1.25, 1.75, 3.25, 3.75]


def test_what_is_near_is_taken_over() -> None:
    assert merged("nearswap", [[1.125, 1.875, 3.0, 9.0]], BASE, t="0.25") == [1.125, 1.875, 3.0, 4.25]


def test_several_contributions_move_the_base_by_the_mean_of_their_moves() -> None:
    assert merged("nearswap", F4[:2], BASE, t="0.25") == [1.25, 1.875, 3.0, 4.0]
    assert merged("nearswap", F4[:2], BASE, [3, 1], t="0.25") == [1.25, 1.9375, 2.875, 4.125]


def test_a_difference_below_a_millionth_counts_as_a_millionth() -> None:
    (moved,) = merged("nearswap", [[2.0**-30]], [0.0], t="0.0000001")
    assert moved == pytest.approx(2.0**-30 / 10)


def test_a_t_of_zero_is_refused() -> None:
    with pytest.raises(ParameterError, match="t must be more than 0"):
        merged("nearswap", F4, BASE, t=0)


# -- arcee_fusion ---------------------------------------------------------------------------------------


def test_the_threshold_of_the_example_is_the_catalogues() -> None:
    kept, _, threshold = slow.fusion([0.0] * 8, SPREAD, 8)
    assert threshold == pytest.approx(0.0116785, rel=1e-5)
    assert kept == [0.0] * 7 + [1.0]


def test_arcee_fusion_of_the_example_is_the_catalogues() -> None:
    assert merged("arcee_fusion", [SPREAD], [0.0] * 8) == [0.0] * 7 + [1.0]


def test_where_nearly_nothing_changed_everything_is_kept() -> None:
    model = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 9.0]
    assert merged("arcee_fusion", [model], [*model[:7], 8.0]) == model


def test_an_element_alone_in_its_row_is_kept() -> None:
    given = [Contribution("A", {"s": [3.0], "w": [1.0, 5.0, 7.0]})]
    base = {"s": [1.0], "w": [0.0, 0.0, 0.0]}
    result = merge("arcee_fusion", given, base, shapes={"s": (), "w": (3, 1)})
    assert {n: x.tolist() for n, x in result.items()} == {"s": [3.0], "w": [1.0, 5.0, 7.0]}


def test_several_contributions_are_the_mean_of_what_each_may_change() -> None:
    base = [0.0] * 8
    other = SPREAD[::-1]
    assert merged("arcee_fusion", [SPREAD, other], base) == [0.5, *base[1:7], 0.5]
    assert merged("arcee_fusion", [SPREAD, other], base, [3, 1]) == [0.25, *base[1:7], 0.75]


@pytest.mark.parametrize("name", ["nearswap", "arcee_fusion"])
def test_weights_that_cancel_have_no_mean(name: str) -> None:
    with pytest.raises(ParameterError, match="weights sum to 0"):
        merged(name, F4[:2], BASE, [1, -1])


@pytest.mark.parametrize("name", ["nearswap", "arcee_fusion"])
def test_no_difference_at_all_leaves_the_base(name: str) -> None:
    base = [1.0, 0.1, -7.5, -0.0]
    assert bits(merged(name, [base, base], base)) == bits([1.0, 0.1, -7.5, 0.0])


@pytest.mark.parametrize("room", [order.CANDIDATES_MAX, 3], ids=["roomy", "cramped"])
def test_where_rows_are_cut_and_how_many_passes_it_takes_never_shows(
    monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    base = {"a": [float(j % 4) for j in range(30)], "b": [0.0] * 9}
    given = [
        Contribution(
            n, {"a": [j * i % 7 / 2 for j in range(30)], "b": [float(j * j % (5 + i)) for j in range(9)]}
        )
        for i, n in enumerate("ABC", start=2)
    ]
    shapes = {"a": (10, 3), "b": (9,)}
    whole = merge("arcee_fusion", given, base, shapes=shapes)
    monkeypatch.setattr(order, "CANDIDATES_MAX", room)
    cut = merge("arcee_fusion", given, base, shapes=shapes, widths=(3, 9, 6))
    assert {n: x.tolist() for n, x in cut.items()} == {n: x.tolist() for n, x in whole.items()}


NUMBERS = st.floats(-8, 8, width=16)


@given(st.data(), st.integers(1, 5), st.integers(1, 4))
def test_arcee_fusion_is_its_reference_where_rounding_does_not_decide(
    data: st.DataObject, columns: int, height: int
) -> None:
    row = st.lists(NUMBERS, min_size=columns * height, max_size=columns * height)
    base, model = data.draw(row), data.draw(row)
    kept, important, threshold = slow.fusion(base, model, columns)
    assume(all(abs(i - threshold) > 1e-9 * threshold for i in important))
    result = merge(
        "arcee_fusion", [Contribution("A", {"w": model})], {"w": base}, shapes={"w": (height, columns)}
    )
    assert result["w"].tolist() == pytest.approx(kept, rel=1e-15)
