"""The largest singular values of a large matrix, by filtered subspace iteration.

    X ← basis of p(Aᵀ·A)·X

from a matrix of random integers, a little wider than what is wanted, until the residuals say that the wanted
vectors stand still. After each round the singular values that the space shows, σ₁ … σ_w, tell how p may be
chosen: Chebyshev's polynomials stay within ±1 on [0, σ_w²], where nothing is wanted, and grow faster than any
other outside (Saad 1984; Zhou, Saad, Tiago, Chelikowsky 2006). The degree follows from what is missing, and
so does the precision: products of few slices do until their errors would show.

Where singular values hardly fall, all this takes for ever: then, and for matrices so small that it does not
pay, the whole decomposition is computed and cut.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

from torch import Tensor

from crdtmerge.arith import draw
from crdtmerge.arith.cholesky import NotPositiveDefiniteError, cholesky
from crdtmerge.arith.fold import fold
from crdtmerge.arith.product import Left, gram, product
from crdtmerge.arith.qr import qr
from crdtmerge.arith.scaling import exponent_of, finite, scaled
from crdtmerge.arith.slices import Slices
from crdtmerge.arith.spectrum import RANK, cut
from crdtmerge.arith.svd import SVD, signed, svd
from crdtmerge.arith.triangular import solve_lower
from crdtmerge.errors import ParameterError

EXTRA: Final = 8
"""Columns more than wanted."""

BEGINNING: Final = 3
"""Multiplications by AᵀA before singular values are looked at for the first time."""

MULTIPLICATIONS_MAX: Final = 128
"""Multiplications by AᵀA in all: whoever needs more is better served by the whole decomposition."""

LOOK: Final = 4
"""As how many of them looking at the residuals counts."""

RESIDUAL: Final = 2.0**-44
"""Of the largest singular value, for |A·v - σ·u| of every wanted pair."""

DEPENDENT: Final = 2.0**-30
"""Squared share of a column that those before it do not span: below this one it is not trusted."""

SPREAD_MAX: Final = 2.0**20
"""How much more a filter may amplify the largest singular value than the smallest wanted one."""

NOISE: Final = ((Slices.ONE, 2.0**-16), (Slices.TWO, 2.0**-36), (Slices.THREE, 2.0**-50))
"""What residuals a filter aims at, as shares of σ₁, times σ₁/σ_k; the last as it is."""

_WHOLE: Final = 4
"""A matrix with a side shorter than this many times the columns is decomposed as a whole."""

_KEY: Final = bytes(32)


class _Filter(NamedTuple):
    """Chebyshev's polynomial of AᵀA, applied ``times`` over.

    Attributes:
        bound: on [0, bound] nothing is wanted.
        degree: of the polynomial.
        times: how often; in between, columns are made orthonormal.
        slices: of the products.
    """

    bound: float
    degree: int
    times: int
    slices: Slices


def svd_top(a: Tensor, k: int) -> SVD:
    """Return the ``k`` largest singular values of [m, n] float64 and their vectors, or fewer.

    Fewer, if the rank is less, or if the cut would go through a cluster: then it moves to its beginning.

    Determinism: X₀ has the columns of the [n, k + 8] integers w - 2^31, w the words of the draw of 32 zero
    bytes, row by row. A is scaled by a power of two to a maximum in [1/2, 1). Three times X ← basis(Aᵀ·(A·X))
    by products of one slice: with L the Cholesky factor of gram(Zᵀ), basis(Z) is the X of L·Xᵀ = Zᵀ, or
    qr(Z).q if there is no L or l² < 2^-30·g for an element of the diagonals. Then rounds: Y = qr(A·X).q, Z =
    Aᵀ·Y, and the SVD of Y·Zᵀ by that of R for Z = Q·R. It is the answer if r, the largest residual |A·v -
    σ·u| of its first k pairs divided by σ₁, is at most 2^-44; r is the root of the quotient of `fold` and
    σ₁². Else X ← basis(T(X)), as often as `_next` says: T₀ = X, T₁ = M·X, Tᵢ₊₁ = 2·(M·Tᵢ) - Tᵢ₋₁ with M·X =
    Aᵀ·(A·X)·(2/c) - X, beginning with all vectors V found. If that would take more than 128 multiplications
    by AᵀA, where a round counts as four, or if min(m, n) < 4·(k + 8), `svd`.

    Raises:
        ParameterError: if ``a`` is no matrix or ``k`` negative.
        NonFiniteError: if an element is not finite.
    """
    if a.ndim != 2 or k < 0:
        raise ParameterError(f"the {k} largest singular values of shape {tuple(a.shape)}")
    width = k + EXTRA
    if min(a.shape) < _WHOLE * width:
        return _first(svd(a), k)
    exponent = exponent_of(a, (0, 1))
    work = scaled(a, -exponent)
    forth, back = Left(work), Left(work.mT)
    x = draw.words(_KEY, 0, a.shape[1] * width).reshape(a.shape[1], width).to(a.device) - 2.0**31
    for _ in range(BEGINNING):
        x = _basis(back.times(forth.times(x, Slices.ONE), Slices.ONE))
    multiplied, used = BEGINNING, 0
    while True:
        y = qr(forth.times(x)).q
        all_found = _projected(y, back.times(y))
        found = _first(all_found, k)
        residual = _residual(forth, found)
        if residual <= RESIDUAL:
            return found._replace(values=finite(scaled(found.values, exponent[0]), "a singular value"))
        values = all_found.values.tolist()
        bound = values[-1] if len(values) == width else values[0] * RANK
        used, chosen = _next(values, len(found.values), bound, residual, used)
        multiplied += chosen.degree * chosen.times + LOOK
        if multiplied > MULTIPLICATIONS_MAX:
            return _first(svd(a), k)
        x = all_found.v
        for _ in range(chosen.times):
            x = _basis(_filtered(forth, back, x, chosen))


def _next(values: list[float], wanted: int, bound: float, residual: float, used: int) -> tuple[int, _Filter]:
    """Return which filter brings the residual down, and how many of `NOISE` are not to be used again.

    Determinism: precision is the first of `NOISE` that was not used and whose aim, its noise times σ₁/σ_k, is
    below 1/16 of the residual; else it is the last, and its aim its noise. With Chebyshev's polynomials t at
    2·(σ_k²/c) - 1 and s at 2·(σ₁²/c) - 1, c = bound², by recurrence, degree is the least for which t >=
    residual/aim, unless s > 2^20·t at one below: then it is the largest before (at least 1). The filter is
    applied as often as it takes t, t·t, … to reach residual/aim.
    """
    largest, smallest, c = values[0], values[wanted - 1], bound * bound
    slices, aim = NOISE[-1]
    for kind, noise in NOISE[used:-1]:
        used += 1
        if residual > 16.0 * (noise * (largest / smallest)):
            slices, aim = kind, noise * (largest / smallest)
            break
    gain = residual / aim
    inner, outer = 2.0 * (smallest * smallest / c) - 1.0, 2.0 * (largest * largest / c) - 1.0
    degree, t, s = 1, (1.0, inner), (1.0, outer)
    while t[1] < gain and degree < MULTIPLICATIONS_MAX:
        higher = (t[1], 2.0 * inner * t[1] - t[0]), (s[1], 2.0 * outer * s[1] - s[0])
        if higher[1][1] > SPREAD_MAX * higher[0][1]:
            break
        degree, (t, s) = degree + 1, higher
    times, reached = 1, t[1]
    while reached < gain and times < MULTIPLICATIONS_MAX:
        times, reached = times + 1, reached * t[1]
    return used, _Filter(c, degree, times, slices)


def _filtered(forth: Left, back: Left, x: Tensor, chosen: _Filter) -> Tensor:
    """Return the polynomial of AᵀA times ``x``."""

    def mapped(x: Tensor) -> Tensor:
        image = back.times(forth.times(x, chosen.slices), chosen.slices)
        return image * (2.0 / chosen.bound) - x

    before, now = x, mapped(x)
    for _ in range(chosen.degree - 1):
        before, now = now, mapped(now) * 2.0 - before
    return now


def _basis(z: Tensor) -> Tensor:
    """Return columns that span what those of ``z`` do and are nearly orthonormal."""
    g = gram(z.mT)
    try:
        lower = cholesky(g)
    except NotPositiveDefiniteError:
        return qr(z).q
    pivots = lower.diagonal()
    if (pivots * pivots < g.diagonal() * DEPENDENT).any():
        return qr(z).q
    return solve_lower(lower, z.mT).mT


def _projected(y: Tensor, z: Tensor) -> SVD:
    """Return the decomposition of Y·Zᵀ for orthonormal columns of ``y``."""
    q, r = qr(z)
    small = svd(r.mT)
    return signed(product(y, small.u), small.values, product(q, small.v))


def _residual(forth: Left, found: SVD) -> float:
    """Return the largest |A·v - σ·u|, divided by σ₁."""
    if not len(found.values):
        return 0.0
    residual = forth.times(found.v) - found.u * found.values
    largest = found.values[0].item()
    return math.sqrt(fold(residual * residual).amax().item() / (largest * largest))


def _first(found: SVD, k: int) -> SVD:
    """Return the first ``k`` of the values, cut where a cluster begins."""
    kept = cut(found.values, k)
    return SVD(found.u[:, :kept], found.values[:kept], found.v[:, :kept])
