"""What is missing of the contributions that count: a walk over each of them that stops at what is absent.

    contribution ── manifest ── tensors ── block lists ── blocks
                     absent?                 absent?      absent?    ──> wanted

A `Job` holds a window of what is wanted, not all of it: a model of a million blocks costs no more memory
than one of a thousand. What is stored is looked up where the walk passes, never remembered, so a job
that is dropped and begun anew, by a restart or otherwise, asks for nothing that is there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Set
from dataclasses import dataclass
from enum import IntEnum
from itertools import islice
from typing import Final

from crdtmerge.digest import DIGEST_BYTES, Digest
from crdtmerge.dtypes import DType
from crdtmerge.errors import LimitError, NotYetError
from crdtmerge.limits import BLOCK_BYTES
from crdtmerge.manifest import Manifest, Tensor, element_count
from crdtmerge.sync.events import Content
from crdtmerge.sync.messages import META_BYTES_MAX
from crdtmerge.sync.room import Room, absent_bytes

WINDOW: Final = 128
"""Pieces that one job wants at a time."""

LOOKUPS_MAX: Final = 4096
"""Blocks that one `Job.fill` looks up."""


class Kind(IntEnum):
    """What a piece is."""

    MANIFEST = 0
    TENSOR = 1
    BLOCK = 2


@dataclass(frozen=True, slots=True)
class Piece:
    """Something that can be fetched by its digest.

    Attributes:
        kind: what it is.
        digest: of the manifest, of the tensor (its root) or of the block.
        dtype, shape: for a block list, of its tensor as the manifest has it. Part of the identity: a
            manifest that lies about a tensor must not spoil an honest one's.
    """

    kind: Kind
    digest: Digest
    dtype: DType | None = None
    shape: tuple[int, ...] = ()

    def __hash__(self) -> int:
        return hash(self.digest)  # of bytes, which remember theirs; a piece is looked up in every turn

    @property
    def is_block(self) -> bool:
        """Whether it is a block."""
        return self.kind is Kind.BLOCK

    @property
    def meta_bytes(self) -> int:
        """How long a manifest is at most, or a block list exactly."""
        if self.dtype is None:
            return META_BYTES_MAX
        return DIGEST_BYTES * -(-element_count(self.shape) * self.dtype.itemsize // BLOCK_BYTES)

    @property
    def order(self) -> tuple[int, Digest, str, tuple[int, ...]]:
        """What to sort by."""
        return self.kind, self.digest, self.dtype.code if self.dtype else "", self.shape


class Job:
    """The completion of one contribution.

    Args:
        contribution: digest of its manifest.
        content: what is stored.
        now_ms: when it begins.
        bytes_max: size beyond which it is refused.
        room: on the disk.

    Attributes:
        wanted: pieces that are absent; ordered, the values mean nothing.
        manifest: once it is there.
        empty: tensors without a byte, which nobody needs to be asked for.
        progress_ms: when something of it last arrived.
        short_bytes: what it needs, while there is no room for it; else None.
    """

    def __init__(
        self,
        contribution: Digest,
        content: Content,
        *,
        now_ms: int,
        bytes_max: int | None = None,
        room: Room | None = None,
    ) -> None:
        self.contribution = contribution
        self.wanted: dict[Piece, None] = {}
        self.manifest: Manifest | None = None
        self.empty: list[Tensor] = []
        self.progress_ms = now_ms
        self.short_bytes: int | None = None
        self._content, self._bytes_max, self._room = content, bytes_max, room or Room()
        self._promised = False
        self._absent: Iterator[int] | None = None
        self._absent_bytes = 0
        self._tensors: deque[Tensor] = deque()
        self._by_root: dict[Digest, Tensor] = {}
        self._lists: deque[tuple[Tensor, Iterator[tuple[int, Digest]]]] = deque()
        self._places: dict[Digest, tuple[Tensor, int]] = {}
        self._begun = False

    @property
    def walked(self) -> bool:
        """Whether all that is missing is in `wanted`."""
        return self._begun and not (self._tensors or self._lists)

    @property
    def done(self) -> bool:
        """Whether nothing is missing."""
        return self.walked and not self.wanted and not self.empty

    def fill(self, fresh: Set[Piece]) -> bool:
        """Walk on until the window is full, the end is reached or enough was looked up.

        Args:
            fresh: pieces that arrived in this very event: stored by the time anybody looks again.

        Returns:
            Whether a further call would get further.

        Raises:
            LimitError: if the contribution, or one tensor of it, is too large.
        """
        if not self._begun and not self._begin():
            return False
        if not self._promised and not self._promise():
            return self.short_bytes is None
        for _ in range(LOOKUPS_MAX):
            if len(self.wanted) >= WINDOW or self.walked:
                return False
            if self._lists:
                tensor, blocks = self._lists[0]
                index, block = next(blocks, (0, None))
                if block is None:
                    self._lists.popleft()
                elif not self._content.blocks.has(block):
                    self._places[block] = tensor, index
                    self._want(Piece(Kind.BLOCK, block), fresh)
            else:
                tensor = self._tensors.popleft()
                try:
                    self._lists.append((tensor, enumerate(self._content.block_list(tensor.root))))
                except NotYetError:
                    self._want(Piece(Kind.TENSOR, tensor.root, tensor.dtype, tensor.shape), fresh)
        return True

    def arrived(self, piece: Piece, blocks: tuple[Digest, ...] = (), *, now_ms: int) -> bool:
        """Note that a piece was stored, a block list with its blocks; return whether it was wanted."""
        if piece not in self.wanted:
            return False
        del self.wanted[piece]
        self._places.pop(piece.digest, None)
        self.progress_ms = now_ms
        if blocks:
            self._lists.append((self._by_root[piece.digest], enumerate(blocks)))
        return True

    def place(self, block: Digest) -> tuple[Tensor, int] | None:
        """Return of which tensor a wanted block is, and its index there."""
        return self._places.get(block)

    def __len__(self) -> int:
        """How much is known to be missing: at least 1 until the job is done."""
        return 0 if self.done else len(self.wanted) + len(self._tensors) + len(self._lists) or 1

    def _begin(self) -> bool:
        if self.manifest is None:
            try:
                self.manifest = self._content.manifest(self.contribution)
            except NotYetError:
                self._want(Piece(Kind.MANIFEST, self.contribution), frozenset())
                return False
        if self._bytes_max is not None and self.manifest.content_bytes > self._bytes_max:
            raise LimitError(
                f"a contribution of {self.manifest.content_bytes} bytes, at most {self._bytes_max} are merged"
            )
        by_root = {tensor.root: tensor for tensor in self.manifest.tensors + self.manifest.evidence}
        for tensor in by_root.values():
            if tensor.blocks * DIGEST_BYTES > META_BYTES_MAX:
                raise LimitError(f"tensor {tensor.name} of {tensor.bytes} bytes has too long a block list")
        self._by_root = by_root
        self._tensors.extend(tensor for tensor in by_root.values() if tensor.bytes)
        self.empty.extend(tensor for tensor in by_root.values() if not tensor.bytes)
        self._begun = True
        return True

    def _promise(self) -> bool:
        """Ask for room: for all of it, or else, once that is counted, for what is missing."""
        assert self.manifest is not None  # noqa: S101 - it has begun
        if self.short_bytes is None and self._absent is None:
            if self._room.promise(self.contribution, self.manifest.content_bytes):
                self._promised = True
                return True
            self._absent = absent_bytes(self.manifest, self._content)
        if self._absent is not None:
            found = list(islice(self._absent, LOOKUPS_MAX))
            self._absent_bytes += sum(found)
            if len(found) == LOOKUPS_MAX:
                return False  # there may be more to look up
            self._absent = None
        self._promised = self._room.promise(self.contribution, self._absent_bytes)
        self.short_bytes = None if self._promised else self._absent_bytes
        return self._promised

    def revoke(self) -> None:
        """Give back the room that was promised, and count anew what is missing."""
        if self._promised and self.manifest is not None:
            self._room.release(self.contribution)
            self._promised = False
            self._absent, self._absent_bytes = absent_bytes(self.manifest, self._content), 0

    def _want(self, piece: Piece, fresh: Set[Piece]) -> None:
        if piece not in fresh:
            self.wanted[piece] = None
