"""Methods that look at every tensor as a direction and a length.

Like `spherical`, they need the dot products among the k vectors of a tensor and nothing else, so each is a
few lines of arithmetic on k coefficients. With ``of=deltas`` the vectors are differences from the base.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from itertools import combinations
from operator import attrgetter
from typing import Final

from crdtmerge.arith import Elements, linear, nearest, scalar, weighted_sum
from crdtmerge.errors import MissingBaseError, ParameterError
from crdtmerge.strategy import Choice, Flag, Group, Tile, strategy

from .parts import span
from .parts.consensus import mean
from .parts.scale import onto
from .spherical import karcher as karcher_mean

OF: Final = Choice(
    "of", ("models", "deltas"), "the vectors: contributed values, or differences from the base"
)

_EPS: Final = 1e-8
_FLOOR: Final = 1e-6
"""Of a product of lengths, and of 1 + (k - 1)c, in mergekit's forms; they decide bits."""


def combined(tile: Tile, coefficients: Sequence[float], of: str) -> Elements:
    """Return ``Σ cᵢ vᵢ``, moved onto the base if the vectors are differences.

    Raises:
        MissingBaseError: if they are, and there is no base.
    """
    exact = [Fraction(c) for c in coefficients]
    if of == "models":
        return weighted_sum(tile.terms, exact)
    if tile.base is None:
        raise MissingBaseError("of=deltas reads differences from a base, and there is none")
    return onto(tile, weighted_sum(tile.changes, exact), Fraction(1))


def shares(group: Group, name: str) -> list[float]:
    """Return the weights over their sum, each rounded once.

    Raises:
        ParameterError: if one is negative, or all are 0.
    """
    total = sum(group.weights, Fraction())
    if min(group.weights) < 0 or not total:
        raise ParameterError(f"{name}: weights must not be negative, and one must be positive")
    return [nearest(w / total) for w in group.weights]


def mean_direction(group: Group, *, of: str) -> span.Coefficients:
    """Return what `multislerp` must see first."""
    alphas = shares(group, "multislerp")

    def solve(gram: span.Matrix) -> list[float]:
        lengths = [scalar.sqrt(gram[i][i]) for i in range(len(gram))]
        mixed = [alpha / (length + _EPS) for alpha, length in zip(alphas, lengths, strict=True)]
        size = span.norm(gram, mixed)
        if size < _EPS:
            return alphas
        target = math.fsum(alpha * length for alpha, length in zip(alphas, lengths, strict=True))
        return [m / size * target for m in mixed]

    return span.Coefficients(group, solve, attrgetter(of))


@strategy(
    "multislerp",
    version=1,
    source="mergekit `multislerp` (Goddard 2025), in closed form",
    parameters=[OF],
    alone_is_itself=True,
    survey=mean_direction,
)
def multislerp(tile: Tile, survey: span.Coefficients, *, of: str) -> Elements:
    """Mean direction times mean length, tensor by tensor.

    ``ûᵢ = vᵢ / (|vᵢ| + 10⁻⁸)``, ``m = Σ αᵢ ûᵢ`` with α the weights over their sum, result ``m / |m| · Σ αᵢ
    |vᵢ|``, plus the base if the vectors are differences. Where directions cancel (``|m| < 10⁻⁸``) the result
    is the linear ``Σ αᵢ vᵢ``. [n] float64.

    Determinism: coefficients from lane-sum dot products by correctly rounded scalar sums; one weighted sum.

    Raises:
        ParameterError: if a weight is negative, or all are 0.
        MissingBaseError: with ``of=deltas`` and no base.

    Source: mergekit `multislerp`. Its step in the tangent space is identically zero, because the point of
    tangency is the mean direction, so this closed form is what it computes; it is no mean on the sphere. Of
    more than two vectors that cancel it makes an error, which here would let three peers block everybody.
    """
    return combined(tile, survey[tile.tensor], of)


def sphere(group: Group, *, of: str) -> span.Coefficients:
    """Return what `karcher` must see first."""
    shares(group, "karcher")
    return span.Coefficients(group, lambda gram: karcher_mean(gram, group.weights), attrgetter(of))


@strategy(
    "karcher",
    version=1,
    source="Karcher 1977, doi:10.1002/cpa.3160300502; mergekit `karcher`",
    parameters=[OF],
    alone_is_itself=True,
    survey=sphere,
)
def karcher(tile: Tile, survey: span.Coefficients, *, of: str) -> Elements:
    """Karcher mean of directions times mean length, tensor by tensor.

    The point u of the unit sphere where ``Σ αᵢ θᵢ²`` is least, θᵢ being the angle between u and vᵢ, found
    by at most ten steps from the normalised mean direction; times ``Σ αᵢ |vᵢ|``. Zero vectors count for the
    length only. Where directions cancel, u begins at the first. [n] float64.

    Determinism: as the Karcher mean of `slerp`.

    Raises:
        ParameterError: if a weight is negative, or all are 0.
        MissingBaseError: with ``of=deltas`` and no base.

    Source: Karcher 1977; ten steps and the tolerance 10⁻⁵ as in mergekit `karcher`.
    """
    return combined(tile, survey[tile.tensor], of)


def stock_ratio(gram: span.Matrix) -> float:
    """Return the t of Model Stock for the dot products of the differences: 1 keeps the mean, 0 the base."""
    count = len(gram)
    lengths = [scalar.sqrt(gram[i][i]) for i in range(count)]
    cosines = [
        max(-1.0, min(1.0, gram[i][j] / max(lengths[i] * lengths[j], _FLOOR)))
        for i, j in combinations(range(count), 2)
    ]
    cosine = math.fsum(cosines) / len(cosines)
    divisor = 1.0 + (count - 1) * cosine
    return count * cosine / divisor if divisor > _EPS else 0.0


class Ratios:
    """The ratio of every tensor, or nothing where each row finds its own."""

    def __init__(self, group: Group, *, filter_wise: bool) -> None:
        group.unweighted("model_stock")
        self._gram = span.Coefficients(group, lambda gram: [stock_ratio(gram)], attrgetter("deltas"))
        self._whole = not filter_wise

    def feed(self, tile: Tile) -> None:
        """Take one tile into account."""
        if self._whole:
            self._gram.feed(tile)

    def finish(self) -> bool:
        """One pass suffices."""
        return True

    def __getitem__(self, tensor: str) -> float:
        """Return a tensor's ratio."""
        return self._gram[tensor][0]


@strategy(
    "model_stock",
    version=1,
    source="Jang et al. 2024, arXiv:2403.19522; mergekit `model_stock`",
    parameters=[Flag("filter_wise", False, "a ratio for every row of a matrix instead of one per tensor")],
    needs_base=True,
    scope="row",
    members_min=2,
    weighted=False,
    survey=Ratios,
)
def model_stock(tile: Tile, survey: Ratios, *, filter_wise: bool) -> Elements:
    """Model Stock: between the base and the mean, by how much the contributions agree.

    ``c`` is the mean cosine of all pairs ``τᵢ, τⱼ`` (product of lengths at least 10⁻⁶), ``t = k c / (1 +
    (k-1) c)`` and ``θ = θ₀ + t · mean τ``; t = 0 where ``1 + (k-1) c <= 10⁻⁸``, and negative where
    contributions disagree on average. One t per tensor, or per row with ``filter_wise`` (a vector is one
    row). [n] float64.

    Determinism: dot products are lane sums, those of rows fold by halves; scalars are correctly rounded; the
    mean as in `weight_average`, one product by t, one sum with the base.

    Raises:
        ParameterError: if weights differ.

    Source: Jang et al. 2024, section 4, for any k as in mergekit. The paper merges two fine-tunes.
    """
    merged = mean(tile.changes, tile.weights)
    if not filter_wise:
        return onto(tile, merged, Fraction(survey[tile.tensor]))
    columns = tile.shape[-1] if tile.shape else 1
    rows = [delta.reshape(-1, columns) for delta in tile.deltas]
    dots = [[linear.fold((x * y).T).tolist() for y in rows] for x in rows]
    count = range(tile.count)
    ratios = [stock_ratio([[dots[i][j][row] for j in count] for i in count]) for row in range(len(rows[0]))]
    scaled = merged.reshape(-1, columns) * merged.new_tensor(ratios).reshape(-1, 1)
    return onto(tile, scaled.reshape(-1), Fraction(1))
