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
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from crdtmerge.digest import Digest
from crdtmerge.errors import NotYetError
from crdtmerge.manifest import Manifest, Tensor
from crdtmerge.sync.events import Content

WINDOW: Final = 256
"""Pieces that one job wants at a time."""

LOOKUPS_MAX: Final = 4096
"""Blocks that one `Job.fill` looks up."""


class Kind(IntEnum):
    """What a piece is."""

    MANIFEST = 0
    TENSOR = 1
    BLOCK = 2


@dataclass(frozen=True, slots=True, order=True)
class Piece:
    """Something that can be fetched by its digest.

    Attributes:
        kind: what it is.
        digest: of the manifest, of the tensor (its root) or of the block.
        tensor: for a block list, the tensor as its manifest has it.
    """

    kind: Kind
    digest: Digest
    tensor: Tensor | None = field(default=None, compare=False)


class Job:
    """The completion of one contribution.

    Args:
        contribution: digest of its manifest.
        content: what is stored.

    Attributes:
        wanted: pieces that are absent; ordered, the values mean nothing.
        manifest: once it is there.
        empty: tensors without a byte, which nobody needs to be asked for.
        progress_ms: when something of it last arrived.
    """

    def __init__(self, contribution: Digest, content: Content, *, now_ms: int) -> None:
        self.contribution = contribution
        self.wanted: dict[Piece, None] = {}
        self.manifest: Manifest | None = None
        self.empty: list[Tensor] = []
        self.progress_ms = now_ms
        self._content = content
        self._tensors: deque[Tensor] = deque()
        self._lists: deque[Iterator[Digest]] = deque()
        self._begun = False

    @property
    def done(self) -> bool:
        """Whether nothing is missing."""
        return self.manifest is not None and not (self.wanted or self._tensors or self._lists)

    @property
    def walked(self) -> bool:
        """Whether all that is missing is in `wanted`."""
        return self._begun and not (self._tensors or self._lists)

    def fill(self, fresh: Set[Piece]) -> bool:
        """Walk on until the window is full, the end is reached or enough was looked up.

        Args:
            fresh: pieces that arrived in this very event: stored by the time anybody looks again.

        Returns:
            Whether a further call would get further.
        """
        if not self._begun:
            self._begun = True
            try:
                self.begin(self._content.manifest(self.contribution))
            except NotYetError:
                self._want(Piece(Kind.MANIFEST, self.contribution), fresh)
        for _ in range(LOOKUPS_MAX):
            if len(self.wanted) >= WINDOW or self.walked:
                return False
            if self._lists:
                block = next(self._lists[0], None)
                if block is None:
                    self._lists.popleft()
                elif not self._content.blocks.has(block):
                    self._want(Piece(Kind.BLOCK, block), fresh)
            else:
                tensor = self._tensors.popleft()
                try:
                    self._lists.append(iter(self._content.block_list(tensor.root)))
                except NotYetError:
                    self._want(Piece(Kind.TENSOR, tensor.root, tensor), fresh)
        return True

    def begin(self, manifest: Manifest) -> None:
        """Walk this manifest, which is stored or about to be."""
        self.manifest = manifest
        by_root = {tensor.root: tensor for tensor in manifest.tensors + manifest.evidence}
        self._tensors.extend(tensor for tensor in by_root.values() if tensor.bytes)
        self.empty.extend(tensor for tensor in by_root.values() if not tensor.bytes)

    def arrived(self, piece: Piece, blocks: tuple[Digest, ...] = (), *, now_ms: int) -> bool:
        """Note that a piece was stored, a block list with its blocks; return whether it was wanted."""
        if piece not in self.wanted:
            return False
        del self.wanted[piece]
        self.progress_ms = now_ms
        if blocks:
            self._lists.append(iter(blocks))
        return True

    def __len__(self) -> int:
        """How much is known to be missing: at least 1 until the job is done."""
        return 0 if self.done else len(self.wanted) + len(self._tensors) + len(self._lists) or 1

    def _want(self, piece: Piece, fresh: Set[Piece]) -> None:
        if piece not in fresh:
            self.wanted[piece] = None
