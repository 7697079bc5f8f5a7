"""Fisher merging and grafting by Adam's moments: the catalogue's examples, and what an enemy claims."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies_harness import Contribution, merge

from crdtmerge.arith import Tensor
from crdtmerge.errors import ParameterError
from crdtmerge.recipe import Given

Rows = Sequence[Sequence[float]]


def fisher(
    rows: Rows,
    information: Sequence[Sequence[float] | None],
    weights: Sequence[int] = (1, 1, 1),
    **given: Given,
) -> list[float]:
    contributions = [
        Contribution(
            chr(65 + i),
            {"w": row},
            Fraction(weights[i]),
            evidence={} if f is None else {"fisher.diag/w": vector(f)},
        )
        for i, (row, f) in enumerate(zip(rows, information, strict=True))
    ]
    return merge("fisher_merge", contributions, parameters=given)["w"].tolist()


def vector(values: Sequence[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_the_catalogues_examples_come_out() -> None:
    rows, said = [[1, 2], [3, 6]], [[3, 1], [1, 1]]
    assert fisher(rows, said, normalize=False) == [1.5, 4.0]
    assert fisher(rows, said) == pytest.approx([1.8541020, 4.7639320], rel=1e-7)
    assert fisher(rows, [[0, 1], [0, 3]], normalize=False) == [2.0, 5.0]
    rows, said = [[1, 2], [3, -2]], [[4, 1], [1, 1]]
    assert fisher(rows, said, normalize=False) == [1.4, 0.0]
    assert fisher(rows, said) == pytest.approx([1.843174, -0.978413], rel=1e-6)
    assert fisher([[1, 2], [3, -2]], [[1, 0], [1, 0]])[1] == 0.0


def reference(rows: Rows, information: Rows, weights: Sequence[int], floor: float) -> list[float]:
    lengths = [math.sqrt(math.fsum(f * f for f in row)) or 1.0 for row in information]
    merged = []
    for j in range(len(rows[0])):
        parts = [w / n * max(f[j], floor) for w, n, f in zip(weights, lengths, information, strict=True)]
        total = math.fsum(p * row[j] for p, row in zip(parts, rows, strict=True))
        merged.append(total / math.fsum(parts))
    return merged


@given(st.data())
def test_it_agrees_with_the_definition_written_slowly(data: st.DataObject) -> None:
    numbers = st.floats(-9, 9, width=16)
    rows = data.draw(st.lists(st.lists(numbers, min_size=5, max_size=5), min_size=2, max_size=3))
    said = [[abs(x) for x in data.draw(st.lists(numbers, min_size=5, max_size=5))] for _ in rows]
    weights = data.draw(st.lists(st.integers(1, 9), min_size=3, max_size=3))
    slow = reference(rows, said, weights[: len(rows)], 1e-6)
    assert fisher(rows, said, weights) == pytest.approx(slow, rel=1e-12, abs=1e-12)


def test_a_claim_of_certainty_about_everything_moves_no_more_than_a_modest_one() -> None:
    rows = [[0.0, 0.0], [1.0, 1.0]]
    modest, boasting = fisher(rows, [[1, 1], [1, 1]]), fisher(rows, [[1, 1], [1e9, 1e9]])
    assert boasting == pytest.approx(modest)
    assert fisher(rows, [[1, 1], [1e9, 1e9]], normalize=False) == pytest.approx([1.0, 1.0], abs=1e-8)


def test_an_element_that_nobody_knows_about_is_the_weighted_mean() -> None:
    assert fisher([[1, 5], [4, 8]], [[0, 1], [0, 1]], (2, 1), floor=0)[0] == 2.0
    assert fisher([[1], [4]], [[0], [0]], (2, 1)) == pytest.approx([2.0])


def test_without_a_floor_of_its_own_a_donor_that_knows_nothing_gives_nothing() -> None:
    rows, said = [[1.0, 1.0], [3.0, 3.0]], [[0.0, 1.0], [0.0, 1.0]]
    assert fisher(rows, said, favor="A") == [1.0, 2.0]
    assert fisher(rows, said, favor="42") == [3.0, 2.0]
    with pytest.raises(ParameterError, match="favor"):
        fisher(rows, said, favor="nobody")


def test_fusion_bench_adds_the_floor() -> None:
    rows, said = [[0.0], [1.0]], [[1.0], [3.0]]
    assert fisher(rows, said, normalize=False, floor=1, compat="fusion_bench") == [4 / 6]


def test_a_contribution_alone_is_itself_whatever_it_claims() -> None:
    assert fisher([[0.1, -0.0]], [[7.0, 0.0]]) == [0.1, -0.0]


def test_identical_contributions_merge_to_themselves() -> None:
    row = [0.1, 0.7, -3.3]
    assert fisher([row, row], [[1, 2, 3], [9, 1, 0]]) == pytest.approx(row, rel=4e-16)


def partly(**given: Given) -> Mapping[str, Tensor]:
    said = [
        {"fisher.diag/a": vector([2.0])},
        {"fisher.diag/a": vector([6.0]), "fisher.diag/b": vector([1.0])},
    ]
    contributions = [
        Contribution(name, {"a": [x], "b": [x], "c": [x]}, evidence=evidence)
        for name, x, evidence in zip("AB", (0.0, 1.0), said, strict=True)
    ]
    return merge("fisher_merge", contributions, parameters=given)


def test_who_says_nothing_about_a_tensor_is_named_left_out_or_counts_as_the_recipe_says() -> None:
    with pytest.raises(ParameterError, match=r"414141|4100.*brings no fisher.diag of b"):
        partly()
    left_out = partly(missing="exclude", normalize=False)
    assert [left_out[name].item() for name in "abc"] == [0.75, 1.0, 0.5]
    # Lengths are 2 and √37, of two elements: the constant is their mean / √2.
    constant = (2 + math.sqrt(37)) / 2 / math.sqrt(2)
    neutral = partly(missing="neutral", normalize=False)
    assert neutral["b"].item() == pytest.approx(1 / (1 + constant))
    assert neutral["c"].item() == 0.5


@pytest.mark.parametrize("missing", ["error", "exclude", "neutral"])
def test_whoever_alone_speaks_about_a_tensor_neither_captures_it_nor_blocks_the_others(missing: str) -> None:
    rows: Rows = [[0.0], [0.0], [3.0]]
    assert fisher(rows, [None, None, [1e9]], missing=missing) == [1.0]


@pytest.mark.parametrize("weights", [(1, -1), (0, 0)])
def test_weights_that_are_no_shares_are_refused(weights: tuple[int, int]) -> None:
    for name in ("fisher_merge", "ota_merge"):
        contributions = [
            Contribution(
                c, {"w": [1.0]}, Fraction(w), evidence={f"{kind}/w": vector([1.0]) for kind in KINDS}
            )
            for c, w in zip("AB", weights, strict=True)
        ]
        with pytest.raises(ParameterError, match="must not be negative"):
            merge(name, contributions, {"w": [0.0]})


KINDS = ("fisher.diag", "adam.v")

V = [[4, 1, 0.25, 0.01], [1, 1, 4, 0.01]]
TAU = [[1, 0.1, 0.2, 0.3], [-1, 0.4, 0.5, 0.1]]


def graft(evidence: Sequence[Mapping[str, Tensor]], taus: Rows = TAU, **given: Given) -> list[float]:
    contributions = [
        Contribution(chr(65 + i), {"w": tau}, is_delta=True, evidence=said)
        for i, (tau, said) in enumerate(zip(taus, evidence, strict=True))
    ]
    base = {"w": [0.0] * len(taus[0])}
    return merge("ota_merge", contributions, base, shapes={"w": (2, 2)}, parameters=given, widths=(3,))[
        "w"
    ].tolist()


def moments(rows: Rows = V) -> list[dict[str, Tensor]]:
    return [{"adam.v/w": vector(v)} for v in rows]


def test_the_catalogues_graft_comes_out() -> None:
    wanted = [1 / 3, 0.25, 0.44, 0.0]
    assert graft(moments(), threshold="0.01", normalize="none") == pytest.approx(wanted, rel=1e-12)
    everything = graft(moments(), density=1, normalize="none")
    assert everything == pytest.approx([1 / 3, 0.25, 0.44, 0.2], rel=1e-12)


def test_where_no_member_is_grafted_the_base_stands_or_the_mean_if_told() -> None:
    assert graft(moments(), threshold="0.01")[3] == 0.0
    assert graft(moments(), threshold="0.01", fallback="mean")[3] == pytest.approx(0.2)


def test_a_density_grafts_the_largest_scores_and_of_equals_the_first() -> None:
    said = moments([[1, 1, 1, 1], [1, 1, 1, 1]])
    # The first of four alike are 0 and 1; of the second, 3 and then, among zeros, 0.
    assert graft(said, [[1, 1, 1, 1], [0, 0, 0, 3]], density="0.5") == [0.5, 1.0, 0.0, 3.0]


def test_row_and_column_sums_stand_for_their_product() -> None:
    sums = [
        {"adam.v.row/w": vector([5, 0.26]), "adam.v.col/w": vector([4.25, 1.01])},
        {"adam.v.row/w": vector([2, 4.01]), "adam.v.col/w": vector([5, 1.01])},
    ]
    outer = [[4.03992395, 0.96007605, 0.21007605, 0.04992395], []]
    outer[1] = [r * c / 6.01 for r in (2, 4.01) for c in (5, 1.01)]
    assert graft(sums, threshold="0.01") == pytest.approx(graft(moments(outer), threshold="0.01"), rel=1e-7)


def test_moments_a_billion_times_as_large_count_no_more() -> None:
    taus = [[1.0, 1.0, 1.0, 1.0], [-1.0, -1.0, -1.0, -1.0]]
    hostile = moments([[1, 1, 1, 1], [1e9, 1e9, 1e9, 1e9]])
    assert graft(hostile, taus, density=1) == pytest.approx([0.0] * 4, abs=1e-12)
    assert graft(hostile, taus, density=1, normalize="none") == pytest.approx([-1.0] * 4, abs=1e-3)


def test_a_tensor_that_nobody_brings_moments_of_moves_by_the_mean() -> None:
    assert graft([{}, {}], [[1, 2, 3, 4], [3, 4, 5, 6]]) == [2.0, 3.0, 4.0, 5.0]


def test_differences_of_zero_leave_the_base() -> None:
    assert graft(moments(), [[0.0] * 4, [0.0] * 4]) == [0.0] * 4
