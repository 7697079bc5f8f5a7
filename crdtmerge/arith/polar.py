"""The polar factor of a matrix: the nearest one with orthonormal columns, as far as it is determined.

For A = U·diag(σ)·Vᵀ it is U·Vᵀ over the singular values that are not noise (above 1e-9 of the largest).
Where A is of full rank its columns (or rows) are orthonormal; else it is a partial isometry: directions
that A does not have are mapped to 0, rather than to something invented.

No singular value is needed for that: an odd polynomial of X, p(X) = X·(a + b·XᵀX + c·(XᵀX)²), changes the
singular values and nothing else, and iterated it takes all of them to 1 (Kovarik 1970). The first seven are
each the best one of degree 5 for the interval that those before it leave, which makes their composition the
best one there is (Nakatsukasa and Freund 2016; Amsel, Persson, Musco, Gower 2025, arXiv 2505.16932):

    [2^-12, 1]  →  [0.002, 2.0]  →  [0.009, 2.0]  →  …  →  [0.46, 1.5]  →  [0.89, 1.11]  →  1 ± 0.0009

and what follows depends on what is left:

    LIFT      2.6 times as large where σ is small; what is near 1 stays
    SETTLE    near 1, an error ε becomes 5/2·ε³ (Newton and Schulz)

Small singular values cannot grow by more than the product of the slopes a, so when all have come to 1, it is
certain that A is of full rank. Where they have not in the time that the rank allows, or too many are small,
`svd` decides.
"""

from __future__ import annotations

import math
from typing import Final, TypeAlias

import torch
from torch import Tensor

from crdtmerge.arith.fold import fold
from crdtmerge.arith.product import gram, product
from crdtmerge.arith.scaling import exponent_of, scaled
from crdtmerge.arith.slices import Slices
from crdtmerge.arith.svd import svd
from crdtmerge.errors import ParameterError

Odd: TypeAlias = tuple[float, float, float]

BEGINNING: Final[tuple[Odd, ...]] = (
    (8.5035, -25.2392, 18.7336),
    (4.239, -3.1478, 0.5851),
    (4.1817, -3.1081, 0.5806),
    (3.9568, -2.9503, 0.5625),
    (3.2741, -2.4552, 0.5062),
    (2.2641, -1.6362, 0.4154),
    (1.888, -1.2645, 0.3766),
)
"""Best on [2^-12, 1] and on what the ones before make of it, to four decimal places."""

LIFT: Final[Odd] = (2.6, -2.7, 1.1)

GROWTH_MAX: Final = 2.0**29
"""Product of slopes: what needs more is below 1e-9 of the largest, or too close to it to tell."""

_CLOSE: Final = 2.0**-2
_SETTLED: Final = 2.0**-32
"""Squared norms of E = I - XᵀX: at one all singular values are above 0.7, at the other a step is left."""

_NEAR: Final = 2.0**-8
"""Elements of E up to this one have squares so small that two slices of them are enough."""


def polar(a: Tensor) -> Tensor:
    """Return U·Vᵀ over the rank of ``a``, [m, n] float64 to [m, n].

    Determinism: a wide matrix is transposed; A is scaled by a power of two to a maximum in [1/2, 1). With G =
    gram(Xᵀ), H = gram(G), and s = (Σ hᵢⱼ²)^⅛ of A itself and 1 later on, the polynomials of `BEGINNING` are X
    ← product(X, (G·(b/(s·s²)) + H·(c/(s·(s²·s²)))) + I·(a/s)). Then, with E = I - G and φ = Σ eᵢⱼ²: LIFT if φ
    > 1/4, in the same way; else SETTLE, X + product(X, E·½ + gram(E)·⅜), where the Gram matrix is taken in
    two slices if no |eᵢⱼ| exceeds 2^-8; and it is the last step at φ <= 2^-32, the Gram matrix in one slice
    and the product in two. Sums are `fold` over rows, then over what is left; roots are square roots, one
    after the other. If after `BEGINNING` Σ eᵢᵢ > 8 + n/8, or if the product of the slopes a would exceed
    2^29, it is U·Vᵀ of `svd`.

    Raises:
        ParameterError: if ``a`` is no matrix.
        NonFiniteError: if an element is not finite.
    """
    if a.ndim != 2:
        raise ParameterError(f"wanted a matrix, got shape {tuple(a.shape)}")
    if a.shape[0] < a.shape[1]:
        return polar(a.mT).mT.contiguous()
    factor = _iterated(scaled(a, -exponent_of(a, (0, 1)))) if a.numel() else None
    if factor is not None:
        return factor
    u, _, v = svd(a)
    return product(u, v.mT)


def _iterated(x: Tensor) -> Tensor | None:
    """Return the polar factor of a tall matrix whose largest element is near 1; None if rank is in doubt."""
    n = x.shape[1]
    one = torch.eye(n, dtype=x.dtype, device=x.device)
    size, growth = 0.0, 1.0
    for polynomial in BEGINNING:
        g = gram(x.mT)
        h = gram(g)
        size = 1.0 if size else math.sqrt(math.sqrt(math.sqrt(_total(h * h))))
        if not size:
            return None
        x = _applied(polynomial, x, g, h, one, size)
        growth *= polynomial[0]
    error = one - gram(x.mT)
    if fold(error.diagonal()).item() > 8 + n / 8:
        return None
    while (left := _total(error * error)) > _SETTLED:
        if left <= _CLOSE:
            near = error.abs().amax().item() <= _NEAR
            x = _corrected(x, error, Slices.TWO if near else Slices.THREE, Slices.THREE)
        else:
            growth *= LIFT[0]
            if growth > GROWTH_MAX:
                return None
            g = one - error
            x = _applied(LIFT, x, g, gram(g), one)
        error = one - gram(x.mT)
    return _corrected(x, error, Slices.ONE, Slices.TWO).add_(0.0)


def _applied(polynomial: Odd, x: Tensor, g: Tensor, h: Tensor, one: Tensor, size: float = 1.0) -> Tensor:
    """Return X/s·(a + b·G/s² + c·H/s⁴)."""
    a, b, c = polynomial
    square = size * size
    inner = g * (b / (size * square)) + h * (c / (size * (square * square)))
    return product(x, inner + one * (a / size))


def _corrected(x: Tensor, error: Tensor, of_squares: Slices, of_all: Slices) -> Tensor:
    """Return X·(15/8 - 10/8·G + 3/8·G²), written with E = I - G: the smaller E, the fewer slices it takes."""
    return x + product(x, error * 0.5 + gram(error, of_squares) * 0.375, of_all)


def _total(x: Tensor) -> float:
    return fold(fold(x)).item()
