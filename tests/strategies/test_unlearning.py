"""Forgetting: what is subtracted, what is added, and who speaks for whom."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import replace

import pytest
from strategies_harness import BASE, F4, Contribution, merge, merged

from crdtmerge.errors import ParameterError
from crdtmerge.recipe import Given

A, B, C = (Contribution(n, {"w": row}, role="forget") for n, row in zip("ABC", F4, strict=True))


def run(strategy: str, given: Sequence[Contribution], **parameters: Given) -> list[float]:
    return merge(strategy, given, {"w": BASE}, parameters=parameters)["w"].tolist()


# -- negative_merge -------------------------------------------------------------------------------------


def test_what_a_forget_set_agrees_on_is_subtracted() -> None:
    assert run("negative_merge", [A, B]) == [0.25, 2.0, 3.0, 4.0]


def test_without_unanimity_nothing_is_forgotten() -> None:
    assert run("negative_merge", [A, B, C]) == BASE


def test_task_negation_subtracts_everything() -> None:
    result = run("negative_merge", [A, B], mode="task_negation", scale="0.5")
    assert result == [0.25, 2.5, 3.25, 4.125]


def test_a_forget_set_of_one_is_subtracted_whole() -> None:
    assert run("negative_merge", [A]) == [0.5, 2.0, 4.0, 3.75]


def test_equal_models_of_a_forget_set_count_once() -> None:
    twin = replace(A, name="Z")
    assert run("negative_merge", [A, twin]) == run("negative_merge", [A])


def test_a_zero_in_one_model_keeps_the_element() -> None:
    given = [replace(A, tensors={"w": [2.0, 2.0, 3.0, 4.0]}), replace(B, tensors={"w": [2.0, 3.0, 3.0, 4.0]})]
    assert run("negative_merge", given) == [0.0, 2.0, 3.0, 4.0]


def test_forget_sets_agree_by_themselves_and_sum() -> None:
    given = [replace(A, topic="x"), replace(B, topic="y"), C]
    alone = [run("negative_merge", [c]) for c in (A, B, C)]
    expected = [b + sum(row[j] - b for row in alone) for j, b in enumerate(BASE)]
    assert run("negative_merge", given) == expected
    assert run("negative_merge", [replace(A, topic="x"), replace(B, topic="x")]) == run(
        "negative_merge", [A, B]
    )


def test_what_is_retained_is_added() -> None:
    retained = replace(C, role="retain")
    assert run("negative_merge", [A, B, retained], retain_scale="2") == [-0.25, 3.0, -1.0, 4.0]


def test_everybody_has_one_of_the_two_roles() -> None:
    with pytest.raises(ParameterError, match="role forget or retain"):
        run("negative_merge", [A, replace(B, role="task")])


def test_nothing_forgotten_leaves_the_base_to_the_bit() -> None:
    same = replace(A, tensors={"w": BASE})
    for mode in ("negmerge", "task_negation"):
        result = run("negative_merge", [same], mode=mode)
        assert struct.pack("<4d", *result) == struct.pack("<4d", *BASE)


# -- split_unlearn_merge --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "parameters",
    [
        {"density": "0.5"},
        {"density": "0.5", "merge_func": "sum"},
        {"density": "0.5", "merge_func": "max", "zero": "plus"},
        {"density": "0.5", "scope": "tensor", "zero": "drop"},
        {"density": "1", "scale": "0.5"},
    ],
    ids=str,
)
def test_attributes_of_one_contribution_each_are_ties(parameters: dict[str, str]) -> None:
    assert merged("split_unlearn_merge", F4, BASE, **parameters) == merged("ties", F4, BASE, **parameters)
    named = [replace(c, topic=topic) for c, topic in zip((A, B, C), "xyz", strict=True)]
    assert run("split_unlearn_merge", named, **parameters) == merged("ties", F4, BASE, **parameters)


def test_split_unlearn_merge_of_the_fixture_is_the_catalogues() -> None:
    assert merged("split_unlearn_merge", F4, BASE, density="0.5") == [1.75, 1.0, 1.5, 4.0]


def test_contributions_of_one_attribute_are_averaged_first() -> None:
    mean = [(a + b) / 2 for a, b in zip(F4[0], F4[1], strict=True)]
    given = [replace(A, topic="x"), replace(B, topic="x"), replace(C, topic="y")]
    assert run("split_unlearn_merge", given, density="0.5") == merged(
        "ties", [mean, F4[2]], BASE, density="0.5"
    )


def test_an_attribute_weighs_as_much_as_another_however_many_speak_for_it() -> None:
    up, down = {"w": [3.0]}, {"w": [-4.0]}
    many = [Contribution(name, up, topic="x") for name in "ABC"]
    given = [*many, Contribution("D", down, topic="y")]
    result = merge("split_unlearn_merge", given, {"w": [0.0]}, parameters={"density": 1})
    assert result["w"].tolist() == [-4.0]


def test_weights_that_are_alike_do_not_count() -> None:
    parameters = {"density": "0.5", "merge_func": "sum"}
    for weight in ("2", "-1", "0"):
        result = merged("split_unlearn_merge", F4, BASE, [weight] * 3, **parameters)
        assert result == merged("ties", F4, BASE, **parameters)


def test_tiles_and_tensors_of_attributes_are_those_of_the_contributions() -> None:
    base = {"a": [0.0] * 9, "b": [0.0] * 4}
    given = [
        Contribution(
            n,
            {"a": [float((i * j) % 7 - 3) for j in range(9)], "b": [float(i - j) for j in range(4)]},
            topic=t,
        )
        for i, (n, t) in enumerate(zip("ABCD", "xxyz", strict=True), start=1)
    ]
    cut, whole = (
        merge("split_unlearn_merge", given, base, widths=widths, parameters={"density": "0.4"})
        for widths in ((2, 5), (1 << 16,))
    )
    assert {n: x.tolist() for n, x in cut.items()} == {n: x.tolist() for n, x in whole.items()}
