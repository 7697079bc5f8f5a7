"""The few calls on files that durability needs, with the disk's errors translated.

The order that makes a file appear whole or not at all, even across a power cut, is always the same:
write under another name, fsync the file, rename it, fsync the folder.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from crdtmerge.digest import Readable
from crdtmerge.errors import LockedError, OutOfSpaceError, RejectedError, StoreError

_FULL: Final = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def disk_errors(doing: str, path: Path) -> Iterator[None]:
    """Turn an OSError of the block into a StoreError that says what was being done, and where.

    Raises:
        OutOfSpaceError: if the disk, or the user's quota of it, is full.
    """
    try:
        yield
    except OSError as error:
        kind = OutOfSpaceError if error.errno in _FULL else StoreError
        raise kind(f"{doing} {path} failed: {error.strerror or error}") from error


def create(folder: Path, prefix: str = "") -> tuple[int, Path]:
    """Create a file with a name that no other process or thread uses; return its descriptor and path."""
    path = folder / f"{prefix}{uuid.uuid4().hex}"
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666), path


def make_folder(path: Path, mode: int = 0o777) -> None:
    """Make a folder, and those above it that are not there, so that their names survive a power cut."""
    if not path.is_dir():
        make_folder(path.parent)
        path.mkdir(mode, exist_ok=True)
        sync(path.parent)


def open_regular(path: Path) -> int:
    """Open a regular file for reading and return its descriptor.

    Raises:
        RejectedError: if it is a folder, a device or a pipe, which could keep us waiting for ever.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise RejectedError(f"{path} is no regular file")
    return descriptor


def open_locked(path: Path) -> int:
    """Open a file for reading and writing, made if it is not there, locked until it is closed.

    Raises:
        LockedError: if another process has it open so.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        if not try_lock(descriptor):
            os.close(descriptor)
            raise LockedError(f"another process is writing {path}")
        if _is(path, descriptor):
            return descriptor
        os.close(descriptor)  # renamed or removed between open and lock


def _is(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def try_lock(descriptor: int) -> bool:
    """Lock a file or folder for as long as ``descriptor`` is open; say False if another process has it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Keep `alone` out for the block; any number of threads and processes may be in here at once."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Be the only one at ``path`` for the block.

    Raises:
        LockedError: if somebody is `reading` there, or alone.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        if not try_lock(descriptor):
            raise LockedError(
                f"{path.parent} is taking in a model, or cleaning up: try again when it is done"
            )
        yield
    finally:
        os.close(descriptor)


def write_all(descriptor: int, data: Readable, offset: int) -> None:
    """Write ``data`` at ``offset``, however few bytes the system takes at a time."""
    view = memoryview(data).cast("B")
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written


def read_exactly(descriptor: int, begin: int, end: int) -> bytes:
    """Return bytes ``[begin, end)``, or fewer if the file ends before."""
    parts = []
    while begin < end:
        part = os.pread(descriptor, end - begin, begin)
        if not part:
            break
        parts.append(part)
        begin += len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def sync(path: Path) -> None:
    """Make the content of a file, or the names in a folder, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
