"""Aggregation that a few hostile contributions cannot steer.

Two sorts of rules: those that look at every element by itself (median, trimmed mean), and those that look at
distances between whole models (Krum and its kin, the geometric median, clipping). f is the number of hostile
contributions that a rule is to survive; what each promises holds only while that bound does. Anybody can
contribute many times under many names, so admission matters more than the rule: bound what one member may
have visible (the federation's policy), then choose f.

Distances run over all tensors of the group. Give the rule to the whole model: chosen tensor by tensor, its
promise is void. Members that a rule selects among weigh alike; recipes whose weights differ are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Final

from crdtmerge.arith import Tensor, ascending, masked, ranks, weighted_sum
from crdtmerge.errors import ParameterError
from crdtmerge.strategy import Choice, Group, Integer, Tile, strategy

from .parts.consensus import mean
from .parts.distances import Distances

F: Final = Integer("f", None, "hostile contributions to survive; none: as many as the rule can", minimum=0)
ALIKE: Final = Fraction(1)


def tolerated(name: str, f: int | None, count: int, *, times: int, plus: int) -> int:
    """Return f, or the largest with ``count >= times · f + plus``.

    Raises:
        ParameterError: if there are too few contributions for f.
    """
    most = (count - plus) // times
    chosen = most if f is None else f
    if most < 0 or chosen > most:
        least = times * max(chosen, 0) + plus
        raise ParameterError(
            f"{name} with f = {max(chosen, 0)} needs at least {least} contributions, there are {count}"
        )
    return chosen


@strategy(
    "median",
    version=1,
    source="Yin et al. 2018, arXiv:1803.01498",
    parameters=[Choice("even", ("mean", "lower", "upper"), "of the two middle values of an even number")],
    alone_is_itself=True,
    weighted=False,
)
def median(tile: Tile, *, even: str) -> Tensor:
    """Coordinate-wise median.

    At each element the middle one of the k values; for even k the mean of the two middle ones, or the lower
    or upper of them, which invents no value. Survives f hostile contributions of k >= 2f + 1. [n] float64.

    Determinism: the mean is half the lower plus half the upper. A -0 counts and comes out as +0 for k > 1.

    Raises:
        ParameterError: if weights differ.

    Source: Yin et al. 2018, section 4. No deviation.
    """
    tile.group.unweighted("median")
    if tile.count == 1:
        return tile.models[0]
    values = ascending(tile.models)
    lower, upper = values[(tile.count - 1) // 2], values[tile.count // 2]
    if even == "mean":
        return lower * 0.5 + upper * 0.5 if tile.count % 2 == 0 else lower
    return lower if even == "lower" else upper


@strategy(
    "trimmed_mean",
    version=1,
    source="Yin et al. 2018, arXiv:1803.01498",
    parameters=[Integer("b", None, "values dropped on each side; none: a quarter of them", minimum=0)],
    alone_is_itself=True,
    weighted=False,
)
def trimmed_mean(tile: Tile, *, b: int | None) -> Tensor:
    """Coordinate-wise trimmed mean.

    At each element the b smallest and the b largest of the k values are dropped and the rest is averaged;
    without ``b`` a quarter on each side (⌊k / 4⌋: the interquartile mean). Survives b hostile contributions.
    [n] float64.

    Determinism: the sum runs over the values in ascending order, then one division.

    Raises:
        ParameterError: if weights differ, or ``k <= 2b``.

    Source: Yin et al. 2018, section 4; the default of b is ours.
    """
    tile.group.unweighted("trimmed_mean")
    dropped = tile.count // 4 if b is None else b
    if tile.count <= 2 * dropped:
        raise ParameterError(
            f"trimmed_mean with b = {dropped} needs at least {2 * dropped + 1} contributions, "
            f"there are {tile.count}"
        )
    if tile.count == 1:
        return tile.models[0]
    kept = ascending(tile.models)[dropped : tile.count - dropped]
    return mean(kept, [ALIKE] * len(kept))


class Chosen:
    """Members chosen by their distances from each other, once those are known.

    Args:
        pick: from the distances to the chosen indices, in order of choice.
    """

    def __init__(self, pick: Callable[[Distances], list[int]]) -> None:
        self._pick, self._distances = pick, Distances(lambda tile: tile.models)
        self.members: list[int] = []

    def feed(self, tile: Tile) -> None:
        """Take one tile into account."""
        self._distances.feed(tile)

    def finish(self) -> bool:
        """One pass; then members are chosen."""
        self.members = self._pick(self._distances)
        return True


def krum_scores(distances: Distances, among: Sequence[int], f: int) -> dict[int, Fraction]:
    """Return each index's sum of its ``max(1, n - f - 2)`` smallest squared distances from the others."""
    nearest_few = max(1, len(among) - f - 2)
    return {
        i: sum(sorted(distances.squared(i, j) for j in among if j != i)[:nearest_few], Fraction())
        for i in among
    }


def by_krum(group: Group, name: str, f: int | None, m: int | None) -> Chosen:
    """Return what chooses the m members of lowest score (none: all that may be); ties to the lower digest."""
    group.unweighted(name)
    survived = tolerated(name, f, group.count, times=2, plus=3)
    most = group.count - survived - 2
    wanted = most if m is None else m
    if not 1 <= wanted <= most:
        raise ParameterError(
            f"{name}: m is between 1 and {most} for {group.count} contributions and f = {survived}, got {m}"
        )

    def pick(distances: Distances) -> list[int]:
        scores = krum_scores(distances, range(group.count), survived)
        return sorted(scores, key=lambda i: (scores[i], i))[:wanted]

    return Chosen(pick)


def by_bulyan(group: Group, name: str, f: int | None) -> Chosen:
    """Return what chooses ``k - 2f`` members, each by Krum among those that are left."""
    group.unweighted(name)
    survived = tolerated(name, f, group.count, times=4, plus=3)

    def pick(distances: Distances) -> list[int]:
        left, chosen = list(range(group.count)), list[int]()
        while len(chosen) < group.count - 2 * survived:
            scores = krum_scores(distances, left, survived)
            best = min(left, key=lambda i: (scores[i], i))
            left.remove(best)
            chosen.append(best)
        return chosen

    return Chosen(pick)


def average(tile: Tile, members: Sequence[int]) -> Tensor:
    """Return the mean of some members' values, summed in canonical order."""
    kept = [tile.models[i] for i in sorted(members)]
    return mean(kept, [ALIKE] * len(kept))


@strategy(
    "krum",
    version=1,
    source="Blanchard et al. 2017, Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent",
    parameters=[F],
    members_min=3,
    symmetric=False,
    weighted=False,
    survey=lambda group, *, f: by_krum(group, "krum", f, 1),
)
def krum(tile: Tile, survey: Chosen, *, f: int | None) -> Tensor:
    """Krum: the one contribution that is closest to its neighbours.

    ``sᵢ = Σ |θᵢ - θⱼ|²`` over the k - f - 2 contributions nearest to i, over the whole model; the result is
    the contribution of lowest s, to the bit. Needs k >= 2f + 3; without f it is the largest that this allows.
    [n] float64.

    Determinism: distances and scores are exact (`Distances`); of equal scores the lower digest wins.

    Raises:
        ParameterError: if there are too few contributions, or weights differ.
        NonFiniteError: if a squared difference exceeds float64.

    Source: Blanchard et al. 2017, section 4. No deviation; ties are not defined there.
    """
    return tile.models[survey.members[0]]


@strategy(
    "multi_krum",
    version=1,
    source="Blanchard et al. 2017, Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent",
    parameters=[F, Integer("m", None, "contributions averaged; none: k - f - 2", minimum=1)],
    members_min=3,
    symmetric=False,
    weighted=False,
    survey=lambda group, *, f, m: by_krum(group, "multi_krum", f, m),
)
def multi_krum(tile: Tile, survey: Chosen, *, f: int | None, m: int | None) -> Tensor:
    """Multi-Krum: the average of the m contributions of lowest Krum score.

    Scores as in `krum`, taken once; needs k >= 2f + 3 and m <= k - f - 2. [n] float64.

    Determinism: scores are exact, ties go to the lower digest; the mean as in `weight_average`.

    Raises:
        ParameterError: if there are too few contributions for f or m, or weights differ.
        NonFiniteError: if a squared difference exceeds float64.

    Source: Blanchard et al. 2017, section 5. Implementations that weigh by sample count or return the sum of
    the chosen deviate from it; this does not.
    """
    return average(tile, survey.members)


@strategy(
    "bulyan",
    version=1,
    source="El Mhamdi et al. 2018, arXiv:1802.07927",
    parameters=[F],
    members_min=3,
    symmetric=False,
    weighted=False,
    survey=lambda group, *, f: by_bulyan(group, "bulyan", f),
)
def bulyan(tile: Tile, survey: Chosen, *, f: int | None) -> Tensor:
    """Bulyan: choose by Krum again and again, then trim each element around the median.

    k - 2f contributions are chosen one after the other, each of lowest Krum score among those that are left
    (neighbours: max(1, n - f - 2) of n left). At each element the mean of the k - 4f chosen values nearest to
    the chosen ones' median. Needs k >= 4f + 3. [n] float64.

    Determinism: scores are exact, ties go to the lower digest, also of two values as near to the median; an
    even number's median is half the lower middle value plus half the upper; sums in canonical order.

    Raises:
        ParameterError: if there are too few contributions for f, or weights differ.
        NonFiniteError: if a squared difference exceeds float64.

    Source: El Mhamdi et al. 2018, section 4; neighbours in later rounds as in Flower.
    """
    chosen = sorted(survey.members)
    kept = len(chosen) - (tile.count - len(chosen))
    values = [tile.models[i] for i in chosen]
    ordered = ascending(values)
    middle = ordered[(len(chosen) - 1) // 2] * 0.5 + ordered[len(chosen) // 2] * 0.5
    places = ranks([abs(x - middle) for x in values])
    near = [masked(x, (place < kept) * 1.0) for x, place in zip(values, places, strict=True)]
    return weighted_sum(near, [ALIKE] * len(near)) / kept
