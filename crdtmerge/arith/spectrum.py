"""What is meaningful in a list of eigenvalues or singular values, and which sign a vector has.

A vector is defined up to its sign, and equal values have a space instead of vectors; a computer's answer
looks precise all the same. These rules say what may be used of it.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Final

import torch
from torch import Tensor

RANK: Final = 1e-9
"""A singular value up to this share of the largest counts as zero."""

CLUSTER: Final = 1e-12
"""Neighbours that differ by less than this share of the largest magnitude belong together."""


def signs(columns: Tensor) -> Tensor:
    """Return [n, k], each column with the sign that makes its largest element (or the first) positive."""
    if not columns.numel():
        return columns
    magnitudes = columns.abs()
    largest = magnitudes == magnitudes.amax(0)
    rows = torch.arange(len(columns), device=columns.device)[:, None]
    first = torch.where(largest, rows, len(columns)).amin(0)
    chosen = columns.gather(0, first[None])[0]
    return (columns * (1.0 - 2.0 * (chosen < 0))).add_(0.0)


def rank(values: Tensor) -> int:
    """Return how many of the singular values, [k] descending, are above 1e-9 of the largest."""
    return int((values > values[:1] * RANK).to(torch.int64).sum()) if len(values) else 0


def clusters(values: Tensor) -> list[range]:
    """Return the ranges of indices of values, [k] in order, that are not told apart; every index is in one.

    Neighbours a, b are in one range iff |a - b| < 1e-12 · (largest magnitude of all).
    """
    if not len(values):
        return []
    gaps = (values[1:] - values[:-1]).abs()
    edges = (gaps >= values.abs().amax() * CLUSTER).nonzero()[:, 0] + 1
    bounds = [0, *edges.tolist(), len(values)]
    return [range(start, stop) for start, stop in pairwise(bounds)]


def cut(values: Tensor, k: int) -> int:
    """Return the most values, at most ``k``, that a truncation of [n] descending ones may keep.

    A cut through a cluster is not defined, so it moves to the cluster's beginning.
    """
    return max((c.stop for c in clusters(values) if c.stop <= k), default=0)
