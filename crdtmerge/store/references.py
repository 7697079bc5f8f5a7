"""Blocks that stay in the user's own files: where they are, never what they are.

A reference is (path, offset, length) together with the file's state (inode, size, modification time)
when it was hashed. Nothing is believed of it: what is read is hashed again each time. A file in another
state counts as gone with everything in it, so its references are dropped, its blocks count as absent,
the node stops offering them and a sync may bring them. A file that cannot be reached at all (a disk
that is not mounted) keeps its references: when it comes back as it was, so do its blocks.
"""

from __future__ import annotations

import heapq
import os
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path

from crdtmerge.block import Block
from crdtmerge.digest import Digest, Readable
from crdtmerge.errors import CorruptBlockError, CrdtMergeError, NotYetError, RejectedError, StoreError
from crdtmerge.limits import BLOCK_BYTES
from crdtmerge.store import files
from crdtmerge.store.blocks import Blocks, absent, verified
from crdtmerge.store.database import Database


def file_state(file: int | bytes) -> str | None:
    """Return what tells one state of a file (path or descriptor) from another; None if out of reach.

    The device number is left out: it changes when a disk is mounted again.
    """
    try:
        status = os.stat(file)  # noqa: PTH116 - of a descriptor, or of a path in bytes
    except OSError:
        return None
    return f"{status.st_ino}:{status.st_size}:{status.st_mtime_ns}"


class References:
    """The references that ``database`` holds."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._changed: dict[bytes, None] = {}

    def add(self, path: Path, state: str, blocks: Iterable[tuple[Digest, int, int]]) -> None:
        """Remember (digest, offset, length) of blocks in a file that was in ``state``; durable on return."""
        self._database.add_references(os.fsencode(path.resolve()), state, blocks)

    def has(self, wanted: Digest) -> bool:
        """Say whether a file that holds the block is here, and as it was."""
        return any(self._fresh(path, state) for path, state, _, _ in self._database.references(wanted))

    def get(self, wanted: Digest) -> bytes:
        """Return the block, verified.

        Raises:
            NotYetError: if no file holds it any more.
        """
        for path, state, offset, length in self._database.references(wanted):
            if self._fresh(path, state):
                try:
                    return _read(path, offset, length, wanted)
                except CorruptBlockError:
                    self._database.remove_reference(wanted, path)
                    self._changed[path] = None
                except (StoreError, RejectedError):
                    continue  # out of reach after all
        raise absent(wanted)

    def discard(self, wanted: Digest) -> None:
        """Forget where the block is; the files are the user's and stay."""
        self.discard_all([wanted])

    def discard_all(self, wanted: Iterable[Digest]) -> None:
        """Forget where blocks are, of all of them or of none; the files are the user's and stay."""
        self._database.remove_references(wanted)

    def changed(self) -> list[Path]:
        """Return the files that were found changed since the last time this was asked."""
        changed, self._changed = self._changed, {}
        return [Path(os.fsdecode(path)) for path in changed]

    def verify(self, *, discard: bool) -> Iterator[CrdtMergeError]:
        """Read every referenced block and yield what is wrong; see `Store.verify`."""
        for path, state in self._database.files():
            now = file_state(path)
            if now != state:
                lost = [Digest(digest) for digest, _, _ in self._database.references_into(path)]
                why = "is not there any more" if now is None else "was changed since"
                yield NotYetError(f"{os.fsdecode(path)} {why}: {len(lost)} blocks were left in it", lost)
                if discard:
                    self._database.remove_file(path, state)
                continue
            for digest, offset, length in self._database.references_into(path):
                try:
                    _read(path, offset, length, Digest(digest))
                except (StoreError, RejectedError) as error:
                    yield error
                    if discard and isinstance(error, CorruptBlockError):
                        self._database.remove_reference(digest, path)

    def __iter__(self) -> Iterator[Digest]:
        return (Digest(digest) for digest in self._database.referenced())

    def _fresh(self, path: bytes, state: str) -> bool:
        now = file_state(path)
        if now not in (state, None):
            self._database.remove_file(path, state)
            self._changed[path] = None
        return now == state


class ReferencedBlocks:
    """Blocks of our own and blocks in the user's files as one set; our own are asked first."""

    def __init__(self, owned: Blocks, references: References) -> None:
        self._owned, self._references = owned, references

    def has(self, wanted: Digest) -> bool:
        """Say whether the block is here."""
        return self._owned.has(wanted) or self._references.has(wanted)

    def get(self, wanted: Digest) -> bytes:
        """Return the block, verified; see `Blocks.get`."""
        try:
            return self._owned.get(wanted)
        except NotYetError:
            return self._references.get(wanted)

    def put(self, data: Readable | Block) -> Digest:
        """Keep ``data`` as a block of our own; see `Blocks.put`."""
        return self._owned.put(data)

    def discard(self, wanted: Digest) -> None:
        """Forget the block, and where it is in the user's files."""
        self._owned.discard(wanted)
        self._references.discard(wanted)

    def free_bytes(self) -> int | None:
        """Return how much more the disk of our own blocks takes; None where nobody can say."""
        return self._owned.free_bytes()

    def flush(self) -> None:
        """Make everything put so far survive a power cut; references are durable at once."""
        self._owned.flush()

    def __iter__(self) -> Iterator[Digest]:
        return (digest for digest, _ in groupby(heapq.merge(self._owned, self._references)))


def _read(path: bytes, offset: int, length: int, wanted: Digest) -> bytes:
    where = os.fsdecode(path)
    with files.disk_errors("reading", Path(where)):
        descriptor = files.open_regular(Path(where))
        try:
            data = files.read_exactly(descriptor, offset, offset + min(length, BLOCK_BYTES))
        finally:
            os.close(descriptor)
    return verified(data, wanted, where=where)
