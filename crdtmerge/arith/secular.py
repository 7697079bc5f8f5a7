"""Eigenvalues and eigenvectors of a diagonal matrix plus ρ·z·zᵀ: the step that joins two halves.

With δ₁ < … < δ_k, no zⱼ zero and ρ > 0, the eigenvalues lie between the δ and beyond the last, one each,
where

    f(λ) = 1 + ρ · Σ zᵢ² / (δᵢ - λ) = 0

f rises from -∞ to ∞ in between, so a root is found by halving; each is kept as its distance μ from the
nearer δ, halved as a bit pattern, so that 64 steps give it to the last bit. Eigenvectors are then those of
the matrix whose eigenvalues the computed ones are *exactly*: ẑ is recomputed from them (Gu and Eisenstat
1994), and vectors are orthogonal however close eigenvalues come.

What violates the assumption is taken out before (*deflation*): a negligible zⱼ leaves δⱼ as it is, and of two
δ that nearly coincide, a rotation moves all of z to one.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import torch
from torch import Tensor

from crdtmerge.arith import compiled
from crdtmerge.arith.elementwise import sqrt
from crdtmerge.arith.fold import fold, fold_product

NEGLIGIBLE: Final = 2.0**-50
"""Times the largest |δ| or |z|: what is changed when a matrix is deflated."""

_HALVINGS: Final = 63


class Deflated(NamedTuple):
    """What is left of the problem, in ascending order of δ.

    Attributes:
        values: [n] δ, changed by rotations.
        z: [n].
        kept: which indices take part in the secular equation, ascending in δ.
        rotations: (i, j, c, s): columns i and j of the basis become c·i + s·j and c·j - s·i, in this order.
    """

    values: list[float]
    z: list[float]
    kept: list[int]
    rotations: list[tuple[int, int, float, float]]


def deflate(values: list[float], z: list[float], rho: float) -> Deflated:
    """Take out what needs no secular equation; ``values`` ascend, z has norm 1, ``rho`` > 0.

    Determinism: tolerance = 2^-50 · max(|δ|, |z|). In ascending order: j is out if ρ·|zⱼ| <= tolerance. Else,
    if i is the last one kept, r = √(zᵢ² + zⱼ²), c = zⱼ/r, s = -zᵢ/r, and |(δⱼ - δᵢ)·c·s| <= tolerance: i is
    out, zⱼ ← r, zᵢ ← 0, (δᵢ, δⱼ) ← (δᵢ·c² + δⱼ·s², δᵢ·s² + δⱼ·c²). Otherwise i stays. Then j is kept.
    """
    values, z = list(values), list(z)
    tolerance = NEGLIGIBLE * max(*map(abs, values), *map(abs, z))
    kept: list[int] = []
    rotations = []
    for j in range(len(values)):
        if rho * abs(z[j]) <= tolerance:
            continue
        if kept:
            i = kept[-1]
            r = math.sqrt(z[i] * z[i] + z[j] * z[j])
            c, s = z[j] / r, -z[i] / r
            if abs((values[j] - values[i]) * c * s) <= tolerance:
                z[i], z[j] = 0.0, r
                squares = c * c, s * s
                values[i], values[j] = (
                    values[i] * squares[0] + values[j] * squares[1],
                    values[i] * squares[1] + values[j] * squares[0],
                )
                rotations.append((i, j, c, s))
                kept.pop()
        kept.append(j)
    return Deflated(values, z, kept, rotations)


def update(delta: Tensor, z: Tensor, rho: float) -> tuple[Tensor, Tensor]:
    """Return the eigenvalues of diag(δ) + ρ·z·zᵀ, ascending, and its eigenvectors as columns.

    Args:
        delta: [k] float64, strictly ascending.
        z: [k] float64 without zeros.
        rho: positive.

    Determinism: sums and products over i are `fold`. The nearer δ is the lower one iff f ≥ 0 in the middle;
    after the last δ, the interval has the length ρ·Σz². μ = lower or upper end of [0, length/2] (whole for
    the last), halved as integers 63 times, the upper end taken.
    """
    squares = z * z
    length = torch.cat([delta[1:] - delta[:-1], (fold(squares) * rho).reshape(1)])
    half = length * 0.5
    half[-1] = length[-1]
    weights = squares[:, None] * rho
    apart = delta[:, None] - delta[None, :]
    lower = _rises(apart, weights, half)
    lower[-1] = 1.0
    pole = torch.where(lower > 0, delta, torch.cat([delta[1:], delta[-1:]]))
    apart = delta[:, None] - pole
    side = lower * 2.0 - 1.0
    high = half.clone().view(torch.int64)
    if (loops := compiled.kernels_for(delta.device)) is not None:
        rows = apart.mT.contiguous().numpy()
        loops.secular_roots(rows, weights[:, 0].numpy(), lower.numpy(), high.numpy(), _HALVINGS)
    else:
        low = torch.zeros_like(high)
        for _ in range(_HALVINGS):
            middle = low + ((high - low) >> 1)
            above = (_rises(apart, weights, side * middle.view(torch.float64)) == lower).to(torch.int64)
            high = high + (middle - high) * above
            low = low + (middle - low) * (1 - above)
    shift = side * high.view(torch.float64)
    distance = apart - shift  # δᵢ - λⱼ, without cancellation
    return pole + shift, _vectors(delta, z, distance)


def _rises(apart: Tensor, weights: Tensor, shift: Tensor) -> Tensor:
    """Return 1.0 where f(δ + shift) >= 0, else 0.0."""
    return ((fold(weights / (apart - shift)) + 1.0) >= 0).double()


def _vectors(delta: Tensor, z: Tensor, distance: Tensor) -> Tensor:
    """Return normalized columns ẑᵢ / (δᵢ - λⱼ) with ẑᵢ² = Πⱼ (λⱼ - δᵢ) / Πⱼ≠ᵢ (δⱼ - δᵢ), signs as in ``z``.

    A common factor of ẑ does not matter.
    """
    gaps = delta[:, None] - delta[None, :]
    gaps.diagonal().fill_(-1.0)
    estimate = sqrt(fold_product((distance / gaps).mT.contiguous()).abs())
    vectors = (estimate * torch.sign(z))[:, None] / distance
    return vectors / sqrt(fold(vectors * vectors))
