"""Every matrix operation of crdtmerge.arith on the same numbers.

SHIFT moves the numbers in memory; nothing may depend on it, nor on the device that holds them, nor on what
the environment says about instruction sets and threads. Names that begin with ``naive`` are what torch
offers for the same purpose. `tools/vectors.py` runs this.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

import torch

from crdtmerge.arith import Tensor, draw
from crdtmerge.arith.fold import fold_product
from crdtmerge.arith.jacobi import jacobi
from crdtmerge.arith.linear import (
    Slices,
    cholesky,
    eigh,
    fold,
    gram,
    polar,
    product,
    qr,
    solve_lower,
    solve_positive,
    solve_upper,
    svd,
    svd_product,
    svd_top,
    sylvester,
)

KEY: Final = bytes(range(32))


def numbers(stream: int, shift: int, device: str, *shape: int) -> Tensor:
    """Bell-shaped numbers of 53 significant bits that begin ``shift`` elements into their storage."""
    n = math.prod(shape)
    uniform = [draw.words(KEY, (4 * stream + i) << 20, n) - 2.0**31 for i in range(4)]
    x = torch.empty(n + shift, dtype=torch.float64, device=device)[shift:]
    return x.copy_((uniform[0] + uniform[1] + uniform[2] + uniform[3]) / (3 * 2.0**33)).view(shape)


def results(shift: int, device: str = "cpu") -> Iterator[tuple[str, Callable[[], Tensor]]]:
    """Every operation's name, and what computes its result."""
    a, b = numbers(0, shift, device, 45, 2100), numbers(1, shift, device, 2100, 38)
    wide = numbers(2, shift, device, 20, 45)
    square = numbers(3, shift, device, 45, 45)
    fading = torch.tensor([2.0**-j for j in range(45)], dtype=torch.float64, device=device)
    positive = gram(numbers(4, shift, device, 70, 75))
    lower = cholesky(positive)
    for slices in Slices:
        yield f"product {slices.name}", partial(product, a, b, slices)
        yield f"gram {slices.name}", partial(gram, a, slices)
    yield "batched product", lambda: product(a.view(3, 15, 2100), b[None])
    yield "fold", lambda: fold(a)
    yield "folded product", lambda: fold_product(a + 1.0)
    yield "cholesky", lambda: lower
    yield "lower system", lambda: solve_lower(lower, positive[:, :7])
    yield "upper system", lambda: solve_upper(lower.mT, positive[:, :7])
    yield "positive system", lambda: solve_positive(positive, positive[:, 3:9]).x
    yield "ridge", lambda: solve_positive(gram(wide.mT), wide.mT).x
    for name, matrix in (("wide", wide), ("tall", wide.mT), ("square", square)):
        yield f"svd {name}", partial(_parts, svd, matrix)
        yield f"qr {name}", partial(_parts, qr, matrix)
    yield "polar", lambda: polar(wide)
    yield "eigh", lambda: _parts(eigh, square + square.mT)
    yield "eigh of low rank", lambda: _parts(eigh, gram(wide.mT))
    yield "jacobi", lambda: _parts(jacobi, positive[None, :15, :15])
    yield "low rank product", lambda: svd_product(wide.mT, wide).u
    yield "largest", lambda: svd_top(square * fading, 3).u
    yield "sylvester", lambda: sylvester(positive[:20, :20], positive[40:60, 40:60], square[:20, :20])

    yield "naive product", lambda: a @ b
    yield "naive eigh", lambda: torch.linalg.eigh(positive)[1]
    yield "naive svd", lambda: torch.linalg.svd(square)[0]


def _parts(decompose: Callable[[Tensor], tuple[Tensor, ...]], matrix: Tensor) -> Tensor:
    """Every part of a decomposition, one behind the other."""
    return torch.cat([part.flatten() for part in decompose(matrix)])
