"""Products of float64 matrices in which only the last steps round, so that any processor agrees.

A dot product in float64 depends on the order of its additions, and every library has its own. Integers
below 2^53 do not: whatever the order, the fusing of operations or the device, their sums are exact. So
rows of A and columns of B are split into integers (`slices`), these are multiplied by the processor's own
matrix product, and the integers that come out are combined elementwise, the smallest first (Ozaki, Ogita,
Oishi, Rump 2012, *Error-free transformations of matrix multiplication by using fast routines of matrix
multiplication*).

Blocks of 2048 keep K, and so the bits of a slice, from depending on the length of a sum. Both decide bits:
products of other slices or blocks are as good, and not the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce
from typing import Final

import numpy as np
import torch
from torch import Tensor

from crdtmerge.arith import compiled
from crdtmerge.arith.scaling import finite, power_of_two
from crdtmerge.arith.slices import Slices, slice_bits, split, tiles
from crdtmerge.errors import ParameterError

BLOCK: Final = 2048
"""Terms that are summed as integers; blocks are added one after the other."""

_EXPONENT_SAFE: Final = 900
"""Combined slices lie in 2^±100 or are 0: scaled by 2 to this they are neither subnormal nor infinite."""

_MODERATE: Final = 440
"""Scaling by 2 to this, there and back, is exact for all that occurs: in one step as in several."""

_STRIPES: Final = 4
"""Into how many the rows of a symmetric product are cut, of which each needs only what is left of its end."""

_Level = list[tuple[Tensor, bool]]
"""Products of slices that are added, each as it is or transposed."""


class Left:
    """A matrix A that is multiplied with many from the left: split into slices once."""

    def __init__(self, a: Tensor, slices: Slices = Slices.THREE) -> None:
        """Split [..., m, K] float64.

        Args:
            a: the matrix, or many.
            slices: as many slices as this are kept.

        Raises:
            ParameterError: if ``a`` is no float64 matrix.
            NonFiniteError: if an element is not finite.
        """
        if a.ndim < 2:
            raise ParameterError(f"no product of matrix {tuple(a.shape)}")
        _require_float64(a)
        self._shape, self._count = a.shape, slices.count
        self._blocks = [
            split(a[..., start:stop], -1, slices.count, slice_bits(stop - start))
            for start, stop in _blocks(a.shape[-1])
        ]

    def times(self, b: Tensor, slices: Slices = Slices.THREE) -> Tensor:
        """Return ``product(a, b, slices)``; ``slices`` has no more slices than A was split into.

        Raises:
            ParameterError: if the shapes do not fit, ``b`` is no float64, or slices are missing.
            NonFiniteError: if an element is not finite, or a block of the product exceeds float64.
        """
        shape = self._shape
        if b.ndim < 2 or shape[-1] != b.shape[-2]:
            raise ParameterError(f"no product of matrices {tuple(shape)} and {tuple(b.shape)}")
        if slices.count > self._count:
            raise ParameterError(
                f"wanted {slices.count} slices of a matrix that was split into {self._count}"
            )
        _require_float64(b)
        total = b.new_zeros(*np.broadcast_shapes(shape[:-2], b.shape[:-2]), shape[-2], b.shape[-1])
        for (start, stop), left in zip(_blocks(shape[-1]), self._blocks, strict=True):
            bits = slice_bits(stop - start)
            right = split(b[..., start:stop, :], -2, slices.count, bits)
            levels: list[_Level] = [
                [(_multiplied(left.slices[i], right.slices[j]), False) for i, j in level]
                for level in slices.levels
            ]
            _add(total, levels, bits, left.exponent, right.exponent)
        return total


def product(a: Tensor, b: Tensor, slices: Slices = Slices.THREE) -> Tensor:
    """Return A·B without any -0.0, [..., m, K] and [..., K, n] float64 to [..., m, n].

    Determinism: blocks of 2048 terms in ascending order; a block is a polynomial in 2^-β by Horner's rule,
    whose coefficients are added in the order of `Slices`; it is rounded once when it is scaled back.

    Source: Ozaki et al. 2012; slices rounded to nearest as in Minamihata et al. 2016.

    Raises:
        ParameterError: if the shapes do not fit or the elements are no float64.
        NonFiniteError: if an element is not finite, or a block of the product exceeds float64.
    """
    return Left(a, slices).times(b, slices)


def gram(a: Tensor, slices: Slices = Slices.THREE) -> Tensor:
    """Return A·Aᵀ, [..., m, K] to [..., m, m]: the bits of ``product(a, a.mT)``, for little more than half.

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
        rows = split(a[..., start:stop], -1, slices.count, bits)
        products = {
            (i, j): _multiplied(rows.slices[i], rows.slices[j].mT) if i < j else _squared(rows.slices[i])
            for level in slices.levels
            for i, j in level
            if i <= j
        }
        levels: list[_Level] = [
            [(products[min(i, j), max(i, j)], i > j) for i, j in level] for level in slices.levels
        ]
        _add(total, levels, bits, rows.exponent, rows.exponent.mT, symmetric=True)
    return total


def _require_float64(*matrices: Tensor) -> None:
    for matrix in matrices:
        if matrix.dtype != torch.float64:
            raise ParameterError(f"matrices are float64, got {matrix.dtype}")


def _blocks(length: int) -> Iterator[tuple[int, int]]:
    for start in range(0, length, BLOCK):
        yield start, min(start + BLOCK, length)


def _multiplied(left: Tensor, right: Tensor) -> Tensor:
    return torch.matmul(left, right)  # portable: integers whose sums stay within 2^53


def _squared(x: Tensor) -> Tensor:
    """Return X·Xᵀ, which is symmetric to the bit, as its sums are exact: half of a large one is copied."""
    rows = x.shape[-2]
    if x.ndim > 2 or rows <= _STRIPES * 16:
        return _multiplied(x, x.mT)
    out = torch.empty(rows, rows, dtype=x.dtype, device=x.device)
    step = -(-rows // _STRIPES)
    for start in range(0, rows, step):
        stop = min(start + step, rows)
        torch.mm(x[start:stop], x[:stop].mT, out=out[start:stop, :stop])  # portable: as above
        out[:start, start:stop] = out[start:stop, :start].mT
    return out


def _add(
    total: Tensor,
    levels: list[_Level],
    bits: int,
    e: Tensor,
    f: Tensor,
    *,
    symmetric: bool = False,
) -> None:
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
    loops = compiled.kernels_for(total.device)
    if loops is not None and moderate and total.ndim == 2:
        terms = [
            (part.data_ptr(), turned, place == len(level) - 1)
            for level in reversed(levels)
            for place, (part, turned) in enumerate(level)
        ]
        factors = e.reshape(-1).numpy(), f.reshape(-1).numpy()
        loops.combine_slices(total.numpy(), np.array(terms, np.int64), 2.0**-bits, *factors, symmetric)
        return
    for rows in tiles(total):
        chosen = [[(part.mT if turned else part)[..., rows, :] for part, turned in level] for level in levels]
        block, ours = _combined(chosen, bits), e[..., rows, :]
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
