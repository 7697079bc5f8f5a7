"""Every operation of crdtmerge.arith on the same numbers; its matrices are in every_linear_operation.

SHIFT moves the numbers in memory and cuts the streams into other tiles; nothing may depend on it, nor on
the device that holds the numbers, nor on what the environment says about instruction sets and threads.
Names that begin with ``naive`` are what torch offers for the same purpose, to show that machines do differ.
`tools/vectors.py` runs this.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import partial
from itertools import pairwise
from typing import Any, Final, TypeAlias, TypeVar

import numpy as np
import torch

from crdtmerge import arith
from crdtmerge.arith import Tensor, draw, scalar
from crdtmerge.dtypes import DType

N: Final = 100_003
KEY: Final = bytes(range(32))

Result: TypeAlias = "bytes | Tensor | float"
Operation: TypeAlias = Callable[[], Result]
_State = TypeVar("_State")

_FINITE: Final = {
    DType.F32: 0xFF << 23,
    DType.F16: 0x1F << 10,
    DType.BF16: 0xFF << 7,
    DType.F8_E4M3: 0x7F,
    DType.F8_E5M2: 0x7C,
}
"""How many patterns without sign are finite numbers."""
_STEPS: Final = {1: 1, 2: 97, 4: 1_000_003}
"""By size: every how manyth pattern is looked at."""
_LARGE: Final = {DType.F8_E4M3: 400.0, DType.F8_E5M2: 5e4}
_BINADES: Final = {DType.F8_E4M3: (-8, 10), DType.F8_E5M2: (-15, 17)}

FLOATING: Final = (DType.F64, DType.F32, DType.F16, DType.BF16, DType.F8_E4M3, DType.F8_E5M2)


def numbers(stream: int, shift: int, device: str = "cpu") -> Tensor:
    """N bell-shaped numbers of 53 significant bits that begin ``shift`` elements into their storage."""
    uniform = [draw.words(KEY, (4 * stream + i) * N, N) - 2.0**31 for i in range(4)]
    x = torch.empty(N + shift, dtype=torch.float64, device=device)[shift:]
    return x.copy_((uniform[0] + uniform[1] + uniform[2] + uniform[3]) / (3 * 2.0**33))


def tiles(shift: int) -> Iterator[slice]:
    """Cuts that differ with ``shift`` and keep to no power of two."""
    size = 30_011 - 4_001 * shift
    for start in range(0, N, size):
        yield slice(start, min(start + size, N))


def results(shift: int, device: str = "cpu") -> Iterator[tuple[str, Operation]]:
    """Every operation's name, and what computes its result."""
    x, y, z = (numbers(stream, shift, device) for stream in range(3))
    coarse = (x * 8.0).round() * 0.125
    yield from _conversions(x, shift)
    yield from _elementwise(x, y, z, coarse, shift)
    yield from _sums(x, y, z, shift)
    yield from _functions(x, shift)
    yield from _ranks(x, coarse, shift)
    yield from _draws(shift)
    yield "naive sum", x.sum
    yield "naive dot", lambda: torch.dot(x, y)
    yield "naive sqrt", lambda: x.abs().sqrt()
    yield "naive exp", x.exp
    yield "naive add with alpha", lambda: torch.add(x, y, alpha=1 / 3)


def _conversions(x: Tensor, shift: int) -> Iterator[tuple[str, Operation]]:
    for dtype in FLOATING:
        raw = _encoded(x, dtype, shift)
        behind = memoryview(bytes(shift) + raw)[shift:]
        yield f"encode {dtype.code}", partial(_encoded, x, dtype, shift)
        yield f"decode {dtype.code}", partial(arith.decode, behind, dtype)
        yield f"non-finite {dtype.code}", partial(_fits, behind, dtype)
        yield f"too large {dtype.code}", partial(_excess, behind, dtype)


def _encoded(x: Tensor, dtype: DType, shift: int) -> bytes:
    values = torch.cat([x * _scales(dtype).to(x.device), _edges(dtype).to(x.device)])
    stops = [*(tile.start for tile in tiles(shift)), len(values)]
    return b"".join(arith.encode(values[start:stop], dtype) for start, stop in pairwise(stops))


def _scales(dtype: DType) -> Tensor:
    """Factors that take numbers below 1/3 to every binade of a short type, or to subnormal float16s."""
    low, high = _BINADES.get(dtype, (0, 0))
    factors = [2.0**e if low else 1e-5 for e in range(low, high + 1)]
    return torch.from_numpy(np.resize(np.array(factors), N))


def _edges(dtype: DType) -> Tensor:
    """Numbers of a type, half-way points, their neighbours in float64, and the last that fit; both signs."""
    if dtype not in _FINITE:
        return torch.tensor([0.0, -0.0, 5e-324, -1.7976931348623157e308], dtype=torch.float64)
    patterns = np.arange(0, _FINITE[dtype] - 1, _STEPS[dtype.itemsize])
    lower, upper = (_numbers_of(patterns + i, dtype) for i in (0, 1))
    half = (lower + upper) * 0.5
    before, largest = _numbers_of(np.array([_FINITE[dtype] - 2, _FINITE[dtype] - 1]), dtype)
    beyond = largest + (largest - before) * 0.5
    last = [largest, np.nextafter(beyond, 0.0), *([beyond] if dtype is DType.F8_E4M3 else [])]
    edges = np.concatenate([lower, half, np.nextafter(half, 0.0), np.nextafter(half, np.inf), last])
    return torch.from_numpy(np.concatenate([edges, -edges]))


def _numbers_of(patterns: np.ndarray[tuple[int], np.dtype[np.int64]], dtype: DType) -> np.ndarray[Any, Any]:
    raw = patterns.astype(f"<u{dtype.itemsize}").tobytes()
    numbers: np.ndarray[Any, Any] = arith.decode(raw, dtype).numpy()
    return numbers


def _fits(raw: memoryview, dtype: DType) -> float:
    return float(arith.non_finite(raw, dtype) is None)


def _excess(raw: memoryview, dtype: DType) -> float:
    index = arith.non_finite(raw, dtype, bound=_LARGE.get(dtype, 0.7e-5))
    return float(-1 if index is None else index)


def _elementwise(
    x: Tensor, y: Tensor, z: Tensor, coarse: Tensor, shift: int
) -> Iterator[tuple[str, Operation]]:
    weights = [Fraction(1, 3), Fraction(1), Fraction(-22, 7)]
    zeros = -(coarse * 0.0)
    mask = draw.keep_mask(KEY, 0, N, Fraction(1, 2)).to(x.device)
    yield (
        "weighted sum",
        lambda: torch.cat([arith.weighted_sum([x[t], y[t], z[t]], weights) for t in tiles(shift)]),
    )
    yield "sqrt", lambda: arith.sqrt(x.abs())
    yield "sign", lambda: arith.sign(coarse)
    yield "positive zero", lambda: arith.positive_zero(zeros)
    yield "maximum", lambda: arith.maximum(coarse, zeros)
    yield "minimum", lambda: arith.minimum(coarse, zeros)
    yield "clamp", lambda: arith.clamp(x, -0.0, 0.5)
    yield "masked", lambda: arith.masked(x, mask)


def _sums(x: Tensor, y: Tensor, z: Tensor, shift: int) -> Iterator[tuple[str, Operation]]:
    yield "lane sum", lambda: _fed(arith.LaneSum(), lambda s, t: s.feed(x[t], t.start), shift).result()
    yield (
        "gram",
        lambda: torch.tensor(
            _fed(arith.LaneGram(3), lambda s, t: s.feed([x[t], y[t], z[t]], t.start), shift).result(),
            dtype=torch.float64,
        ),
    )
    yield "exact sum", lambda: _fed(arith.ExactSum(), lambda s, t: s.feed(x[t]), shift).result()
    yield (
        "exact dot",
        lambda: _fed(arith.ExactDot(), lambda s, t: s.feed(x[t], y[t] * 2.0**-600), shift).result(),
    )
    yield "exact squared norm", lambda: arith.exact_squared_norm(x[:1000])
    yield "mean", lambda: _fed(arith.Moments(), lambda s, t: s.feed(x[t]), shift).mean()
    yield "variance", lambda: _fed(arith.Moments(), lambda s, t: s.feed(x[t]), shift).variance()
    yield "cosine", lambda: _fed(arith.Cosine(), lambda s, t: s.feed(x[t], y[t]), shift).result()


def _fed(state: _State, feed: Callable[[_State, slice], None], shift: int) -> _State:
    for t in tiles(shift):
        feed(state, t)
    return state


def _functions(x: Tensor, shift: int) -> Iterator[tuple[str, Operation]]:
    for name, function, argument in (
        ("exp", arith.exp, x * 700.0),
        ("log", arith.log, x.abs() * 2.0**-1030 + 5e-324),
        ("log near 1", arith.log, x * 0.5 + 1.0),
        ("tanh", arith.tanh, x * 3.0),
        ("sigmoid", arith.sigmoid, x * 30.0),
        ("normal quantile", arith.normal_quantile, (x + 2.0) * 0.25),
    ):
        yield name, partial(_tiled, function, argument, shift)
    yield "softmax", lambda: arith.softmax(x[: 99 * 1001].reshape(1001, 99) * 9.0)


def _tiled(function: Callable[[Tensor], Tensor], x: Tensor, shift: int) -> Tensor:
    return torch.cat([function(x[t]) for t in tiles(shift)])


def _ranks(x: Tensor, coarse: Tensor, shift: int) -> Iterator[tuple[str, Operation]]:
    rows = coarse[: 99 * 1001].reshape(1001, 99)
    yield "quantiles of rows", lambda: arith.quantile_rows(rows, Fraction(1, 3))
    yield "ranks in rows", lambda: arith.rank_rows(rows)
    yield "mirrored magnitudes", lambda: arith.mirrored(x)
    yield "medians of rows", lambda: arith.median_rows(rows[:, 1:])
    yield "quantile", lambda: arith.quantile(x, Fraction(2, 7))
    yield "median", lambda: arith.median(x)
    yield "k-th magnitude", lambda: arith.kth_magnitude(x, 700)
    yield "rank", lambda: _rank(x, shift)
    streams = [coarse[i * 3000 : i * 3000 + 2999] for i in range(5)]
    yield "ascending across streams", lambda: torch.stack(arith.ascending(streams))
    yield "ranks across streams", lambda: torch.stack(arith.ranks(streams))
    for name, values in (("distinct", x), ("ties", coarse)):
        yield f"kept of {name}", partial(_kept, values, shift)
        yield f"top of {name}", partial(_top, values, shift)
        yield f"mask of {name}", partial(_mask, values, shift)


def _kept(x: Tensor, shift: int) -> Tensor:
    cut = _cut(x, shift)
    return torch.cat([cut.keep(x[t], t.start) for t in tiles(shift)])


def _rank(x: Tensor, shift: int) -> float:
    selection = arith.RankSelection(N // 5, N)
    done = False
    while not done:
        for t in tiles(shift):
            selection.feed(x[t])
        done = selection.finish()
    return selection.value


def _cut(values: Tensor, shift: int) -> arith.Cut:
    selection = arith.TopSelection(N // 3, N)
    done = False
    while not done:
        for t in tiles(shift):
            selection.feed(values[t], t.start)
        done = selection.finish()
    return selection.cut


def _top(values: Tensor, shift: int) -> bytes:
    cut = _cut(values, shift)
    return struct.pack("<dq", cut.threshold, cut.last)


def _mask(values: Tensor, shift: int) -> Tensor:
    cut = _cut(values, shift)
    return torch.cat([cut.mask(values[t], t.start) for t in tiles(shift)])


def _draws(shift: int) -> Iterator[tuple[str, Operation]]:
    for function in (draw.words, draw.uniform, draw.normal):
        yield function.__name__, partial(_drawn, function, shift)
    yield "keep mask", lambda: _drawn(partial(draw.keep_mask, probability=Fraction(1, 5)), shift)
    yield "permutation", lambda: draw.permutation(KEY, N)
    yield (
        "scalar pow",
        lambda: torch.tensor([scalar.pow(i / 64, i / 7) for i in range(1, 65)], dtype=torch.float64),
    )
    for of_one in (scalar.sqrt, scalar.sin, scalar.cos, scalar.acos, scalar.exp, scalar.log):
        yield f"scalar {of_one.__name__}", partial(_table, of_one)


def _drawn(function: Callable[[bytes, int, int], Tensor], shift: int) -> Tensor:
    return torch.cat([function(KEY, t.start, t.stop - t.start) for t in tiles(shift)])


def _table(function: Callable[[float], float]) -> Tensor:
    return torch.tensor([function(i / 64) for i in range(1, 65)], dtype=torch.float64)
