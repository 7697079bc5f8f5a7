"""Representation surgery: a merge as any other, and small adapters that mend what the merged model feels.

    inner strategy ──► merged weights
    published adapters, made for exactly these weights ──► stored beside them, one pair for each task

A merged network's features drift from those of the networks that it is made of. Surgery learns per task a
small correction of the last features; it changes no weight. The adapters name the merged model that they were
learnt on: for any other they are void.
"""

from __future__ import annotations

from crdtmerge.arith import Tensor, linear, maximum
from crdtmerge.coefficients import Coefficients
from crdtmerge.errors import MalformedError, ParameterError
from crdtmerge.strategy import Bound, Group, Inner, Survey, Tile, strategy


def adapters(found: Coefficients, *, inner: Bound) -> None:
    """Check that a payload holds adapters."""
    if found.payload != "delta":
        raise MalformedError(f"it is a payload {found.payload}, and representation_surgery attaches delta")


def inner_survey(group: Group, *, inner: Bound) -> Survey | None:
    """Return what the inner strategy must see first."""
    if inner.needs.coefficients:
        raise ParameterError(
            f"representation_surgery: inner={inner.strategy.name} would need coefficients of its own; "
            "choose a strategy that needs none"
        )
    return inner.survey(group)


@strategy(
    "representation_surgery",
    version=1,
    source="Yang et al. 2024, arXiv:2402.02705",
    parameters=[Inner("inner", "weight_average", "what merges the weights; inner.… are its parameters")],
    coefficients=True,
    survey=inner_survey,
    suits=adapters,
)
def representation_surgery(tile: Tile, survey: Survey | None, *, inner: Bound) -> Tensor:
    """Merge by the inner strategy, and attach published adapters to the result.

    The weights are the inner strategy's, to the bit. A payload delta, bound to these contributions, holds for
    each task ``W_down`` [rank, features] and ``W_up`` [features, rank], and names the merged model. If that
    is the model that comes out, they are stored beside it; else they are left out and the result says so. At
    inference the features Z of a task become ``Z' = Z - W_up · ReLU(W_down · Z)``, as `corrected` computes.
    [n] float64 throughout.

    Determinism: the inner strategy's.

    Raises:
        ParameterError: if the inner strategy itself applies published coefficients.

    Source: Yang et al. 2024, section 4, as its code has it (rank 16, learnt on unlabelled inputs, which is
    not part of this). It merges no weights by itself, so the inner strategy is a parameter.
    """
    return inner.merge(tile, survey)


def corrected(features: Tensor, down: Tensor, up: Tensor) -> Tensor:
    """Return ``Z - W_up · ReLU(W_down · Z)`` for features [n, d], down [r, d] and up [d, r], float64.

    Determinism: both products are `crdtmerge.arith.linear.product`'s; one subtraction.
    """
    hidden = linear.product(features, down.T)
    active = maximum(hidden.flatten(), hidden.new_zeros(hidden.numel())).reshape(hidden.shape)
    return features - linear.product(active, up.T)
