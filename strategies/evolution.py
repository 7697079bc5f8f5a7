"""Merges whose parameters were bred: a genome of weights and densities, and a kernel that it steers.

    genome   weight/<tensors>  [k]   one number for each contribution, for every group of layers
             density/<tensors> [k]   likewise, for kernels that drop elements

    tensors ── by the longest pattern that matches ── layer group ── kernel with that group's genes ── merged

Breeding needs an evaluator and runs at one peer, which publishes the point it chose (payload hyper). The
recipe names the kernel and the kernel's other parameters; a genome bred for another kernel is passed over.
Tensors that no gene speaks of are merged from the search's initial point: weights 1/k, and densities as the
recipe has them, 1 by default.

What a kernel ranks, counts or measures globally it does within a layer group.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Final

from crdtmerge.arith import Tensor
from crdtmerge.coefficients import Coefficients
from crdtmerge.errors import MalformedError, ParameterError
from crdtmerge.strategy import Bound, Group, Inner, Member, Survey, Tile, strategy

from .parts.consensus import cancel

KERNEL: Final = Inner(
    "kernel",
    "linear",
    "what merges a layer group with its genes; kernel.… are its other parameters",
    ("linear", "task_arithmetic", "ties", "dare_ties", "dare", "slerp"),
    (("density", "1"), ("p", "0"), ("scale", "1")),
)

_ONE: Final = Fraction(1)
_WEIGHT, _DENSITY = "weight", "density"
_DISCRETE: Final = 10
"""Steps of a discrete gene."""

Decode = Callable[[Coefficients, str, Fraction], Fraction]
"""From (genome, gene's name, published number) to the number that the kernel gets."""


@dataclass
class Part:
    """A layer group: its kernel with its genes, the members that the kernel takes, and its survey."""

    group: Group
    indices: tuple[int, ...]
    kernel: Bound
    survey: Survey | None = None
    seen: bool = False

    def tile(self, tile: Tile) -> Tile:
        """Return the tile as the kernel sees it."""
        return tile.select(self.indices, self.group)


class Parts:
    """The layer groups of a merge, and what their kernels must see first.

    Args:
        group: what is merged.
        kernel: with the recipe's parameters.
        genome: or None.
        decode: its numbers.
    """

    def __init__(self, group: Group, kernel: Bound, genome: Coefficients | None, decode: Decode) -> None:
        shapes: dict[tuple[str | None, str | None], list[tuple[str, tuple[int, ...]]]] = {}
        for name, shape in group.tensors:
            genes = (None, None) if genome is None else (genome.about(_WEIGHT, name), _dense(genome, name))
            shapes.setdefault(genes, []).append((name, shape))
        self._of: dict[str, Part] = {}
        for (weight, density), tensors in shapes.items():
            weights = _numbers(genome, weight, decode) or [Fraction(1, group.count)] * group.count
            part = _part(group, tensors, kernel, weights, _numbers(genome, density, decode))
            self._of |= {name: part for name, _ in tensors}
        self._parts = list({id(part): part for part in self._of.values()}.values())

    def feed(self, tile: Tile) -> None:
        """Take one tile into account."""
        part = self._of[tile.tensor]
        if part.survey is not None and not part.seen:
            part.survey.feed(part.tile(tile))

    def finish(self) -> bool:
        """End a pass; True when every kernel has seen enough."""
        for part in self._parts:
            part.seen = part.seen or part.survey is None or part.survey.finish()
        return all(part.seen for part in self._parts)

    def merge(self, tile: Tile) -> Tensor:
        """Return what the kernel of the tile's layer group makes of it."""
        part = self._of[tile.tensor]
        return part.kernel.merge(part.tile(tile), part.survey)


def _dense(genome: Coefficients, tensor: str) -> str | None:
    return genome.about(_DENSITY, tensor)


def _numbers(genome: Coefficients | None, name: str | None, decode: Decode) -> list[Fraction]:
    if genome is None or name is None:
        return []
    return [decode(genome, name.partition("/")[0], Fraction(x)) for x in genome.array(name).tolist()]


def _part(
    group: Group,
    tensors: Sequence[tuple[str, tuple[int, ...]]],
    kernel: Bound,
    weights: Sequence[Fraction],
    densities: Sequence[Fraction],
) -> Part:
    indices = tuple(range(group.count))
    if kernel.strategy.name == "slerp":
        indices = tuple(sorted(sorted(indices, key=lambda i: (-weights[i], i))[:2]))
    members = tuple(replace(group.members[i], weight=weights[i]) for i in indices)
    arguments = dict(kernel.arguments)
    if densities and "density" in arguments:
        arguments["density"] = tuple(densities)
    elif densities and "p" in arguments:
        arguments["p"] = tuple(1 - density for density in densities)
    chosen = Group(tuple(tensors), members)
    bound = Bound(kernel.strategy, tuple(arguments.items()))
    return Part(chosen, indices, bound, bound.survey(chosen))


def _check(genome: Coefficients, kernel: Bound, decode: Decode) -> None:
    """Check that a payload is a genome for a kernel.

    Raises:
        MalformedError: if it is another payload, for another kernel, or the kernel cannot merge with it.
    """
    name = kernel.strategy.name
    if genome.payload != "hyper" or genome.settings.get("kernel") != name:
        raise MalformedError(
            f"it is a payload {genome.payload} for the kernel {genome.settings.get('kernel')!r}, and the "
            f"recipe asks {genome.strategy} for the kernel {name}"
        )
    if dict(kernel.arguments).get("t") is not None:
        raise MalformedError(f"the recipe fixes t of the kernel {name}, so genes have no say")
    takes = {_WEIGHT} | ({_DENSITY} if {"density", "p"} & dict(kernel.arguments).keys() else set())
    for array in genome.shapes:
        gene = array.partition("/")[0]
        if gene not in takes:
            raise MalformedError(f"{array}: the kernel {name} has no gene {gene!r}")
        normalizes = name == "linear" and dict(kernel.arguments)["normalize"]
        if gene == _WEIGHT and normalizes and cancel(_numbers(genome, array, decode)):
            raise MalformedError(f"{array}: its weights sum to 0, so the kernel linear cannot normalise them")
    try:
        anybody = (Member(genome.digest),) * genome.count
        Parts(Group(genome.tensors, anybody), kernel, genome, decode)
    except ParameterError as error:
        raise MalformedError(f"the kernel {name} refuses it: {error}") from error


def _evolved(genome: Coefficients, gene: str, x: Fraction) -> Fraction:
    if gene == _DENSITY:
        return min(abs(x), _ONE)
    return x if genome.setting("negative", "no", "yes") == "yes" else abs(x)


def for_evolution(found: Coefficients, *, kernel: Bound) -> None:
    """Check that a payload is a genome that `evolutionary_merge` can decode."""
    _check(found, kernel, _evolved)


def evolved(group: Group, *, kernel: Bound) -> Parts:
    """Return the layer groups of `evolutionary_merge`."""
    group.unweighted("evolutionary_merge")
    return Parts(group, kernel, _genome(group, "evolutionary_merge"), _evolved)


def _genome(group: Group, name: str) -> Coefficients | None:
    found = group.coefficients
    return found if found is not None and found.strategy == name else None


@strategy(
    "evolutionary_merge",
    version=1,
    source="Akiba et al. 2024, arXiv:2403.13187, parameter space; genome of mergekit-evolve",
    parameters=[KERNEL],
    coefficients=True,
    symmetric=False,
    weighted=False,
    survey=evolved,
    suits=for_evolution,
)
def evolutionary_merge(tile: Tile, survey: Parts, *, kernel: Bound) -> Tensor:
    """Evolutionary merge in parameter space: a kernel steered by a published genome.

    Every layer group has its own genes ``weight`` (and ``density``), one for each contribution. A weight g
    counts as ``|g|``, with the setting ``negative = yes`` as g; a density as ``min(|g|, 1)``. The kernels are
    linear, task_arithmetic, ties, dare_ties and dare (p = 1 - density), and slerp between the two
    contributions of largest weight (ties to the lower digest) at ``t = w₂ / (w₁ + w₂)``. Without a genome:
    weights 1/k. [n] float64 throughout.

    Determinism: genes are the exact values of their float64s; then the kernel's own, over the tensors of the
    layer group.

    Raises:
        ParameterError: if weights differ, or the kernel refuses.

    Source: Akiba et al. 2024, section 3.1, with the genome of mergekit-evolve; the search is not part of
    this. Genes are keyed by contribution, and t comes as weights in place of two genes and a softmax. λ of a
    kernel is 1 unless the recipe says otherwise.
    """
    return survey.merge(tile)


def _bred(genome: Coefficients, gene: str, x: Fraction) -> Fraction:
    steps = _DISCRETE if genome.setting("discrete", "no", "yes") == "yes" else 1
    if not 0 <= x <= steps or (steps > 1 and x.denominator != 1):
        raise MalformedError(f"a gene {gene} of {x}, wanted 0 to {steps}")
    return x / steps


def for_genetics(found: Coefficients, *, kernel: Bound) -> None:
    """Check that a payload is a genome that `genetic_merge` can decode."""
    _check(found, kernel, _bred)


def bred(group: Group, *, kernel: Bound) -> Parts:
    """Return the layer groups of `genetic_merge`."""
    group.unweighted("genetic_merge")
    return Parts(group, kernel, _genome(group, "genetic_merge"), _bred)


@strategy(
    "genetic_merge",
    version=1,
    source="Mergenetic: Minut et al. 2025, arXiv:2505.11427",
    parameters=[KERNEL],
    coefficients=True,
    symmetric=False,
    weighted=False,
    survey=bred,
    suits=for_genetics,
)
def genetic_merge(tile: Tile, survey: Parts, *, kernel: Bound) -> Tensor:
    """Genetic merge: a kernel steered by a published genome of numbers between 0 and 1.

    As `evolutionary_merge`, but genes lie in [0, 1], or with the setting ``discrete = yes`` are whole numbers
    from 0 to 10 and count as tenths. One pattern ``*`` is a genome for the whole model; slerp's t along the
    layers, for attention, feed-forward and the rest, is a pair of weights ``1 - t`` and t for each such
    group. ``dare`` is what the paper's library calls dare_ta. [n] float64 throughout.

    Determinism: that of `evolutionary_merge`; tenths are exact.

    Raises:
        ParameterError: if weights differ, or the kernel refuses.

    Source: Minut et al. 2025 (genomes and kernels of Mergenetic); the search is not part of this. A search
    for several objectives finds a set of genomes: one of them is published.
    """
    return survey.merge(tile)
