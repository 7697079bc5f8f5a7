"""Parameters that change along the layers: where a tensor is, and what it is merged with there."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

from crdtmerge import Recipe, Rule, canon, merge
from crdtmerge.cli import recipes
from crdtmerge.errors import MalformedError, ParameterError
from crdtmerge.gradient import at, places
from crdtmerge.recipe import parameters_of
from crdtmerge.strategy import pin

DECIMALS = st.integers(-99, 99).map(lambda x: x / 4)


def layered(layers: int, *values: float) -> dict[str, torch.Tensor]:
    """A model of one tensor for each layer, an embedding and a head."""
    names = ["embed.w", *(f"model.layers.{i}.w" for i in range(layers)), "head.w"]
    return {name: torch.tensor(values, dtype=torch.float64) for name in names}


def first(state: dict[str, torch.Tensor]) -> dict[str, float]:
    return {name: values[0].item() for name, values in state.items()}


# -- places -------------------------------------------------------------------------------------------


def test_the_place_of_a_tensor_is_its_layer_over_the_last_layer() -> None:
    found = places([f"model.layers.{i}.mlp.w" for i in range(5)] + ["model.embed.w", "head.w"])
    assert [found[f"model.layers.{i}.mlp.w"] for i in range(5)] == [
        0,
        Fraction(1, 4),
        Fraction(1, 2),
        0.75,
        1,
    ]
    assert found["model.embed.w"] == found["head.w"] == 0


def test_every_stack_of_layers_counts_by_itself() -> None:
    found = places(["vision.blocks.0.w", "vision.blocks.2.w", "text.h.1.w", "text.h.10.w"])
    assert found == {
        "vision.blocks.0.w": 0,
        "vision.blocks.2.w": 1,
        "text.h.1.w": Fraction(1, 10),
        "text.h.10.w": 1,
    }


def test_a_stack_of_one_layer_is_at_the_beginning() -> None:
    assert places(["layers.0.w"]) == {"layers.0.w": 0}


def test_a_number_that_is_no_layer_places_nothing() -> None:
    assert set(places(["conv1.3.w", "players.7.w", "layers.x.w", "layers.12b"]).values()) == {0}


def test_of_nested_stacks_the_outer_one_counts() -> None:
    found = places(["stages.0.blocks.3.w", "stages.1.blocks.0.w"])
    assert found == {"stages.0.blocks.3.w": 0, "stages.1.blocks.0.w": 1}


# -- stops --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "wanted"),
    [("0", "1/5"), ("1/4", "7/20"), ("1/2", "1/2"), ("3/4", "3/4"), ("1", "1")],
    ids=str,
)
def test_between_two_stops_the_line_is_straight_and_exact(place: str, wanted: str) -> None:
    parameters = parameters_of({"scale": [0.2, 0.5, 1], "normalize": True})
    assert dict(at(parameters, Fraction(place))) == {"scale": Fraction(wanted), "normalize": True}


@given(st.lists(DECIMALS, min_size=2, max_size=5), st.integers(1, 40))
def test_a_value_never_leaves_its_neighbouring_stops(stops: list[float], layers: int) -> None:
    parameters = parameters_of({"x": stops})
    for layer in range(layers + 1):
        place = Fraction(layer, layers)
        (value,) = (v for _, v in at(parameters, place))
        index = min(int(place * (len(stops) - 1)), len(stops) - 2)
        assert min(stops[index : index + 2]) <= value <= max(stops[index : index + 2])


@given(DECIMALS, st.integers(2, 4), st.integers(1, 9))
def test_a_gradient_of_equal_stops_is_a_number(stop: float, stops: int, layers: int) -> None:
    parameters = parameters_of({"x": [stop] * stops})
    assert {dict(at(parameters, Fraction(i, layers)))["x"] for i in range(layers + 1)} == {Fraction(stop)}


# -- merging ------------------------------------------------------------------------------------------


def test_every_layer_is_merged_with_the_parameter_of_its_place() -> None:
    recipe = Recipe("task_arithmetic", scale=[0.25, 1])
    got = first(merge([layered(4, 7.0)], base=layered(4, 1.0), recipe=recipe))
    assert got == {
        "embed.w": 2.5,
        "head.w": 2.5,
        **{f"model.layers.{i}.w": 1 + 6 * (0.25 + 0.25 * i) for i in range(4)},
    }


def test_a_number_that_is_no_float_is_rounded_only_where_it_is_used() -> None:
    recipe = Recipe("task_arithmetic", scale=["0", "1"])
    got = first(merge([layered(4, 6.0)], base=layered(4, 1.0), recipe=recipe))
    assert got["model.layers.1.w"] == 1 + 5.0 * (1 / 3)
    assert got["model.layers.2.w"] == 1 + 5.0 * (2 / 3)


def test_what_a_method_ranks_globally_it_ranks_per_place() -> None:
    tuned, base = layered(2, 9.0, 13.0, 10.0, 12.0), layered(2, 8.0, 8.0, 8.0, 8.0)
    tuned["model.layers.1.w"] = tuned["model.layers.1.w"] + 10
    whole = merge([tuned], base=base, recipe=Recipe("ties", density="0.25"))
    assert whole["model.layers.1.w"].tolist() == [19.0, 23.0, 20.0, 22.0]
    graded = merge([tuned], base=base, recipe=Recipe("ties", density=["0.25", "0.5"]))
    assert graded["model.layers.1.w"].tolist() == [8.0, 23.0, 8.0, 22.0]
    others = torch.cat([graded[n] for n in ("embed.w", "head.w", "model.layers.0.w")])
    assert others.tolist() == [8.0, 13.0, 8.0, 8.0] * 3


def test_only_the_rule_with_the_gradient_is_split_by_place() -> None:
    rules = [Rule.of("*layers*", "task_arithmetic", scale=[0, 1])]
    recipe = Recipe("task_arithmetic", scale="0.5", rules=rules)
    got = first(merge([layered(3, 3.0)], base=layered(3, 1.0), recipe=recipe))
    assert got == {
        "embed.w": 2.0,
        "head.w": 2.0,
        "model.layers.0.w": 1.0,
        "model.layers.1.w": 2.0,
        "model.layers.2.w": 3.0,
    }


def test_parameters_of_an_inner_strategy_have_gradients_too() -> None:
    recipe = Recipe("representation_surgery").replace(
        parameters=parameters_of({"inner": "task_arithmetic", "inner.scale": [0, 1]})
    )
    got = first(merge([layered(2, 3.0)], base=layered(2, 1.0), recipe=recipe))
    assert (got["model.layers.0.w"], got["model.layers.1.w"]) == (1.0, 3.0)


# -- what is refused ----------------------------------------------------------------------------------


@pytest.mark.parametrize("stops", [[], [1]], ids=str)
def test_a_gradient_of_less_than_two_stops_is_refused(stops: list[int]) -> None:
    with pytest.raises(ParameterError, match="scale: a gradient has at least two numbers"):
        Recipe("task_arithmetic", scale=stops)


def test_a_stop_out_of_range_is_refused_when_the_recipe_is_set() -> None:
    with pytest.raises(ParameterError, match="density must be at most 1"):
        pin(Recipe("ties", density=["0.5", "1.5", "0.5"]))


@pytest.mark.parametrize(("strategy", "parameter"), [("ties", "zero"), ("linear", "normalize")])
def test_words_and_flags_have_no_gradient(strategy: str, parameter: str) -> None:
    with pytest.raises(ParameterError, match=parameter):
        pin(Recipe(strategy).replace(parameters=parameters_of({parameter: [0, 1]})))


def test_a_stop_that_is_no_number_is_refused() -> None:
    with pytest.raises(ParameterError, match="decimal"):
        Recipe("ties", density=["half", "1"])


@pytest.mark.parametrize("stops", [["0.5"], ["0.50", "1"], ["x", "1"]], ids=str)
def test_a_peers_recipe_with_a_malformed_gradient_is_refused(stops: list[str]) -> None:
    recipe = pin(Recipe("ties", density=["0.5", "1"]))
    row = canon.array(canon.decode(recipe.encoded, bytes_max=1 << 12))
    forged = [*row[:3], [["density", stops]], *row[4:]]
    with pytest.raises(MalformedError):
        Recipe.decode(canon.encode(forged))


# -- as people write them -----------------------------------------------------------------------------

YAML = """
strategy: task_arithmetic
parameters:
  scale: [0.2, 0.5, 1]
rules:
  - glob: "*norm*"
    strategy: ties
    parameters: {density: [0.1, 1]}
"""


def test_lists_in_yaml_are_gradients_and_come_back_as_lists() -> None:
    recipe = recipes.from_mapping(yaml.safe_load(YAML))
    assert recipe.parameters == (("scale", ("0.2", "0.5", "1")),)
    assert recipe.rules[0].parameters == (("density", ("0.1", "1")),)
    described = recipes.describe(recipe)
    assert described["parameters"] == {"scale": ["0.2", "0.5", "1"]}
    assert recipes.from_mapping(yaml.safe_load(yaml.safe_dump(described))) == recipe


@given(st.lists(DECIMALS, min_size=2, max_size=5))
def test_every_gradient_survives_being_written_down_and_signed(stops: list[float]) -> None:
    recipe = pin(Recipe("task_arithmetic", scale=stops))
    assert recipes.from_mapping(yaml.safe_load(yaml.safe_dump(recipes.describe(recipe)))) == recipe
    assert Recipe.decode(recipe.encoded) == recipe


def test_numbers_between_commas_on_the_command_line_are_a_gradient() -> None:
    assert recipes.read("task_arithmetic", ["scale=0.2,1"]) == Recipe("task_arithmetic", scale=[0.2, 1])
    assert recipes.read("ties", ["zero=plus"]) == Recipe("ties", zero="plus")
