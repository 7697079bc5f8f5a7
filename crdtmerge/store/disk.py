"""Blocks on disk: one file per block, named by its digest.

    <home>/blocks/ab/abcdef…        a block; whole and durable from the moment it has this name
    <home>/partial/<process>/…      blocks put since the last flush, under names of no meaning

Each file is fsynced in the background from the moment it is written. A flush waits for that, renames the
files to their digests and fsyncs the folders: so a file under a digest was never half-written, whenever
the machine lost power. At most FLUSH_BYTES wait for a flush; that is what a crash can cost, and none of
it was acknowledged.

Several processes may share a home. Each has its own folder under ``partial/`` and holds a lock on it;
whoever opens the home removes the folders whose lock is free, since their process is dead.

After a failed fsync the kernel may call lost pages clean, so trying again would report success for bytes
that are gone. Hence a flush that failed so is final: what waited is dropped and `put` refuses from then
on, until the store is opened again.
"""

from __future__ import annotations

import os
import re
import shutil
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from crdtmerge.block import Block
from crdtmerge.digest import Digest, Readable, from_hex
from crdtmerge.errors import StoreError
from crdtmerge.limits import BLOCK_BYTES
from crdtmerge.store import files
from crdtmerge.store.blocks import absent, named, verified

FLUSH_BYTES: Final = 64 << 20
"""Blocks waiting for a flush, in bytes: reaching it flushes."""

FLUSH_FILES: Final = 4096
"""Blocks waiting for a flush: many small tensors reach this before FLUSH_BYTES."""

LOCK: Final = "gc.lock"
"""Held, shared, by whoever takes in a model, and alone by whoever collects garbage."""

_SYNC_THREADS: Final = 4  # file systems commit concurrent fsyncs together

_NAME: Final = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A block that no flush has renamed yet."""

    path: Path
    size: int
    synced: Future[None]


class DiskBlocks:
    """Blocks under the folder ``home``; see the top of the file, and `Blocks` for the methods."""

    def __init__(self, home: Path) -> None:
        """Open the blocks under ``home``, which exists, and remove what dead processes left half-done."""
        self._blocks, partial = home / "blocks", home / "partial"
        with files.disk_errors("opening", home):
            self._blocks.mkdir(exist_ok=True)
            partial.mkdir(exist_ok=True)
            _sweep(partial)
            self._partial, self._claimed = _claim(partial)
            files.sync(home)
        self._lock = threading.Lock()  # guards the three below
        self._waiting: dict[Digest, _Waiting] = {}
        self._waiting_bytes = 0
        self._folders: set[Path] = set()  # of which a flush must fsync the names
        self._flushing = threading.Lock()  # one flush at a time; also keeps discard out of it
        self._syncing = ThreadPoolExecutor(_SYNC_THREADS, "crdtmerge-sync")
        self._failure = ""

    def close(self) -> None:
        """Let go of the folder; what was not flushed is gone."""
        if self._claimed >= 0:
            self._syncing.shutdown(cancel_futures=True)
            shutil.rmtree(self._partial, ignore_errors=True)
            os.close(self._claimed)
            self._claimed = -1

    def has(self, wanted: Digest) -> bool:
        """Say whether the block is here, without reading it."""
        return wanted in self._waiting or self._path(wanted).exists()

    def get(self, wanted: Digest) -> bytes:
        """Return the block, verified; see `Blocks.get`."""
        waiting = self._waiting.get(wanted)
        # A flush may rename the file between the two attempts, so its final name comes last.
        for path in (waiting and waiting.path, self._path(wanted)):
            data = _read(path) if path else None
            if data is not None:
                return verified(data, wanted, where=str(path))
        raise absent(wanted)

    def put(self, data: Readable | Block) -> Digest:
        """Keep ``data`` and return its digest; see `Blocks.put`.

        A block that is there is compared, not written: one that was damaged on disk heals by being put.
        """
        name, content = named(data)
        self._check()
        if name in self._waiting:
            return name
        final = self._path(name)
        if _read(final) == content:
            with self._lock:
                self._folders.add(final.parent)  # another process may have renamed it, and not yet synced
            return name
        path = self._write(content)
        with self._lock:
            late = name in self._waiting  # another thread put the same block meanwhile
            if not late:
                self._waiting[name] = _Waiting(path, len(content), self._syncing.submit(files.sync, path))
                self._waiting_bytes += len(content)
            full = self._waiting_bytes >= FLUSH_BYTES or len(self._waiting) >= FLUSH_FILES
        if late:
            path.unlink()
        if full:
            self.flush()
        return name

    def discard(self, wanted: Digest) -> None:
        """Forget the block, if it is here; for good after the next flush."""
        with self._flushing, self._lock, files.disk_errors("removing", self._path(wanted)):
            waiting = self._waiting.pop(wanted, None)
            if waiting:
                waiting.synced.exception()  # whatever came of it
                waiting.path.unlink()
                self._waiting_bytes -= waiting.size
            final = self._path(wanted)
            if final.exists():
                final.unlink(missing_ok=True)
                self._folders.add(final.parent)

    def free_bytes(self) -> int | None:
        """Return how much more the disk takes; None if it does not say."""
        try:
            disk = os.statvfs(self._blocks)
        except OSError:
            return None
        return disk.f_bavail * disk.f_frsize

    def weigh(self, wanted: Digest) -> tuple[int, int | None] | None:
        """Return a block's size in bytes and when it was written, in milliseconds since 1970.

        None for a block that is not here, or still waits for a flush.
        """
        try:
            status = self._path(wanted).stat()
        except OSError:
            return None
        return status.st_size, status.st_mtime_ns // 1_000_000

    @contextmanager
    def taking_in(self) -> Iterator[None]:
        """Keep the collection of garbage away for the block, in all processes; any number may be in here."""
        with files.reading(self._blocks.parent / LOCK):
            yield

    @contextmanager
    def collecting(self) -> Iterator[None]:
        """Keep `taking_in` away for the block, in all processes.

        Raises:
            LockedError: if something is being taken in.
        """
        with files.alone(self._blocks.parent / LOCK):
            yield

    def flush(self) -> None:
        """Make everything put so far survive a power cut; see `Blocks.flush` and the top of the file."""
        with self._flushing:
            self._check()
            with self._lock:
                waiting, folders = dict(self._waiting), self._folders
                self._folders = set()
            if not waiting and not folders:
                return
            self._await(*(block.synced for block in waiting.values()))
            try:
                with files.disk_errors("renaming blocks into", self._blocks):
                    for name, block in waiting.items():
                        self._rename(name, block, folders)
            except StoreError:  # no harm was done: the next flush goes on from here
                with self._lock:
                    self._folders |= folders
                raise
            self._await(*(self._syncing.submit(files.sync, folder) for folder in (*folders, self._blocks)))

    def __iter__(self) -> Iterator[Digest]:
        for prefix in range(256):
            found = {name for name in list(self._waiting) if name[0] == prefix}
            folder = self._blocks / f"{prefix:02x}"
            with files.disk_errors("listing", folder):
                if folder.exists():
                    found.update(
                        from_hex(path.name) for path in folder.iterdir() if _NAME.fullmatch(path.name)
                    )
            yield from sorted(found)

    def _path(self, name: Digest) -> Path:
        text = name.hex()
        return self._blocks / f"{text[:2]}/{text}"

    def _check(self) -> None:
        if self._failure:
            raise StoreError(f"{self._failure}; blocks were dropped since. Open the store again.")

    def _write(self, data: Readable) -> Path:
        with files.disk_errors("writing a block into", self._partial):
            descriptor, path = files.create(self._partial)
            try:
                files.write_all(descriptor, data, 0)
            except OSError:
                path.unlink()
                raise
            finally:
                os.close(descriptor)
        return path

    def _rename(self, name: Digest, block: _Waiting, folders: set[Path]) -> None:
        final = self._path(name)
        final.parent.mkdir(exist_ok=True)
        block.path.replace(final)
        folders.add(final.parent)
        with self._lock:
            del self._waiting[name]
            self._waiting_bytes -= block.size

    def _await(self, *synced: Future[None]) -> None:
        try:
            with files.disk_errors("syncing", self._blocks):
                for future in synced:
                    future.result()
        except StoreError as error:
            with self._lock:
                self._failure = str(error)
                dropped = list(self._waiting.values())
                self._waiting.clear()
                self._waiting_bytes = 0
            for block in dropped:
                block.path.unlink(missing_ok=True)
            raise


def _read(path: Path) -> bytes | None:
    """Return the file's content, no more than shows that it is too long; None if there is no file."""
    with files.disk_errors("reading", path):
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            return files.read_exactly(descriptor, 0, BLOCK_BYTES + 1)
        finally:
            os.close(descriptor)


def _claim(partial: Path) -> tuple[Path, int]:
    """Make and lock a folder of this process' own; return it and the descriptor that holds the lock."""
    while True:
        folder = partial / uuid.uuid4().hex
        folder.mkdir()
        descriptor = _locked(folder)
        if descriptor is not None:
            if folder.exists():
                return folder, descriptor
            os.close(descriptor)  # a sweep came between mkdir and lock


def _sweep(partial: Path) -> None:
    """Remove the folders of dead processes."""
    for folder in partial.iterdir():
        descriptor = _locked(folder)
        if descriptor is not None:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(descriptor)


def _locked(folder: Path) -> int | None:
    """Lock ``folder`` and return the descriptor that holds the lock; None if it is locked, or gone."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not files.try_lock(descriptor):
        os.close(descriptor)
        return None
    return descriptor
