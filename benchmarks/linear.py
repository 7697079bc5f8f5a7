"""What reproducible matrices cost: each operation beside torch's own, in one run.

    python benchmarks/linear.py [--sizes 64,256,512] [--rounds 2] [--only polar] [--torch]

With compiled loops where numba is installed, unless ``--torch`` is given.
Both sides of a line take turns on the same data, on one thread; a figure is the least processor time of the
rounds, so that waiting for others does not count, and the last column is the ratio of the two. Times of
different runs are not comparable, ratios nearly so.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial

import torch

from crdtmerge.arith import Tensor, compiled, draw
from crdtmerge.arith.cholesky import cholesky
from crdtmerge.arith.eigh import eigh
from crdtmerge.arith.polar import polar
from crdtmerge.arith.product import gram, product
from crdtmerge.arith.qr import qr
from crdtmerge.arith.slices import Slices
from crdtmerge.arith.solve import solve_positive
from crdtmerge.arith.subspace import svd_top
from crdtmerge.arith.svd import svd
from crdtmerge.arith.sylvester import sylvester

Side = Callable[[], object]


def _numbers(n: int, stream: int) -> Tensor:
    words = [draw.words(bytes(32), (4 * stream + i) * n * n, n * n) - 2.0**31 for i in range(4)]
    return ((words[0] + words[1] + words[2] + words[3]) * 2.0**-34).reshape(n, n)


def _top(a: Tensor, k: int) -> tuple[Tensor, Tensor]:
    u, values, _ = torch.linalg.svd(a)
    return u[:, :k], values[:k]


def _sylvester(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """Solve with torch alone, in the same way."""
    (left, p), (right, q) = torch.linalg.eigh(a), torch.linalg.eigh(b)
    x: Tensor = p @ ((p.mT @ c @ q) / (left[:, None] + right)) @ q.mT
    return x


def _lines(n: int) -> list[tuple[str, Side, Side]]:
    a, b = _numbers(n, 0), _numbers(n, 1)
    positive = gram(a) + torch.eye(n, dtype=torch.float64)
    symmetric = a + a.mT
    k = max(n // 32, 1)
    falling = a * 0.9 ** torch.arange(n, dtype=torch.float64)
    library = torch.linalg
    return [
        *(
            (f"product {s.name} | matmul", partial(product, a, b, s), partial(torch.matmul, a, b))
            for s in Slices
        ),
        ("gram THREE | matmul", partial(gram, a), partial(torch.matmul, a, a.mT)),
        ("cholesky | cholesky", partial(cholesky, positive), partial(library.cholesky, positive)),
        (
            "positive system | solve",
            partial(solve_positive, positive, b),
            partial(library.solve, positive, b),
        ),
        ("qr | qr", partial(qr, a), partial(library.qr, a)),
        ("eigh | eigh", partial(eigh, symmetric), partial(library.eigh, symmetric)),
        ("svd | svd", partial(svd, a), partial(library.svd, a)),
        ("polar | svd", partial(polar, a), partial(library.svd, a)),
        (f"{k} largest | svd", partial(svd_top, falling, k), partial(_top, falling, k)),
        (
            "sylvester | two eigh",
            partial(sylvester, positive, positive, b),
            partial(_sylvester, positive, positive, b),
        ),
    ]


def _race(ours: Side, theirs: Side, rounds: int) -> tuple[float, float]:
    best = [float("inf"), float("inf")]
    for _ in range(rounds):
        for side, run in enumerate((ours, theirs)):
            began = time.process_time()
            run()
            best[side] = min(best[side], time.process_time() - began)
    return best[0], best[1]


def main() -> None:
    """Run every comparison and print one line for each."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sizes", default="64,256,512")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--only", default="", help="lines that contain this")
    parser.add_argument("--torch", action="store_true", help="without compiled loops")
    chosen = parser.parse_args()
    if chosen.torch:
        compiled.available = lambda: False  # type: ignore[assignment]
    print("compiled loops" if compiled.load() else "torch alone")
    torch.set_num_threads(1)
    for n in map(int, chosen.sizes.split(",")):
        print(f"n = {n}{'ours ms':>29}{'torch ms':>12}{'ratio':>9}")
        for name, ours, theirs in _lines(n):
            if chosen.only not in name:
                continue
            mine, other = _race(ours, theirs, chosen.rounds)
            print(f"{name:28}{mine * 1e3:12.2f}{other * 1e3:12.2f}{mine / other:8.1f}x")


if __name__ == "__main__":
    main()
