"""Runs every matrix operation of crdtmerge.arith on the same numbers and prints a digest of each result.

    python tests/arith/every_linear_operation.py SHIFT

SHIFT moves the numbers in memory; nothing may depend on it, nor on what the environment says about
instruction sets and threads. Names that begin with ``naive`` are what torch offers for the same purpose.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from hashlib import sha256

import torch

from crdtmerge import arith
from crdtmerge.arith import Tensor, draw
from crdtmerge.arith.cholesky import cholesky
from crdtmerge.arith.eigh import eigh
from crdtmerge.arith.fold import fold, fold_product
from crdtmerge.arith.jacobi import jacobi
from crdtmerge.arith.polar import polar
from crdtmerge.arith.product import Slices, gram, product
from crdtmerge.arith.qr import qr
from crdtmerge.arith.solve import solve_positive
from crdtmerge.arith.subspace import svd_top
from crdtmerge.arith.svd import svd, svd_product
from crdtmerge.arith.sylvester import sylvester
from crdtmerge.arith.triangular import solve_lower, solve_upper

KEY = bytes(range(32))


def numbers(stream: int, shift: int, *shape: int) -> Tensor:
    """Bell-shaped numbers of 53 significant bits that begin ``shift`` elements into their storage."""
    n = math.prod(shape)
    uniform = [draw.words(KEY, (4 * stream + i) << 20, n) - 2.0**31 for i in range(4)]
    x = torch.empty(n + shift, dtype=torch.float64)[shift:]
    return x.copy_((uniform[0] + uniform[1] + uniform[2] + uniform[3]) / (3 * 2.0**33)).view(shape)


def results(shift: int) -> Iterator[tuple[str, Tensor]]:
    """Every operation's name and result."""
    a, b = numbers(0, shift, 45, 2100), numbers(1, shift, 2100, 38)
    wide = numbers(2, shift, 20, 45)
    square = numbers(3, shift, 45, 45)
    positive = gram(numbers(4, shift, 70, 75))
    fading = torch.tensor([2.0**-j for j in range(45)], dtype=torch.float64)
    for slices in Slices:
        yield f"product {slices.name}", product(a, b, slices)
        yield f"gram {slices.name}", gram(a, slices)
    yield "batched product", product(a.view(3, 15, 2100), b[None])
    yield "fold", fold(a)
    yield "folded product", fold_product(a + 1.0)
    lower = cholesky(positive)
    yield "cholesky", lower
    yield "lower system", solve_lower(lower, positive[:, :7])
    yield "upper system", solve_upper(lower.mT, positive[:, :7])
    yield "positive system", solve_positive(positive, positive[:, 3:9]).x
    yield "ridge", solve_positive(gram(wide.mT), wide.mT).x
    for name, matrix in (("wide", wide), ("tall", wide.mT), ("square", square)):
        for part, found in zip(("u", "values", "v"), svd(matrix), strict=True):
            yield f"svd {name} {part}", found
        for part, found in zip("qr", qr(matrix), strict=True):
            yield f"qr {name} {part}", found
    yield "polar", polar(wide)
    for name, matrix in (("random", square + square.mT), ("low rank", gram(wide.mT))):
        for part, found in zip(("values", "vectors"), eigh(matrix), strict=True):
            yield f"eigh {name} {part}", found
    for part, found in zip(("values", "rows"), jacobi(positive[None, :15, :15]), strict=True):
        yield f"jacobi {part}", found
    yield "low rank product", svd_product(wide.mT, wide).u
    yield "largest", svd_top(square * fading, 3).u
    yield "sylvester", sylvester(positive[:20, :20], positive[40:60, 40:60], square[:20, :20])

    yield "naive product", a @ b
    yield "naive eigh", torch.linalg.eigh(positive)[1]
    yield "naive svd", torch.linalg.svd(square)[0]


def main(shift: int) -> None:
    """Print the digests as one JSON object."""
    arith.environment.check()
    digests = {
        name: sha256(result.contiguous().numpy().tobytes()).hexdigest()[:16]
        for name, result in results(shift)
    }
    sys.stdout.write(json.dumps({"capability": torch.backends.cpu.get_cpu_capability(), "digests": digests}))


if __name__ == "__main__":
    main(int(sys.argv[1]))
