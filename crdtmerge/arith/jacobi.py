"""Eigenvalues and eigenvectors of small symmetric matrices by Jacobi's rotations.

A rotation of rows and columns p and q makes element (p, q) zero; n/2 rotations with different p and q are
done at once, elementwise. In n - 1 such rounds everyone meets everyone, like teams in a tournament: all but
the first move on by one place in a circle,

    0  1  2  3         0  7  1  2
    |  |  |  |    →    |  |  |  |    →  …  and after n - 1 rounds they sit as before: a sweep
    4  5  6  7         5  6  …  3

and sweeps go on until nothing is left beside the diagonal. Every matrix has an answer, ties and zeros
included; the work is about 100·n³ operations, so larger ones are taken apart first.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import torch
from torch import Tensor

from crdtmerge.arith import compiled
from crdtmerge.arith.elementwise import sqrt
from crdtmerge.arith.product import gram, product
from crdtmerge.arith.scaling import exponent_of, scaled
from crdtmerge.arith.slices import Slices
from crdtmerge.errors import ParameterError

CONVERGED: Final = 2.0**-52
"""Elements beside the diagonal up to this share of its largest one are rounding errors."""

SWEEPS_MAX: Final = 200
"""Six to ten are the rule; multiple eigenvalues take some dozens, for within them angles are arbitrary."""

_NEGLIGIBLE: Final = 2.0**-500
"""Elements up to this are not rotated away: their squares vanish."""


class Eigen(NamedTuple):
    """What `jacobi` finds, in no particular order.

    Attributes:
        values: [b, n] float64.
        rows: [b, n, n] float64; row i is the eigenvector of value i.
    """

    values: Tensor
    rows: Tensor


def jacobi(a: Tensor) -> Eigen:
    """Return the eigenvalues and eigenvectors of a batch of symmetric matrices, [b, n, n] float64.

    Determinism: no matrix of the batch shows in another one's result. A matrix is scaled to a maximum in
    [1/2, 1) and, if n is odd, bordered by zeros. Before each sweep A ← (A + Aᵀ)/2, and a matrix rests that
    has no element beside the diagonal above 2^-52 of the largest on it. The rotation for α = a_pp, β =
    a_qq, γ = a_pq is t = ±2γ / (|δ| + √(δ² + 4γ²)) with the sign of δ = β - α (+ for 0), c = 1/√(1 + t²), s
    = t·c; rows first: p ← c·p - s·q, q ← s·p + c·q, then columns likewise; then a_pp = α - t·γ, a_qq = β +
    t·γ, a_pq = 0. The vectors rotate with the rows, and are made `orthonormal` at the end.

    Raises:
        NonFiniteError: if an element is not finite.
        ParameterError: if sweeps do not converge, which no symmetric matrix is known to do.
    """
    b, order, _ = a.shape
    if not a.numel():
        return Eigen(a.new_zeros(b, order), a)
    exponent = exponent_of(a, (-2, -1))
    n = order + order % 2
    work = a.new_zeros(b, n, n)
    work[:, :order, :order] = scaled(a, -exponent)
    rows = torch.eye(n, dtype=a.dtype, device=a.device).repeat(b, 1, 1)
    seats = next_seats(n).to(a.device)
    for _ in range(SWEEPS_MAX):
        work = (work + work.mT) * 0.5
        beside = work.abs()
        largest = beside.diagonal(dim1=-2, dim2=-1).amax(-1)
        beside.diagonal(dim1=-2, dim2=-1).zero_()
        active = beside.amax((-2, -1)) > largest * CONVERGED
        if not active.any():
            values = scaled(work.diagonal(dim1=-2, dim2=-1), exponent[..., 0])
            return Eigen(values[:, :order].contiguous(), orthonormal(rows[:, :order, :order]))
        if (loops := compiled.kernels_for(a.device)) is not None:
            loops.sweep(work.numpy(), rows.numpy(), active.double().numpy(), seats.numpy(), _NEGLIGIBLE)
            continue
        for _ in range(n - 1):
            work, rows = _round(work, rows, active.double()[:, None])
            work, rows = work[:, seats][:, :, seats], rows[:, seats]
    raise ParameterError(f"Jacobi's rotations did not converge in {SWEEPS_MAX} sweeps")


def orthonormal(rows: Tensor) -> Tensor:
    """Return R + (I - R·Rᵀ)·R / 2: rows that are orthonormal to rounding, of [..., k, n] that nearly are.

    One step of Newton and Schulz: an error ε becomes about ε².
    """
    error = torch.eye(rows.shape[-2], dtype=rows.dtype, device=rows.device) - gram(rows)
    return rows + product(error, rows, Slices.ONE) * 0.5


def angle(alpha: Tensor, beta: Tensor, gamma: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return tangent, cosine and sine of the rotations that make γ zero; of none unless ``wanted`` is 1."""
    delta, twice = beta - alpha, gamma * 2.0 * wanted
    root = delta.abs() + sqrt(delta * delta + twice * twice) + (1.0 - wanted)  # no division by 0
    t = (1.0 - 2.0 * (delta < 0)) * twice / root
    c = 1.0 / sqrt(1.0 + t * t)
    return t, c, t * c


def next_seats(n: int) -> Tensor:
    """Return which row sits in each place in the next round."""
    half = n // 2
    circle = [*range(1, half), *range(n - 1, half - 1, -1)]
    circle = [circle[-1], *circle[:-1]]
    return torch.tensor([0, *circle[: half - 1], *reversed(circle[half - 1 :])])


def _round(work: Tensor, rows: Tensor, active: Tensor) -> tuple[Tensor, Tensor]:
    """Rotate rows and columns i and i + n/2 of each matrix, for all i < n/2."""
    half = work.shape[-1] // 2
    alpha, beta = work.diagonal(dim1=-2, dim2=-1).chunk(2, -1)
    gamma = work[:, :half, half:].diagonal(dim1=-2, dim2=-1)
    wanted = (gamma.abs() > _NEGLIGIBLE) * active
    t, c, s = angle(alpha, beta, gamma, wanted)
    diagonal = torch.cat([alpha - t * gamma, beta + t * gamma], -1)
    work = _rotated(_rotated(work, c, s).mT, c, s).mT.contiguous()
    work.diagonal(dim1=-2, dim2=-1).copy_(diagonal)
    for corner in (work[:, :half, half:], work[:, half:, :half]):
        corner.diagonal(dim1=-2, dim2=-1).mul_(1.0 - wanted)
    return work, _rotated(rows, c, s)


def _rotated(x: Tensor, c: Tensor, s: Tensor) -> Tensor:
    upper, lower = x.chunk(2, -2)
    c, s = c[..., None], s[..., None]
    return torch.cat([c * upper - s * lower, s * upper + c * lower], -2)
