"""Directions and lengths: the catalogue's examples, cancelling and zero vectors, rows and columns."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies_harness import BASE, F4, Contribution, merge, merged

from crdtmerge.errors import MissingBaseError, ParameterError
from crdtmerge.recipe import Given

NUMBERS = st.floats(-8, 8, width=16)


def near(values: Sequence[float]) -> object:
    return pytest.approx(list(values), abs=5e-8)


# -- nuslerp ------------------------------------------------------------------------------------------


def test_nuslerp_of_the_catalogue() -> None:
    assert merged("nuslerp", [[1, 0], [0, 2]], weights=[1, 3]) == near([0.3826834, 1.8477591])
    moved = merged("nuslerp", [[2, 1], [1, 3]], base=[1, 1], of="deltas")
    assert moved == near([1.7071068, 2.4142136])


def test_nuslerp_of_colinear_vectors_is_linear() -> None:
    assert merged("nuslerp", [[1, 1], [2, 2]], weights=[3, 1]) == [1.25, 1.25]
    assert merged("nuslerp", [[1, 0], [-1, 0]], weights=[3, 1]) == [0.5, 0.0]


def test_weights_that_cancel_meet_in_the_middle() -> None:
    assert merged("nuslerp", [[1, 1], [2, 2]], weights=[1, -1]) == [1.5, 1.5]


def matrix(rows: list[list[float]]) -> dict[str, list[float]]:
    return {"w": [x for row in rows for x in row]}


@pytest.mark.parametrize("widths", [(1,), (4,), (100,)], ids=str)
def test_rows_and_columns_are_each_a_vector(widths: tuple[int, ...]) -> None:
    x, y = [[1.0, 0.0], [3.0, 4.0], [0.0, 1.0]], [[0.0, 2.0], [4.0, 3.0], [1.0, 1.0]]
    pair = [Contribution("A", matrix(x)), Contribution("B", matrix(y))]
    shapes = {"w": (3, 2)}
    by_rows = merge("nuslerp", pair, shapes=shapes, widths=widths, parameters={"vectors": "rows"})[
        "w"
    ].tolist()
    for i, (a, b) in enumerate(zip(x, y, strict=True)):
        assert by_rows[2 * i : 2 * i + 2] == pytest.approx(merged("nuslerp", [a, b]), rel=1e-14)
    by_columns = merge("nuslerp", pair, shapes=shapes, widths=widths, parameters={"vectors": "columns"})
    for j in range(2):
        alone = merged("nuslerp", [[row[j] for row in x], [row[j] for row in y]])
        assert by_columns["w"].tolist()[j::2] == pytest.approx(alone, rel=1e-14)


def test_a_vector_is_one_row_and_one_column() -> None:
    for vectors in ("rows", "columns"):
        assert merged("nuslerp", [[1, 0], [0, 2]], weights=[1, 3], vectors=vectors) == near(
            [0.3826834, 1.8477591]
        )


# -- multislerp ---------------------------------------------------------------------------------------


def test_multislerp_of_the_catalogue() -> None:
    assert merged("multislerp", [[1, 0], [0, 1]], weights=[3, 1]) == near([0.9486833, 0.3162278])


def test_directions_that_cancel_are_averaged_linearly() -> None:
    assert merged("multislerp", [[1, 0], [-1, 0]]) == [0.0, 0.0]
    assert merged("multislerp", [[3, 0], [-1, 0]]) == [1.0, 0.0]
    assert merged("multislerp", [[1, 0], [-1, 0], [0, 0]]) == [0.0, 0.0]


@given(st.lists(st.lists(NUMBERS, min_size=3, max_size=3), min_size=1, max_size=4))
def test_multislerp_is_mean_direction_times_mean_length(rows: list[list[float]]) -> None:
    lengths = [math.hypot(*row) for row in rows]
    mixed = [
        sum(row[j] / (n + 1e-8) for row, n in zip(rows, lengths, strict=True)) / len(rows) for j in range(3)
    ]
    size = math.hypot(*mixed)
    if size > 1e-3 and min(lengths) > 1e-3:
        wanted = [m / size * sum(lengths) / len(rows) for m in mixed]
        assert merged("multislerp", rows) == pytest.approx(wanted, rel=1e-6, abs=1e-9)


# -- karcher ------------------------------------------------------------------------------------------


def test_karcher_of_the_catalogue() -> None:
    assert merged("karcher", [[1, 0, 0], [0, 1, 0], [0, 0, 2]]) == near([0.7698004] * 3)
    assert merged("karcher", [[1, 0], [1, 0], [0, 1]]) == near([math.sqrt(3) / 2, 0.5])
    assert merged("karcher", [[1, 0], [-1, 0]]) == [1.0, 0.0]


def test_vectors_can_be_differences_from_the_base() -> None:
    for strategy in ("karcher", "multislerp", "nuslerp"):
        moved = merged(strategy, [[2, 1], [1, 2]], base=[1, 1], of="deltas")
        around = merged(strategy, [[1, 0], [0, 1]])
        assert moved == near([1 + x for x in around]), strategy
        with pytest.raises((MissingBaseError, ParameterError), match="base"):
            merged(strategy, [[2, 1], [1, 2]], of="deltas")


# -- model_stock --------------------------------------------------------------------------------------


def test_model_stock_of_the_catalogue() -> None:
    assert merged("model_stock", [[1, 0], [1, 1]], base=[0, 0]) == near([0.8284271, 0.4142136])
    c = 0.0620443
    t = 3 * c / (1 + 2 * c)
    mean = [(a + b + d) / 3 - x for a, b, d, x in zip(*F4, BASE, strict=True)]
    wanted = [x + t * m for x, m in zip(BASE, mean, strict=True)]
    assert merged("model_stock", F4, BASE) == pytest.approx(wanted, abs=2e-7)


def test_model_stock_of_opposites_moves_away_and_of_the_guard_not_at_all() -> None:
    assert merged("model_stock", [[1, 0], [-1, 0]], base=[0, 0]) == [0.0, 0.0]
    assert merged("model_stock", [[1, 0], [-0.6, 0.8]], base=[0, 0])[0] < 0


def test_a_row_finds_its_own_ratio_filter_wise() -> None:
    x, y = [[1.0, 0.0], [2.0, 0.0]], [[1.0, 1.0], [2.0, 0.0]]
    pair = [Contribution("A", matrix(x)), Contribution("B", matrix(y))]
    base = {"w": [0.0] * 4}
    by_row = merge("model_stock", pair, base, shapes={"w": (2, 2)}, parameters={"filter_wise": True})
    assert by_row["w"].tolist() == near([0.8284271, 0.4142136, 2.0, 0.0])


@pytest.mark.parametrize(
    ("strategy", "parameters"),
    [("nuslerp", {}), ("model_stock", {}), ("karcher", {}), ("multislerp", {})],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_a_zero_vector_beside_another_gives_finite_numbers(
    strategy: str, parameters: dict[str, Given]
) -> None:
    rows = [Contribution("A", {"w": [0.0, 0.0]}), Contribution("B", {"w": [3.0, 4.0]})]
    result = merge(strategy, rows, {"w": [0.0, 0.0]}, parameters=parameters)["w"].tolist()
    assert all(map(math.isfinite, result))


# -- weight scope alignment ---------------------------------------------------------------------------


def test_scope_alignment_of_the_catalogue() -> None:
    for name in ("wsa_posthoc", "weight_scope_alignment"):
        assert merged(name, [[0, 2], [2, 8]]) == [1.0, 5.0]
        assert merged(name, [[0, 2], [2, 8]], sigma_fusion="var_mean") == near([0.7639320, 5.2360680])
        assert merged(name, [[0, 2], [8, 2]]) == [3.0, 3.0]


def test_a_contribution_without_spread_counts_as_the_common_mean() -> None:
    assert merged("wsa_posthoc", [[1, 1], [0, 4]]) == [1.0, 2.0]


def test_restandardising_gives_the_average_the_common_spread_again() -> None:
    rows = [[0.0, 2.0, 4.0], [4.0, 0.0, 2.0]]
    plain = merged("wsa_posthoc", rows)
    again = merged("wsa_posthoc", rows, restandardize=True)

    def spread(values: list[float]) -> float:
        mean = sum(values) / len(values)
        return math.sqrt(sum((x - mean) ** 2 for x in values) / len(values))

    assert spread(plain) < 1.0
    assert spread(again) == pytest.approx(math.sqrt(8 / 3), rel=1e-12)


def test_negative_weights_are_refused_where_they_mean_nothing() -> None:
    for name in ("wsa_posthoc", "multislerp", "karcher"):
        rows = [Contribution("A", {"w": [1.0]}, Fraction(-1)), Contribution("B", {"w": [2.0]})]
        with pytest.raises(ParameterError, match="weights must not be negative"):
            merge(name, rows)
