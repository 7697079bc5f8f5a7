"""Runs every operation of crdtmerge.arith on the same numbers and prints a digest of each result.

    python tests/arith/every_operation.py SHIFT

SHIFT moves the numbers in memory and cuts the streams into other tiles; nothing may depend on it, nor on
what the environment says about instruction sets and threads. Names that begin with ``naive`` are what
torch offers for the same purpose, to show that the variants do differ.
"""

from __future__ import annotations

import json
import struct
import sys
from collections.abc import Iterator
from fractions import Fraction
from hashlib import sha256

import torch

from crdtmerge import arith
from crdtmerge.arith import Tensor, draw, scalar
from crdtmerge.dtypes import DType

N = 100_003
KEY = bytes(range(32))


def numbers(stream: int, shift: int) -> Tensor:
    """N bell-shaped numbers of 53 significant bits that begin ``shift`` elements into their storage."""
    uniform = [draw.words(KEY, (4 * stream + i) * N, N) - 2.0**31 for i in range(4)]
    x = torch.empty(N + shift, dtype=torch.float64)[shift:]
    return x.copy_((uniform[0] + uniform[1] + uniform[2] + uniform[3]) / (3 * 2.0**33))


def tiles(shift: int) -> Iterator[slice]:
    """Cuts that differ with ``shift`` and keep to no power of two."""
    size = 30_011 - 4_001 * shift
    for start in range(0, N, size):
        yield slice(start, min(start + size, N))


def results(shift: int) -> Iterator[tuple[str, bytes | Tensor | float]]:
    """Every operation's name and result."""
    x, y, z = (numbers(stream, shift) for stream in range(3))
    coarse = (x * 8.0).round() * 0.125

    for dtype in (DType.F64, DType.F32, DType.F16, DType.BF16, DType.F8_E4M3, DType.F8_E5M2):
        raw = b"".join(arith.encode(x[tile] * 1e-5, dtype) for tile in tiles(shift))
        yield f"encode {dtype.code}", raw
        behind = memoryview(bytes(shift) + raw)[shift:]
        yield f"decode {dtype.code}", arith.decode(behind, dtype)
        yield f"non-finite {dtype.code}", float(arith.non_finite(behind, dtype) is None)
        yield f"too large {dtype.code}", float(arith.non_finite(behind, dtype, bound=0.7e-5) or -1)

    weights = [Fraction(1, 3), Fraction(1), Fraction(-22, 7)]
    yield "weighted sum", torch.cat([arith.weighted_sum([x[t], y[t], z[t]], weights) for t in tiles(shift)])
    yield "sqrt", arith.sqrt(x.abs())
    yield "sign", arith.sign(coarse)
    yield "positive zero", arith.positive_zero(-(coarse * 0.0))
    yield "maximum", arith.maximum(coarse, -(coarse * 0.0))
    yield "minimum", arith.minimum(coarse, -(coarse * 0.0))
    yield "clamp", arith.clamp(x, -0.0, 0.5)
    yield "masked", arith.masked(x, draw.keep_mask(KEY, 0, N, Fraction(1, 2)))

    sums, gram, exact = arith.LaneSum(), arith.LaneGram(3), arith.ExactSum()
    for t in tiles(shift):
        sums.feed(x[t], t.start)
        gram.feed([x[t], y[t], z[t]], t.start)
        exact.feed(x[t])
    yield "lane sum", sums.result()
    for i, row in enumerate(gram.result()):
        for j, value in enumerate(row):
            yield f"gram {i} {j}", value
    yield "exact sum", exact.result()

    exact_dot, moments, angle = arith.ExactDot(), arith.Moments(), arith.Cosine()
    for t in tiles(shift):
        exact_dot.feed(x[t], y[t] * 2.0**-600)
        moments.feed(x[t])
        angle.feed(x[t], y[t])
    yield "exact dot", exact_dot.result()
    yield "exact squared norm", arith.exact_squared_norm(x[:1000])
    yield "mean", moments.mean()
    yield "variance", moments.variance()
    yield "cosine", angle.result()

    for name, function, argument in (
        ("exp", arith.exp, x * 700.0),
        ("log", arith.log, x.abs() * 2.0**-1030 + 5e-324),
        ("log near 1", arith.log, x * 0.5 + 1.0),
        ("tanh", arith.tanh, x * 3.0),
        ("sigmoid", arith.sigmoid, x * 30.0),
        ("normal quantile", arith.normal_quantile, (x + 2.0) * 0.25),
    ):
        yield name, torch.cat([function(argument[t]) for t in tiles(shift)])
    yield "softmax", arith.softmax(x[: 99 * 1001].reshape(1001, 99) * 9.0)

    rows = coarse[: 99 * 1001].reshape(1001, 99)
    yield "quantiles of rows", arith.quantile_rows(rows, Fraction(1, 3))
    yield "medians of rows", arith.median_rows(rows[:, 1:])
    yield "quantile", arith.quantile(x, Fraction(2, 7))
    yield "median", arith.median(x)
    yield "k-th magnitude", arith.kth_magnitude(x, 700)
    ranks = arith.RankSelection(N // 5, N)
    done = False
    while not done:
        for t in tiles(shift):
            ranks.feed(x[t])
        done = ranks.finish()
    yield "rank", ranks.value

    yield "uniform", torch.cat([draw.uniform(KEY, t.start, t.stop - t.start) for t in tiles(shift)])
    yield "normal", torch.cat([draw.normal(KEY, t.start, t.stop - t.start) for t in tiles(shift)])
    yield "permutation", draw.permutation(KEY, N)

    for name, values in (("distinct", x), ("ties", coarse)):
        selection = arith.TopSelection(N // 3, N)
        done = False
        while not done:
            for t in tiles(shift):
                selection.feed(values[t], t.start)
            done = selection.finish()
        cut = selection.cut
        yield f"top of {name}", struct.pack("<dq", cut.threshold, cut.last)
        yield f"mask of {name}", torch.cat([cut.mask(values[t], t.start) for t in tiles(shift)])

    yield "words", torch.cat([draw.words(KEY, t.start, t.stop - t.start) for t in tiles(shift)])
    yield (
        "keep mask",
        torch.cat([draw.keep_mask(KEY, t.start, t.stop - t.start, Fraction(1, 5)) for t in tiles(shift)]),
    )
    yield "scalar pow", torch.tensor([scalar.pow(i / 64, i / 7) for i in range(1, 65)])
    for of_one in (scalar.sqrt, scalar.sin, scalar.cos, scalar.acos, scalar.exp, scalar.log):
        yield f"scalar {of_one.__name__}", torch.tensor([of_one(i / 64) for i in range(1, 65)])

    yield "naive sum", x.sum()
    yield "naive dot", torch.dot(x, y)
    yield "naive sqrt", x.abs().sqrt()
    yield "naive exp", x.exp()
    yield "naive add with alpha", torch.add(x, y, alpha=1 / 3)


def main(shift: int) -> None:
    """Print the digests as one JSON object."""
    arith.environment.check()
    digests = {}
    for name, result in results(shift):
        data = result if isinstance(result, bytes) else torch.as_tensor(result).numpy().tobytes()
        digests[name] = sha256(data).hexdigest()[:16]
    sys.stdout.write(json.dumps({"capability": torch.backends.cpu.get_cpu_capability(), "digests": digests}))


if __name__ == "__main__":
    main(int(sys.argv[1]))
