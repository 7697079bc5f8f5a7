"""No merging: every tensor comes from exactly one contribution, as one is named or as a plan says.

A plan of layers is published for exactly its contributions; it may name tensors anew and take a layer twice,
so models are stacked from layers of several (frankenmerges, evolution in data flow space).
"""

from __future__ import annotations

from fractions import Fraction
from typing import Final

from crdtmerge.arith import Tensor, weighted_sum
from crdtmerge.coefficients import Coefficients
from crdtmerge.errors import MalformedError
from crdtmerge.strategy import Number, Text, Tile, strategy

from .parts.members import named

FIRST: Final = "first"
_SOURCE: Final = Text(
    "source", FIRST, "label or first digits of the digest of the one that is taken; first: of lowest digest"
)


@strategy(
    "passthrough",
    version=1,
    source="mergekit `passthrough`",
    parameters=[_SOURCE, Number("scale", "1", "by which its weights are multiplied")],
    alone_is_itself=True,
    symmetric=False,
    weighted=False,
)
def passthrough(tile: Tile, *, source: str, scale: Fraction) -> Tensor:
    """Passthrough: the weights of one contribution.

    ``θ = scale · θₛ`` for the contribution s that ``source`` names by its label or the first digits of its
    digest; ``first`` is that of lowest digest, and so the only one where there is one. [n] float64. Rules of
    a recipe that name other sources put a model together from several.

    Determinism: one product by the float nearest to the scale, none for 1.

    Raises:
        ParameterError: if weights differ; if ``source`` names no contribution, or several.

    Source: mergekit `passthrough`, which refuses more than one model per tensor.
    """
    tile.group.unweighted("passthrough")
    member = 0 if source == FIRST else named(tile.group, source, "source")
    return _scaled(tile.models[member], scale)


def plan_only(coefficients: Coefficients, *, source: str) -> None:
    """Raise MalformedError if what is published is no plan of layers."""
    if coefficients.payload != "plan":
        raise MalformedError(f"layer_plan applies a plan, and this is a payload {coefficients.payload}")


@strategy(
    "layer_plan",
    version=1,
    source="mergekit `passthrough` with slices; Akiba et al. 2024, arXiv:2403.13187, section 3.2",
    parameters=[_SOURCE],
    coefficients=True,
    alone_is_itself=True,
    symmetric=False,
    weighted=False,
    suits=plan_only,
)
def layer_plan(tile: Tile, *, source: str) -> Tensor:
    """Layers of several contributions, stacked as a published plan says.

    For every tensor of the result the plan has a row (name, contribution, name there, scale):
    ``θ = scale · θₛ``, [n] float64. What has no row is not in the result. Without a plan for exactly these
    contributions all tensors come from the one that ``source`` names, as `passthrough` has it.

    Determinism: one product by the float nearest to the scale, none for 1.

    Raises:
        ParameterError: if weights differ; if ``source`` names no contribution, or several, and is needed.

    Source: Akiba et al. 2024, section 3.2 (data flow space), without its learnt scales of activations;
    mergekit `passthrough`. The plan is found by whoever searches; this only applies it.
    """
    found = tile.group.coefficients
    if found is None:
        return passthrough(tile, source=source, scale=Fraction(1))
    tile.group.unweighted("layer_plan")
    row = next(row for row in found.rows if row.output == tile.tensor)
    return _scaled(tile.models[row.member], row.scale)


def _scaled(model: Tensor, scale: Fraction) -> Tensor:
    return model if scale == 1 else weighted_sum([model], [scale])
