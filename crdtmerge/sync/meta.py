"""Manifests and block lists travel in pieces; here they are put together.

Pieces may come from several sources. All but the last are as long as a piece may be, so nobody can keep us
busy with crumbs. The whole is checked against its digest at the end; if it is wrong and came from several,
nobody can be blamed, so it is fetched again from one source alone.

A block list that does not fit its tensor's root may be the fault of the manifest that claims dtype and
shape; only of a manifest, which is a digest of bytes alone, a wrong one proves that its source lies.
"""

from __future__ import annotations

from crdtmerge.digest import DIGEST_BYTES, Digest, Domain, digest
from crdtmerge.dtypes import DType
from crdtmerge.errors import DigestMismatchError, MalformedError
from crdtmerge.keys import NodeId
from crdtmerge.manifest import tensor_root
from crdtmerge.sync.blobs import META_CHUNK_BYTES_MAX, GetMeta, GetMetaReply, Meta
from crdtmerge.sync.wants import Kind, Piece


class Assembly:
    """A manifest or block list that is being put together.

    Args:
        piece: which.

    Attributes:
        sources: who contributed so far.
        alone: whether one source has to give everything, since a mixture turned out wrong.
    """

    def __init__(self, piece: Piece) -> None:
        self.piece = piece
        self.sources: set[NodeId] = set()
        self.alone = False
        self._data = bytearray()

    @property
    def request(self) -> GetMeta:
        """What to ask for next."""
        kind = Meta.MANIFEST if self.piece.kind is Kind.MANIFEST else Meta.TENSOR
        return GetMeta(kind, self.piece.digest, len(self._data))

    def restart(self) -> None:
        """Forget what came so far."""
        self._data.clear()
        self.sources.clear()

    def add(self, source: NodeId, offset: int, reply: GetMetaReply) -> bytes | None:
        """Append what a source sent; return the whole, checked, once it is complete.

        Args:
            source: who sent it.
            offset: where it was asked to begin; if that was before the last restart, it is of no use.
            reply: what it sent.

        Raises:
            MalformedError, DigestMismatchError: if it is not what was asked for; everything that came so
                far is forgotten. Unless ``alone`` was set before, another source may be to blame.
        """
        if self.alone and self.sources - {source}:
            self.restart()
        if offset != len(self._data):
            return None
        self.sources.add(source)
        try:
            return self._add(reply)
        except (MalformedError, DigestMismatchError):
            self.alone = self.alone or len(self.sources) > 1
            self.restart()
            raise

    def _add(self, reply: GetMetaReply) -> bytes | None:
        if len(reply.chunk) != min(reply.total - len(self._data), META_CHUNK_BYTES_MAX) or not reply.chunk:
            raise MalformedError(f"{len(reply.chunk)} bytes at {len(self._data)} of {reply.total}")
        self._data += reply.chunk
        if len(self._data) < reply.total:
            return None
        data = bytes(self._data)
        dtype = self.piece.dtype
        got = digest(Domain.MANIFEST, data) if dtype is None else self._root(dtype, data)
        if got != self.piece.digest:
            raise DigestMismatchError(self.piece.kind.name.lower(), wanted=self.piece.digest, got=got)
        return data

    def _root(self, dtype: DType, data: bytes) -> Digest:
        if len(data) % DIGEST_BYTES:
            raise MalformedError(f"a block list of {len(data)} bytes")
        return tensor_root(dtype, self.piece.shape, digests(data))


def digests(joined: bytes) -> tuple[Digest, ...]:
    """Cut joined digests, of a length that was checked."""
    return tuple(
        Digest(joined[start : start + DIGEST_BYTES]) for start in range(0, len(joined), DIGEST_BYTES)
    )
