"""The polar factor of a matrix: the nearest one with orthonormal columns, as far as it is determined.

For A = U·diag(σ)·Vᵀ it is U·Vᵀ over the singular values that are not noise (above 1e-9 of the largest).
Where A is of full rank its columns (or rows) are orthonormal; else it is a partial isometry: directions
that A does not have are mapped to 0, rather than to something invented.
"""

from __future__ import annotations

from torch import Tensor

from crdtmerge.arith.product import product
from crdtmerge.arith.svd import svd


def polar(a: Tensor) -> Tensor:
    """Return U·Vᵀ over the rank of ``a``, [m, n] float64 to [m, n].

    Determinism: `svd`, then `product` with three slices.

    Raises:
        ParameterError: if ``a`` is no matrix.
        NonFiniteError: if an element is not finite.
    """
    u, _, v = svd(a)
    return product(u, v.mT)
