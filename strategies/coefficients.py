"""Methods whose coefficients a search has found: applied as published, or a documented initial point.

    published numbers × differences from the base, or × models, summed

The search needs data or an evaluator and runs at one peer; what it publishes is bound to the exact
contributions that it was found for (`crdtmerge.coefficients`). Without it every method here uses the point
that its search would start from, and the result says so. `metagpt` is the one that computes its coefficients
from the weights alone.

Published coefficients stand in the place of the recipe's weights, so recipes whose weights differ are
refused.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Final

from crdtmerge.arith import Elements, LaneDot, Tensor, clamp, maximum, sigmoid, tanh, weighted_sum
from crdtmerge.coefficients import Coefficients
from crdtmerge.strategy import Choice, Flag, Group, Number, Tile, strategy

from .parts.coefficients import combine, factors, masks, published, wanted
from .parts.delta import Extent
from .parts.scale import onto
from .sparse import SCOPE, Ballot

_ONE: Final = Fraction(1)


class Norms:
    """The share of every contribution in the sum of all squared norms, per vector of an extent."""

    def __init__(self, group: Group, scope: str) -> None:
        group.unweighted("metagpt")
        self._count, self._extent = group.count, Extent(group, scope)
        self._squares: dict[str, list[LaneDot]] = {}
        self._shares: dict[str, list[Fraction]] = {}

    def feed(self, tile: Tile) -> None:
        """Take one tile into account."""
        name, start = self._extent.name(tile), self._extent.start(tile)
        squares = self._squares.setdefault(name, [LaneDot() for _ in range(self._count)])
        for square, tau in zip(squares, tile.deltas, strict=True):
            square.feed(tau, tau, start)
        if self._extent.ends(tile):
            norms = [Fraction(square.result()) for square in self._squares.pop(name)]
            total = sum(norms, Fraction())
            self._shares[name] = [norm / total if total else norm for norm in norms]

    def finish(self) -> bool:
        """One pass suffices."""
        return True

    def shares(self, tile: Tile) -> list[Fraction]:
        """Return the k shares of the vector that a tile belongs to: they sum to 1, or are all 0."""
        return self._shares[self._extent.name(tile)]


def norms(group: Group, *, scope: str) -> Norms:
    """Return what `metagpt` must see first."""
    return Norms(group, scope)


@strategy(
    "metagpt",
    version=1,
    source="Zhou et al. 2024, arXiv:2406.11385",
    parameters=[SCOPE],
    needs_base=True,
    weighted=False,
    survey=norms,
)
def metagpt(tile: Tile, survey: Norms, *, scope: str) -> Elements:
    """MetaGPT: task arithmetic whose coefficients are the shares of the squared norms.

    ``θ = θ₀ + Σ λᵢ τᵢ`` with ``τᵢ = θᵢ - θ₀`` and ``λᵢ = |τᵢ|² / Σⱼ |τⱼ|²``, the norms over all tensors of
    the group, or with ``scope=tensor`` over each by itself. No data is needed. Where nothing changed, λ is 0.
    [n] float64 throughout.

    Determinism: squared norms are lane sums; λ is their exact quotient, rounded once; then the sum in
    canonical order.

    Raises:
        ParameterError: if weights differ.
        NonFiniteError: if a squared norm exceeds float64.

    Source: Zhou et al. 2024, in the form of the STAR repository: norms of the whole task vector.
    ``scope=tensor`` is ours.
    """
    return onto(tile, weighted_sum(tile.changes, survey.shares(tile)), _ONE)


def by_differences(
    found: Coefficients, *, initial: Fraction, clamped: bool, plusplus: bool, density: Fraction
) -> None:
    """Check that a payload multiplies differences, as `ada_merging` does."""
    wanted(found, ("coeffs",), ("task_vector",))


def ballot(
    group: Group, *, initial: Fraction, clamped: bool, plusplus: bool, density: Fraction
) -> Ballot | None:
    """Return what `ada_merging` must see first: where TIES trims and what it elects, for AdaMerging++."""
    group.unweighted("ada_merging")
    if not plusplus:
        return None
    return Ballot(group, lambda tile: tile.deltas, density=density, scope="global", zero="majority")


@strategy(
    "ada_merging",
    version=1,
    source="Yang et al. 2024, arXiv:2310.02575",
    parameters=[
        Number("initial", "0.3", "λ of every contribution where nothing is published"),
        Flag("clamped", False, "confine published λ to [0, 1]"),
        Flag("plusplus", False, "AdaMerging++: use of each difference only what TIES selects"),
        Number("density", "0.2", "with plusplus: fraction that is kept", above="0", maximum="1"),
    ],
    needs_base=True,
    coefficients=True,
    weighted=False,
    survey=ballot,
    suits=by_differences,
)
def ada_merging(
    tile: Tile,
    survey: Ballot | None,
    *,
    initial: Fraction,
    clamped: bool,
    plusplus: bool,
    density: Fraction,
) -> Elements:
    """AdaMerging: task arithmetic with a published coefficient for each contribution, or each of its tensors.

    ``θ = θ₀ + Σ λᵢ τᵢ`` with ``τᵢ = θᵢ - θ₀`` and λ from the published payload (coeffs, mode task_vector): by
    model what the paper calls task-wise, by tensor its layer-wise; any other granularity is applied too.
    Without one, and for tensors that it says nothing about, λ is ``initial``. ``plusplus`` replaces every τᵢ
    by what TIES leaves of it: trimmed to ``density``, and where it has the elected sign. [n] float64
    throughout.

    Determinism: one product for each contribution, summed in canonical order, then one sum with the base;
    the selection is that of `ties` over all tensors of the group.

    Raises:
        ParameterError: if weights differ.

    Source: Yang et al. 2024, section 3, which minimises the entropy on unlabelled inputs from λ = 0.3; that
    search is not part of this. ``clamped`` is the official code's; fusion_bench does not confine λ.
    """
    values = tile.deltas if survey is None else survey.select(tile)
    through = _unit if clamped else None
    return onto(tile, combine(values, factors(tile, published(tile, "ada_merging"), initial, through)), _ONE)


def _unit(x: Tensor) -> Tensor:
    return clamp(x, 0.0, 1.0)


def by_models(found: Coefficients, *, squash: str) -> None:
    """Check that a payload multiplies models, as `dam` does."""
    wanted(found, ("coeffs",), ("convex", "linear"))


@strategy(
    "dam",
    version=1,
    source="Differentiable Adaptive Merging: Gauthier-Caron et al. 2024, arXiv:2410.08371",
    parameters=[
        Choice(
            "squash", ("none", "tanh", "sigmoid", "relu"), "what published coefficients pass through first"
        )
    ],
    coefficients=True,
    weighted=False,
    suits=by_models,
)
def dam(tile: Tile, *, squash: str) -> Tensor:
    """DAM: models scaled column by column with published coefficients, then summed.

    ``W = Σ Wᵢ · diag(cᵢ)``: of a matrix [out, in] every input column of every contribution has a coefficient,
    of an embedding every dimension, of a norm every element, of a bias one for all of it (payload coeffs,
    mode linear or convex, granularity column; other granularities are applied too). Without a payload, and
    for tensors that it says nothing about, ``cᵢ = 1/k``. No base. [n] float64 throughout.

    Determinism: one product for each element of each contribution, summed in canonical order; 1/k is rounded
    once.

    Raises:
        ParameterError: if weights differ.

    Source: Gauthier-Caron et al. 2024 and arcee-ai/DAM, whose ``squash`` is none by default and whose search
    (divergence from the experts' logits) starts from 1/k, save for biases, which it starts from 1. Not the
    Defense-Aware Merging of the same initials.
    """
    tile.group.unweighted("dam")
    initial = Fraction(1, tile.count)
    return combine(tile.models, factors(tile, published(tile, "dam"), initial, _SQUASH[squash]))


_SQUASH: Final = {
    "none": None,
    "tanh": tanh,
    "sigmoid": sigmoid,
    "relu": lambda x: maximum(x, x.new_zeros(len(x))),
}


def any_weights(found: Coefficients) -> None:
    """Check that a payload holds weights or masks, as `published_coefficients` applies them."""
    wanted(found, ("coeffs", "masks"), ("task_vector", "convex", "linear"))
    if found.payload == "masks":
        wanted(found, ("masks",), ("task_vector",))
        found.setting("form", "bits", "real")


@strategy(
    "published_coefficients",
    version=1,
    source="composition of ours; what aTLAS, Expert Merging, FW-Merging, M2N2, MAP, DeMix and others publish",
    needs_base=True,
    coefficients=True,
    weighted=False,
    suits=any_weights,
)
def published_coefficients(tile: Tile) -> Elements:
    """Apply what any search published: weights of models or of differences, and masks.

    Mode task_vector: ``θ = θ₀ + Σ cᵢ τᵢ``; convex and linear: ``θ = Σ cᵢ θᵢ``; a payload of masks: ``θ = θ₀ +
    Σ cᵢ mᵢ ⊙ τᵢ``. The c have any granularity: model, group, tensor, chunk, column or interval. Without a
    payload, and for tensors that it says nothing about, ``cᵢ = 1/k`` and ``mᵢ = 1``: the mean of the
    differences. [n] float64 throughout.

    Determinism: a product for each mask and each coefficient, summed in canonical order, then one sum with
    the base.

    Raises:
        ParameterError: if weights differ.

    Source: the payload that these searches collapse to; none of them is run here.
    """
    tile.group.unweighted("published_coefficients")
    found = published(tile, "published_coefficients")
    by = factors(tile, found, Fraction(1, tile.count))
    if found is not None and found.payload == "coeffs" and found.mode != "task_vector":
        return combine(tile.models, by)
    kept = masks(tile, found) if found is not None and found.payload == "masks" else None
    return onto(tile, combine(tile.deltas if kept is None else kept, by), _ONE)
