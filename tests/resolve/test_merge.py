"""Merging state dicts in memory: what users meet first."""

from __future__ import annotations

import warnings

import pytest
import torch

from crdtmerge import Recipe, merge
from crdtmerge.errors import (
    EmptySetError,
    MissingBaseError,
    NonFiniteError,
    ParameterError,
    ShapeMismatchError,
    UnknownStrategyError,
    UnrelatedBaseWarning,
)
from crdtmerge.recipe import Rule

State = dict[str, torch.Tensor]


def model(seed: int, dtype: torch.dtype = torch.float32) -> State:
    """A base (seed 0) or one of its fine-tunes."""
    draw = torch.Generator().manual_seed(0)
    tune = torch.Generator().manual_seed(seed)
    state = {
        "layer.weight": torch.randn(64, 48, generator=draw),
        "layer.bias": torch.randn(48, generator=draw),
        "scale": torch.randn((), generator=draw),
    }
    if seed:
        state = {k: v + 0.05 * torch.randn(v.shape, generator=tune) for k, v in state.items()}
    return {k: v.to(dtype) for k, v in state.items()} | {"steps": torch.tensor([7, 8])}


def same(one: State, other: State) -> bool:
    return one.keys() == other.keys() and all(
        one[k].dtype == other[k].dtype
        and one[k].shape == other[k].shape
        and one[k]
        .contiguous()
        .view(-1)
        .view(torch.uint8)
        .equal(other[k].contiguous().view(-1).view(torch.uint8))
        for k in one
    )


def test_the_average_of_two_models_is_their_average() -> None:
    merged = merge([model(1), model(2)])
    expected = (model(1)["layer.weight"].double() + model(2)["layer.weight"].double()) / 2
    assert merged["layer.weight"].equal(expected.float())
    assert list(merged) == sorted(merged)


def test_order_of_arguments_never_shows() -> None:
    recipe = Recipe("ties", density="0.3")
    one = merge([model(1), model(2), model(3)], base=model(0), recipe=recipe)
    other = merge([model(3), model(1), model(2)], base=model(0), recipe=recipe)
    assert same(one, other)


def test_weights_belong_to_models_and_not_to_positions() -> None:
    one = merge([model(1), model(2)], weights=[3, "0.5"])
    other = merge([model(2), model(1)], weights=["0.5", 3])
    assert same(one, other)
    assert not same(one, merge([model(1), model(2)], weights=["0.5", 3]))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_one_model_alone_merges_to_itself_in_every_dtype(dtype: torch.dtype) -> None:
    assert same(merge([model(1, dtype)]), dict(sorted(model(1, dtype).items())))


def test_a_model_given_twice_counts_once() -> None:
    assert same(merge([model(1), model(2), model(1)]), merge([model(1), model(2)]))


def test_integer_buffers_pass_through_from_the_base() -> None:
    other = model(1) | {"steps": torch.tensor([1000, 2000])}
    merged = merge([other, model(2)], base=model(0))
    assert merged["steps"].equal(torch.tensor([7, 8]))


def test_without_a_base_integer_buffers_are_what_most_have() -> None:
    odd = model(1) | {"steps": torch.tensor([1000, 2000])}
    assert merge([odd, model(2), model(3)])["steps"].equal(torch.tensor([7, 8]))


def test_tensors_follow_the_first_rule_that_matches_their_name() -> None:
    recipe = Recipe("weight_average", rules=[Rule.of("*.bias", "task_arithmetic", scale=0)])
    merged = merge([model(1), model(2)], base=model(0), recipe=recipe)
    assert merged["layer.bias"].equal(model(0)["layer.bias"])
    assert merged["layer.weight"].equal(merge([model(1), model(2)])["layer.weight"])


def test_the_output_dtype_is_rounded_to_once() -> None:
    merged = merge([model(1), model(2)], recipe=Recipe("weight_average", output_dtype="F64"))
    expected = (model(1)["layer.bias"].double() + model(2)["layer.bias"].double()) / 2
    assert merged["layer.bias"].equal(expected)


@pytest.mark.parametrize("strategy", ["weight_average", "ties", "dare_ties", "slerp"])
def test_neither_budget_nor_threads_show(strategy: str) -> None:
    models, recipe = [model(i) for i in (1, 2, 3)], Recipe(strategy)
    results = [
        merge(models, base=model(0), recipe=recipe, budget_bytes=budget, threads=threads)
        for budget, threads in ((1, 1), (1 << 20, 2), (1 << 30, 3))
    ]
    assert same(results[0], results[1])
    assert same(results[0], results[2])


def test_nothing_to_merge_is_said_before_any_work() -> None:
    with pytest.raises(EmptySetError, match="at least one contribution"):
        merge([])


def test_a_nan_is_refused_and_its_place_named() -> None:
    bad = model(1)
    bad["layer.bias"][5] = float("nan")
    with pytest.raises(NonFiniteError, match=r"layer\.bias holds NaN or infinity at flat index 5") as caught:
        merge([bad, model(2)], base=model(0))
    assert caught.value.tensor == "layer.bias"


def test_a_missing_tensor_is_named() -> None:
    bad = model(1)
    del bad["layer.bias"]
    with pytest.raises(ShapeMismatchError, match=r"layer\.bias is missing") as caught:
        merge([bad], base=model(0))
    assert caught.value.tensors == ("layer.bias",)


def test_an_extra_tensor_is_named() -> None:
    with pytest.raises(ShapeMismatchError, match="head is not in the base"):
        merge([model(1) | {"head": torch.zeros(2)}], base=model(0))


def test_another_shape_is_named_with_both_shapes() -> None:
    bad = model(1) | {"layer.bias": torch.zeros(49)}
    with pytest.raises(ShapeMismatchError, match=r"layer\.bias has shape \[49\], wanted \[48\]"):
        merge([bad], base=model(0))


def test_another_dtype_is_named_with_both_dtypes() -> None:
    with pytest.raises(ShapeMismatchError, match=r"layer\.bias has dtype BF16, wanted F32"):
        merge([model(1, torch.bfloat16)], base=model(0))


def test_a_strategy_that_needs_a_base_says_so() -> None:
    with pytest.raises(MissingBaseError, match="ties works on differences from a base"):
        merge([model(1), model(2)], recipe=Recipe("ties"))


def test_an_unknown_strategy_is_never_replaced() -> None:
    with pytest.raises(UnknownStrategyError, match="unknown strategy tiez"):
        merge([model(1)], recipe=Recipe("tiez"))
    with pytest.raises(UnknownStrategyError, match="version 999"):
        merge([model(1)], recipe=Recipe("weight_average", version=999))


def test_an_unknown_parameter_and_a_value_out_of_range_are_named() -> None:
    with pytest.raises(ParameterError, match="ties has no parameter 'densty'"):
        merge([model(1)], base=model(0), recipe=Recipe("ties", densty="0.2"))
    with pytest.raises(ParameterError, match="density must be at most 1"):
        merge([model(1)], base=model(0), recipe=Recipe("ties", density="1.5"))


def test_a_result_that_does_not_fit_its_dtype_is_an_error_and_no_infinity() -> None:
    big = {"x": torch.tensor([60000.0], dtype=torch.float16)}
    other = {"x": torch.tensor([59000.0], dtype=torch.float16)}
    with pytest.raises(NonFiniteError, match="does not fit F16"):
        merge([big, other], recipe=Recipe("linear", normalize=False))


def test_a_stranger_to_the_base_is_merged_with_a_warning() -> None:
    stranger = {k: torch.randn(v.shape) if v.is_floating_point() else v for k, v in model(1).items()}
    with pytest.warns(UnrelatedBaseWarning, match="seems not to be fine-tuned"):
        merge([stranger, model(2)], base=model(0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        merge([model(1), model(2)], base=model(0))


def test_empty_tensors_survive() -> None:
    models = [{"none": torch.zeros(0, 3), "x": torch.tensor([float(i)])} for i in (1, 2)]
    assert merge(models)["none"].shape == (0, 3)
