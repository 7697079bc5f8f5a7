"""Methods that merge a linear layer by solving for the outputs that the contributions gave.

Two layers with the same outputs on the same inputs are the same layer, whatever their weights were before
training. So weights are not averaged where the Gram matrices of the inputs are known: the merged layer is the
one whose outputs are nearest to every contribution's, each on inputs of its own data.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from crdtmerge.arith import Elements, Tensor, lane_sum, weighted_sum
from crdtmerge.errors import ParameterError
from crdtmerge.strategy import Choice, Number, Tile, strategy

from .parts.consensus import mean, proportions, require_shares
from .parts.regression import alike, completed, inputs_of, regress
from .parts.scale import onto
from .parts.testimony import MISSING, speaking


@strategy(
    "regression_mean",
    version=1,
    source="Jin et al. 2023, arXiv:2212.09849 (RegMean)",
    parameters=[
        Number(
            "alpha", "0.9", "by which Gram matrices are multiplied off the diagonal", minimum="0", maximum="1"
        ),
        Number("ridge", "0", "ρ: ρ · trace / n is added to the diagonal", minimum="0"),
        Choice("normalize", ("none", "trace"), "trace: bring all Gram matrices to one trace"),
        MISSING,
    ],
    scope="tensor",
    evidence=["gram|gram.first"],
    alone_is_itself=True,
)
def regression_mean(tile: Tile, *, alpha: Fraction, ridge: Fraction, normalize: str, missing: str) -> Tensor:
    """RegMean: the linear layers whose outputs are nearest to all contributions', by least squares.

    With ``Gᵢ`` the mean of x·xᵀ over a layer's inputs, ``G̃ᵢ = α Gᵢ + (1 - α) diag Gᵢ`` and M the weighted
    mean of the ``Wᵢ`` [out, in]: ``W = M + X``, ``X (Σ aᵢ G̃ᵢ + ρ · trace / n · I) = Σ aᵢ (Wᵢ - M) G̃ᵢ``.
    ``aᵢ = wᵢ``, with ``normalize=trace`` times the mean trace over Gᵢ's own. Layers that keep inputs in their
    first dimension bring ``gram.first``. Tensors about which fewer than half of the members bring a Gram
    matrix, and a layer that cannot be solved: the weighted mean. With ``missing=neutral`` who brings none
    counts as having the unit matrix, of the others' mean trace. Whole tensors, float64.

    One contribution that claims inputs a million times as large as others' decides every layer: in a
    federation with strangers use ``normalize=trace``.

    Determinism: products of matrices are exact but for one rounding, their sums run in canonical order; ρ
    rises from ``ridge`` along 1e-6, 1e-5, …, 1 until the Cholesky factor exists. A contribution alone comes
    out to the bit; where nobody had inputs, the mean does, up to rounding.

    Raises:
        ParameterError: if a weight is negative or all are 0; if some members lack the Gram matrix of a
            tensor, unless ``missing`` says otherwise.

    Source: Jin et al. 2023, section 3.2; published configurations have α between 0.1 and 0.95. Deviations: a
    Cholesky solution in place of an explicit inverse, and the ridge draws towards the mean instead of 0.
    """
    require_shares("regression_mean", tile.group)
    weights = proportions(tile.weights)
    average = mean(tile.models, tile.weights)
    inputs = inputs_of(tile, missing) if tile.count > 1 else None
    if inputs is None:
        return average
    if missing == "neutral":
        inputs = completed(tile, inputs)
    factors = [weights[i] for i in inputs.members]
    if normalize == "trace":
        factors = [a * b for a, b in zip(factors, alike(inputs.traces()), strict=True)]
    moved = [model - average for model in tile.models]
    solved = regress(tile, inputs, factors, moved, shrink=alpha, ridge=ridge)
    return average if solved is None else average + solved


@strategy(
    "lot_merge",
    version=1,
    source="LOT Merging, arXiv:2505.23859",
    parameters=[
        Choice("normalize", ("trace", "examples", "none"), "what a contribution's sums are divided by"),
        Number("ridge", "0.0000000001", "ρ: ρ · trace / n is added to the diagonal", minimum="0"),
        Number("scale", "1", "λ, by which the merged difference is multiplied"),
        Choice("missing", ("error", "exclude"), "contributions without evidence are an error, or left out"),
    ],
    needs_base=True,
    scope="tensor",
    evidence=["gram|gram.first"],
    optional_evidence=["gram.n", "feat.sq"],
)
def lot_merge(tile: Tile, *, normalize: str, ridge: Fraction, scale: Fraction, missing: str) -> Elements:
    """LOT: the difference from the base that makes features drift least, layer by layer.

    Linear layers: ``T = (Σ aᵢ Xᵢᵀ Xᵢ)⁺ Σ aᵢ Xᵢᵀ Xᵢ τᵢ``, ``Xᵢᵀ Xᵢ`` being ``gram · gram.n``. Scales of norm
    layers (one dimension, ``feat.sq`` s): ``T = Σ aᵢ sᵢ τᵢ / Σ aᵢ sᵢ``, 0 where the divisor is. All else: the
    weighted mean of τ. ``θ = θ₀ + λ T``. ``aᵢ = wᵢ``, by ``normalize`` also divided by the trace (the sum of
    s), by ``gram.n``, or by nothing, so that who has more inputs counts more. What no input reaches stays at
    the base. Whole tensors, float64.

    Determinism: as `regression_mean`, with ridges from ``ridge`` on.

    Raises:
        ParameterError: if a weight is negative or all are 0; if some members lack evidence about a tensor,
            unless ``missing=exclude``; if a number of inputs is needed and not there.

    Source: arXiv:2505.23859, roles of the equations after its abstract and a model card: our variant. The
    pseudo-inverse is a ridge of 1e-10, which tends to it. The paper's sums are ``normalize=none``; by default
    nobody's number of inputs counts, since it is a claim.
    """
    require_shares("lot_merge", tile.group)
    weights = proportions(tile.weights)
    average = mean(tile.changes, tile.weights)
    inputs = inputs_of(tile, missing)
    if inputs is not None:
        factors = _factors(tile, inputs.members, inputs.traces(), weights, normalize, summed=False)
        solved = regress(tile, inputs, factors, tile.deltas, ridge=ridge)
        return onto(tile, average if solved is None else solved, scale)
    said = tile.evidence["feat.sq"]
    found = speaking(tile, said, "feat.sq", missing) if len(tile.shape) == 1 else []
    if not found:
        return onto(tile, average, scale)
    squares = [s for s in said if s is not None]
    factors = _factors(tile, found, [lane_sum(s) for s in squares], weights, normalize, summed=True)
    divisor = weighted_sum(squares, factors)
    total = weighted_sum([s * tile.deltas[i] for s, i in zip(squares, found, strict=True)], factors)
    return onto(tile, total / (divisor + (divisor == 0)), scale)


def _factors(
    tile: Tile,
    members: Sequence[int],
    sizes: Sequence[float],
    weights: Sequence[Fraction],
    normalize: str,
    *,
    summed: bool,
) -> list[Fraction]:
    """Return by what each member's statistic is multiplied, which has a size and is a sum or a mean."""
    kept = [weights[i] for i in members]
    if normalize == "trace":
        return [w * factor for w, factor in zip(kept, alike(sizes), strict=True)]
    if summed == (normalize == "none"):
        return kept
    numbers = [_number(tile, i) for i in members]
    return [w / n if summed else w * n for w, n in zip(kept, numbers, strict=True)]


def _number(tile: Tile, member: int) -> Fraction:
    number = tile.evidence["gram.n"][member]
    if number is None:
        who = tile.group.members[member].digest.hex()[:12]
        raise ParameterError(
            f"contribution {who}… brings no gram.n of {tile.tensor}: set normalize=trace in the recipe"
        )
    return Fraction(number.item())
