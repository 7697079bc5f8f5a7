"""The floating-point mode of this process: whether the processor does what IEEE 754 says.

A library may have told it to treat subnormal numbers as zero (code built with ``-ffast-math`` does so
when it is loaded), or to round otherwise than to nearest. Both change bits silently; the mode belongs
to a thread and new threads inherit it. `check` computes a few sums whose results give such a mode away,
on this thread and on torch's workers, and compares them as integers, which no mode can bend.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import torch

from crdtmerge.errors import EnvironmentRefusedError

_PARALLEL_GRAIN: Final = 1 << 15
"""Elements that torch gives to one worker at least."""

_SIGN: Final = -(1 << 63)

# What goes wrong; bit patterns of a, b and a + b. Patterns, because this very file might be read by a
# thread that flushes: 1.25 · 2^-1022 - 2^-1022 written in decimals could be zero on both sides.
_PROBES: Final = (
    ("flushes subnormal results to zero", 0x0014 << 48, 0x0010 << 48 | _SIGN, 0x0004 << 48),
    ("reads subnormal operands as zero", 0x0010 << 48, 0x0004 << 48, 0x0014 << 48),
    ("rounds up", 0x3FF0 << 48, 0x3C90 << 48, 0x3FF0 << 48),
    ("rounds down", 0x3FF0 << 48 | _SIGN, 0x3C90 << 48 | _SIGN, 0x3FF0 << 48 | _SIGN),
    ("rounds towards zero", 0x3FF0 << 48, 0x3CA8 << 48, (0x3FF0 << 48) + 1),
)


def check() -> None:
    """Make sure that this thread and torch's workers compute as IEEE 754 says.

    Raises:
        EnvironmentRefusedError: if they flush subnormal numbers, or do not round to nearest even.
    """
    threads = torch.get_num_threads()
    repeats = 1 if threads == 1 else _PARALLEL_GRAIN * threads // len(_PROBES) + 1
    a, b, wanted = torch.tensor([row[1:] for row in _PROBES], dtype=torch.int64).repeat(repeats, 1).unbind(1)
    got = a.contiguous().view(torch.float64) + b.contiguous().view(torch.float64)
    wrong = (got.view(torch.int64) != wanted).nonzero()
    if len(wrong):
        raise EnvironmentRefusedError(
            f"this process {_PROBES[int(wrong[0]) % len(_PROBES)][0]}: its results would differ from every "
            "other replica's. Some library has changed the floating-point mode; for subnormal numbers, "
            "torch.set_flush_denormal(False) or `with crdtmerge.arith.environment.subnormals_kept():` "
            "turns it back on this thread, before anything else has used torch."
        )


@contextmanager
def subnormals_kept() -> Iterator[None]:
    """Keep subnormal numbers on this thread within the context; afterwards the mode is as it was.

    Raises:
        EnvironmentRefusedError: if that does not help: torch's workers started in the other mode, or
            rounding is wrong.
    """
    flushed = _flushes()
    if flushed:
        torch.set_flush_denormal(False)
    try:
        check()
        yield
    finally:
        if flushed:
            torch.set_flush_denormal(True)


def _flushes() -> bool:
    patterns = torch.tensor([row[1:] for row in _PROBES[:2]], dtype=torch.int64)
    a, b, wanted = patterns.t().contiguous()
    got = a.view(torch.float64) + b.view(torch.float64)
    return not torch.equal(got.view(torch.int64), wanted)
