"""Float64 numbers as sums of integers, which a processor can multiply and add without rounding.

    a = 2^e · (s₀ · 2^-(β-1) + s₁ · 2^-(2β-1) + s₂ · 2^-(3β-1) + …)      sᵢ integers, |sᵢ| <= 2^(β-1)

with one e for each row of A, or each column of B. |a| < 2^e, so s₀ = round(a · 2^(β-1-e)) is at most 2^(β-1);
what rounding left is at most 1/2, so the next slice, 2^β times as fine, is at most 2^(β-1) too. A sum of K
products of slices is at most K · 2^(2β-2), and so is each of its partial sums. With β = min(26, ⌊(55 - ⌈log₂
K⌉) / 2⌋) this is at most 2^(⌈log₂ K⌉ + 2β - 2) <= 2^53.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from types import ModuleType
from typing import Final, NamedTuple, cast

import torch
from torch import Tensor

from crdtmerge.arith import compiled
from crdtmerge.arith.scaling import exponent_of, require_finite, scaled

_BITS_MAX: Final = 26

_TILE: Final = 1 << 15
"""Elements that are worked on together on a CPU; decides no bit."""


class Slices(Enum):
    """How many slices, and which pairs of them are multiplied: one level of size after the other.

    The error of an element in a block of K terms is at most 2^-53 of it (or 2^-1075) and (5K + 16) · 2^-Sβ ·
    2^(e + e'), where 2^e and 2^e' are at most twice the largest magnitude in the block's row and column.
    """

    ONE = (((0, 0),),)
    """1 product, error 2^-22 of row maximum times column maximum: for estimates and corrections."""
    TWO = (((0, 0),), ((0, 1), (1, 0)))
    """3 products, 2^-44: for iterations that mend their own errors."""
    TWO_FULL = (((0, 0),), ((0, 1), (1, 0)), ((1, 1),))
    """4 products, 2^-44 too, with a smaller constant: for numbers that were float32."""
    THREE = (((0, 0),), ((0, 1), (1, 0)), ((0, 2), (2, 0), (1, 1)))
    """6 products, better than float64 sums: for results."""

    @property
    def levels(self) -> tuple[tuple[tuple[int, int], ...], ...]:
        """The pairs (slice of A, slice of B), level by level, in the order they are added."""
        return cast("tuple[tuple[tuple[int, int], ...], ...]", self.value)

    @property
    def count(self) -> int:
        """S, the number of slices."""
        return 1 + max(i for level in self.levels for i, _ in level)


class Split(NamedTuple):
    """A matrix in slices.

    Attributes:
        slices: of its shape, the largest first; integers as float64.
        exponent: e, int64, of its shape but for the side along which it is the same, which is 1.
    """

    slices: list[Tensor]
    exponent: Tensor

    @property
    def mT(self) -> Split:  # noqa: N802  as torch calls it
        """The transpose, in slices."""
        return Split([part.mT for part in self.slices], self.exponent.mT)


def slice_bits(length: int) -> int:
    """Return β for sums of ``length`` products, 1 <= ``length`` <= 2048."""
    return min(_BITS_MAX, (55 - (length - 1).bit_length()) // 2)


def split(x: Tensor, dim: int, count: int, bits: int) -> Split:
    """Split [..., m, n] float64 into slices.

    Args:
        x: the matrix, or many.
        dim: -1 for one exponent a row, -2 for one a column.
        count: how many slices.
        bits: β.

    Raises:
        NonFiniteError: if an element is not finite.
    """
    if x.numel() == 0:
        shape = [1 if axis == dim % x.ndim else length for axis, length in enumerate(x.shape)]
        return Split([x] * count, torch.zeros(shape, dtype=torch.int64, device=x.device))
    if x.stride(-1) > x.stride(-2):  # a transpose is read along its memory
        return split(x.mT, -3 - dim, count, bits).mT
    loops = compiled.kernels_for(x.device)
    if loops is not None and x.stride(-1) == 1 and x.ndim == 2:
        return _split_by_loops(loops, x, dim, count, bits)
    exponent = exponent_of(x, dim)
    shift = bits - 1 - exponent
    slices = [torch.empty(x.shape, dtype=x.dtype, device=x.device) for _ in range(count)]
    for rows in tiles(x):
        rest = scaled(x[..., rows, :], shift[..., rows, :] if dim == -1 else shift)
        part = torch.round(rest, out=slices[0][..., rows, :])
        for whole in slices[1:]:
            rest -= part
            rest *= 2.0**bits
            part = torch.round(rest, out=whole[..., rows, :])
    return Split(slices, exponent)


def _split_by_loops(loops: ModuleType, x: Tensor, dim: int, count: int, bits: int) -> Split:
    rows, columns = x.shape
    slices = torch.empty(count, rows, columns, dtype=x.dtype)
    exponent = torch.empty((rows, 1) if dim == -1 else (1, columns), dtype=torch.int64)
    work = loops.split_rows if dim == -1 else loops.split_columns
    good = work(x.data_ptr(), x.stride(0), bits, slices.numpy(), exponent.view(-1).numpy())
    require_finite(good=bool(good))
    return Split(list(slices), exponent)


def tiles(x: Tensor) -> Iterator[slice]:
    """Cut the rows of a large matrix so that what is made from them stays in a processor's cache."""
    rows = x.shape[-2]
    step = max(_TILE // max(x.shape[-1], 1), 1) if x.ndim == 2 and x.device.type == "cpu" else max(rows, 1)
    for start in range(0, rows, step):
        yield slice(start, start + step)
