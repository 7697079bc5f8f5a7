"""Whether `kernels` are at hand: loops compiled by numba, an extra (``pip install crdtmerge[fast]``).

They give the same bits as torch, sooner. Loading the compiler takes about a second, more than a small merge
itself: whoever begins a large one calls `load`.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from types import ModuleType
from typing import Final

import numpy as np
import torch

FLOAT64: Final = 0
FLOAT32: Final = 1
BFLOAT16: Final = 2
FLOAT16: Final = 3
"""What loops call the types that they read and write."""

STREAM: Final = np.dtype(
    [
        ("address", np.int64),  # of the first element
        ("kind", np.int64),
        ("base", np.int64),  # address of what is subtracted; 0: nothing is
        ("base_kind", np.int64),
        ("words", np.int64),  # address of uint32: where one is not below `threshold`, 0 stands; 0: none
        ("threshold", np.int64),
        ("divisor", np.float64),  # of those that stay
        ("ties", np.int64),  # |x| <= `low` becomes 0 in the first so many elements, |x| <= `high` in others
        ("low", np.float64),
        ("high", np.float64),  # negative: nothing is trimmed
    ]
)
"""A stream of elements, for loops."""

TARGET: Final = np.dtype(
    [
        ("address", np.int64),  # of the first element
        ("kind", np.int64),
        ("base", np.int64),  # address of what base + factor · result is made with; 0: results stay
        ("base_kind", np.int64),
        ("factor", np.float64),
    ]
)
"""Where loops write, as what."""

_kernels: ModuleType | None = None


def kernels() -> ModuleType | None:
    """Return the compiled loops, or None where torch is to do the work."""
    return _kernels


def kernels_for(device: torch.device) -> ModuleType | None:
    """Return the compiled loops if they can reach tensors of this device."""
    return _kernels if device.type == "cpu" else None


def available() -> bool:
    """Whether the compiler is installed, and elements are stored as this machine reads them."""
    return sys.byteorder == "little" and find_spec("numba") is not None


def load() -> bool:
    """Load the compiled loops if the compiler is installed; whether it is."""
    global _kernels  # noqa: PLW0603  one for the process: it changes no result
    if _kernels is None and available():
        _kernels = importlib.import_module("crdtmerge.arith.kernels")
    return _kernels is not None


@contextmanager
def without() -> Iterator[None]:
    """Have torch do the work meanwhile: for comparisons."""
    global _kernels  # noqa: PLW0603
    before, _kernels = _kernels, None
    try:
        yield
    finally:
        _kernels = before
