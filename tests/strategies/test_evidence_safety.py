"""SafeMERGE and LED: the catalogue's examples, roles, and what is elected twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies_harness import BASE, F4, Contribution, merge

from crdtmerge.arith import Tensor, cosine
from crdtmerge.errors import ParameterError
from crdtmerge.recipe import Given
from crdtmerge.strategy import Factors

Matrix = Sequence[Sequence[float]]

ALIGNMENT, TASK, SAFE = [[1.0, 0.0], [0.0, 0.0]], [[0.0, 1.0], [1.0, 0.0]], [[0.0, 2.0], [0.0, 0.0]]
ZEROS = [[0.0, 0.0], [0.0, 0.0]]


def flat(matrix: Matrix) -> list[float]:
    return [x for row in matrix for x in row]


def factors(b: Sequence[float], a: Sequence[float], scale: int = 1) -> dict[str, Factors]:
    left, right = torch.tensor(b).double().reshape(-1, 1), torch.tensor(a).double().reshape(1, -1)
    return {"w": Factors(right, left, Fraction(scale))}


def contribution(
    name: str,
    delta: Matrix,
    role: str | None,
    weight: int = 1,
    *,
    alignment: Matrix | None = None,
    lora: Mapping[str, Factors] | None = None,
) -> Contribution:
    evidence = {} if alignment is None else {"alignment/w": torch.tensor(flat(alignment)).double()}
    return Contribution(
        name,
        {"w": flat(delta)},
        Fraction(weight),
        is_delta=True,
        evidence=evidence,
        role=role,
        factors=lora or {},
    )


def safe(contributions: Sequence[Contribution], **given: Given) -> list[float]:
    base, shapes = {"w": [0.0] * 4}, {"w": (2, 2)}
    return merge("safe_merge", contributions, base, shapes=shapes, parameters=given)["w"].tolist()


PAIR = [
    contribution("T", TASK, "task", lora=factors([0, 1], [1, 0])),
    contribution("S", SAFE, "safety", alignment=ALIGNMENT, lora=factors([1, 0], [0, 2])),
]


def test_a_layer_within_the_directions_of_alignment_is_kept() -> None:
    assert safe(PAIR) == flat(TASK)


def test_a_layer_below_the_threshold_is_mixed_with_the_safe_one() -> None:
    assert safe(PAIR, threshold="0.8") == pytest.approx([0, 1.2, 0.8, 0], rel=1e-12)


def test_the_gate_is_the_cosine_of_the_catalogue_and_is_compared_exactly() -> None:
    c = cosine(torch.tensor([0.0, 1.0, 0.0, 0.0]).double(), torch.tensor([0.0, 1.0, 1.0, 0.0]).double())
    assert c == pytest.approx(0.70710678, rel=1e-8)
    below, above = "0.70710678118", "0.70710678119"
    assert safe(PAIR, threshold=below) == flat(TASK)
    assert safe(PAIR, threshold=above) != flat(TASK)


def test_a_layer_without_directions_or_without_a_difference_is_mixed() -> None:
    no_direction = [PAIR[0], contribution("S", SAFE, "safety", alignment=ZEROS)]
    assert safe(no_direction) == pytest.approx([0, 1.2, 0.8, 0], rel=1e-12)
    still = [contribution("T", ZEROS, "task"), PAIR[1]]
    assert safe(still) == pytest.approx([0, 0.4, 0, 0], rel=1e-12)


def test_as_peft_does_it_the_factors_are_mixed_and_cross() -> None:
    # The differences are what these factors make; cross terms of one's B and another's A come with them.
    pair = [
        contribution("T", [[0, 0], [1, 0]], "task", lora=factors([0, 1], [1, 0])),
        contribution("S", SAFE, "safety", alignment=ALIGNMENT, lora=factors([1, 0], [0, 2])),
    ]
    crossed = safe(pair, threshold="0.8", compat="peft_linear")
    assert crossed == pytest.approx([0.4, 0.4, 0.8, 0.8], rel=1e-12)
    assert safe(pair, threshold="0.8") == pytest.approx([0, 0.4, 0.8, 0], rel=1e-12)


def test_factors_that_peft_could_not_add_are_refused() -> None:
    plain = [contribution("T", TASK, "task"), PAIR[1]]
    with pytest.raises(ParameterError, match="takes LoRA factors"):
        safe(plain, threshold=1, compat="peft_linear")
    negative = [contribution("T", TASK, "task", lora=factors([0, 1], [1, 0], -1)), PAIR[1]]
    with pytest.raises(ParameterError, match="positive scale"):
        safe(negative, threshold=1, compat="peft_linear")
    wide = {"w": Factors(torch.ones(2, 2).double(), torch.ones(2, 2).double(), Fraction(1))}
    with pytest.raises(ParameterError, match="several ranks"):
        safe([contribution("T", TASK, "task", lora=wide), PAIR[1]], threshold=1, compat="peft_linear")


def test_every_task_passes_the_gate_by_itself_and_weights_count_within_a_role() -> None:
    aligned = contribution("U", [[1, 0], [0, 0]], "task", 3)
    merged = safe([*PAIR, aligned], threshold="0.8")
    assert merged == pytest.approx([0.75, 0.3, 0.2, 0], rel=1e-12)


def test_a_member_without_a_role_is_refused_and_not_guessed_about() -> None:
    with pytest.raises(ParameterError, match="role task or safety"):
        safe([*PAIR, contribution("X", TASK, None)])


def test_tensors_without_alignment_keep_the_tasks_difference() -> None:
    rows = [contribution("T", TASK, "task"), contribution("S", SAFE, "safety")]
    assert safe(rows, threshold=1) == flat(TASK)
    # One dimension has no directions either, whatever is claimed about it.
    merged = merge("safe_merge", PAIR, {"w": [0.0] * 4}, parameters={"threshold": 1})["w"].tolist()
    assert merged == flat(TASK)


def led(evidence: Sequence[Mapping[str, Sequence[float]]], **given: Given) -> list[float]:
    contributions = [
        Contribution(
            chr(65 + i), {"w": row}, evidence={f"{k}/w": torch.tensor(v).double() for k, v in e.items()}
        )
        for i, (row, e) in enumerate(zip(F4, evidence, strict=False))
    ]
    return merge("led_merge", contributions, {"w": BASE}, parameters=given, widths=(3,))["w"].tolist()


def mask(*elected: int) -> dict[str, Sequence[float]]:
    return {"mask": [float(i in elected) for i in range(4)]}


def test_what_two_elect_stays_at_the_base() -> None:
    assert led([mask(0, 2), mask(0, 1), mask(3)]) == [1.0, 1.0, 2.0, 4.0]


def test_an_element_is_elected_if_it_ranks_high_for_the_fine_tune_and_for_the_base() -> None:
    scores = {"saliency.abs": [0.9, 0.1, 0.8, 0.2], "saliency.abs.base": [0.7, 0.6, 0.1, 0.3]}
    assert led([scores], rate="0.5") == [1.5, 2.0, 3.0, 4.0]


def test_a_rate_of_nothing_elects_nothing_and_one_of_all_everything() -> None:
    scores = {"saliency.abs": [1.0] * 4, "saliency.abs.base": [1.0] * 4}
    assert led([scores], rate="0.2") == BASE
    assert led([scores], rate=1) == F4[0]
    assert led([scores], rate="0.5") == [1.5, 2.0, 3.0, 4.0]


def test_masks_and_scores_meet_in_one_merge() -> None:
    scores = {"saliency.abs": [9.0, 0, 0, 0], "saliency.abs.base": [9.0, 0, 0, 0]}
    assert led([scores, mask(0, 1)], rate="0.25") == [1.0, 1.0, 3.0, 4.0]


def test_who_says_nothing_about_a_tensor_elects_nothing_in_it() -> None:
    assert led([mask(0), {}]) == [1.5, 2.0, 3.0, 4.0]


@given(st.lists(st.lists(st.booleans(), min_size=4, max_size=4), min_size=1, max_size=3))
def test_it_agrees_with_sets_written_slowly(bits: list[list[bool]]) -> None:
    elected = [{i for i, bit in enumerate(row) if bit} for row in bits]
    slow = list(BASE)
    for i, mine in enumerate(elected):
        others = set().union(*(other for j, other in enumerate(elected) if j != i))
        for place in mine - others:
            slow[place] += F4[i][place] - BASE[place]
    assert led([mask(*places) for places in elected]) == slow


def test_an_alignment_of_tensors_is_a_matrix_of_outputs() -> None:
    wide: Tensor = torch.zeros(2, 2, 3, dtype=torch.float64)
    wide[0] = 1.0
    rows = [
        Contribution("T", {"w": wide.flatten()}, is_delta=True, role="task"),
        Contribution(
            "S",
            {"w": torch.zeros(12).double()},
            is_delta=True,
            role="safety",
            evidence={"alignment/w": wide.flatten()},
        ),
    ]
    merged = merge(
        "safe_merge", rows, {"w": [0.0] * 12}, shapes={"w": (2, 2, 3)}, parameters={"threshold": 1}
    )
    assert merged["w"].tolist() == wide.flatten().tolist()
