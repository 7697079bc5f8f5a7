"""Spherical interpolation of two, of whole tensors or of every row or column by itself."""

from __future__ import annotations

from fractions import Fraction
from operator import attrgetter
from typing import Final

from crdtmerge.arith import Elements, Tensor, linear, nearest, scalar
from crdtmerge.strategy import Choice, Group, Tile, strategy

from .directions import OF, combined
from .parts import span
from .parts.scale import onto

_LENGTH_MIN: Final = 1e-7
_SINE_MIN: Final = 1e-8
_SUM_MIN: Final = Fraction(1, 10**6)
"""mergekit's floors; they decide bits."""


def place(weights: tuple[Fraction, ...]) -> Fraction:
    """Return t, the second weight over the sum; one half if the weights cancel."""
    total = sum(weights, Fraction())
    return weights[1] / total if abs(total) >= _SUM_MIN else Fraction(1, 2)


def ends(dot: float, square0: float, square1: float, t: Fraction) -> tuple[float, float]:
    """Return the coefficients of two vectors at t, given their dot product and squared lengths."""
    lengths = [max(scalar.sqrt(square), _LENGTH_MIN) for square in (square0, square1)]
    cosine = max(-1.0, min(1.0, dot / (lengths[0] * lengths[1])))
    omega = scalar.acos(cosine)
    sine = scalar.sin(omega)
    if abs(sine) < _SINE_MIN:
        return nearest(1 - t), nearest(t)
    return scalar.sin(nearest(1 - t) * omega) / sine, scalar.sin(nearest(t) * omega) / sine


class Arcs:
    """The coefficients of every tensor, or of every column; rows find their own.

    Columns are summed over the rows in order, so where tiles are cut does not show.
    """

    def __init__(self, group: Group, *, of: str, vectors: str) -> None:
        self._of, self._by = attrgetter(of), vectors
        self._t = place(group.weights) if group.count == 2 else Fraction(0)
        self._whole = span.Coefficients(group, self._solve, self._of)
        self._columns: dict[str, list[Tensor]] = {}

    def feed(self, tile: Tile) -> None:
        """Take one tile into account."""
        if self._by == "whole":
            self._whole.feed(tile)
        elif self._by == "columns" and tile.count == 2:
            x, y = (v.reshape(-1, columns(tile, self._by)) for v in self._of(tile))
            sums = self._columns.setdefault(tile.tensor, [x.new_zeros(x.shape[1]) for _ in range(3)])
            for total, products in zip(sums, (x * y, x * x, y * y), strict=True):
                for row in products:
                    total += row

    def finish(self) -> bool:
        """One pass suffices."""
        return True

    def merge(self, tile: Tile, of: str) -> Elements:
        """Return the tile, interpolated."""
        if self._by == "whole" or tile.count == 1:
            return combined(tile, self._whole[tile.tensor] if self._by == "whole" else [1.0], of)
        x, y = (v.reshape(-1, columns(tile, self._by)) for v in self._of(tile))
        if self._by == "columns":
            sums, shape = [total.tolist() for total in self._columns[tile.tensor]], (1, -1)
        else:
            sums, shape = [linear.fold((a * b).T).tolist() for a, b in ((x, y), (x, x), (y, y))], (-1, 1)
        dots, firsts, seconds = sums
        pairs = [ends(*row, self._t) for row in zip(dots, firsts, seconds, strict=True)]
        near, far = (x.new_tensor([pair[i] for pair in pairs]).reshape(shape) for i in (0, 1))
        merged = (x * near + y * far).reshape(-1)
        return merged if of == "models" else onto(tile, merged, Fraction(1))

    def _solve(self, gram: span.Matrix) -> tuple[float, float]:
        return ends(gram[0][1], gram[0][0], gram[1][1], self._t)


def columns(tile: Tile, by: str) -> int:
    """Return the length of the rows that a tile is cut into; for columns, a vector is one column."""
    last = tile.shape[-1] if tile.shape else 1
    return 1 if by == "columns" and len(tile.shape) < 2 else last


@strategy(
    "nuslerp",
    version=1,
    source="Shoemake 1985, doi:10.1145/325165.325242; mergekit `nuslerp`",
    parameters=[
        OF,
        Choice("vectors", ("whole", "rows", "columns"), "what is a vector: a tensor, or each row or column"),
    ],
    alone_is_itself=True,
    symmetric=False,
    scope="row",
    members_max=2,
    survey=Arcs,
)
def nuslerp(tile: Tile, survey: Arcs, *, of: str, vectors: str) -> Elements:
    """Spherical interpolation of two contributions by their weights.

    ``sin((1-t)Ω) / sin Ω · v₁ + sin(tΩ) / sin Ω · v₂`` with ``t = w₂ / (w₁ + w₂)`` (one half if the weights
    cancel to less than 10⁻⁶), Ω the angle between the vectors, lengths at least 10⁻⁷; where ``|sin Ω| <
    10⁻⁸`` linear. v₁ is of lower digest. The vectors are whole tensors, rows or columns (rows of the last
    dimension; of one-dimensional tensors both are the tensor), of the values or of the differences from the
    base. [n] float64.

    Determinism: dot products of tensors are lane sums, those of rows fold by halves, those of columns are
    added row after row; acos and sin correctly rounded; two products and one sum for each element.

    Raises:
        MissingBaseError: with ``of=deltas`` and no base.

    Source: mergekit `nuslerp`; its ``nuslerp_row_wise`` takes what is stored as columns. For more than two
    contributions there is `karcher`.
    """
    return survey.merge(tile, of)
