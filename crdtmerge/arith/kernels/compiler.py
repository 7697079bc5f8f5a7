"""How loops are compiled, and where what was compiled is kept.

numba's cache knows a loop by the file that it stands in, and not by the files whose loops it calls: after an
upgrade it could run what an older version meant. So every version of this package has a place of its own.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar

import numpy as np
from numba import config, njit

_P = ParamSpec("_P")
_R = TypeVar("_R")

Array = np.ndarray[Any, Any]

CHUNK: Final = 1024
"""Elements that are worked on together: 8 KiB of float64, so that a few rows stay in the first cache.

Fewer would leave what begins each loop too large a part of its time."""

APART: Final = 40
"""Elements left between chunks: a processor takes addresses that are alike in their low bits for the same."""

_HERE: Final = Path(__file__).parent


def _version() -> str:
    """Return a name for what the loops are made of."""
    files = [_HERE.parent / "compiled.py", *sorted(_HERE.glob("*.py"))]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]


def _place() -> str | None:
    """Return the first folder that can be written, beside the sources or in the user's; None without one."""
    name = f"loops-{_version()}"
    user = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    for above in (_HERE / "__pycache__", user / "crdtmerge"):
        folder = above / name
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(folder, os.W_OK):
            return str(folder)
    return None


_KEPT: Final = _place()


@contextmanager
def _kept_there() -> Iterator[None]:
    """Have numba keep what is decorated meanwhile in that place; the setting is the whole process's."""
    settings: Any = config
    before, settings.CACHE_DIR = settings.CACHE_DIR, _KEPT
    try:
        yield
    finally:
        settings.CACHE_DIR = before


def loop(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Return the function compiled when it is first called, without Python's lock and without contraction."""
    with _kept_there():
        compiled: Callable[_P, _R] = njit(nogil=True, cache=_KEPT is not None, error_model="numpy")(function)
    return compiled
