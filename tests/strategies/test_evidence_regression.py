"""RegMean and LOT: the catalogue's examples, layers that nobody fed, and claims that are too large."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies_harness import Contribution, merge

from crdtmerge.arith import Tensor
from crdtmerge.errors import ParameterError
from crdtmerge.recipe import Given

Matrix = Sequence[Sequence[float]]

W1, W2 = [[1.0, 2.0], [3.0, 4.0]], [[3.0, 2.0], [1.0, 0.0]]
UNIT = [[1.0, 0.0], [0.0, 1.0]]


def packed(gram: Matrix | Tensor) -> Tensor:
    full = torch.as_tensor(gram, dtype=torch.float64)
    return full[tuple(torch.tril_indices(len(full), len(full)))]


def flat(matrix: Matrix | Tensor) -> list[float]:
    return torch.as_tensor(matrix, dtype=torch.float64).flatten().tolist()


def run(
    strategy: str,
    weights: Sequence[Matrix | Tensor],
    grams: Sequence[Matrix | Tensor | None],
    shares: Sequence[int] = (1, 1, 1),
    *,
    base: Matrix | None = None,
    kind: str = "gram",
    numbers: Sequence[int] = (),
    **given: Given,
) -> list[float]:
    shape = tuple(torch.as_tensor(weights[0]).shape)
    contributions = []
    for i, (w, gram) in enumerate(zip(weights, grams, strict=True)):
        evidence = {} if gram is None else {f"{kind}/w": packed(gram)}
        if numbers:
            evidence["gram.n/w"] = torch.tensor(float(numbers[i]), dtype=torch.float64)
        contributions.append(
            Contribution(chr(65 + i), {"w": flat(w)}, Fraction(shares[i]), evidence=evidence)
        )
    model = None if base is None else {"w": flat(base)}
    return merge(strategy, contributions, model, shapes={"w": shape}, parameters=given)["w"].tolist()


def near(values: Matrix) -> object:
    return pytest.approx(flat(values), rel=1e-7, abs=1e-9)


def test_the_catalogues_examples_of_regmean_come_out() -> None:
    assert run("regression_mean", [W1, W2], [[[2, 0], [0, 1]], UNIT]) == near([[5 / 3, 2], [7 / 3, 2]])
    grams: list[Matrix] = [[[2, 1], [1, 2]], UNIT]
    wanted = {
        "1": [[1.75, 1.75], [2.75, 2.75]],
        "0.5": [[1.6857143, 1.8857143], [2.5428571, 2.7428571]],
        "0": [[5 / 3, 2], [7 / 3, 8 / 3]],
    }
    for alpha, merged in wanted.items():
        assert run("regression_mean", [W1, W2], grams, alpha=alpha) == near(merged)
    weighted = run("regression_mean", [W1, W2], grams, (2, 1), alpha=1)
    assert weighted == near([[1.4761905, 1.8095238], [2.9047619, 3.2380952]])


@pytest.mark.parametrize(
    ("alpha", "wanted"), [("1", [1.0, 1.0]), ("0.9", [0.952381, 1.047619]), ("0", [2 / 3, 4 / 3])]
)
def test_one_output_between_two_correlated_inputs(alpha: str, wanted: list[float]) -> None:
    merged = run("regression_mean", [[[1, 0]], [[0, 2]]], [[[2, 0], [0, 1]], [[1, 1], [1, 2]]], alpha=alpha)
    assert merged == pytest.approx(wanted, rel=1e-6)


def test_inputs_in_the_first_dimension_give_the_transposed_layer() -> None:
    grams: list[Matrix] = [[[2, 1], [1, 2]], UNIT]
    turned = [torch.tensor(w).mT for w in (W1, W2)]
    merged = run("regression_mean", turned, grams, kind="gram.first")
    there = torch.tensor(run("regression_mean", [W1, W2], grams)).reshape(2, 2)
    assert torch.equal(torch.tensor(merged).reshape(2, 2).mT, there)


@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 5))
def test_it_minimises_the_error_of_outputs_on_everybodys_inputs(seed: int, size: int, outs: int) -> None:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    inputs, weights = [draw(3 * size + 4, size) for _ in range(2)], [draw(outs, size) for _ in range(2)]
    grams = [x.mT @ x for x in inputs]
    merged = torch.tensor(run("regression_mean", weights, grams, alpha=1), dtype=torch.float64)
    # Slowly: one least-squares problem with all inputs and wanted outputs below each other.
    wanted = torch.cat([x @ w.mT for x, w in zip(inputs, weights, strict=True)])
    slow = torch.linalg.lstsq(torch.cat(inputs), wanted).solution.mT
    assert torch.allclose(merged, slow.flatten(), rtol=1e-8, atol=1e-8)


def test_an_input_that_nobody_had_returns_the_mean() -> None:
    dead = [[1.0, 0.0], [0.0, 0.0]]
    merged = run("regression_mean", [W1, W2], [dead, dead])
    assert merged == pytest.approx([2.0, 2.0, 2.0, 2.0], rel=1e-12)
    zeros = [[0.0, 0.0], [0.0, 0.0]]
    assert run("regression_mean", [W1, W2], [zeros, zeros]) == [2.0, 2.0, 2.0, 2.0]


def test_a_matrix_that_is_no_gram_matrix_gives_the_mean_and_blocks_nobody() -> None:
    # Within every bound that can be seen from outside, and yet with a negative eigenvalue of -1.
    indefinite = torch.full((3, 3), -1.0, dtype=torch.float64) + 2 * torch.eye(3, dtype=torch.float64)
    rows = [torch.ones(1, 3), 3 * torch.ones(1, 3)]
    merged = run("regression_mean", rows, [1e6 * indefinite, 1e6 * indefinite], alpha=1)
    assert merged == pytest.approx([2.0] * 3)


def test_identical_contributions_and_one_alone_come_out_to_the_bit() -> None:
    gram = [[2.0, 1.0], [1.0, 2.0]]
    assert run("regression_mean", [W1, W1], [gram, UNIT]) == flat(W1)
    assert run("regression_mean", [[[0.1, -0.0]]], [gram]) == [0.1, -0.0]


def test_inputs_claimed_a_billion_times_as_large_capture_no_layer_where_traces_are_made_alike() -> None:
    opposite = [[[1.0, 1.0]], [[-1.0, -1.0]]]
    grams = [UNIT, [[1e9, 0.0], [0.0, 1e9]]]
    assert run("regression_mean", opposite, grams, normalize="trace") == pytest.approx([0, 0], abs=1e-12)
    assert run("regression_mean", opposite, grams) == pytest.approx([-1, -1], rel=1e-8)


def test_who_brings_no_gram_matrix_is_named_left_out_or_counts_with_the_mean_trace() -> None:
    grams = [[[2.0, 0.0], [0.0, 4.0]], None]
    with pytest.raises(ParameterError, match="brings no gram of w"):
        run("regression_mean", [W1, W2], grams)
    assert run("regression_mean", [W1, W2], grams, missing="exclude") == pytest.approx(flat(W1))
    neutral = run("regression_mean", [W1, W2], grams, missing="neutral")
    assert neutral == pytest.approx(run("regression_mean", [W1, W2], [grams[0], [[3.0, 0], [0, 3.0]]]))


def test_one_member_alone_does_not_turn_a_layer_round_for_all() -> None:
    turned = {"gram.first/w": packed([[9.0, 0.0], [0.0, 1.0]])}
    rows = [
        Contribution(name, {"w": flat(w)}, evidence=evidence)
        for name, w, evidence in (
            ("A", W1, {"gram/w": packed([[2.0, 0.0], [0.0, 1.0]])}),
            ("B", W2, {"gram/w": packed(UNIT)}),
            ("M", [[9.0, 9.0], [9.0, 9.0]], turned),
        )
    ]
    merged = merge("regression_mean", rows, shapes={"w": (2, 2)}, parameters={"missing": "exclude"})
    assert merged["w"].tolist() == near([[5 / 3, 2], [7 / 3, 2]])


@pytest.mark.parametrize("strategy", ["regression_mean", "lot_merge"])
def test_what_has_no_gram_matrix_is_the_weighted_mean(strategy: str) -> None:
    merged = run(strategy, [W1, W2], [None, None], (3, 1), base=[[0.0, 0.0], [0.0, 0.0]])
    assert merged == [1.5, 2.0, 2.5, 3.0]


def test_lot_is_regmean_where_inputs_have_full_rank() -> None:
    weights, grams = [[[1.0, 0.0]], [[0.0, 2.0]]], [[[2, 0], [0, 1]], [[1, 1], [1, 2]]]
    merged = run("lot_merge", weights, grams, base=[[0.5, 0.5]], normalize="none", numbers=(1, 1))
    assert merged == pytest.approx([1.0, 1.0], rel=1e-7)


def test_lot_leaves_at_the_base_what_no_input_reaches() -> None:
    one, four = [[1.0, 0.0], [0.0, 0.0]], [[4.0, 0.0], [0.0, 0.0]]
    weights = [[[1.0, 0.0]], [[0.0, 2.0]]]
    merged = run("lot_merge", weights, [one, four], base=[[0.5, 0.5]], normalize="examples")
    assert merged == pytest.approx([0.2, 0.5], rel=1e-7)


def test_the_number_of_inputs_counts_only_if_it_is_asked_for() -> None:
    weights, base = [[[1.0, 1.0]], [[-1.0, -1.0]]], [[0.0, 0.0]]
    numbers = (1, 10**9)
    assert run("lot_merge", weights, [UNIT, UNIT], base=base, numbers=numbers) == pytest.approx([0, 0])
    captured = run("lot_merge", weights, [UNIT, UNIT], base=base, numbers=numbers, normalize="none")
    assert captured == pytest.approx([-1, -1], rel=1e-7)
    with pytest.raises(ParameterError, match=r"no gram\.n of w"):
        run("lot_merge", weights, [UNIT, UNIT], base=base, normalize="none")


def scales(**given: Given) -> list[float]:
    contributions = [
        Contribution(name, {"norm": tau}, is_delta=True, evidence={"feat.sq/norm": torch.tensor(s).double()})
        for name, tau, s in (("A", [0.2, -0.1], [2, 4]), ("B", [-0.3, 0.5], [4, 2]))
    ]
    return merge("lot_merge", contributions, {"norm": [0.0, 0.0]}, parameters=given)["norm"].tolist()


def test_lot_weighs_scales_of_norm_layers_by_their_features() -> None:
    assert scales(normalize="none") == pytest.approx([-0.4 / 3, 0.1], rel=1e-12)
    assert scales() == pytest.approx([-0.4 / 3, 0.1], rel=1e-12)
    with pytest.raises(ParameterError, match=r"no gram\.n of norm"):
        scales(normalize="examples")
