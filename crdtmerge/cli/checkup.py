"""What `crdtmerge doctor` looks at: the arithmetic of this machine first, then the folder."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from crdtmerge.errors import CrdtMergeError

_FREE_BYTES_MIN: Final = 1 << 30


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was checked."""

    name: str
    ok: bool
    detail: str


def run(home: Path) -> list[Finding]:
    """Check everything; a check that raises an error of ours has failed, with the error as its detail."""
    return [_guarded(name, check) for name, check in _checks(home)]


def _checks(home: Path) -> Iterator[tuple[str, Callable[[], str]]]:
    yield "versions", _versions
    yield "floating point", _floating_point
    yield "known answers", _known_answers
    if home.exists():
        yield "disk space", lambda: _disk_space(home)
        yield "federation", lambda: _federation(home)


def _guarded(name: str, check: Callable[[], str]) -> Finding:
    try:
        return Finding(name, True, check())
    except CrdtMergeError as error:
        return Finding(name, False, str(error))


def _versions() -> str:
    from importlib.metadata import version

    import torch

    capability = torch.backends.cpu.get_cpu_capability()
    return (
        f"crdtmerge {version('crdtmerge')}, torch {torch.__version__} ({capability}), "
        f"Python {platform.python_version()}, {platform.machine()}"
    )


def _floating_point() -> str:
    from crdtmerge.arith import environment

    environment.check()
    return "IEEE 754, denormals kept"


def _known_answers() -> str:
    from crdtmerge import selftest

    return f"{selftest.check()} merges give the bytes that they give everywhere"


def _disk_space(home: Path) -> str:
    from crdtmerge.errors import OutOfSpaceError

    free = shutil.disk_usage(home).free
    text = f"{free / (1 << 30):.1f} GiB free in {home}"
    if free < _FREE_BYTES_MIN:
        raise OutOfSpaceError(f"{text}: less than a gibibyte")
    return text


def _federation(home: Path) -> str:
    from crdtmerge.ledger import Ledger

    with Ledger.open(home) as ledger:
        now = ledger.status()
        return (
            f"{now.operations} operations, {len(now.contributions)} contributions visible, "
            f"{len(now.ready)} complete here"
        )
