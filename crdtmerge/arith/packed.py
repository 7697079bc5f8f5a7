"""Symmetric matrices stored by half: their lower triangle, row by row.

    ┌ a        ┐
    │ b c      │   ⇄   a b c d e f
    └ d e f    ┘

What is stored this way is symmetric to the bit, and takes half the room.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from crdtmerge.arith.cholesky import require_square
from crdtmerge.errors import ParameterError


def pack(a: Tensor) -> Tensor:
    """Return the lower triangle of a matrix row by row, [n, n] to [n(n+1)/2]; what is above it is not read.

    Raises:
        ParameterError: if ``a`` is not square.
    """
    require_square(a)
    rows, columns = _places(len(a), a.device)
    return a[rows, columns]


def unpack(packed: Tensor, off_diagonal: float = 1.0) -> Tensor:
    """Return the symmetric matrix whose lower triangle was stored, [n(n+1)/2] to [n, n].

    Args:
        packed: float64.
        off_diagonal: what elements beside the diagonal are multiplied by.

    Raises:
        ParameterError: if no triangle has this many elements.
    """
    n = side(packed.numel())
    rows, columns = _places(n, packed.device)
    values = packed * off_diagonal
    full = packed.new_zeros(n, n)
    full[rows, columns] = values
    full[columns, rows] = values
    full.diagonal().copy_(diagonal(packed))
    return full


def diagonal(packed: Tensor) -> Tensor:
    """Return the diagonal of a stored matrix, [n(n+1)/2] to [n].

    Raises:
        ParameterError: if no triangle has this many elements.
    """
    rows = torch.arange(side(packed.numel()), device=packed.device)
    return packed[rows * (rows + 3) // 2]


def unit(n: int) -> Tensor:
    """Return the unit matrix as it is stored, [n(n+1)/2] float64."""
    rows = torch.arange(n)
    packed = torch.zeros(n * (n + 1) // 2, dtype=torch.float64)
    packed[rows * (rows + 3) // 2] = 1.0
    return packed


def side(elements: int) -> int:
    """Return the n for which n(n+1)/2 is the number of elements.

    Raises:
        ParameterError: if there is none.
    """
    n = (math.isqrt(8 * elements + 1) - 1) // 2
    if n * (n + 1) // 2 != elements:
        raise ParameterError(f"{elements} elements are no triangle of a matrix")
    return n


def _places(n: int, device: torch.device) -> tuple[Tensor, Tensor]:
    rows, columns = torch.tril_indices(n, n, device=device)
    return rows, columns
