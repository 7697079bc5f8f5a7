"""One source for every tensor: named, first, or as a published plan has it."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import pytest
import torch
from strategies_harness import F4, Contribution, merged
from strategies_harness import merge as merge_tiles

from crdtmerge import canon
from crdtmerge.errors import ParameterError
from crdtmerge.recipe import Recipe
from crdtmerge.resolve import merge
from crdtmerge.resolve.payload import Payload
from crdtmerge.strategy import find


def test_scaled_weights_of_the_fixture_are_the_catalogues() -> None:
    assert merged("passthrough", F4[:1], scale="0.5") == [0.75, 1.0, 1.0, 2.125]


@pytest.mark.parametrize("strategy", ["passthrough", "layer_plan"])
@pytest.mark.parametrize(("source", "index"), [("first", 0), ("B", 1), ("43", 2)])
def test_the_named_contribution_is_taken_whole(strategy: str, source: str, index: int) -> None:
    assert merged(strategy, F4, source=source) == F4[index]
    given = [Contribution("A", {"w": [-0.0]}, is_delta=True), Contribution("B", {"w": [5.0]}, is_delta=True)]
    result = merge_tiles(strategy, given, {"w": [7.0]}, parameters={"source": "B"})
    assert result["w"].tolist() == [12.0]


@pytest.mark.parametrize("strategy", ["passthrough", "layer_plan"])
@pytest.mark.parametrize("source", ["nobody", ""])
def test_a_source_that_names_nobody_is_refused(strategy: str, source: str) -> None:
    with pytest.raises(ParameterError, match=r"source = .* names none of the contributions"):
        merged(strategy, F4, source=source)


def test_it_needs_no_base_and_the_plan_only_coefficients() -> None:
    kinds = {name: find(name).needs({}).kind for name in ("passthrough", "layer_plan")}
    assert kinds == {"passthrough": "P", "layer_plan": "S"}
    assert not find("layer_plan").needs({}).base


# -- plans, through the engine --------------------------------------------------------------------------

ONE = {"layers.0.w": torch.tensor([1.0, 2.0]), "layers.1.w": torch.tensor([3.0, 4.0]), "head": torch.ones(3)}
TWO = {name: tensor * 10 for name, tensor in ONE.items()}
Rows = Sequence[tuple[str, int, str, str]]


def plan(rows: Rows, **settings: str) -> Payload:
    raw = canon.encode([list(row) for row in rows])
    array = torch.frombuffer(bytearray(raw), dtype=torch.uint8)
    return Payload("layer_plan", settings.pop("payload", "plan"), {"plan": array}, settings)


def run(rows: Rows) -> dict[str, list[float]]:
    """Merge by a plan whose members 0 and 1 are ONE and TWO, whatever their digests are."""
    first = merge([ONE, TWO], recipe=Recipe("passthrough"))
    if not torch.equal(first["head"], ONE["head"]):
        rows = [(output, 1 - member, source, scale) for output, member, source, scale in rows]
    merged = merge([ONE, TWO], recipe=Recipe("layer_plan"), coefficients=plan(rows))
    return {name: tensor.tolist() for name, tensor in merged.items()}


def test_a_plan_stacks_layers_of_several_contributions() -> None:
    rows = [
        ("head", 1, "head", "1"),
        ("layers.0.w", 0, "layers.0.w", "1"),
        ("layers.1.w", 1, "layers.0.w", "0.5"),
        ("layers.2.w", 0, "layers.1.w", "-1"),
    ]
    assert run(rows) == {
        "head": [10.0, 10.0, 10.0],
        "layers.0.w": [1.0, 2.0],
        "layers.1.w": [5.0, 10.0],
        "layers.2.w": [-3.0, -4.0],
    }


def test_without_a_plan_one_contribution_is_taken() -> None:
    result = merge([ONE], recipe=Recipe("layer_plan"))
    assert all(torch.equal(result[name], ONE[name]) for name in ONE)


def test_a_plan_that_takes_from_a_contribution_that_is_not_there_is_refused() -> None:
    with pytest.raises(ParameterError, match="of contribution 2, which is not there"):
        merge([ONE, TWO], recipe=Recipe("layer_plan"), coefficients=plan([("head", 2, "head", "1")]))


def test_another_payload_than_a_plan_is_refused() -> None:
    weights = Payload("layer_plan", "coeffs", {"weights": torch.ones(2, dtype=torch.float64)})
    with pytest.raises(ParameterError, match="layer_plan applies a plan, and this is a payload coeffs"):
        merge([ONE, TWO], recipe=Recipe("layer_plan"), coefficients=weights)


def test_weights_have_no_place_in_a_plan() -> None:
    with pytest.raises(ParameterError, match="no place for weights"):
        merge(
            [ONE, TWO],
            recipe=Recipe("layer_plan"),
            weights=[1, Fraction(2)],
            coefficients=plan([("head", 0, "head", "1")]),
        )
