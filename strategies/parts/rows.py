"""Rows of a tensor, along its last dimension, and the place that each element has in its row.

For strategies with scope "row", whose tiles are whole rows. A vector is one row; a scalar is a row of one.

    |x|          0.3 0.1 0.3 0.2
    ascending     2   0   3   1      of equal magnitudes the first is the smaller
    descending    0   3   1   2      of equal magnitudes the first is the larger
"""

from __future__ import annotations

from crdtmerge.arith import Tensor, rank_rows
from crdtmerge.strategy import Tile


def columns(tile: Tile) -> int:
    """Return the length of a row."""
    return tile.shape[-1] if tile.shape else 1


def rows(tile: Tile, x: Tensor) -> Tensor:
    """Return a tile's elements [n] as [rows, columns]."""
    return x.reshape(-1, columns(tile))


def ascending(x: Tensor) -> Tensor:
    """Return each element's place by (|x|, index) in its row, from 0 on, [rows, columns] float64."""
    return rank_rows(x.abs())


def descending(x: Tensor) -> Tensor:
    """Return each element's place by (-|x|, index) in its row, from 0 on, [rows, columns] float64."""
    return rank_rows(-x.abs())
