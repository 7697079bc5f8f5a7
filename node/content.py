"""Content on its way to the disk: when blocks become durable, and what happens when the disk is full.

Blocks are stored a little later than everything else, since losing one costs a transfer and breaks no
promise: they are flushed when something is complete, and every FLUSH_BYTES or FLUSH_MS.

A full disk is no reason to stop. What did not fit is not stored, the machine is told that there is no room,
and what free space there is is measured every MEASURE_MS: when there is enough again, downloads go on. Of
the disk SPARE_BYTES are left alone, so that operations, which must be stored, find room.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from crdtmerge.block import Block
from crdtmerge.digest import Digest
from crdtmerge.errors import NotYetError, OutOfSpaceError, StoreError
from crdtmerge.limits import SPARE_BYTES
from crdtmerge.node import shortage
from crdtmerge.store import Store
from crdtmerge.sync.events import NoRoom, StoreBlock, StoreManifest, StoreTensor

log = logging.getLogger(__name__)

FLUSH_BYTES: Final = 64 << 20
FLUSH_MS: Final = 5000
MEASURE_MS: Final = 1000


class ContentWriter:
    """Stores what was downloaded.

    Args:
        store: the home's.
        now_ms: a clock that never goes back.

    Attributes:
        lists: block lists that wait for `settle`.
    """

    def __init__(self, store: Store, now_ms: Callable[[], int]) -> None:
        self._store, self._now_ms = store, now_ms
        self.lists: list[StoreTensor] = []
        self._unflushed_bytes = 0
        self._unflushed_since_ms = 0
        self._measured_ms = 0

    def store(self, output: StoreManifest | StoreTensor | StoreBlock) -> bool:
        """Store content, or let a block list wait for others; return whether there was room for it."""
        try:
            match output:
                case StoreManifest(manifest):
                    self._store.put_manifest(manifest)
                case StoreTensor():
                    self.lists.append(output)
                case StoreBlock(block):
                    self._put(block)
        except OutOfSpaceError as error:
            log.warning("not stored error=%s", error)
            return False
        return True

    def settle(self) -> bool:
        """Store the block lists that wait, with one wait for the disk; return whether there was room."""
        lists, self.lists = self.lists, []
        try:
            self._store.put_tensors((one.dtype, one.shape, one.blocks) for one in lists)
        except OutOfSpaceError as error:
            log.warning("not stored error=%s", error)
            return False
        return True

    def free_bytes(self) -> int | None:
        """Return what downloads may fill, if it is time to look and it is known."""
        if self._now_ms() - self._measured_ms < MEASURE_MS:
            return None
        self._measured_ms = self._now_ms()
        free = self._store.blocks.free_bytes()
        return None if free is None else max(0, free - SPARE_BYTES)

    def flush_if_due(self) -> None:
        """Make blocks durable that have waited long enough; where the disk is full they wait on."""
        if self._unflushed_bytes and self._now_ms() - self._unflushed_since_ms > FLUSH_MS:
            try:
                self.flush()
            except OutOfSpaceError as error:
                self._unflushed_since_ms = self._now_ms()
                log.warning("not flushed error=%s", error)

    def flush(self) -> None:
        """Make everything durable."""
        self._store.blocks.flush()
        self._unflushed_bytes = 0

    def tell(self, short: NoRoom | None) -> None:
        """Tell people that downloads wait for room, or that they do not any more."""
        if short is None:
            log.info("room again")
        else:
            log.warning(
                "no room contribution=%s needed=%d free=%d: downloads wait until there is",
                *(short.contribution.hex()[:16], short.needed_bytes, short.free_bytes),
            )
        try:
            shortage.save(self._store, short)
        except OutOfSpaceError:
            log.warning("no room even to note it down")

    def changed_files(self) -> bool:
        """Tell people which of their files are offered no more, having changed; return whether there are any.

        What was left in them counts as lost: it is fetched again, from whoever else has it.
        """
        changed = self._store.references.changed()
        for path in changed:
            log.warning("changed file=%s: what was contributed from it in place is offered no more", path)
        return bool(changed)

    def block(self, digest: Digest) -> bytes | None:
        """Return a stored block, verified; None if it is not here, or cannot be read."""
        try:
            return self._store.blocks.get(digest)
        except (NotYetError, StoreError):
            return None

    def forget(self, digest: Digest) -> None:
        """Forget a block that turned out to be damaged."""
        self._store.blocks.discard(digest)

    def _put(self, block: Block) -> None:
        if not self._unflushed_bytes:
            self._unflushed_since_ms = self._now_ms()
        self._store.blocks.put(block)
        self._unflushed_bytes += len(block.data)
        if self._unflushed_bytes >= FLUSH_BYTES:
            self.flush()
