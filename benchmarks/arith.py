"""What reproducible bits cost: each operation of crdtmerge.arith beside torch's own, in one run.

    python benchmarks/arith.py [--elements 4194304] [--rounds 7]

Both sides of a line take turns on the same data, on one thread; a figure is the best of the rounds, and
the last column is the ratio of the two. Times of different runs are not comparable, ratios nearly so.
Tiles are 2^16 elements, as in a merge.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable
from fractions import Fraction
from functools import partial
from typing import Any

import torch

from crdtmerge import arith
from crdtmerge.arith import Tensor
from crdtmerge.dtypes import DType

TILE = 1 << 16
TORCH = {
    DType.F64: torch.float64,
    DType.F32: torch.float32,
    DType.F16: torch.float16,
    DType.BF16: torch.bfloat16,
    DType.F8_E4M3: torch.float8_e4m3fn,
    DType.F8_E5M2: torch.float8_e5m2,
}


def _tiles(x: Tensor) -> list[tuple[Tensor, int]]:
    return [(x[start : start + TILE], start) for start in range(0, len(x), TILE)]


def _each(function: Callable[[Any], object], items: Iterable[Any]) -> None:
    for item in items:
        function(item)


def _lane_sum(x: Tensor) -> float:
    total = arith.LaneSum()
    for tile, start in _tiles(x):
        total.feed(tile, start)
    return total.result()


def _lane_dot(x: Tensor, y: Tensor) -> float:
    total = arith.LaneDot()
    for tile, start in _tiles(x):
        total.feed(tile, y[start : start + TILE], start)
    return total.result()


def _exact_sum(x: Tensor) -> float:
    total = arith.ExactSum()
    for tile, _ in _tiles(x):
        total.feed(tile)
    return total.result()


def _exact_dot(x: Tensor, y: Tensor) -> float:
    total = arith.ExactDot()
    for tile, start in _tiles(x):
        total.feed(tile, y[start : start + TILE])
    return total.result()


def _rank(x: Tensor, rank: int) -> float:
    selection = arith.RankSelection(rank, len(x))
    while True:
        for tile, _ in _tiles(x):
            selection.feed(tile)
        if selection.finish():
            return selection.value


def _select(x: Tensor, k: int) -> arith.Cut:
    selection = arith.TopSelection(k, len(x))
    while True:
        for tile, start in _tiles(x):
            selection.feed(tile, start)
        if selection.finish():
            return selection.cut


def _decode(raw: bytes, dtype: DType) -> Tensor:
    return arith.decode(raw, dtype)


def _to_float64(tile: Tensor) -> Tensor:
    return tile.to(torch.float64, copy=True)


def _cast(tile: Tensor, dtype: torch.dtype) -> bytes:
    """Return what a cast in one step would store; rounded twice on some machines for the half types."""
    cast = tile.to(dtype, copy=True)
    return cast.view(torch.uint8).numpy().tobytes()


def _race(ours: Callable[[], object], theirs: Callable[[], object], rounds: int) -> tuple[float, float]:
    best = [float("inf"), float("inf")]
    for _ in range(rounds):
        for side, run in enumerate((ours, theirs)):
            began = time.perf_counter()
            run()
            best[side] = min(best[side], time.perf_counter() - began)
    return best[0], best[1]


def main() -> None:
    """Run every comparison and print one line for each."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--elements", type=int, default=1 << 22)
    parser.add_argument("--rounds", type=int, default=7)
    chosen = parser.parse_args()
    n, rounds = chosen.elements, chosen.rounds
    torch.set_num_threads(1)
    key = bytes(32)
    # Sums of four uniform words: bell-shaped, drawn alike by everybody.
    x = sum((arith.draw.words(key, i * n, n) - 2.0**31 for i in range(4)), torch.zeros(n)) * 2.0**-36
    y = arith.draw.words(key, 4 * n, n) * 2.0**-32
    coarse = arith.decode(arith.encode(x, DType.BF16), DType.BF16)

    x_tiles = [tile for tile, _ in _tiles(x)]
    y_tiles = [tile for tile, _ in _tiles(y)]
    positive = [tile + 2.0**-33 for tile in y_tiles]
    rows = [tile.reshape(-1, 64) for tile in x_tiles]
    starts = range(0, n, TILE)
    third, fifth = Fraction(1, 3), Fraction(1, 5)
    w = 1 / 3
    comparisons: list[tuple[str, Callable[[], object], Callable[[], object]]] = [
        ("lane sum | torch.sum", lambda: _lane_sum(x), lambda: x.sum().item()),
        ("lane dot | torch.dot", lambda: _lane_dot(x, y), lambda: torch.dot(x, y).item()),
        ("exact sum | torch.sum", lambda: _exact_sum(x), lambda: x.sum().item()),
        (
            "top 20 % | torch.kthvalue",
            lambda: _select(x, n // 5),
            lambda: x.abs().kthvalue(n - n // 5),
        ),
        (
            "top 20 % of bf16 values | torch.kthvalue",
            lambda: _select(coarse, n // 5),
            lambda: coarse.abs().kthvalue(n - n // 5),
        ),
        ("exact dot | torch.dot", lambda: _exact_dot(x, y), lambda: torch.dot(x, y).item()),
        ("variance | torch.var", lambda: arith.variance(x), lambda: x.var(correction=0).item()),
        (
            "cosine | torch",
            lambda: arith.cosine(x, y),
            lambda: torch.nn.functional.cosine_similarity(x, y, dim=0),
        ),
        ("rank in a stream | torch.kthvalue", lambda: _rank(x, n // 3), lambda: x.kthvalue(n // 3 + 1)),
        (
            "medians of rows of 8 | torch.median",
            lambda: arith.median_rows(x.reshape(-1, 8)),
            lambda: x.reshape(-1, 8).median(-1),
        ),
        ("exp | torch.exp", lambda: _each(arith.exp, x_tiles), lambda: _each(torch.exp, x_tiles)),
        ("log | torch.log", lambda: _each(arith.log, positive), lambda: _each(torch.log, positive)),
        ("tanh | torch.tanh", lambda: _each(arith.tanh, x_tiles), lambda: _each(torch.tanh, x_tiles)),
        (
            "softmax of rows of 64 | torch.softmax",
            lambda: _each(arith.softmax, rows),
            lambda: _each(lambda t: torch.softmax(t, -1), rows),
        ),
        (
            "normal draws | torch.randn",
            lambda: _each(lambda start: arith.draw.normal(key, start, TILE), starts),
            lambda: _each(lambda _: torch.randn(TILE, dtype=torch.float64), starts),
        ),
        (
            "permutation | torch.randperm",
            lambda: arith.draw.permutation(key, n),
            lambda: torch.randperm(n),
        ),
        (
            "weighted sum of 4 | torch expression",
            lambda: _each(lambda t: arith.weighted_sum([t] * 4, [third] * 4), x_tiles),
            lambda: _each(lambda t: t * w + t * w + t * w + t * w, x_tiles),
        ),
        ("sqrt | torch.sqrt", lambda: _each(arith.sqrt, y_tiles), lambda: _each(torch.sqrt, y_tiles)),
        (
            "keep_mask | torch.bernoulli_",
            lambda: _each(lambda start: arith.keep_mask(key, start, TILE, fifth), starts),
            lambda: _each(lambda _: torch.empty(TILE, dtype=torch.float64).bernoulli_(0.2), starts),
        ),
    ]
    for dtype, torch_dtype in TORCH.items():
        comparisons += [
            (
                f"decode {dtype.code} | torch cast",
                partial(
                    _each, partial(_decode, dtype=dtype), [arith.encode(tile, dtype) for tile in x_tiles]
                ),
                partial(_each, _to_float64, [tile.to(torch_dtype) for tile in x_tiles]),
            ),
            (
                f"encode {dtype.code} | torch cast",
                partial(_each, partial(arith.encode, dtype=dtype), x_tiles),
                partial(_each, partial(_cast, dtype=torch_dtype), x_tiles),
            ),
        ]
    print(f"{n} elements, tiles of {TILE}, one thread, torch {torch.__version__}")
    print(f"{'':44}{'ours ns':>9}{'torch ns':>9}{'ratio':>7}")
    for name, ours, theirs in comparisons:
        a, b = _race(ours, theirs, rounds)
        print(f"{name:44}{a / n * 1e9:9.2f}{b / n * 1e9:9.2f}{a / b:7.1f}")


if __name__ == "__main__":
    main()
