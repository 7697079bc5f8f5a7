"""The lock of a home: at most one process serves it.

Other processes may read the home and add operations to it at any time (the database sees to that); the lock
only keeps two of them from speaking for one node id. The system drops it when the process dies, however
that happens. The file itself says who holds it, for people and for `crdtmerge status`.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from crdtmerge.errors import LockedError

FILE: Final = "LOCK"
_NOTE_BYTES_MAX: Final = 4096


class Lock:
    """A held lock."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def note(self, text: str) -> None:
        """Leave a note for those who find the home locked."""
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, text.encode(), 0)


@contextmanager
def locked(home: Path) -> Iterator[Lock]:
    """Hold the lock of ``home``.

    Raises:
        LockedError: if another process, or another part of this one, holds it.
    """
    descriptor = os.open(home / FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            note = os.pread(descriptor, _NOTE_BYTES_MAX, 0).decode(errors="replace").strip()
            raise LockedError(f"{home} is in use ({note}); stop that process first") from error
        lock = Lock(descriptor)
        lock.note(f"process {os.getpid()}")
        yield lock
        lock.note("")
    finally:
        os.close(descriptor)


def holder(home: Path) -> str | None:
    """Return the note of whoever serves ``home``, or None if nobody does."""
    try:
        descriptor = os.open(home / FILE, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return os.pread(descriptor, _NOTE_BYTES_MAX, 0).decode(errors="replace").strip()
        return None
    finally:
        os.close(descriptor)
