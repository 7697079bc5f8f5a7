"""Methods that let each contribution move the base only as far, or only where, a rule allows.

The originals merge one model into a base. Here every contribution passes its gate by itself, and the mean of
what passed moves the base: for one contribution it is the original, and no order shows for more.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Final

from crdtmerge.arith import (
    Elements,
    RankSelection,
    Tensor,
    fold,
    log,
    masked,
    maximum,
    minimum,
    nearest,
    quantile_rank,
    softmax,
)
from crdtmerge.errors import MissingBaseError, ParameterError
from crdtmerge.strategy import Group, Number, Tile, strategy

from .parts.consensus import cancel, mean
from .parts.rows import rows
from .parts.scale import onto

_SMALLEST: Final = 1e-6
_PROBABILITY: Final = 1e-8
_QUARTERS: Final = (Fraction(1, 4), Fraction(1, 2), Fraction(3, 4))


def _averaged(name: str, tile: Tile, moves: list[Tensor]) -> Elements:
    if cancel(tile.weights):
        raise ParameterError(f"{name}: the weights sum to 0, so there is no mean of what moves the base")
    return onto(tile, mean(moves, tile.weights), Fraction(1))


@strategy(
    "nearswap",
    version=1,
    source="mergekit `nearswap`",
    parameters=[Number("t", "0.0001", "how far an element may move", above="0")],
    needs_base=True,
)
def nearswap(tile: Tile, *, t: Fraction) -> Elements:
    """NearSwap: take a contribution's element where it is near the base's, else move by t towards it.

    ``xᵢ = min(t / max(|τᵢ|, 10⁻⁶), 1)`` with ``τᵢ = θᵢ - θ₀``; ``θ = θ₀ + Σ wᵢ xᵢ τᵢ / Σ wᵢ``. [n] float64
    throughout.

    Determinism: one division, one product, the mean as in `weight_average`, one sum with the base.

    Raises:
        ParameterError: if ``|Σ wᵢ| < 10⁻⁸``.

    Source: mergekit `nearswap`, for a base and one model; the mean over several is ours.
    """
    moves = []
    for tau in tile.deltas:
        size = tau.abs()
        near = (maximum(size, size * 0.0 + _SMALLEST)).reciprocal() * nearest(t)
        moves.append(minimum(near, size * 0.0 + 1.0) * tau)
    return _averaged("nearswap", tile, moves)


def importance(tile: Tile) -> list[Tensor]:
    """Return k times [n]: ``|τᵢ|`` times the divergence of its row from the base's, both as distributions."""
    if tile.base is None:
        raise MissingBaseError("arcee_fusion compares with a base, and there is none")
    before = softmax(rows(tile, tile.base)) + _PROBABILITY
    found = []
    for model, tau in zip(tile.models, tile.deltas, strict=True):
        after = softmax(rows(tile, model)) + _PROBABILITY
        divergence = fold((after * log(after / before)).movedim(-1, 0))
        found.append((rows(tile, tau.abs()) * divergence.unsqueeze(-1)).reshape(-1))
    return found


class Thresholds:
    """Finds, for each contribution's tensor, the importance from which on elements are kept.

    State: that of three selections for each contribution, for one tensor at a time unless one takes several
    passes.
    """

    def __init__(self, group: Group) -> None:
        self._count = group.count
        self._sizes = {name: math.prod(shape) for name, shape in group.tensors}
        self._searching: dict[str, list[list[RankSelection]]] = {}
        self._found: dict[str, list[float]] = {}

    def feed(self, tile: Tile) -> None:
        """Take one tile into account."""
        name, size = tile.tensor, self._sizes[tile.tensor]
        if name in self._found:
            return
        if name not in self._searching:
            self._searching[name] = [
                [RankSelection(quantile_rank(q, size), size) for q in _QUARTERS] for _ in range(self._count)
            ]
        searching = self._searching[name]
        for quartiles, values in zip(searching, importance(tile), strict=True):
            for quartile in quartiles:
                quartile.feed(values)
        if tile.stop == size:
            ended = [quartile.finish() for quartiles in searching for quartile in quartiles]
            if all(ended):
                self._found[name] = [_threshold(*(q.value for q in quartiles)) for quartiles in searching]
                del self._searching[name]

    def finish(self) -> bool:
        """End a pass; True when every threshold is known."""
        return not self._searching

    def masks(self, tile: Tile) -> list[Tensor]:
        """Return k masks of what is kept."""
        thresholds = self._found[tile.tensor]
        return [(x >= low).double() for x, low in zip(importance(tile), thresholds, strict=True)]


def _threshold(first: float, middle: float, third: float) -> float:
    return middle + 1.5 * (third - first)


@strategy(
    "arcee_fusion",
    version=1,
    source="mergekit `arcee_fusion`",
    needs_base=True,
    scope="row",
    survey=Thresholds,
)
def arcee_fusion(tile: Tile, survey: Thresholds) -> Elements:
    """Arcee Fusion: take over only the elements that matter unusually much.

    With ``τᵢ = θᵢ - θ₀`` and every row (the last dimension; a vector is one row) taken as a distribution by
    softmax, an element's importance is ``|τᵢ| · Σ p ln(p / q)`` over its row, p that of θᵢ and q that of θ₀,
    10⁻⁸ added to both. Of the tensor's d importances in ascending order, the quartiles have the places
    ``⌊q (d - 1)⌋``; kept are those of at least ``median + 1.5 · (third - first quartile)``, and
    ``θ = θ₀ + Σ wᵢ τ̂ᵢ / Σ wᵢ``. [n] float64 throughout. Where importances hardly spread, as in tensors that
    are mostly unchanged, the threshold is 0 and everything is kept.

    Determinism: softmax, logarithm and their sums as docs/spec/arith.md has them; exact order statistics; the
    mean as in `weight_average`, one sum with the base.

    Raises:
        ParameterError: if ``|Σ wᵢ| < 10⁻⁸``.

    Source: mergekit `arcee_fusion`, for a base and one model, which estimates the quartiles of large tensors
    from a random million of their elements. The mean over several contributions is ours.
    """
    moves = [masked(tau, mask) for tau, mask in zip(tile.deltas, survey.masks(tile), strict=True)]
    return _averaged("arcee_fusion", tile, moves)
