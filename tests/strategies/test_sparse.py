"""Trimming, electing and dropping: the catalogue's examples, ties of every kind, and the draws."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from fractions import Fraction

import pytest
from strategies_harness import BASE, F4, Contribution, merge, merged, tensor

from crdtmerge.arith import Tensor, decoded
from crdtmerge.digest import Digest
from crdtmerge.errors import ParameterError
from crdtmerge.strategies import sparse
from crdtmerge.strategies.sparse import dare_with
from crdtmerge.strategy import Group, Member, Tile

MASKS = [[1, 0, 1, 1], [0, 1, 1, 0], [1, 1, 0, 1]]
HALF = Fraction(1, 2)
THREE = Group((("w", (4,)),), tuple(Member(Digest(bytes([i]) * 32)) for i in range(3)))


def bits(values: Sequence[float]) -> bytes:
    return struct.pack(f"<{len(values)}d", *values)


# -- ties ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({}, [1.75, 1.0, 1.5, 4.0]),
        ({"merge_func": "sum"}, [2.5, 1.0, 0.0, 4.0]),
        ({"merge_func": "max"}, [2.0, 1.0, 1.0, 4.0]),
        ({"compat": "official"}, [1.75, 1.0, 1.5, 3.5]),
        ({"scale": "0.5"}, [1.375, 1.5, 2.25, 4.0]),
    ],
    ids=str,
)
def test_ties_of_the_fixture_is_the_catalogues(parameters: dict[str, str], expected: list[float]) -> None:
    assert merged("ties", F4, BASE, density="0.5", **parameters) == expected


def test_density_is_exact_and_not_a_float() -> None:
    # int(0.29 * 100) is 28.
    model = [float(i) for i in range(1, 101)]
    result = merged("ties", [model], [0.0] * 100, density="0.29")
    assert sum(x != 0 for x in result) == 29


def test_density_below_one_element_drops_everything() -> None:
    assert merged("ties", F4, BASE, density="0.2") == BASE


def test_one_contribution_is_trimmed_too() -> None:
    assert merged("ties", F4[:1], BASE, density="0.5") == [1.5, 2.0, 2.0, 4.0]


def test_of_equal_magnitudes_the_lower_index_stays() -> None:
    assert merged("ties", [[1.0, -1.0, 1.0, -1.0]], [0.0] * 4, density="0.5") == [1.0, -1.0, 0.0, 0.0]


def test_of_equal_magnitudes_official_keeps_all() -> None:
    result = merged("ties", [[1.0, -1.0, 1.0, -1.0]], [0.0] * 4, density="0.5", compat="official")
    assert result == [1.0, -1.0, 1.0, -1.0]


def test_official_keeps_the_largest_where_the_density_keeps_none() -> None:
    assert merged("ties", [[1.0, 3.0, 2.0]], [0.0] * 3, density="0.2", compat="official") == [0.0, 3.0, 0.0]


def test_official_cannot_keep_everything() -> None:
    with pytest.raises(ParameterError, match="density must be less than 1"):
        merged("ties", F4, BASE, density=1, compat="official")


def test_global_scope_ranks_over_all_tensors_in_the_order_of_their_names() -> None:
    base = {"a": [0.0, 0.0], "b": [0.0, 0.0]}
    given = Contribution("A", {"b": [5.0, -6.0], "a": [1.0, 6.0]})
    result = merge("ties", [given], base, parameters={"density": "0.5"})
    assert {name: x.tolist() for name, x in result.items()} == {"a": [0.0, 6.0], "b": [0.0, -6.0]}
    tie = Contribution("A", {"b": [6.0, 6.0], "a": [1.0, 6.0]})
    result = merge("ties", [tie], base, parameters={"density": "0.5"})
    assert {name: x.tolist() for name, x in result.items()} == {"a": [0.0, 6.0], "b": [6.0, 0.0]}


def test_tensor_scope_ranks_within_each_tensor() -> None:
    base = {"a": [0.0, 0.0], "b": [0.0, 0.0]}
    given = Contribution("A", {"a": [1.0, 0.5], "b": [5.0, -6.0]})
    result = merge("ties", [given], base, parameters={"density": "0.5", "scope": "tensor"})
    assert {name: x.tolist() for name, x in result.items()} == {"a": [1.0, 0.0], "b": [0.0, -6.0]}


@pytest.mark.parametrize(
    ("zero", "expected"),
    [("majority", [-1.0, -3.0]), ("plus", [1.0, -3.0]), ("drop", [0.0, -3.0])],
)
def test_an_election_that_cancels_goes_by_the_rule(zero: str, expected: list[float]) -> None:
    assert merged("ties", [[1.0, -3.0], [-1.0, -3.0]], [0.0, 0.0], density=1, zero=zero) == expected


def test_a_majority_that_cancels_too_counts_as_plus() -> None:
    assert merged("ties", [[2.0], [-2.0]], [0.0], density=1) == [2.0]


def test_the_majority_is_counted_after_trimming() -> None:
    # Of all signs, minus has the majority; of those that survive the trim, plus has.
    rows = [[9.0, 9.0, -1.0, -1.0, -1.0, 8.0], [9.0, 9.0, -1.0, -1.0, -1.0, -8.0]]
    assert merged("ties", rows, [0.0] * 6, density="0.5")[5] == 8.0
    assert merged("ties", rows, [0.0] * 6, density=1)[5] == -8.0


def test_the_majority_is_that_of_the_scope() -> None:
    base = {"a": [0.0], "b": [0.0, 0.0]}
    given = [
        Contribution("A", {"a": [1.0], "b": [-1.0, -1.0]}),
        Contribution("B", {"a": [-1.0], "b": [-1.0, -1.0]}),
    ]
    for scope, expected in (("global", -1.0), ("tensor", 1.0)):
        assert merge("ties", given, base, parameters={"density": 1, "scope": scope})["a"].tolist() == [
            expected
        ]


def test_equal_differences_merge_to_themselves() -> None:
    assert merged("ties", [F4[0], F4[0]], BASE, density=1) == F4[0]


@pytest.mark.parametrize("merge_func", ["mean", "sum", "max"])
def test_no_difference_at_all_leaves_the_base_to_the_bit(merge_func: str) -> None:
    base = [1.0, 0.1, -7.5, 0.0]
    result = merged("ties", [base, base], base, density="0.5", merge_func=merge_func)
    assert bits(result) == bits(base)


@pytest.mark.parametrize("merge_func", ["mean", "sum", "max"])
def test_what_everybody_drops_is_plus_zero(merge_func: str) -> None:
    # Masking -1 gives -0, and so does electing minus for nothing.
    result = merged("ties", [[-9.0, -1.0], [-9.0, -1.0]], [-0.0, -0.0], density="0.5", merge_func=merge_func)
    assert bits(result[1:]) == bits([0.0])


def test_weights_decide_elections_and_means() -> None:
    assert merged("ties", [[1.0], [-2.0], [3.0]], [0.0], [5, 1, 2], density=1) == [(5 + 6) / 7]
    assert merged("ties", [[1.0], [-2.0], [3.0]], [0.0], [1, 9, 2], density=1) == [-2.0]


def test_a_negative_weight_turns_vote_and_value_round() -> None:
    rows, weights = [[2.0], [-1.0]], [1, -1]
    assert merged("ties", rows, [0.0], weights, density=1, merge_func="sum") == [3.0]
    assert merged("ties", rows, [0.0], weights, density=1, merge_func="max") == [2.0]


def test_weights_that_cancel_divide_by_one() -> None:
    # 0.1 + 0.2 - 0.3 is 5.6e-17 in floats; here it is 0.
    weights = ["0.1", "0.2", "-0.3"]
    assert merged("ties", [[1.0], [1.0], [-1.0]], [0.0], weights, density=1) == [6.0]


def test_a_contribution_of_weight_zero_has_no_vote() -> None:
    assert merged("ties", [[1.0], [-9.0]], [0.0], [1, 0], density=1) == [1.0]


@pytest.mark.parametrize("density", ["0", "1.5", "-1"])
def test_density_outside_of_0_to_1_is_refused(density: str) -> None:
    with pytest.raises(ParameterError, match="density must be"):
        merged("ties", F4, BASE, density=density)


# -- dare ---------------------------------------------------------------------------------------------


def inject(monkeypatch: pytest.MonkeyPatch, masks: Sequence[Sequence[float]]) -> None:
    def chosen(tile: Tile, probability: list[Fraction]) -> list[Tensor]:
        assert set(probability) == {HALF}
        return [tensor(mask)[tile.start : tile.stop] for mask in masks]

    monkeypatch.setattr(sparse, "bernoulli", chosen)


@pytest.mark.parametrize(
    ("scale", "expected"), [(Fraction(1), [1.5, 1.0, 2.0, 4.5]), (HALF, [1.25, 1.5, 2.5, 4.25])], ids=str
)
def test_dare_with_the_catalogues_masks_is_the_catalogues(scale: Fraction, expected: list[float]) -> None:
    tile = Tile("w", (4,), 0, tensor(BASE), tuple(map(tensor, F4)), (False,) * 3, THREE)
    merged_tile = dare_with(tile, [tensor(m) for m in MASKS], p=HALF, rescale=True, scale=scale)
    assert decoded(merged_tile).tolist() == expected


def test_dare_averages_unless_told(monkeypatch: pytest.MonkeyPatch) -> None:
    inject(monkeypatch, MASKS)
    assert merged("dare", F4, BASE, p="0.5") == [1 + 0.5 / 3, 2 - 1 / 3, 3 - 1 / 3, 4 + 0.5 / 3]
    assert merged("dare", F4, BASE, [2, 1, 1], p="0.5") == [1.375, 1.75, 2.25, 4.25]


def test_dare_without_rescaling_keeps_the_differences_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    inject(monkeypatch, MASKS)
    assert merged("dare", F4, BASE, p="0.5", scale=1, rescale=False) == [1.25, 1.5, 2.5, 4.25]


def test_dare_divides_by_what_is_nearest_to_one_minus_p() -> None:
    (result,) = {x for x in merged("dare", [[3.0] * 4096], [0.0] * 4096) if x}
    assert result == 3.0 / 0.1


def test_dropping_nothing_is_the_average_of_differences() -> None:
    assert merged("dare", F4, BASE, p=0) == merged("task_arithmetic", F4, BASE, normalize=True, scale=1)


def test_dropping_everything_leaves_the_base() -> None:
    assert merged("dare", F4, BASE, p=1) == BASE
    assert merged("dare_ties", F4, BASE, p=1) == BASE


def test_dropped_elements_are_plus_zero() -> None:
    result = merged("dare", [[-1.0] * 64], [-0.0] * 64, p="0.5")
    assert all(math.copysign(1, x) == 1 for x in result if x == 0)
    assert 0.0 in result


def test_dare_refuses_to_average_with_weights_that_cancel() -> None:
    with pytest.raises(ParameterError, match="choose a scale"):
        merged("dare", F4[:2], BASE, [1, -1])
    assert merged("dare", F4[:2], BASE, [1, -1], p=0, scale=1) == [0.5, 3.0, 1.5, 4.75]


# -- dare_ties ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({}, [2.0, 0.0, 1.0, 4.5]),
        ({"trim": "0.5"}, [2.0, 0.0, 1.0, 4.0]),
        ({"merge_func": "sum"}, [2.0, 0.0, 1.0, 4.5]),
        ({"scale": "0.5"}, [1.5, 1.0, 2.0, 4.25]),
    ],
    ids=str,
)
def test_dare_ties_with_the_catalogues_masks_is_the_catalogues(
    monkeypatch: pytest.MonkeyPatch, parameters: dict[str, str], expected: list[float]
) -> None:
    inject(monkeypatch, MASKS)
    assert merged("dare_ties", F4, BASE, p="0.5", **parameters) == expected


def test_dare_ties_that_drops_nothing_is_ties() -> None:
    for zero in ("majority", "plus", "drop"):
        assert merged("dare_ties", F4, BASE, p=0, trim="0.5", zero=zero) == merged(
            "ties", F4, BASE, density="0.5", zero=zero
        )


def test_without_trim_nothing_more_is_dropped() -> None:
    assert merged("dare_ties", F4, BASE, p=0) == merged("ties", F4, BASE, density=1)
