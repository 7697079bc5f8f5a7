"""The Cholesky factor of a symmetric positive definite matrix.

Left-looking, in panels of 64 columns: what the columns to the left contribute to a panel is one exact
product, and within the panel one column after the other is finished elementwise.

          ┌ done ┬────┐
          │ L₀   │    │     panel ← A[j:, j:j+64] - L[j:, :j] · L[j:j+64, :j]ᵀ
        j ├──────┼────┤     then for each of its columns c:
          │      │ pa │       root = √panel[c, c];  column ← column / root
          │      │ nel│       panel[:, d] ← panel[:, d] - column · column[d]   for all d > c
          └──────┴────┘

The width of panels decides bits. Only the lower triangle of A is read.
"""

from __future__ import annotations

from typing import Final

from torch import Tensor

from crdtmerge.arith import compiled
from crdtmerge.arith.elementwise import sqrt
from crdtmerge.arith.product import product
from crdtmerge.arith.scaling import exponent_of
from crdtmerge.errors import ParameterError

PANEL: Final = 64


class NotPositiveDefiniteError(ParameterError):
    """A matrix has no Cholesky factor: a pivot is zero or negative, if only by rounding.

    Attributes:
        pivot: index of the column where that showed.
    """

    def __init__(self, pivot: int, value: float) -> None:
        self.pivot = pivot
        super().__init__(f"a matrix is not positive definite: pivot {pivot} is {value!r}")


def cholesky(a: Tensor) -> Tensor:
    """Return the lower triangular L with L·Lᵀ = A and positive diagonal, [n, n] float64.

    Args:
        a: symmetric; what is above its diagonal is not looked at.

    Determinism: see the head of this file; products are `product` with three slices.

    Raises:
        ParameterError: if ``a`` is not square.
        NotPositiveDefiniteError: if a pivot is not positive.
        NonFiniteError: if an element is not finite.
    """
    require_square(a)
    n = len(a)
    factor = a.tril()
    if n:
        exponent_of(factor, (0, 1))
    for start in range(0, n, PANEL):
        stop = min(start + PANEL, n)
        panel = factor[start:, start:stop]
        if start:
            panel -= product(factor[start:, :start], factor[start:stop, :start].mT)
        _finish(panel, start)
    return factor.tril_()


def require_square(a: Tensor) -> None:
    """Refuse what is not one square matrix.

    Raises:
        ParameterError: if it is not.
    """
    if a.ndim != 2 or a.shape[0] != a.shape[1]:
        raise ParameterError(f"wanted a square matrix, got shape {tuple(a.shape)}")


def _finish(panel: Tensor, start: int) -> None:
    """Factor a panel in place; ``start`` is the index of its first column in the matrix."""
    if (loops := compiled.kernels_for(panel.device)) is not None:
        columns = panel.contiguous()
        failed = int(loops.finish_panel(columns.numpy()))
        if failed >= 0:
            raise NotPositiveDefiniteError(start + failed, columns[failed, failed].item())
        panel.copy_(columns)
        return
    for c in range(panel.shape[1]):
        pivot = panel[c, c].item()
        if not pivot > 0:
            raise NotPositiveDefiniteError(start + c, pivot)
        column = panel[c:, c]
        column /= sqrt(column[:1])
        panel[c + 1 :, c + 1 :] -= column[1:, None] * column[None, 1 : panel.shape[1] - c]
