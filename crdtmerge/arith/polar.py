"""The polar factor of a matrix: the nearest one with orthonormal columns, as far as it is determined.

For A = U·diag(σ)·Vᵀ it is U·Vᵀ over the singular values that are not noise (above 1e-9 of the largest).
Where A is of full rank its columns (or rows) are orthonormal; else it is a partial isometry: directions
that A does not have are mapped to 0, rather than to something invented.

No singular value is needed for that: an odd polynomial of X, p(X) = X·(a + b·XᵀX + c·(XᵀX)²), changes the
singular values and nothing else, and iterated it takes all of them to 1 (Kovarik 1970; polynomials that are
best on an interval: Nakatsukasa and Freund 2016; Amsel, Persson, Musco, Gower 2025, arXiv 2505.16932):

    GROW      up to four times as large where σ is small; what is in [0.1, 1] comes to [0.375, 1] and stays
    GATHER    takes [0.375, 1] to 1 ± 0.064
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
from crdtmerge.arith.product import Slices, exponent_of, gram, product, scaled
from crdtmerge.arith.svd import svd
from crdtmerge.errors import ParameterError

Odd: TypeAlias = tuple[float, float, float]

GROW: Final[Odd] = (3.85, -9.53, 6.68)
GATHER: Final[Odd] = (3.1, -4.65, 2.61)
LIFT: Final[Odd] = (2.6, -2.7, 1.1)
SETTLE: Final[Odd] = (1.875, -1.25, 0.375)

BEGINNING: Final = (GROW, GROW, GROW, GROW, GROW, GATHER, SETTLE)
"""Takes singular values down to 2^-12 of the largest near 1; what follows depends on what is left."""

GROWTH_MAX: Final = 2.0**29
"""Product of slopes: what needs more is below 1e-9 of the largest, or too close to it to tell."""

_CLOSE: Final = 2.0**-2
_SETTLED: Final = 2.0**-32
"""Squared norms of I - XᵀX: at the first all singular values are above 0.7, at the second a step is left."""


def polar(a: Tensor) -> Tensor:
    """Return U·Vᵀ over the rank of ``a``, [m, n] float64 to [m, n].

    Determinism: a wide matrix is transposed; A is scaled by a power of two to a maximum in [1/2, 1). With G =
    gram(Xᵀ), H = gram(G), and s = (Σ hᵢⱼ²)^⅛ of A itself and 1 later on, the polynomials of `BEGINNING` are X
    ← product(X, (G·(b/(s·s²)) + H·(c/(s·(s²·s²)))) + I·(a/s)). Then, with E = I - G and φ = Σ eᵢⱼ²: LIFT if φ
    > 1/4, else SETTLE, in the same way; and at φ <= 2^-32 the last step, X + product(X, E·½ + gram(E)·⅜), the
    Gram matrix in one slice, the product in two. Sums are `fold` over rows, then over what is left; roots are
    square roots, one after the other. If after `BEGINNING` Σ eᵢᵢ > 8 + n/8, or if the product of the slopes
    a would exceed 2^29, it is U·Vᵀ of `svd`.

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
        polynomial = SETTLE if left <= _CLOSE else LIFT
        growth *= polynomial[0]
        if growth > GROWTH_MAX:
            return None
        g = one - error
        x = _applied(polynomial, x, g, gram(g), one)
        error = one - gram(x.mT)
    correction = error * 0.5 + gram(error, Slices.ONE) * 0.375
    return (x + product(x, correction, Slices.TWO)).add_(0.0)


def _applied(polynomial: Odd, x: Tensor, g: Tensor, h: Tensor, one: Tensor, size: float = 1.0) -> Tensor:
    """Return X/s·(a + b·G/s² + c·H/s⁴)."""
    a, b, c = polynomial
    square = size * size
    inner = g * (b / (size * square)) + h * (c / (size * (square * square)))
    return product(x, inner + one * (a / size))


def _total(x: Tensor) -> float:
    return fold(fold(x)).item()
