"""Matrices: products, systems of equations and decompositions whose bits are the same everywhere.

    linear.product(a, b)      A·B, better than float64 sums         linear.gram(a)             A·Aᵀ
    linear.cholesky(a)        L with L·Lᵀ = A                       linear.solve_positive(…)   with ridges
    linear.qr(a)              Q, R                                  linear.eigh(a)             ascending
    linear.svd(a)             descending, above 1e-9 of the first  linear.svd_top(a, k)       the largest
    linear.svd_product(b, a)  of B·A, never formed                  linear.polar(a)            U·Vᵀ
    linear.sylvester(a, b, c) X with A·X + X·B = C                  linear.pack(a), unpack(p)  triangles

Defined bit by bit in docs/spec/linear.md. Matrices are two-dimensional float64 (products also in batches)
and finite. What is ambiguous in mathematics (signs, the basis of a cluster, the null space) is settled by
`signs`, `clusters`, `cut` and `rank`; what cannot be settled is left out rather than invented.
"""

from crdtmerge.arith.cholesky import NotPositiveDefiniteError, cholesky
from crdtmerge.arith.eigh import Eigh, eigh
from crdtmerge.arith.fold import fold
from crdtmerge.arith.packed import diagonal, pack, unit, unpack
from crdtmerge.arith.polar import polar
from crdtmerge.arith.product import gram, product
from crdtmerge.arith.qr import QR, qr
from crdtmerge.arith.slices import Slices
from crdtmerge.arith.solve import RIDGES, Solution, solve_positive
from crdtmerge.arith.spectrum import clusters, cut, rank, signs
from crdtmerge.arith.subspace import svd_top
from crdtmerge.arith.svd import SVD, svd, svd_product
from crdtmerge.arith.sylvester import sylvester
from crdtmerge.arith.triangular import solve_lower, solve_upper

__all__ = [
    "QR",
    "RIDGES",
    "SVD",
    "Eigh",
    "NotPositiveDefiniteError",
    "Slices",
    "Solution",
    "cholesky",
    "clusters",
    "cut",
    "diagonal",
    "eigh",
    "fold",
    "gram",
    "pack",
    "polar",
    "product",
    "qr",
    "rank",
    "signs",
    "solve_lower",
    "solve_positive",
    "solve_upper",
    "svd",
    "svd_product",
    "svd_top",
    "sylvester",
    "unit",
    "unpack",
]
