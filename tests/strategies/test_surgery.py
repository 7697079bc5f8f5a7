"""Representation surgery: the weights are another strategy's, the correction is exact."""

from __future__ import annotations

import pytest
import torch
from strategies_harness import BASE, F4, merged, published

from crdtmerge.errors import MalformedError, ParameterError
from crdtmerge.recipe import Given
from crdtmerge.strategies.surgery import corrected
from crdtmerge.strategy import find


def test_features_are_corrected_as_in_the_catalogues_example() -> None:
    features = torch.tensor([[1.0, 2.0], [3.0, 1.0]]).double()
    down, up = torch.tensor([[1.0, -1.0]]).double(), torch.tensor([[2.0], [1.0]]).double()
    assert corrected(features, down, up).tolist() == [[1, 2], [-1, -1]]


@pytest.mark.parametrize("inner", ["weight_average", "ties", "dare"])
def test_the_weights_are_the_inner_strategys(inner: str) -> None:
    given: dict[str, Given] = {"inner": inner, **({"inner.p": "0"} if inner == "dare" else {})}
    alone: dict[str, Given] = {"p": "0"} if inner == "dare" else {}
    assert merged("representation_surgery", F4, BASE, None, **given) == merged(inner, F4, BASE, None, **alone)


def test_an_inner_strategy_that_wants_coefficients_of_its_own_is_refused() -> None:
    with pytest.raises(ParameterError, match="choose a strategy that needs none"):
        merged("representation_surgery", F4, BASE, inner="ada_merging")


def test_weights_are_no_corrections() -> None:
    strategy = find("representation_surgery")
    found = published(strategy.name, {"weights": torch.ones(3).double()}, {"w": (4,)}, 3)
    assert strategy.suits is not None
    with pytest.raises(MalformedError, match="attaches delta"):
        strategy.suits(found, **strategy.read(()))
