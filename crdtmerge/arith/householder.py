"""Reflections that turn a vector into a multiple of the first unit vector, and many of them at once.

    H = I - τ·v·vᵀ,  v₀ = 1,  H·x = (α, 0, …, 0)

They are orthogonal to rounding whatever x is, so what is built on them works for every matrix, singular
ones included. A product of k reflections is I - V·T·Vᵀ with T upper triangular, [k, k] (Schreiber and Van
Loan 1989): so they are applied by exact products of matrices.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import torch
from torch import Tensor

from crdtmerge.arith import compiled
from crdtmerge.arith.elementwise import sqrt
from crdtmerge.arith.fold import fold
from crdtmerge.arith.product import gram, product

NEGLIGIBLE: Final = 2.0**-400
"""Where columns began with maxima near 1, what is left shorter than this is zero: its squares vanish."""


class Reflection(NamedTuple):
    """I - τ·v·vᵀ.

    Attributes:
        v: [n] float64, v₀ = 1.
        tau: [] float64; 0 stands for the identity.
        alpha: [] float64, what remains of the vector.
    """

    v: Tensor
    tau: Tensor
    alpha: Tensor


def reflection(x: Tensor) -> Reflection:
    """Return the reflection that maps ``x``, [n] float64 of magnitudes below about 2^500, to (α, 0, …).

    Determinism: norm = √fold(x·x); α = -norm where x₀ >= 0, else norm; v = x / (x₀ - α), τ = (α - x₀) / α.
    If the norm is negligible (2^-400), or x has one element, τ = 0 and α = x₀, or 0 for a negligible norm.
    """
    v = torch.zeros_like(x)
    v[0] = 1.0
    zero = torch.zeros_like(x[0])
    norm = sqrt(fold(x * x).reshape(1))[0]
    if norm.item() < NEGLIGIBLE:
        return Reflection(v, zero, zero)
    if len(x) == 1:
        return Reflection(v, zero, x[0].clone())
    alpha = -norm if x[0].item() >= 0 else norm
    v[1:] = x[1:] / (x[0] - alpha)
    return Reflection(v, (alpha - x[0]) / alpha, alpha)


class Reflections(NamedTuple):
    """The product I - V·T·Vᵀ of k reflections, the first one leftmost.

    Attributes:
        v: [n, k] float64.
        t: [k, k] float64, upper triangular.
    """

    v: Tensor
    t: Tensor

    @classmethod
    def of(cls, v: Tensor, tau: Tensor) -> Reflections:
        """Return the product of reflections with the columns of ``v``, [n, k], and ``tau``, [k].

        Determinism: G = gram(Vᵀ); column c of T is τ_c on the diagonal and, above, -τ_c · fold over j of
        T[:, j] · G[j, c], j < c.
        """
        g = gram(v.mT)
        t = torch.zeros_like(g)
        if (loops := compiled.kernels_for(g.device)) is not None:
            loops.join_reflections(g.numpy(), tau.numpy(), t.numpy())
            return cls(v, t)
        for c in range(len(tau)):
            t[:c, c] = fold((t[:c, :c] * g[:c, c]).mT) * -tau[c]
            t[c, c] = tau[c]
        return cls(v, t)

    def apply(self, x: Tensor) -> None:
        """Replace ``x``, [n, m], by (I - V·T·Vᵀ)·x."""
        x -= product(self.v, product(self.t, product(self.v.mT, x)))

    def apply_transposed(self, x: Tensor) -> None:
        """Replace ``x``, [n, m], by (I - V·Tᵀ·Vᵀ)·x."""
        x -= product(self.v, product(self.t.mT, product(self.v.mT, x)))
