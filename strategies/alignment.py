"""Contributions brought to a common mean and spread before they are averaged."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Final

from crdtmerge.arith import Moments, Tensor, nearest, scalar
from crdtmerge.errors import ParameterError
from crdtmerge.strategy import Choice, Flag, Group, Tile, strategy

from .parts.consensus import mean, proportions

_SPREAD_MIN: Final = 1e-12
"""A tensor of less spread has no scope to be aligned: it counts as its mean."""


class Scopes:
    """Mean and spread of every contribution's tensors, and what they are brought to."""

    def __init__(self, group: Group, *, sigma_fusion: str, restandardize: bool) -> None:
        if min(group.weights) < 0 or not any(group.weights):
            raise ParameterError(
                "weight_scope_alignment: weights must not be negative, and one must be positive"
            )
        self._weights = proportions(group.weights)
        self._fusion, self._again = sigma_fusion, restandardize
        self._moments: dict[str, list[Moments]] = {}
        self._merged: dict[str, Moments] = {}
        self._scopes: dict[str, list[tuple[float, float]]] = {}
        self._targets: dict[str, tuple[float, float]] = {}

    def feed(self, tile: Tile) -> None:
        """Take one tile into account."""
        if self._scopes:
            self._merged.setdefault(tile.tensor, Moments()).feed(self.aligned(tile))
            return
        moments = self._moments.setdefault(tile.tensor, [Moments() for _ in tile.models])
        for known, model in zip(moments, tile.models, strict=True):
            known.feed(model)

    def finish(self) -> bool:
        """End a pass: one for the scopes, with ``restandardize`` one more for what they give."""
        if self._scopes or not self._moments:
            return True
        for name, moments in self._moments.items():
            scopes = [(m.mean(), scalar.sqrt(m.variance())) for m in moments]  # portable: of exact moments
            centre = self._mean([mu for mu, _ in scopes])
            if self._fusion == "std_mean":
                spread = self._mean([sigma for _, sigma in scopes])
            else:
                spread = scalar.sqrt(self._mean([m.variance() for m in moments]))
            self._scopes[name], self._targets[name] = scopes, (centre, spread)
        return not self._again

    def _mean(self, numbers: Sequence[float]) -> float:
        weighted = (w * Fraction(x) for w, x in zip(self._weights, numbers, strict=True))
        return nearest(sum(weighted, Fraction()) / sum(self._weights, Fraction()))

    def aligned(self, tile: Tile) -> Tensor:
        """Return the mean of the aligned contributions."""
        centre, spread = self._targets[tile.tensor]
        standard = [
            (model - mu) / sigma if sigma >= _SPREAD_MIN else (model - model) + 0.0
            for model, (mu, sigma) in zip(tile.models, self._scopes[tile.tensor], strict=True)
        ]
        return mean(standard, tile.weights) * spread + centre

    def merge(self, tile: Tile) -> Tensor:
        """Return the tile, aligned; once more brought to the common scope if that is wanted."""
        merged = self.aligned(tile)
        if not self._again:
            return merged
        centre, spread = self._targets[tile.tensor]
        sigma = scalar.sqrt(self._merged[tile.tensor].variance())
        return (merged - centre) / sigma * spread + centre if sigma >= _SPREAD_MIN else merged


PARAMETERS: Final = (
    Choice("sigma_fusion", ("std_mean", "var_mean"), "common spread: mean σ, or root of the mean σ²"),
    Flag("restandardize", False, "bring the average to the common spread once more"),
)
SOURCE: Final = (
    "post-hoc form of ours after Xu et al. 2024 (Weight Scope Alignment, ECAI), whose method acts in training"
)


@strategy("wsa_posthoc", version=1, source=SOURCE, parameters=PARAMETERS, survey=Scopes)
@strategy("weight_scope_alignment", version=1, source=SOURCE, parameters=PARAMETERS, survey=Scopes)
def weight_scope_alignment(tile: Tile, survey: Scopes, *, sigma_fusion: str, restandardize: bool) -> Tensor:
    """Post-hoc weight scope alignment (our form): give all the common mean and spread, then average.

    For every tensor with mean μᵢ and population standard deviation σᵢ: ``μ̃ = mean μᵢ``, σ̃ the mean of σᵢ
    (``std_mean``) or the root of the mean of σᵢ² (``var_mean``), all weighted; ``θ'ᵢ = μ̃ + σ̃ (θᵢ - μᵢ) /
    σᵢ`` (μ̃ where σᵢ < 10⁻¹²) and ``θ = Σ wᵢ θ'ᵢ / Σ wᵢ``. Averaging shrinks the spread again;
    ``restandardize`` undoes that. [n] float64. `wsa_posthoc` is the same under the name that says what it
    is.

    Determinism: means and variances are exact and rounded once, their means exact rationals; then one
    difference, one quotient, the mean as in `weight_average`, one product, one sum.

    Raises:
        ParameterError: if a weight is negative, or all are 0.

    Source: Xu et al. 2024 align during training by a penalty KL(N(μ,σ²) ‖ N(μ̃,σ̃²)) in each layer; nothing
    of it remains to be done when weights are merged. This applies its scope fusion afterwards.
    """
    return survey.merge(tile)
