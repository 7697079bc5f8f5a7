"""The same thing computed twice, with compiled loops and without, of numbers that are hard on both."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from hypothesis import strategies as st

from crdtmerge import arith
from crdtmerge.arith import Stored, compiled
from crdtmerge.dtypes import DType

READ = (DType.F64, DType.F32, DType.BF16, DType.F16, DType.F8_E4M3)
"""The last is decoded by torch in either case."""

WRITTEN = (DType.F32, DType.BF16, DType.F16)
"""Types that loops round to."""

SIZES = st.sampled_from([1, 2, 7, 1023, 1024, 1025, 2500])
"""Loops work on chunks of 1024."""
SEEDS = st.integers(0, 2**32 - 1)


def twice(work: Callable[[], torch.Tensor | bytes]) -> tuple[bytes, bytes]:
    """Return the bytes of what ``work`` returns with compiled loops, and without."""

    def run() -> bytes:
        result = work()
        return result if isinstance(result, bytes) else result.numpy().tobytes()

    with compiled.without():
        by_torch = run()
    return run(), by_torch


def numbers(size: int, seed: int) -> torch.Tensor:
    """[n] float64 of all magnitudes, with zeros of both signs, ties and half-way points among them.

    Also subnormal numbers of every type, the least of them and their halves.
    """
    draw = np.random.default_rng(seed)
    values = draw.normal(size=size) * 10.0 ** draw.integers(-12, 12, size)
    tiny = draw.random(size) < 0.1
    values[tiny] = np.round(values[tiny] % 64) * 2.0 ** draw.choice([-1074, -150, -134, -26], tiny.sum())
    values[draw.random(size) < 0.1] = 0.0
    values[draw.random(size) < 0.1] *= -0.0
    few = draw.random(size) < 0.2
    values[few] = np.round(values[few] % 8) / 4
    halfway = draw.random(size) < 0.1
    values[halfway] = (1 + (2 * draw.integers(0, 128, size)[halfway] + 1) / 256) * 2.0**-3
    return torch.from_numpy(values)


def stored(values: torch.Tensor, dtype: DType, *, offset: int = 0) -> Stored:
    """Elements as they lie in a store, behind some other bytes."""
    largest = 400 if dtype is DType.F8_E4M3 else 6e4
    raw = bytes(offset) + arith.encode(values.clamp(-largest, largest), dtype)
    return Stored(lambda: memoryview(raw)[offset:], dtype, len(values))
