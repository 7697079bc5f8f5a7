"""A robust rule first, any other method after it.

For differences from a base the useful form of robust aggregation is not the rule's own average: the rule says
which contributions count (or how long they may be), and the method of choice merges those.

    contributions ── rule: choose, or cut to a radius ── inner strategy ── merged
"""

from __future__ import annotations

from fractions import Fraction

from crdtmerge.arith import Tensor, nearest, scalar
from crdtmerge.errors import MissingBaseError
from crdtmerge.strategy import Bound, Choice, Group, Inner, Integer, Survey, Tile, strategy

from .clipping import RADIUS, middle
from .parts.distances import Distances
from .robust import Chosen, F, by_bulyan, by_krum


class Cut:
    """Factors by which differences are multiplied so that none is longer than a radius."""

    def __init__(self, group: Group, radius: Fraction | None) -> None:
        self._count, self._radius = group.count, radius
        self._distances = Distances(self._points)
        self.factors: list[float] = []

    def feed(self, tile: Tile) -> None:
        """Take one tile into account."""
        self._distances.feed(tile)

    def finish(self) -> bool:
        """One pass; then the lengths are known."""
        lengths = [scalar.sqrt(nearest(d)) for d in self._distances.between(self._count + 1)[0][1:]]
        limit = middle(lengths) if self._radius is None else nearest(self._radius)
        self.factors = [1.0 if length <= limit else limit / length for length in lengths]
        return True

    @staticmethod
    def _points(tile: Tile) -> list[Tensor]:
        if tile.base is None:
            raise MissingBaseError("rule=clip measures differences from the base, and there is none")
        return [tile.base, *tile.models]


class Sieve:
    """The rule's survey, then that of the inner strategy over what the rule left."""

    def __init__(self, group: Group, rule: Chosen | Cut, inner: Bound) -> None:
        self._group, self._rule, self._inner = group, rule, inner
        self._ruled = False
        self._survey: Survey | None = None

    def feed(self, tile: Tile) -> None:
        """Take one tile into account."""
        if not self._ruled:
            self._rule.feed(tile)
        elif self._survey is not None:
            self._survey.feed(self._left(tile))

    def finish(self) -> bool:
        """End a pass; True when the rule and the inner strategy have seen enough."""
        if self._ruled:
            return self._survey is None or self._survey.finish()
        self._rule.finish()
        self._ruled = True
        self._survey = self._inner.survey(self._after())
        return self._survey is None

    def merge(self, tile: Tile) -> Tensor:
        """Return what the inner strategy makes of what is left."""
        return self._inner.merge(self._left(tile), self._survey)

    def _after(self) -> Group:
        return (
            self._group.select(sorted(self._rule.members)) if isinstance(self._rule, Chosen) else self._group
        )

    def _left(self, tile: Tile) -> Tile:
        if isinstance(self._rule, Chosen):
            return tile.select(sorted(self._rule.members), self._after())
        cut = zip(tile.deltas, self._rule.factors, strict=True)
        return tile.moved([delta if factor == 1 else delta * factor for delta, factor in cut])


def sieve(
    group: Group,
    *,
    rule: str,
    inner: Bound,
    f: int | None,
    m: int | None,
    radius: Fraction | None,
) -> Sieve:
    """Return what `robust` must see first."""
    if rule == "clip":
        return Sieve(group, Cut(group, radius), inner)
    chosen = by_bulyan(group, "robust", f) if rule == "bulyan" else by_krum(group, "robust", f, m)
    return Sieve(group, chosen, inner)


@strategy(
    "robust",
    version=1,
    source="composition of ours over Blanchard et al. 2017, El Mhamdi et al. 2018 and Sun et al. 2019",
    parameters=[
        Choice("rule", ("krum", "bulyan", "clip"), "what decides which contributions count, and how much"),
        Inner("inner", "weight_average", "the strategy that merges what is left; inner.… are its parameters"),
        F,
        Integer("m", None, "contributions that krum leaves; none: k - f - 2", minimum=1),
        RADIUS,
    ],
    members_min=3,
    symmetric=False,
    weighted=False,
    survey=sieve,
)
def robust(
    tile: Tile,
    survey: Sieve,
    *,
    rule: str,
    inner: Bound,
    f: int | None,
    m: int | None,
    radius: Fraction | None,
) -> Tensor:
    """A robust rule's choice of contributions, merged by any other strategy.

    * ``krum``: the m contributions of lowest Krum score, as in `multi_krum`;
    * ``bulyan``: the k - 2f contributions that `bulyan` chooses;
    * ``clip``: all of them, their differences from the base cut to a length of ``radius`` over the whole
      model, as in `norm_clipped_mean`.

    The inner strategy sees only what is left, in canonical order, and draws as if it were alone. [n] float64.

    Determinism: that of the rule and of the inner strategy.

    Raises:
        ParameterError: if there are too few contributions for f or m, or weights differ where a rule chooses.
        MissingBaseError: with ``rule=clip`` and no base.

    Source: our composition; the rules are those of the papers named above.
    """
    return survey.merge(tile)
