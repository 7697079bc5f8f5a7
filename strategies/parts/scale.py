"""By what merged differences are multiplied, and how they come back onto the base."""

from __future__ import annotations

from fractions import Fraction

from crdtmerge.arith import Elements, WeightedSum
from crdtmerge.errors import MissingBaseError
from crdtmerge.strategy import Tile


def onto(tile: Tile, merged: Elements, factor: Fraction) -> Elements:
    """Return ``base + factor · merged``, [n] float64, for the base of ``tile``.

    Where ``merged`` is +0 this is the base to the bit, save that a base of -0 becomes +0.

    Determinism: one product by the float nearest to ``factor`` (none for 1), then one sum.

    Raises:
        MissingBaseError: if the tile has no base.
    """
    if tile.stored_base is None:
        raise MissingBaseError("this strategy moves the base, and there is none")
    return WeightedSum([tile.stored_base, merged], [Fraction(1), factor])
