"""Robust centres: what lies in the middle of the contributions, however far a few of them are away.

All three find their result as a combination of the contributions (and a centre), whose coefficients follow
from the distances among them: one pass over the model, then arithmetic on k numbers.

    centre ── clip every difference to a radius ── average ── step        norm_clipped_mean, centered_clipping
    weigh every contribution by one over its distance, again and again    geometric_median
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Final

from crdtmerge.arith import Tensor, ascending, nearest, weighted_sum
from crdtmerge.errors import MissingBaseError, ParameterError
from crdtmerge.strategy import Choice, Group, Integer, Number, Tile, strategy

from .parts.distances import Distances, from_combination

RADIUS: Final = Number("radius", None, "length to which differences are cut; none: their median", above="0")


class Combination:
    """Coefficients of a tile stream's points, found from the distances among them.

    Args:
        points: from a tile to its points.
        count: how many these are.
        solve: from their squared distances to coefficients.
    """

    def __init__(
        self,
        points: Callable[[Tile], Sequence[Tensor]],
        count: int,
        solve: Callable[[list[list[Fraction]]], list[Fraction]],
    ) -> None:
        self._points, self._count, self._solve = points, count, solve
        self._distances = Distances(points)
        self._coefficients: list[Fraction] = []

    def feed(self, tile: Tile) -> None:
        """Take one tile into account."""
        self._distances.feed(tile)

    def finish(self) -> bool:
        """One pass; then coefficients are found."""
        self._coefficients = self._solve(self._distances.between(self._count))
        return True

    def merge(self, tile: Tile) -> Tensor:
        """Return the combination, [n] float64; points that do not take part are not touched."""
        taking = [(x, c) for x, c in zip(self._points(tile), self._coefficients, strict=True) if c]
        return weighted_sum([x for x, _ in taking], [c for _, c in taking])


def shares(weights: Sequence[Fraction], name: str) -> list[Fraction]:
    """Return the weights over their sum.

    Raises:
        ParameterError: if one is negative, or all are 0.
    """
    total = sum(weights, Fraction())
    if min(weights) < 0 or not total:
        raise ParameterError(f"{name}: weights must not be negative, and one must be positive")
    return [w / total for w in weights]


def middle(values: Sequence[float]) -> float:
    """Return the median; of an even number half the lower middle value plus half the upper."""
    ordered = sorted(values)
    return ordered[(len(ordered) - 1) // 2] / 2 + ordered[len(ordered) // 2] / 2


def weiszfeld(group: Group, *, steps: int, smoothing: Fraction) -> Combination:
    """Return what `geometric_median` must see first."""
    parts = shares(group.weights, "geometric_median")
    floor = nearest(smoothing)

    def solve(squared: list[list[Fraction]]) -> list[Fraction]:
        coefficients = parts
        for _ in range(steps if group.count > 1 else 0):
            distances = from_combination(squared, coefficients)
            pulls = [part / Fraction(max(d, floor)) for part, d in zip(parts, distances, strict=True)]
            coefficients = shares(pulls, "geometric_median")
        return coefficients

    return Combination(lambda tile: tile.models, group.count, solve)


@strategy(
    "geometric_median",
    version=1,
    source="Pillutla et al. 2022, arXiv:1912.13445 (RFA); Weiszfeld 1937",
    parameters=[
        Integer("steps", 8, "T, the number of Weiszfeld's steps", minimum=0),
        Number("smoothing", "0.000001", "ν, the least distance that is divided by", above="0"),
    ],
    alone_is_itself=True,
    survey=weiszfeld,
)
def geometric_median(tile: Tile, survey: Combination, *, steps: int, smoothing: Fraction) -> Tensor:
    """Geometric median of whole models: the point of least summed distance, by Weiszfeld's steps.

    ``z₀ = Σ αᵢ θᵢ``, ``zₜ₊₁ = Σ βᵢ θᵢ / Σ βᵢ`` with ``βᵢ = αᵢ / max(|θᵢ - zₜ|, ν)`` and α the weights over
    their sum, T steps and no early end. Up to half the weight may be hostile, given enough steps: the further
    an enemy goes, the more it takes. [n] float64.

    Determinism: squared distances are exact, those from z follow from them exactly and are rounded once to
    float64; ``1 / max(…)`` and all else on scalars is rational; one weighted sum at the end.

    Raises:
        ParameterError: if a weight is negative, or all are 0.
        NonFiniteError: if a squared distance exceeds float64.

    Source: Pillutla et al. 2022, algorithm 2. RFA stops early, after at most 4 steps with ν = 1e-5.
    """
    return survey.merge(tile)


def _from_base(tile: Tile) -> list[Tensor]:
    if tile.base is None:
        raise MissingBaseError("clipping measures differences from the base, and there is none")
    return [tile.base, *tile.models]


def _from_median(tile: Tile) -> list[Tensor]:
    ordered = ascending(tile.models)
    centre = ordered[(tile.count - 1) // 2] * 0.5 + ordered[tile.count // 2] * 0.5
    return [centre, *tile.models]


def clipped(
    squared: list[list[Fraction]], parts: Sequence[Fraction], radius: Fraction | None, steps: int
) -> list[Fraction]:
    """Return the coefficients of centre and contributions after some clipped steps from the centre.

    Args:
        squared: distances of the centre (first) and the k contributions.
        parts: k shares, their sum is 1.
        radius: to which differences are cut; None: the median of their lengths, at each step.
        steps: how often the centre moves.
    """
    coefficients = [Fraction(1)] + [Fraction(0)] * len(parts)
    for _ in range(steps):
        lengths = from_combination(squared, coefficients)[1:]
        limit = middle(lengths) if radius is None else nearest(radius)
        factors = [Fraction(1 if length <= limit else limit / length) for length in lengths]
        pulls = [part * factor for part, factor in zip(parts, factors, strict=True)]
        stays = 1 - sum(pulls, Fraction())
        moved = [stays * c + pull for c, pull in zip(coefficients[1:], pulls, strict=True)]
        coefficients = [stays * coefficients[0], *moved]
    return coefficients


def norm_clip(group: Group, *, radius: Fraction | None) -> Combination:
    """Return what `norm_clipped_mean` must see first."""
    parts = shares(group.weights, "norm_clipped_mean")
    return Combination(_from_base, group.count + 1, lambda squared: clipped(squared, parts, radius, 1))


@strategy(
    "norm_clipped_mean",
    version=1,
    source="Sun et al. 2019, arXiv:1911.07963 (norm bounding)",
    parameters=[RADIUS],
    needs_base=True,
    survey=norm_clip,
)
def norm_clipped_mean(tile: Tile, survey: Combination, *, radius: Fraction | None) -> Tensor:
    """Base plus the mean of differences cut to a radius.

    ``θ = θ₀ + Σ αᵢ τᵢ · min(1, radius / |τᵢ|)`` with |τᵢ| over the whole model and α the weights over their
    sum. Bounds what any one contribution can do; it does not survive a hostile majority. Without ``radius``
    it is the median of the lengths. [n] float64.

    Determinism: lengths from exact squared distances; one weighted sum of base and contributions.

    Raises:
        ParameterError: if a weight is negative, or all are 0.
        NonFiniteError: if a squared length exceeds float64.

    Source: Sun et al. 2019, section 4; the median as default radius is ours.
    """
    return survey.merge(tile)


def centred(group: Group, *, radius: Fraction | None, steps: int, start: str) -> Combination:
    """Return what `centered_clipping` must see first."""
    parts = shares(group.weights, "centered_clipping")
    points = _from_base if start == "base" else _from_median
    return Combination(points, group.count + 1, lambda squared: clipped(squared, parts, radius, steps))


@strategy(
    "centered_clipping",
    version=1,
    source="Karimireddy et al. 2021, arXiv:2012.10333",
    parameters=[
        RADIUS,
        Integer("steps", 3, "L, how often the centre moves", minimum=1),
        Choice("start", ("median", "base"), "where the centre starts: coordinate-wise median, or the base"),
    ],
    survey=centred,
)
def centered_clipping(
    tile: Tile, survey: Combination, *, radius: Fraction | None, steps: int, start: str
) -> Tensor:
    """Centered clipping: move a centre by the mean of differences cut to a radius, a few times.

    ``v ← v + Σ αᵢ (θᵢ - v) · min(1, radius / |θᵢ - v|)``, L times from ``start``, lengths over the whole
    model and α the weights over their sum. Without ``radius`` it is the median of the lengths at each step.
    [n] float64.

    Determinism: v is a combination of start and contributions; lengths follow from exact squared distances;
    one weighted sum at the end.

    Raises:
        ParameterError: if a weight is negative, or all are 0.
        MissingBaseError: with ``start=base`` and no base.
        NonFiniteError: if a squared distance exceeds float64.

    Source: Karimireddy et al. 2021, section 4. The published start is the last round's result: the base here.
    """
    return survey.merge(tile)
