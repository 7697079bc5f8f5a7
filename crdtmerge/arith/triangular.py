"""Systems of linear equations with a triangular matrix.

Forward substitution in blocks of 64 rows: what the rows above contribute to a block is one exact product,
and within the block one row after the other is finished elementwise. Upper triangular systems are lower
ones, read backwards. The height of blocks decides bits.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from crdtmerge.arith import compiled
from crdtmerge.arith.cholesky import require_square
from crdtmerge.arith.product import product
from crdtmerge.arith.scaling import finite
from crdtmerge.errors import ParameterError

BLOCK: Final = 64


def solve_lower(lower: Tensor, right: Tensor) -> Tensor:
    """Return X with L·X = B, [n, n] and [n, k] float64 to [n, k].

    Args:
        lower: what is above its diagonal is not looked at.
        right: B, a matrix; k may be 1.

    Determinism: block by block downwards, B[j:j+64] ← B[j:j+64] - L[j:j+64, :j] · X[:j] by `product` with
    three
        slices; then, row by row, x ← b / l on the diagonal and b ← b - l·x in the block's rows below.

    Raises:
        ParameterError: if the shapes do not fit or a diagonal element is 0.
        NonFiniteError: if an element is not finite, or the solution exceeds float64.
    """
    require_square(lower)
    if right.ndim != 2 or len(right) != len(lower):
        raise ParameterError(f"{tuple(lower.shape)} and {tuple(right.shape)} make no system of equations")
    if (lower.diagonal() == 0).any():
        raise ParameterError("a triangular matrix with a zero on its diagonal cannot be solved")
    x = right.clone(memory_format=torch.contiguous_format)
    for start in range(0, len(x), BLOCK):
        stop = min(start + BLOCK, len(x))
        block = x[start:stop]
        if start:
            block -= product(lower[start:stop, :start], x[:start])
        _solve_block(lower[start:stop, start:stop], block)
    return finite(x, "the solution of a triangular system").add_(0.0)


def _solve_block(lower: Tensor, block: Tensor) -> None:
    """Replace the rows of ``block`` by the solution, the first one first."""
    if (loops := compiled.kernels_for(block.device)) is not None:
        loops.solve_block(lower.contiguous().numpy(), block.numpy())
        return
    for i in range(len(block)):
        block[i] /= lower[i, i]
        block[i + 1 :] -= lower[i + 1 :, i, None] * block[i]


def solve_upper(upper: Tensor, right: Tensor) -> Tensor:
    """Return X with U·X = B, [n, n] and [n, k] float64 to [n, k]: `solve_lower` with rows in reverse.

    Raises:
        ParameterError: as `solve_lower`.
        NonFiniteError: as `solve_lower`.
    """
    require_square(upper)
    return solve_lower(upper.flip(0, 1), right.flip(0)).flip(0)
