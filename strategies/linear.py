"""Weighted sums of contributions: nothing is dropped, nothing is elected.

The weights are the recipe's, one per contribution; a strategy here never invents its own. What is divided
is divided once, after the sum.
"""

from __future__ import annotations

from fractions import Fraction

from crdtmerge.arith import Elements, WeightedSum
from crdtmerge.errors import ParameterError
from crdtmerge.strategy import Flag, Number, Tile, strategy

from .parts.consensus import cancel, pending_mean
from .parts.scale import onto


@strategy(
    "weight_average",
    version=1,
    source="Wortsman et al. 2022, arXiv:2203.05482; McMahan et al. 2017, arXiv:1602.05629",
    alone_is_itself=True,
)
def weight_average(tile: Tile) -> Elements:
    """Average of the contributed weights.

    ``θ = Σ wᵢ θᵢ / Σ wᵢ`` over k contributions [n] float64, to [n] float64. Normalises by itself, so it is
    safe for any number of contributions.

    Determinism: weights are reduced to whole numbers in the same proportion (equal weights: 1 each); one
    sum in canonical order, then one division. A contribution alone comes out to the bit, whatever it weighs.

    Raises:
        ParameterError: if a weight is negative, or all are 0.

    Source: uniform soup (Wortsman et al. 2022) for equal weights, FedAvg (McMahan et al. 2017) for numbers
    of examples. No deviation; weights are exact where implementations divide them first.
    """
    if min(tile.weights) < 0 or not any(tile.weights):
        raise ParameterError("weight_average: weights must not be negative, and one must be positive")
    return pending_mean(tile.terms, tile.weights)


@strategy(
    "linear",
    version=1,
    source="mergekit `linear`; Wortsman et al. 2022, arXiv:2109.01903 (WiSE-FT) for two contributions",
    parameters=[
        Flag("normalize", True, "divide by the sum of the weights"),
        Number("t", None, "for two contributions of equal weight: (1-t)·θ₁ + t·θ₂, θ₁ of lower digest"),
    ],
    alone_is_itself=True,
)
def linear(tile: Tile, *, normalize: bool, t: Fraction | None) -> Elements:
    """Linear combination of the contributed weights.

    ``θ = Σ wᵢ θᵢ``, with ``normalize`` divided by ``Σ wᵢ``; weights may be negative. With ``t`` given,
    ``θ = (1-t) θ₁ + t θ₂``, θ₁ being the contribution of lower digest. k contributions [n] float64 to [n]
    float64.

    Determinism: as `weight_average` if normalised, else each product by the float nearest to wᵢ, summed in
    canonical order. With ``normalize`` a contribution alone comes out to the bit.

    Raises:
        ParameterError: if weights are to be normalised and ``|Σ wᵢ| < 10⁻⁸``, exactly compared; if ``t`` is
            given for other than two contributions, or together with weights that differ.

    Source: mergekit `linear`, which answers weights 1, -1 with infinities; lerp and WiSE-FT (Wortsman et al.
    2022) are its case of two.
    """
    if t is not None:
        if tile.count != 2 or tile.weights[0] != tile.weights[1]:
            raise ParameterError(
                f"linear: t is for two contributions of equal weight, there are {tile.count}; "
                "leave t out and let the weights decide"
            )
        return WeightedSum(tile.terms, [1 - t, t])
    if not normalize:
        return WeightedSum(tile.terms, tile.weights)
    if cancel(tile.weights):
        raise ParameterError("linear: the weights sum to 0, so they cannot be normalised")
    return pending_mean(tile.terms, tile.weights)


@strategy(
    "task_arithmetic",
    version=1,
    source="Ilharco et al. 2023, arXiv:2212.04089",
    parameters=[
        Number("scale", "0.3", "λ, by which the sum of differences is multiplied"),
        Flag("normalize", False, "divide the sum of differences by the sum of the weights"),
    ],
    needs_base=True,
)
def task_arithmetic(tile: Tile, *, scale: Fraction, normalize: bool) -> Elements:
    """Base plus a multiple of the summed differences from it.

    ``θ = θ₀ + λ Σ wᵢ τᵢ`` with ``τᵢ = θᵢ - θ₀``, λ the parameter ``scale``; with ``normalize`` the sum is
    divided by ``Σ wᵢ`` (by 1 if ``|Σ wᵢ| < 10⁻⁸``). [n] float64 throughout. Without ``normalize`` the result
    moves further from the base with every contribution: choose λ for the number that is expected.

    Determinism: differences, their sum in canonical order, one product by the float nearest to λ, one sum
    with the base. There is no shortcut: one contribution with λ = 1 gives ``θ₀ + (θ₁ - θ₀)``, which may
    differ from θ₁ in the last bit.

    Source: Ilharco et al. 2023, section 2; λ = 0.3 as fusion_bench has it (the paper tunes it, mergekit takes
    1), the guard of ``normalize`` from mergekit.
    """
    normalizes = normalize and not cancel(tile.weights)
    merged = (pending_mean if normalizes else WeightedSum)(tile.changes, tile.weights)
    return onto(tile, merged, scale)
