"""How loops are compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, ParamSpec, TypeVar

import numpy as np
from numba import njit

_P = ParamSpec("_P")
_R = TypeVar("_R")

Array = np.ndarray[Any, Any]

CHUNK: Final = 2048
"""Elements that are worked on together: 16 KiB of float64."""


def loop(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Return the function compiled when it is first called, without Python's lock and without contraction."""
    compiled: Callable[_P, _R]
    try:
        compiled = njit(nogil=True, cache=True, error_model="numpy")(function)
    except RuntimeError:  # no place that can be written: compiled again in every process
        compiled = njit(nogil=True, error_model="numpy")(function)
    return compiled
