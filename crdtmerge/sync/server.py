"""The side of a transfer that gives: answers from what is stored, and remembers nothing about who asked."""

from __future__ import annotations

from crdtmerge.digest import Digest
from crdtmerge.errors import NotYetError
from crdtmerge.sync.events import Content
from crdtmerge.sync.messages import (
    META_CHUNK_BYTES_MAX,
    GetBlock,
    GetBlockReply,
    GetMeta,
    GetMetaReply,
    Have,
    HaveReply,
    Meta,
)


class Server:
    """Serves content; keeps the last manifest or list, since the next piece asked for is mostly of it."""

    def __init__(self, content: Content) -> None:
        self._content = content
        self._last: tuple[Meta, Digest] | None = None
        self._data = b""

    def forget(self) -> None:
        """Something was erased, or found damaged: what is kept here may be it."""
        self._last, self._data = None, b""

    def have(self, request: Have) -> HaveReply:
        """Return a bit for each block asked about."""
        bits = sum(self._content.blocks.has(block) << i for i, block in enumerate(request.digests))
        return HaveReply(bits.to_bytes(-(-len(request.digests) // 8), "little"))

    def block(self, request: GetBlock) -> GetBlockReply:
        """Return a block, or None for one that is not stored.

        Raises:
            StoreError: if it cannot be read, or is damaged.
        """
        try:
            return GetBlockReply(self._content.blocks.get(request.digest))
        except NotYetError:
            return GetBlockReply(None)

    def meta(self, request: GetMeta) -> GetMetaReply:
        """Return a piece of a manifest or block list; total 0 if it is not stored."""
        if self._last != (request.kind, request.digest):
            try:
                self._data = self._whole(request)
            except NotYetError:
                return GetMetaReply(0)
            self._last = request.kind, request.digest
        chunk = self._data[request.offset : request.offset + META_CHUNK_BYTES_MAX]
        return GetMetaReply(len(self._data), chunk)

    def _whole(self, request: GetMeta) -> bytes:
        if request.kind is Meta.MANIFEST:
            return self._content.manifest(request.digest).encoded
        return b"".join(self._content.block_list(request.digest))
