"""Arcs and means on the sphere: the catalogue's examples, and where a direction is missing."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from fractions import Fraction

import pytest
import torch
from strategies_harness import Contribution, merge, merged

from crdtmerge.errors import NonFiniteError, ParameterError
from crdtmerge.strategies.spherical import karcher, slerp_pair

AXES = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]


def near(values: Sequence[float], digits: float = 1e-8) -> object:
    return pytest.approx(values, rel=0, abs=digits)


def test_half_way_between_axes_of_other_lengths_is_the_catalogues() -> None:
    assert merged("slerp", [[1, 0], [0, 2]]) == near([0.70710678, 1.41421356])


def test_a_quarter_of_the_way_is_the_catalogues() -> None:
    assert merged("slerp", [[1, 0], [0, 1]], t="0.25") == near([0.92387953, 0.38268343])


def test_colinear_vectors_are_interpolated_on_their_line() -> None:
    assert merged("slerp", [[1, 1], [2, 2]], t="0.25") == [1.25, 1.25]


def test_fold_of_three_axes_is_the_catalogues_and_prefers_the_first_two() -> None:
    assert merged("slerp", AXES, method="fold") == near([0.61237244, 0.61237244, 0.5])


def test_karcher_of_three_axes_is_symmetric() -> None:
    result = merged("slerp", AXES)
    assert result == near([1 / math.sqrt(3)] * 3)
    assert len(set(result)) == 1


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([AXES[0], AXES[1], [0.0, 0.0, 2.0]], [0.7698004] * 3),
        ([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], [0.8660254, 0.5]),
    ],
)
def test_karcher_examples_are_the_catalogues(rows: list[list[float]], expected: list[float]) -> None:
    assert merged("slerp", rows) == near(expected, 1e-7)


def test_the_pole_is_the_contribution_of_lower_digest() -> None:
    contributions = [Contribution("B", {"w": [0.0, 2.0]}), Contribution("A", {"w": [1.0, 0.0]})]
    assert merge("slerp", contributions, parameters={"t": 0})["w"].tolist() == [1.0, 0.0]
    assert merge("slerp", contributions, parameters={"t": 1})["w"].tolist() == [0.0, 2.0]


def test_without_t_the_weights_of_two_choose_the_place_on_the_arc() -> None:
    assert merged("slerp", [[1, 0], [0, 1]], weights=[3, 1]) == merged("slerp", [[1, 0], [0, 1]], t="0.25")


@pytest.mark.parametrize("parameters", [{}, {"t": "0.3"}, {"method": "fold"}], ids=str)
def test_one_contribution_is_itself_to_the_bit(parameters: dict[str, str]) -> None:
    row = [0.1, -0.0, 3e-310, 1e300]
    result = merge("slerp", [Contribution("A", {"w": row}, Fraction(7))], parameters=parameters)
    assert struct.pack("4d", *result["w"].tolist()) == struct.pack("4d", *row)


@pytest.mark.parametrize("method", ["karcher", "fold"])
@pytest.mark.parametrize("count", [2, 3, 5])
def test_equal_contributions_merge_to_themselves(count: int, method: str) -> None:
    row = [0.3, -1.5, 2.25, 1e-3]
    assert merged("slerp", [row] * count, method=method) == pytest.approx(row, rel=1e-14)


def test_a_zero_vector_stands_at_a_right_angle() -> None:
    assert merged("slerp", [[0, 0], [0, 2]]) == near([0.0, 2 * math.sqrt(0.5)])


@pytest.mark.parametrize("count", [2, 3])
def test_zeros_merge_to_zeros(count: int) -> None:
    assert merged("slerp", [[0.0, 0.0]] * count) == [0.0, 0.0]


def test_a_zero_vector_shortens_the_mean_and_does_not_turn_it() -> None:
    assert merged("slerp", [[3.0, 4.0], [0.0, 0.0], [3.0, 4.0]]) == near([2.0, 8 / 3])


def test_opposite_vectors_are_interpolated_on_their_line_and_may_cancel() -> None:
    assert merged("slerp", [[1.0, 0.0], [-1.0, 0.0]]) == [0.0, 0.0]
    assert merged("slerp", [[1.0, 0.0], [-1.0, 0.0]], t="0.25") == [0.5, 0.0]


def test_where_directions_cancel_the_first_decides() -> None:
    rows = [[1.0, 0.0], [-1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]]
    assert merged("slerp", rows) == [1.0, 0.0]
    assert merged("slerp", rows[1:] + rows[:1]) == [-1.0, 0.0]
    assert merged("slerp", [[0.0, 0.0], *rows]) == [0.8, 0.0]


def test_fold_goes_on_from_vectors_that_cancelled() -> None:
    # What is left of v - v is no direction but rounding: it must not turn the third vector.
    v = [0.1, 0.7, -0.3]
    result = merged("slerp", [v, [-x for x in v], [1.0, 2.0, 3.0]], method="fold")
    third = math.sin(math.pi / 6)
    assert result == near([third * 1.0, third * 2.0, third * 3.0])


def test_the_threshold_is_where_the_arc_becomes_a_line() -> None:
    threshold = Fraction("0.9995")
    assert slerp_pair(0.9995 + 1e-12, Fraction(1, 4), threshold) == (0.75, 0.25)
    assert slerp_pair(-0.9995 - 1e-12, Fraction(1, 4), threshold) == (0.75, 0.25)
    assert slerp_pair(0.9995 - 1e-12, Fraction(1, 4), threshold) != (0.75, 0.25)


def test_karcher_weights_its_directions_and_lengths() -> None:
    result = merged("slerp", [[1, 0], [0, 4], [0, 4]], weights=[2, 1, 1])
    assert result == near([2.5 * math.sqrt(0.5)] * 2)
    assert merged("slerp", [[1, 0], [0, 1], [5, 5]], weights=[1, 1, 0]) == near([math.sqrt(0.5)] * 2)


def test_karcher_scales_with_its_vectors() -> None:
    rows = [[1.0, 2.0, 0.5], [0.5, -1.0, 2.0], [2.0, 0.0, 1.0]]
    tiny = [[x * 2.0**-200 for x in row] for row in rows]
    assert [x * 2.0**200 for x in merged("slerp", tiny)] == merged("slerp", rows)


def test_each_tensor_has_its_own_angle() -> None:
    contributions = [
        Contribution("A", {"a": [1.0, 0.0], "b": [1.0, 1.0]}),
        Contribution("B", {"a": [0.0, 1.0], "b": [2.0, 2.0]}),
    ]
    result = merge("slerp", contributions)
    assert result["a"].tolist() == near([math.sqrt(0.5)] * 2)
    assert result["b"].tolist() == [1.5, 1.5]


def test_an_empty_tensor_among_others_is_no_obstacle() -> None:
    contributions = [Contribution(name, {"a": [], "b": row}) for name, row in (("A", [1.0]), ("B", [3.0]))]
    result = merge("slerp", contributions)
    assert result["a"].numel() == 0
    assert result["b"].tolist() == [2.0]


def test_t_is_refused_where_it_would_have_to_ignore_something() -> None:
    with pytest.raises(ParameterError, match="there are 3"):
        merged("slerp", AXES, t="0.5")
    with pytest.raises(ParameterError, match="equal weight"):
        merged("slerp", AXES[:2], weights=[1, 2], t="0.5")


@pytest.mark.parametrize("weights", [[1, -1, 1], [0, 0, 0]])
def test_negative_weights_and_none_at_all_are_refused(weights: list[int]) -> None:
    with pytest.raises(ParameterError, match="must not be negative"):
        merged("slerp", AXES, weights=weights)


def test_a_norm_beyond_computation_names_its_tensor() -> None:
    for size in (1e160, 1e200):
        with pytest.raises(NonFiniteError, match="w: its elements") as caught:
            merged("slerp", [[size], [size]])
        assert caught.value.tensor == "w"


def test_karcher_minimises_the_squared_angles() -> None:
    generator = torch.Generator().manual_seed(7)
    rows = torch.randn(5, 8, generator=generator, dtype=torch.float64) + 1
    units = rows / rows.norm(dim=1, keepdim=True)

    def cost(u: torch.Tensor) -> float:
        return float((units @ (u / u.norm())).clamp(-1, 1).acos().square().sum())

    gram = (rows @ rows.T).tolist()
    mean = (torch.tensor(karcher(gram, [Fraction(1)] * 5), dtype=torch.float64)[:, None] * rows).sum(0)
    best = cost(mean)
    for _ in range(50):
        nudge = 1e-3 * torch.randn(8, generator=generator, dtype=torch.float64)
        assert cost(mean / mean.norm() + nudge) >= best
