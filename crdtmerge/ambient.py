"""The wall clock and the system's entropy, for the outermost callers.

Everything below the application takes time and randomness as arguments, so that a simulation can bring
its own. An application that brings none gets these. A timestamp is a claim and a hint for display, never
an authority; entropy makes keys, never results.
"""

from __future__ import annotations

import os
import time


def now_ms() -> int:
    """Return milliseconds since 1970, UTC."""
    return time.time_ns() // 1_000_000


def entropy(count: int) -> bytes:
    """Return ``count`` bytes that nobody can predict."""
    return os.urandom(count)
