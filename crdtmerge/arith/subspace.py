"""The largest singular values of a large matrix, by subspace iteration.

    X ← basis of Aᵀ·A·X

from a matrix of random integers, a little wider than what is wanted, until the residuals say that the
wanted vectors stand still. The basis is nearly orthonormal, by the Cholesky factor of a Gram matrix: only
the space that it spans matters. Where columns depend on each other too much for that, reflections give it.
Where singular values hardly fall, all this takes for ever: then, and for matrices so small that it does not
pay, the whole decomposition is computed and cut.
"""

from __future__ import annotations

from typing import Final

from torch import Tensor

from crdtmerge.arith import draw
from crdtmerge.arith.cholesky import NotPositiveDefiniteError, cholesky
from crdtmerge.arith.fold import fold
from crdtmerge.arith.product import exponent_of, finite, gram, product, scaled
from crdtmerge.arith.qr import qr
from crdtmerge.arith.spectrum import cut
from crdtmerge.arith.svd import SVD, signed, svd
from crdtmerge.arith.triangular import solve_lower
from crdtmerge.errors import ParameterError

EXTRA: Final = 8
"""Columns more than wanted."""

CHECKS: Final = (4, 8, 16, 32)
"""After how many iterations residuals are looked at."""

RESIDUAL: Final = 2.0**-44
"""Of the largest singular value, for |A·v - σ·u| of every wanted pair."""

DEPENDENT: Final = 2.0**-30
"""Squared share of a column that those before it do not span: below this one it is not trusted."""

_WHOLE: Final = 4
"""A matrix with a side shorter than this many times the columns is decomposed as a whole."""

_KEY: Final = bytes(32)


def svd_top(a: Tensor, k: int) -> SVD:
    """Return the ``k`` largest singular values of [m, n] float64 and their vectors, or fewer.

    Fewer, if the rank is less, or if the cut would go through a cluster: then it moves to its beginning.

    Determinism: X₀ has the columns of the [n, k + 8] integers w - 2^31, w the words of the draw of 32 zero
    bytes, row by row. A, scaled by a power of two to a maximum in [1/2, 1), is iterated: Z = Aᵀ·(A·X), X =
    basis(Z): with L the Cholesky factor of gram(Zᵀ), the X of L·Xᵀ = Zᵀ, or qr(Z).q if there is no L or
    l² < 2^-30·g for an element of the diagonals. In iterations 4, 8, 16 and 32, Y = qr(A·X).q and Z = Aᵀ·Y
    instead, and the SVD of Y·Zᵀ, by that of R for Z = Q·R, is looked at: it is the answer if the squared
    residuals of its first k pairs, by `fold`, are at most (2^-44 · σ₁)². If it never is, or if min(m, n) <
    4·(k + 8), `svd`.

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
    x = draw.words(_KEY, 0, a.shape[1] * width).reshape(a.shape[1], width).to(a.device) - 2.0**31
    for iteration in range(1, CHECKS[-1] + 1):
        y = product(work, x)
        if iteration in CHECKS:
            y = qr(y).q
        z = product(work.mT, y)
        if iteration in CHECKS:
            found = _first(_projected(y, z), k)
            if _settled(work, found):
                return found._replace(values=finite(scaled(found.values, exponent[0]), "a singular value"))
        x = _basis(z)
    return _first(svd(a), k)


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


def _settled(a: Tensor, found: SVD) -> bool:
    if not len(found.values):
        return True
    residual = product(a, found.v) - found.u * found.values
    allowed = found.values[0] * RESIDUAL
    return bool((fold(residual * residual) <= allowed * allowed).all())


def _first(found: SVD, k: int) -> SVD:
    """Return the first ``k`` of the values, cut where a cluster begins."""
    kept = cut(found.values, k)
    return SVD(found.u[:, :kept], found.values[:kept], found.v[:, :kept])
