"""Singular value decompositions, of whole matrices and of products B·A of low rank.

    A = Q·R,   RᵀR = V·Λ·Vᵀ,   W = R·V

The columns of W are almost orthogonal, but for those of small singular values, which squaring has drowned
in rounding errors. Where the angles that are missing are tiny, one product turns all columns at once; else
one-sided rotations (Hestenes 1958; seats as in `jacobi`) do. Both work in the precision of A.

Only singular values above 1e-9 of the largest are returned, with their vectors: what is below is noise, and
its vectors would be invented. Values descend. Signs are those of `signs` for U; V's follow. As with
eigenvectors, only the spaces of whole clusters mean something.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import torch
from torch import Tensor

from crdtmerge.arith import compiled
from crdtmerge.arith.eigh import eigh
from crdtmerge.arith.elementwise import sqrt
from crdtmerge.arith.fold import fold
from crdtmerge.arith.jacobi import SWEEPS_MAX, angle, next_seats, orthonormal
from crdtmerge.arith.product import gram, product
from crdtmerge.arith.qr import qr
from crdtmerge.arith.scaling import exponent_of, finite, scaled
from crdtmerge.arith.spectrum import rank, signs
from crdtmerge.errors import ParameterError

ORTHOGONAL: Final = 2.0**-50
"""Cosine of two columns that are orthogonal to rounding."""

SMALL: Final = 2.0**-26
"""Angles up to this one add up: what their squares would change is a rounding error."""

_FLOOR: Final = 2.0**-36
"""Columns below this share of the longest are noise, and are cut by rank in the end."""


class SVD(NamedTuple):
    """U·diag(values)·Vᵀ.

    Attributes:
        u: [m, k] float64, k the rank.
        values: [k] float64, descending and positive.
        v: [n, k] float64.
    """

    u: Tensor
    values: Tensor
    v: Tensor


def svd(a: Tensor) -> SVD:
    """Return the singular values of [m, n] float64 above 1e-9 of the largest, and their vectors.

    Determinism: a wide matrix is transposed; scaled by a power of two to a maximum in [1/2, 1); `qr`; W = R·V
    with the eigenvectors of gram(Rᵀ), last first. Before each sweep, G = gram(Wᵀ): done if |Gᵢⱼ| <= 2^-50 ·
    |wᵢ| · max(|wⱼ|, 2^-36·|w|max) for all |wᵢ| >= |wⱼ| with |wᵢ| > 2^-36·|w|max. If the others have
    |Gᵢⱼ| <= 2^-26 · |Gⱼⱼ - Gᵢᵢ|, W and V are multiplied by I + X with Xᵢⱼ = Gᵢⱼ / (Gⱼⱼ - Gᵢᵢ) for these; else
    they are turned by a sweep of rotations.
    Singular values are √Gᵢᵢ, sorted stably. U = Q·(W / values) and V are made `orthonormal`.

    Raises:
        ParameterError: if ``a`` is no matrix.
        NonFiniteError: if an element is not finite.
    """
    if a.ndim != 2:
        raise ParameterError(f"wanted a matrix, got shape {tuple(a.shape)}")
    if a.shape[0] < a.shape[1]:
        v, values, u = _tall(a.mT)
        return signed(u, values, v)
    return signed(*_tall(a))


def svd_product(b: Tensor, a: Tensor) -> SVD:
    """Return `svd` of B·A, [m, r] times [r, n] float64 with a small r, without forming the product.

    Determinism: QR factors of B and of Aᵀ, the SVD of R_B · R_Aᵀ, and its vectors multiplied by the Q.

    Raises:
        ParameterError: if the shapes do not fit.
        NonFiniteError: if an element is not finite, or the product exceeds float64.
    """
    if a.ndim != 2 or b.ndim != 2 or b.shape[1] != a.shape[0]:
        raise ParameterError(f"no product of matrices {tuple(b.shape)} and {tuple(a.shape)}")
    left, right = qr(b), qr(a.mT)
    small = svd(product(left.r, right.r.mT))
    return signed(product(left.q, small.u), small.values, product(right.q, small.v))


def signed(u: Tensor, values: Tensor, v: Tensor) -> SVD:
    """Return the decomposition with the signs of `signs` for U, and V's columns changed alike."""
    canonical = signs(u)
    changed = (canonical * u).amin(0) < 0 if u.numel() else torch.zeros_like(values) > 0
    return SVD(canonical, values, (v * (1.0 - 2.0 * changed)).add_(0.0))


def _tall(a: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    if not a.numel():
        return a.new_zeros(len(a), 0), a.new_zeros(0), a.new_zeros(a.shape[1], 0)
    exponent = exponent_of(a, (0, 1))
    q, r = qr(scaled(a, -exponent))
    v = eigh(gram(r.mT)).vectors.flip(1)
    w, v, values = _orthogonalized(product(r, v), v)
    values, order = torch.sort(values, descending=True, stable=True)
    order = order[: rank(values)]
    values = values[: len(order)]
    u = orthonormal(product(q, w[:, order] / values).mT).mT
    return u, finite(scaled(values, exponent[0]), "a singular value"), orthonormal(v[:, order].mT).mT


def _orthogonalized(w: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rotate pairs of columns of ``w``, and of ``v`` alike, until all are orthogonal; also return lengths."""
    columns = w.shape[1]
    if columns % 2:
        w, v = (torch.cat([x, x.new_zeros(len(x), 1)], 1) for x in (w, v))
    seats = next_seats(w.shape[1]).to(w.device)
    for _ in range(SWEEPS_MAX):
        dots = gram(w.mT)
        lengths = sqrt(dots.diagonal().contiguous())
        floor = lengths.amax() * _FLOOR
        oblique = _oblique(dots, lengths[:, None], lengths[None, :], floor)
        oblique.diagonal().fill_(value=False)
        if not oblique.any():
            return w[:, :columns], v[:, :columns], lengths[:columns]
        gaps = dots.diagonal()[None, :] - dots.diagonal()[:, None]
        if not (oblique & (dots.abs() > gaps.abs() * SMALL)).any():
            x = torch.where(oblique, dots, 0.0) / torch.where(oblique, gaps, 1.0)
            w, v = w + product(w, x), v + product(v, x)
            continue
        if (loops := compiled.kernels_for(w.device)) is not None:
            rows = w.mT.contiguous(), v.mT.contiguous()
            w, v = (x.mT for x in rows)
            loops.one_sided_sweep(*(x.numpy() for x in rows), seats.numpy(), floor.item(), ORTHOGONAL)
            continue
        for _ in range(w.shape[1] - 1):
            w, v = _round(w, v, floor)
            w, v = w[:, seats], v[:, seats]
    raise ParameterError(f"one-sided rotations did not converge in {SWEEPS_MAX} sweeps")


def _oblique(dots: Tensor, first: Tensor, second: Tensor, floor: Tensor) -> Tensor:
    """Return which pairs are neither orthogonal nor both noise, given their products and lengths."""
    longer, shorter = torch.maximum(first, second), torch.minimum(first, second)
    return (longer > floor) & (dots.abs() > longer * torch.maximum(shorter, floor) * ORTHOGONAL)


def _round(w: Tensor, v: Tensor, floor: Tensor) -> tuple[Tensor, Tensor]:
    """Rotate columns i and i + n/2 for all i < n/2: α, β, γ are `fold` of p·p, q·q, p·q, t as in `jacobi`."""
    p, q = w.chunk(2, 1)
    alpha, beta, gamma = fold(p * p), fold(q * q), fold(p * q)
    wanted = _oblique(gamma * 8.0, sqrt(alpha), sqrt(beta), floor).double()
    _, c, s = angle(alpha, beta, gamma, wanted)
    return _rotated(w, c, s), _rotated(v, c, s)


def _rotated(x: Tensor, c: Tensor, s: Tensor) -> Tensor:
    p, q = x.chunk(2, 1)
    return torch.cat([c * p - s * q, s * p + c * q], 1)
