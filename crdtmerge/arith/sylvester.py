"""The equation A·X + X·B = C with symmetric positive semidefinite A and B.

In the bases of eigenvectors it falls apart into one division for each coordinate. Coordinates where neither
A nor B has anything to say (the sum of the eigenvalues is negligible) are the caller's to choose.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from crdtmerge.arith.eigh import eigh
from crdtmerge.arith.product import product
from crdtmerge.arith.scaling import finite
from crdtmerge.errors import ParameterError

NEGLIGIBLE: Final = 1e-12
"""Of the largest sum of two eigenvalues; what is not above this share determines nothing."""


def sylvester(a: Tensor, b: Tensor, c: Tensor, fallback: Tensor | None = None) -> Tensor:
    """Return X with A·X + X·B = C, [m, m], [n, n] and [m, n] float64 to [m, n].

    Args:
        a: symmetric positive semidefinite; its lower triangle is read.
        b: likewise.
        c: the right-hand side.
        fallback: [m, n], whose coordinates X has where the equation determines none; zeros if absent.

    Determinism: A = P·α·Pᵀ and B = Q·β·Qᵀ by `eigh`; Y = (Pᵀ·C)·Q; yᵢⱼ ← yᵢⱼ / (αᵢ + βⱼ) where αᵢ + βⱼ >
    1e-12 · (largest α + largest β), else the element of (Pᵀ·F)·Q; X = (P·Y)·Qᵀ. Products have three slices.

    Raises:
        ParameterError: if the shapes do not fit.
        NonFiniteError: if an element is not finite, or X exceeds float64.
    """
    left, right = eigh(a), eigh(b)
    if c.shape != (len(a), len(b)) or (fallback is not None and fallback.shape != c.shape):
        raise ParameterError(f"{tuple(a.shape)}, {tuple(b.shape)} and {tuple(c.shape)} make no equation")
    if not c.numel():
        return c.clone()
    sums = left.values[:, None] + right.values[None, :]
    determined = sums > sums[-1, -1] * NEGLIGIBLE
    y = product(product(left.vectors.mT, c), right.vectors) / torch.where(determined, sums, 1.0)
    other = 0.0 if fallback is None else product(product(left.vectors.mT, fallback), right.vectors)
    y = torch.where(determined, y, other)
    return product(product(left.vectors, finite(y, "the solution of a Sylvester equation")), right.vectors.mT)
