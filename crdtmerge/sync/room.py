"""Room on the disk: how much there is, and how much of it is promised to which contribution.

A contribution is fetched only if what is missing of it fits into what is free and not promised yet: a disk
that fills up half-way through three models completes none of them. How much is missing is first taken to
be all of it; only where that does not fit is it looked up, a bounded number of lookups at a time.

Where nobody told how much is free, everything fits.
"""

from __future__ import annotations

from collections.abc import Iterator

from crdtmerge.digest import Digest
from crdtmerge.errors import NotYetError
from crdtmerge.limits import BLOCK_BYTES
from crdtmerge.manifest import Manifest
from crdtmerge.sync.events import Content


class Room:
    """What is free, and who was promised what of it.

    Attributes:
        free_bytes: what may still be stored; None if that is not known.
    """

    def __init__(self) -> None:
        self.free_bytes: int | None = None
        self._promised: dict[Digest, int] = {}

    def promise(self, contribution: Digest, size: int) -> bool:
        """Promise a contribution room for ``size`` bytes, and nothing else; return False without room."""
        self.release(contribution)
        if self.free_bytes is not None and sum(self._promised.values()) + size > self.free_bytes:
            return False
        self._promised[contribution] = size
        return True

    @property
    def overbooked(self) -> bool:
        """Whether more is promised than is free: somebody else filled the disk."""
        return self.free_bytes is not None and sum(self._promised.values()) > self.free_bytes

    def release(self, contribution: Digest) -> None:
        """Take a promise back: all is there, or it is not wanted."""
        self._promised.pop(contribution, None)

    def keep(self, contribution: Digest, size: int) -> None:
        """Note that this much of a promise was kept."""
        if contribution in self._promised:
            self._promised[contribution] = max(0, self._promised[contribution] - size)

    def stored(self, size: int) -> None:
        """Note that this much less is free, until it is measured again."""
        if self.free_bytes is not None:
            self.free_bytes = max(0, self.free_bytes - size)

    def takes_blocks(self, count: int) -> bool:
        """Whether so many blocks could be stored at this moment."""
        return self.free_bytes is None or count * BLOCK_BYTES <= self.free_bytes


def absent_bytes(manifest: Manifest, content: Content) -> Iterator[int]:
    """Look up what is missing of a manifest's content; yield the bytes that each lookup found missing."""
    for tensor in {tensor.root: tensor for tensor in manifest.tensors + manifest.evidence}.values():
        try:
            blocks = content.block_list(tensor.root)
        except NotYetError:
            yield tensor.bytes
            continue
        for position, block in enumerate(dict.fromkeys(blocks)):
            size = min(BLOCK_BYTES, tensor.bytes - position * BLOCK_BYTES)
            yield 0 if content.blocks.has(block) else max(0, size)
