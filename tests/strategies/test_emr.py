"""EMR-Merging: the unified model, the way back to each task, and who is named."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies_harness import BASE, F4, Contribution, merge, merged

from crdtmerge.digest import Digest
from crdtmerge.errors import ParameterError
from reference import dropping as slow


def bits(values: Sequence[float]) -> bytes:
    return struct.pack(f"<{len(values)}d", *values)


def test_the_unified_model_of_the_fixture_is_the_catalogues() -> None:
    assert merged("emr", F4, BASE) == [2.0, 1.0, 1.0, 3.5]


@pytest.mark.parametrize(
    ("member", "expected"),
    [
        ("A", [1.5833333, 2.0, 1.8333333, 4.0]),
        ("B", [2.2, 0.8, 3.0, 3.4]),
        ("C", [1.0, 2.0, 0.25, 4.0]),
        ("43", [1.0, 2.0, 0.25, 4.0]),
    ],
)
def test_a_tasks_model_of_the_fixture_is_the_catalogues(member: str, expected: list[float]) -> None:
    # In the harness a label is a letter, and a digest its ASCII code and zeros.
    assert merged("emr", F4, BASE, emit=member) == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize(
    ("compat", "factors"),
    [("none", (0.395833, 0.782609, 1.068182)), ("fusion_bench", (0.369048, 0.731707, 1.0375))],
)
def test_norms_run_over_all_tensors_and_in_fusion_bench_over_means(
    compat: str, factors: tuple[float, ...]
) -> None:
    base = {"w": BASE, "z": [0.0, 0.0]}
    given = [
        Contribution(name, {"w": row, "z": [float(i), 2.0 * i]})
        for i, (name, row) in enumerate(zip("ABC", F4, strict=True), start=1)
    ]
    for name, factor in zip("ABC", factors, strict=True):
        result = merge("emr", given, base, parameters={"emit": name, "compat": compat})
        assert result["z"].tolist() == pytest.approx([3 * factor, 6 * factor], rel=2e-6)


def test_one_contribution_is_itself() -> None:
    assert merged("emr", F4[:1], BASE) == F4[0]
    assert merged("emr", F4[:1], BASE, emit="A") == F4[0]


def test_equal_contributions_are_themselves() -> None:
    assert merged("emr", [F4[1]] * 2, BASE) == F4[1]
    assert merged("emr", [F4[1]] * 2, BASE, emit="B") == F4[1]


def test_where_differences_cancel_minus_is_elected() -> None:
    assert merged("emr", [[1.0], [-1.0]], [0.0]) == [-1.0]


def test_a_task_that_agrees_nowhere_is_the_base() -> None:
    assert merged("emr", [[1.0], [-1.0]], [0.0], emit="A") == [0.0]


@pytest.mark.parametrize("emit", ["unified", "A"])
def test_no_difference_at_all_leaves_the_base(emit: str) -> None:
    base = [1.0, 0.1, -7.5, -0.0]
    assert bits(merged("emr", [base, base], base, emit=emit)) == bits([1.0, 0.1, -7.5, 0.0])


@pytest.mark.parametrize(("emit", "count"), [("D", "none"), ("00", "2"), ("", "none")])
def test_who_is_named_must_be_one(emit: str, count: str) -> None:
    given = [
        Contribution(n, {"w": row}, digest=Digest(bytes([0, i] * 16)))
        for i, (n, row) in enumerate(zip("AB", F4, strict=False))
    ]
    with pytest.raises(ParameterError, match=f"names {count} of the contributions"):
        merge("emr", given, {"w": BASE}, parameters={"emit": emit})


def test_a_label_that_two_share_names_neither() -> None:
    given = [Contribution("A", {"w": row}, digest=Digest(bytes([i] * 32))) for i, row in enumerate(F4)]
    with pytest.raises(ParameterError, match="names 3 of the contributions"):
        merge("emr", given, {"w": BASE}, parameters={"emit": "A"})


def test_where_tiles_are_cut_never_shows_in_a_tasks_model() -> None:
    base = {"a": [0.0] * 7, "b": [0.0] * 5}
    given = [
        Contribution(n, {"a": [i * 0.1 - j for j in range(7)], "b": [j / i for j in range(5)]})
        for i, n in enumerate("ABC", start=1)
    ]
    for compat in ("none", "fusion_bench"):
        cut, whole = (
            merge("emr", given, base, widths=widths, parameters={"emit": "B", "compat": compat})
            for widths in ((3, 1), (1 << 16,))
        )
        assert {n: x.tolist() for n, x in cut.items()} == {n: x.tolist() for n, x in whole.items()}


NUMBERS = st.one_of(st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.5]), st.floats(-100, 100, width=16))


@given(st.data(), st.integers(1, 9), st.integers(1, 4))
def test_emr_is_its_reference(data: st.DataObject, size: int, count: int) -> None:
    row = st.lists(NUMBERS, min_size=size, max_size=size)
    base, *rows = data.draw(st.lists(row, min_size=count + 1, max_size=count + 1))
    assert bits(merged("emr", rows, base)) == bits([x + 0.0 for x in slow.emr(base, rows, None)])
    expected = slow.emr(base, rows, count - 1)
    assert merged("emr", rows, base, emit=chr(64 + count)) == pytest.approx(expected, rel=1e-13, abs=1e-300)
