"""Products of float64 matrices in which only the last steps round, so that any processor agrees.

A dot product in float64 depends on the order of its additions, and every library has its own. Integers
below 2^53 do not: whatever the order, the fusing of operations or the device, their sums are exact. So
each row of A and each column of B is scaled by a power of two and cut into slices of β bits,

    a = 2^e · (s₀ · 2^-(β-1) + s₁ · 2^-(2β-1) + s₂ · 2^-(3β-1) + …)      sᵢ integers, |sᵢ| <= 2^(β-1)

the slices are multiplied by the processor's own matrix product, and the integers that come out are
combined elementwise, the smallest first (Ozaki, Ogita, Oishi, Rump 2012, *Error-free transformations of
matrix multiplication by using fast routines of matrix multiplication*).

Why nothing rounds: |a| < 2^e, so s₀ = round(a · 2^(β-1-e)) is at most 2^(β-1); what rounding left is at
most 1/2, so the next slice, 2^β times as fine, is at most 2^(β-1) too. A sum of K products of slices is at
most K · 2^(2β-2), and so is each of its partial sums. With β = min(26, ⌊(55 - ⌈log₂ K⌉) / 2⌋) this is at most
2^(⌈log₂ K⌉ + 2β - 2) <= 2^53. Blocks of 2048 keep K, and so β, from depending on the length of a sum. Both
decide bits: products of other slices or blocks are as good, and not the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from functools import reduce
from typing import Final, cast

import numpy as np
import torch
from torch import Tensor

from crdtmerge.errors import NonFiniteError, ParameterError

BLOCK: Final = 2048
"""Terms that are summed as integers; blocks are added one after the other."""

_BITS_MAX: Final = 26
_EXPONENT_SAFE: Final = 900
"""Combined slices lie in 2^±100 or are 0: scaled by 2 to this they are neither subnormal nor infinite."""


_MODERATE: Final = 440
"""Scaling by 2 to this, there and back, is exact for all that occurs: in one step as in several."""

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


def slice_bits(length: int) -> int:
    """Return β for sums of ``length`` products, 1 <= ``length`` <= 2048."""
    return min(_BITS_MAX, (55 - (length - 1).bit_length()) // 2)


def product(a: Tensor, b: Tensor, slices: Slices = Slices.THREE) -> Tensor:
    """Return A·B without any -0.0, [..., m, K] and [..., K, n] float64 to [..., m, n].

    Determinism: blocks of 2048 terms in ascending order; a block is a polynomial in 2^-β by Horner's rule,
    whose coefficients are added in the order of `Slices`; it is rounded once when it is scaled back.

    Source: Ozaki et al. 2012; slices rounded to nearest as in Minamihata et al. 2016.

    Raises:
        ParameterError: if the shapes do not fit or the elements are no float64.
        NonFiniteError: if an element is not finite, or a block of the product exceeds float64.
    """
    if a.ndim < 2 or b.ndim < 2 or a.shape[-1] != b.shape[-2]:
        raise ParameterError(f"no product of matrices {tuple(a.shape)} and {tuple(b.shape)}")
    _require_float64(a, b)
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    total = a.new_zeros(*batch, a.shape[-2], b.shape[-1])
    for start, stop in _blocks(a.shape[-1]):
        bits = slice_bits(stop - start)
        left, e = _split(a[..., start:stop], -1, slices.count, bits)
        right, f = _split(b[..., start:stop, :], -2, slices.count, bits)
        levels = [[_integers(left[i], right[j]) for i, j in level] for level in slices.levels]
        _add(total, levels, bits, e, f)
    return total


def gram(a: Tensor, slices: Slices = Slices.THREE) -> Tensor:
    """Return A·Aᵀ, [..., m, K] to [..., m, m]: the bits of ``product(a, a.mT)``, for two thirds of the work.

    It is symmetric to the bit.

    Raises:
        ParameterError: if ``a`` is no float64 matrix.
        NonFiniteError: as `product`.
    """
    if a.ndim < 2:
        raise ParameterError(f"no product of matrix {tuple(a.shape)} with its transpose")
    _require_float64(a)
    total = a.new_zeros(*a.shape[:-1], a.shape[-2])
    for start, stop in _blocks(a.shape[-1]):
        bits = slice_bits(stop - start)
        rows, e = _split(a[..., start:stop], -1, slices.count, bits)
        levels = []
        for level in slices.levels:
            done: dict[tuple[int, int], Tensor] = {}
            for i, j in level:
                done[i, j] = done[j, i].mT if (j, i) in done else _integers(rows[i], rows[j].mT)
            levels.append(list(done.values()))
        _add(total, levels, bits, e, e.mT)
    return total


def scaled(x: Tensor, exponent: Tensor) -> Tensor:
    """Return ``x · 2^exponent`` for exponents in [-2044, 2046]: in two steps, for 2^1074 is no float64.

    Exact unless a subnormal number is lost on the way.
    """
    half = exponent >> 1
    return x * power_of_two(half) * power_of_two(exponent - half)


def power_of_two(exponent: Tensor) -> Tensor:
    """Return 2 to integers in [-1022, 1023], exactly."""
    return ((exponent.to(torch.int64) + 1023) << 52).view(torch.float64)


def exponent_of(x: Tensor, dim: int | tuple[int, ...]) -> Tensor:
    """Return the least integer e with |x| < 2^e along ``dim``, which is kept with length 1; 0 where x = 0.

    Raises:
        NonFiniteError: if an element is not finite.
    """
    peak = torch.maximum(x.amax(dim, keepdim=True), -x.amin(dim, keepdim=True))
    if not torch.isfinite(peak).all():
        raise NonFiniteError("a matrix has an element that is not finite")
    return torch.frexp(peak).exponent.to(torch.int64)


def finite(x: Tensor, what: str) -> Tensor:
    """Return ``x``.

    Raises:
        NonFiniteError: if an element is not finite; ``what`` names it.
    """
    if not torch.isfinite(x).all():
        raise NonFiniteError(f"{what} exceeds the range of float64")
    return x


def _require_float64(*matrices: Tensor) -> None:
    for matrix in matrices:
        if matrix.dtype != torch.float64:
            raise ParameterError(f"matrices are float64, got {matrix.dtype}")


def _blocks(length: int) -> Iterator[tuple[int, int]]:
    for start in range(0, length, BLOCK):
        yield start, min(start + BLOCK, length)


def _tiles(x: Tensor) -> Iterator[slice]:
    """Cut the rows of a large matrix so that what is made from them stays in a processor's cache."""
    rows = x.shape[-2]
    step = max(_TILE // max(x.shape[-1], 1), 1) if x.ndim == 2 and x.device.type == "cpu" else max(rows, 1)
    for start in range(0, rows, step):
        yield slice(start, start + step)


def _split(x: Tensor, dim: int, count: int, bits: int) -> tuple[list[Tensor], Tensor]:
    """Return the slices of ``x`` and the exponents that its rows (or columns) were scaled by."""
    if x.numel() == 0:
        shape = [1 if axis == dim % x.ndim else length for axis, length in enumerate(x.shape)]
        return [x] * count, torch.zeros(shape, dtype=torch.int64, device=x.device)
    if x.stride(-1) > x.stride(-2):  # a transpose is read along its memory
        slices, exponent = _split(x.mT, -3 - dim, count, bits)
        return [part.mT for part in slices], exponent.mT
    exponent = exponent_of(x, dim)
    shift = bits - 1 - exponent
    slices = [torch.empty(x.shape, dtype=x.dtype, device=x.device) for _ in range(count)]
    for rows in _tiles(x):
        rest = scaled(x[..., rows, :], shift[..., rows, :] if dim == -1 else shift)
        part = torch.round(rest, out=slices[0][..., rows, :])
        for whole in slices[1:]:
            rest -= part
            rest *= 2.0**bits
            part = torch.round(rest, out=whole[..., rows, :])
    return slices, exponent


def _integers(left: Tensor, right: Tensor) -> Tensor:
    return torch.matmul(left, right)  # portable: integers whose sums stay within 2^53


def _add(total: Tensor, levels: list[list[Tensor]], bits: int, e: Tensor, f: Tensor) -> None:
    """Add Σ levelᵢ · 2^(e + f - 2(β-1) - i·β), rounded once; as ``total`` has no -0.0, it gets none.

    Raises:
        NonFiniteError: if the total exceeds float64.
    """
    if not total.numel():
        return
    f = f - 2 * (bits - 1)
    moderate = max(e.abs().amax().item(), f.abs().amax().item()) <= _MODERATE
    if moderate:
        e, f = power_of_two(e), power_of_two(f)
    for rows in _tiles(total):
        block = _combined([[part[..., rows, :] for part in level] for level in levels], bits)
        ours = e[..., rows, :]
        total[..., rows, :] += block.mul_(ours).mul_(f) if moderate else _scaled_back(block, ours + f)
    if not moderate:
        finite(total, "a product of matrices")


def _combined(levels: list[list[Tensor]], bits: int) -> Tensor:
    """Return Σ levelᵢ · 2^-(i · bits), the last level first."""
    coefficients = [reduce(torch.add, level) for level in levels]
    total = coefficients.pop()
    while coefficients:
        total = (total * 2.0**-bits).add_(coefficients.pop())
    return total


def _scaled_back(x: Tensor, exponent: Tensor) -> Tensor:
    """Return ``x · 2^exponent``, rounded once: the first step is exact, the second may leave the range.

    Where the second factor is confined, the result is 0 or beyond float64 all the same.
    """
    first = exponent.clamp(-_EXPONENT_SAFE, _EXPONENT_SAFE)
    second = (exponent - first).clamp(-1022, 1023)
    return (x * power_of_two(first)).mul_(power_of_two(second))
