"""Eigenvalues and eigenvectors of a symmetric matrix of any size.

The matrix is reduced to a tridiagonal one T, T is cut in two by taking a matrix of rank one away, and the
eigenvectors of the halves are joined again (Cuppen 1981; Gu and Eisenstat 1995):

    T = ┌T₁   ┐ + ρ·u·uᵀ     T₁ = Q₁·D₁·Q₁ᵀ  →  T = Q·(D + ρ·z·zᵀ)·Qᵀ,  z = Qᵀ·u
        └   T₂┘              T₂ = Q₂·D₂·Q₂ᵀ      which `secular` solves

Pieces of at most 16 are left to `jacobi`, all of them at once. Joining is exact products for the most part.
Ties and clusters shorten the work instead of hindering it.

Eigenvalues ascend. Of a vector the element largest in magnitude is positive (of equal ones the first), but
that makes single vectors no more meaningful: within a cluster of eigenvalues (see `clusters`) only the space
that they span is, so consumers should use projectors of whole clusters.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Final, NamedTuple

import torch
from torch import Tensor

from crdtmerge.arith.cholesky import require_square
from crdtmerge.arith.jacobi import jacobi, orthonormal
from crdtmerge.arith.product import product
from crdtmerge.arith.scaling import exponent_of, finite, scaled
from crdtmerge.arith.secular import deflate, update
from crdtmerge.arith.spectrum import signs
from crdtmerge.arith.tridiagonal import Tridiagonal, tridiagonal

LEAF: Final = 16
"""Order of the largest matrix that is not cut."""


class Eigh(NamedTuple):
    """V·diag(values)·Vᵀ.

    Attributes:
        values: [n] float64, ascending.
        vectors: [n, n] float64, one in each column, orthonormal to rounding.
    """

    values: Tensor
    vectors: Tensor


def eigh(a: Tensor) -> Eigh:
    """Return eigenvalues and eigenvectors of [n, n] float64; only the lower triangle is read.

    Residual and loss of orthogonality stay within a few units in the last place of the largest eigenvalue.

    Determinism: A is scaled by a power of two to a maximum in [1/2, 1), reduced by `tridiagonal`, and the
    pieces [⌊i·n/p⌋, ⌊(i+1)·n/p⌋) for the least power of two p with n <= 16·p are joined in pairs, level by
    level. The vectors are multiplied by H and made `orthonormal`; values are sorted stably; then `signs`.

    Raises:
        ParameterError: if ``a`` is not square.
        NonFiniteError: if an element is not finite, or an eigenvalue exceeds float64.
    """
    require_square(a)
    n = len(a)
    if not n:
        return Eigh(a.new_zeros(0), a.clone())
    lower = a.tril()
    exponent = exponent_of(lower, (0, 1))
    reduced = tridiagonal(scaled(lower + lower.tril(-1).mT, -exponent))
    values, vectors = _divided(reduced)
    reduced.apply(vectors)
    vectors = orthonormal(vectors.mT).mT
    values = finite(scaled(values, exponent[0]), "an eigenvalue").add_(0.0)
    return Eigh(values, signs(vectors))


def _divided(t: Tridiagonal) -> tuple[Tensor, Tensor]:
    n = len(t.diagonal)
    pieces = 1 << ((n - 1) // LEAF).bit_length()
    cuts = [i * n // pieces for i in range(pieces + 1)]
    diagonal = t.diagonal.clone()
    inner = torch.tensor(cuts[1:-1], dtype=torch.int64, device=diagonal.device)
    rho = t.beside[inner - 1].abs()
    diagonal[inner - 1] -= rho
    diagonal[inner] -= rho
    solved = _leaves(diagonal, t.beside, cuts)
    while len(solved) > 1:
        cuts = cuts[::2]
        solved = [
            _joined(first, second, t.beside[(left + len(first[0])) - 1].item())
            for left, first, second in zip(cuts, solved[::2], solved[1::2], strict=False)
        ]
    return solved[0]


def _leaves(diagonal: Tensor, beside: Tensor, cuts: list[int]) -> list[tuple[Tensor, Tensor]]:
    """Return ascending values and column vectors of each piece; shorter ones are bordered by zeros."""
    sizes = [stop - start for start, stop in pairwise(cuts)]
    batch = diagonal.new_zeros(len(sizes), max(sizes), max(sizes))
    for matrix, start, size in zip(batch, cuts, sizes, strict=False):
        matrix.diagonal()[:size] = diagonal[start : start + size]
        for offset in (-1, 1):
            matrix.diagonal(offset)[: size - 1] = beside[start : start + size - 1]
    values, rows = jacobi(batch)
    return [_ascending(v[:size], r[:size, :size].mT) for v, r, size in zip(values, rows, sizes, strict=True)]


def _ascending(values: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    values, order = torch.sort(values, stable=True)
    return values, columns[:, order]


def _joined(
    first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor], coupling: float
) -> tuple[Tensor, Tensor]:
    """Return ascending values and vectors of two halves and the element that coupled them.

    Determinism: ρ = 2·|coupling|; z = (last row of Q₁, ± first row of Q₂)·√½, the sign that of the
    coupling. The two halves' values are sorted stably; where a vector has only zeros in a half, it takes no
    part in its product.
    """
    m, n = len(first[0]), len(first[0]) + len(second[0])
    values, order = torch.sort(torch.cat([first[0], second[0]]), stable=True)
    basis = values.new_zeros(n, n)
    basis[:m, :m], basis[m:, m:] = first[1], second[1]
    basis = basis[:, order]
    rho = 2.0 * abs(coupling)
    z = (basis[m - 1] + basis[m] * (-1.0 if coupling < 0 else 1.0)) * math.sqrt(0.5)
    in_first, in_second = order < m, order >= m
    left = deflate(values.tolist(), z.tolist(), rho)
    for i, j, c, s in left.rotations:
        basis[:, i], basis[:, j] = basis[:, i] * c + basis[:, j] * s, basis[:, j] * c - basis[:, i] * s
        for half in (in_first, in_second):
            half[i] = half[j] = bool(half[i]) or bool(half[j])
    values = torch.tensor(left.values, dtype=torch.float64, device=values.device)
    if left.kept:
        kept = torch.tensor(left.kept, device=values.device)
        chosen = torch.tensor(left.z, dtype=torch.float64, device=values.device)[kept]
        roots, vectors = update(values[kept], chosen, rho)
        for rows, inside in ((slice(None, m), in_first), (slice(m, None), in_second)):
            part = inside[kept]
            basis[rows, kept] = product(basis[rows, kept[part]], vectors[part])
        values[kept] = roots
    return _ascending(values, basis)
