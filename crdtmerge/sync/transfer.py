"""Fetching what is missing, from several nodes at once, and believing none of them.

    wanted ──> sources ──> Have ──> rarest first ──> GetBlock ──> digest right? ── yes ──> StoreBlock
                                                                              └── no ───> banned

Always true here: nothing is stored before its digest was checked; at most 8 calls are under way with one
node and 32 in all; what is stored is not asked for. Only the last few blocks are asked of two nodes at
once, so that one slow node does not hold up a contribution.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from crdtmerge.block import Block
from crdtmerge.digest import Digest
from crdtmerge.errors import DigestMismatchError, MalformedError, RejectedError
from crdtmerge.keys import NodeId
from crdtmerge.limits import HAVE_DIGESTS_MAX
from crdtmerge.manifest import Manifest
from crdtmerge.sync.config import Config
from crdtmerge.sync.events import Content, Failure, StoreBlock, StoreManifest, StoreTensor
from crdtmerge.sync.jobs import STALLED_MS, Jobs
from crdtmerge.sync.messages import (
    META_BYTES_MAX,
    Coding,
    GetBlock,
    GetBlockReply,
    GetMetaReply,
    Have,
    HaveReply,
)
from crdtmerge.sync.meta import Assembly, digests
from crdtmerge.sync.port import Port
from crdtmerge.sync.sources import Source, Sources
from crdtmerge.sync.wants import Kind, Piece

ASSEMBLY_BYTES_MAX: Final = 4 * META_BYTES_MAX
"""Manifests and block lists that are put together at a time, in memory: few large or many small ones."""

LOOK_MS: Final = 5_000
"""Time between two looks around for sources while something is missing and arrives."""

LOOK_MS_MAX: Final = 60_000
"""The time is doubled up to this while nothing arrives: what nobody has costs everybody little."""

LAST_BLOCKS: Final = 16
"""When no more than these are left, each is asked of two sources."""


class Transfer:
    """Completes contributions.

    Args:
        content: what is stored.
        port: where outputs and calls go.
        authors: who added a contribution; they are preferred as sources.
        candidates: nodes that can be called.
        config: bounds.
        bytes_max: contributions beyond this size are not fetched.
        rests_until: until when a node wants to be left alone.

    Attributes:
        due_ms: when to call `tick`; None while nothing is missing.
    """

    def __init__(
        self,
        content: Content,
        port: Port,
        *,
        authors: Callable[[Digest], Sequence[NodeId]],
        candidates: Callable[[], Sequence[NodeId]],
        config: Config,
        bytes_max: int | None,
        rests_until: Callable[[NodeId], int] = lambda node: 0,
    ) -> None:
        self._port, self._candidates, self._rests_until = port, candidates, rests_until
        self._jobs = Jobs(content, port, authors=authors, bytes_max=bytes_max)
        self._sources = Sources(config)
        self._assemblies: dict[Piece, Assembly] = {}
        self._look_ms, self._pause_ms = 0, LOOK_MS
        self._packed = config.packed
        self._resting: set[NodeId] = set()
        self.due_ms: int | None = None

    @property
    def missing(self) -> int:
        """How much is known to be missing; 0 if nothing is."""
        return len(self._jobs)

    def want(self, now_ms: int, contributions: Iterable[Digest], payloads: Iterable[Digest] = ()) -> None:
        """Complete exactly these contributions and then payloads, in this order; stop fetching others."""
        self._jobs.want(contributions, payloads)
        self._pause_ms = LOOK_MS
        self._pump(now_ms)

    def want_also(self, now_ms: int, contributions: Iterable[Digest]) -> None:
        """Complete these contributions, too."""
        self._jobs.want_also(contributions)
        self._pause_ms = LOOK_MS
        self._pump(now_ms)

    def look_again(self, now_ms: int, *, lost: bool = False) -> None:
        """Content was stored by somebody else: walk again; if some was lost, over what was complete too."""
        self._jobs.begin_anew(lost=lost)
        self._pause_ms = LOOK_MS
        self._pump(now_ms)

    def space(self, now_ms: int, free_bytes: int) -> None:
        """So much may still be stored: go on with what waits for room, if it fits now."""
        self._jobs.measured(free_bytes)
        if self._jobs:
            self._pump(now_ms)

    def tick(self, now_ms: int) -> None:
        """Go on, if it is time."""
        if self.due_ms is not None and now_ms >= self.due_ms:
            self._jobs.rotate(now_ms)
            self._pump(now_ms)

    def flushed(self) -> None:
        """The outputs so far are with the driver."""
        self._jobs.flushed()

    # --- asking -----------------------------------------------------------------------------------

    def _pump(self, now_ms: int) -> None:
        """Walk on, and ask for as much as there is room for."""
        more, begun = self._jobs.walk(now_ms)
        if not self._jobs:
            self.due_ms = None
            self._assemblies.clear()
            return
        if begun or self.due_ms is None or now_ms >= self._look_ms:
            self._look(now_ms)
        rests = {s.node: until for s in self._sources.all if (until := self._rests_until(s.node)) > now_ms}
        self._resting = set(rests)
        turn_ms = min(self._look_ms, now_ms + STALLED_MS) if self._jobs.queued else self._look_ms
        self.due_ms = now_ms if more else min([turn_ms, *rests.values()])
        metas, blocks = self._jobs.wanted
        for source in self._sources.all:
            self._ask_what(source, blocks)
        if not self._sources.room(self._resting):
            return
        rarity = self._sources.rarity()
        held = [piece for piece in blocks if rarity[piece.digest]]
        held.sort(key=lambda piece: rarity[piece.digest])
        for piece in [*self._under_assembly(metas), *held]:
            if not self._sources.asked(piece):
                self._ask(piece)
                if not self._sources.room(self._resting):
                    return
        if len(blocks) <= LAST_BLOCKS and not metas and self._jobs.walked:
            for piece in held:
                if self._sources.asked(piece) == 1:
                    self._ask(piece)

    def _look(self, now_ms: int) -> None:
        """Choose sources again: authors first, then whoever can be called."""
        candidates = self._candidates()
        able = set(candidates)
        self._sources.choose(now_ms, [node for node in self._jobs.authors if node in able], candidates)
        self._look_ms = now_ms + self._pause_ms
        self._pause_ms = min(2 * self._pause_ms, LOOK_MS_MAX)

    def _ask_what(self, source: Source, blocks: Sequence[Piece]) -> None:
        """Ask a source which of the wanted blocks it holds."""
        new = [piece.digest for piece in blocks if piece.digest not in source.asked][:HAVE_DIGESTS_MAX]
        if source.asking or not new or source.node in self._resting:
            return
        source.asking = True
        source.asked.update(new)

        def ended(now_ms: int, end: HaveReply | Failure) -> None:
            if isinstance(end, HaveReply):
                if len(end.bitmap) != -(-len(new) // 8):
                    raise MalformedError(f"{len(end.bitmap)} bytes of bits about {len(new)} blocks")
                bits = int.from_bytes(end.bitmap, "little")
                source.has.update(block for i, block in enumerate(new) if bits >> i & 1)
            source.asking = False
            self._pump(now_ms)

        self._port.call(source.node, Have(tuple(new)), HaveReply, ended)

    def _under_assembly(self, metas: Sequence[Piece]) -> list[Piece]:
        """Return the manifests and block lists to ask for, those begun already first."""
        still = set(metas)
        self._assemblies = {piece: a for piece, a in self._assemblies.items() if piece in still}
        room = ASSEMBLY_BYTES_MAX - sum(piece.meta_bytes for piece in self._assemblies)
        for piece in metas:
            if piece not in self._assemblies and piece.meta_bytes <= room:
                self._assemblies[piece] = Assembly(piece)
                room -= piece.meta_bytes
        return list(self._assemblies)

    def _ask(self, piece: Piece) -> None:
        """Ask the best source there is for a piece."""
        source = self._sources.pick(piece, self._resting)
        if source is None:
            return
        if piece.is_block and not self._jobs.room.takes_blocks(1 + self._sources.blocks_under_way):
            return
        node = source.node
        self._sources.begin(source, piece)
        if piece.is_block:

            def got_block(now_ms: int, end: GetBlockReply | Failure) -> None:
                self._got_block(now_ms, node, piece, end)

            self._port.call(node, self._get(piece.digest), GetBlockReply, got_block)
        else:
            assembly = self._assemblies[piece]
            request = assembly.request

            def got_meta(now_ms: int, end: GetMetaReply | Failure) -> None:
                self._got_meta(now_ms, node, assembly, request.offset, end)

            self._port.call(node, request, GetMetaReply, got_meta)

    def _get(self, block: Digest) -> GetBlock:
        if not self._packed:
            return GetBlock(block)
        against, width = self._jobs.hint(block)
        return GetBlock(block, Coding.PACKED, against, width)

    # --- getting ----------------------------------------------------------------------------------

    def _got_block(self, now_ms: int, node: NodeId, piece: Piece, end: GetBlockReply | Failure) -> None:
        block = None if isinstance(end, Failure) or end.data is None else Block(end.data)
        if block is not None and block.digest != piece.digest:
            self._sources.ban(now_ms, node)
            raise DigestMismatchError("block", wanted=piece.digest, got=block.digest)
        failure = end if isinstance(end, Failure) else Failure.REFUSED if block is None else None
        self._sources.end(node, piece, failure)
        if block is not None and self._arrived(now_ms, piece, size=len(block.data)):
            self._jobs.room.stored(len(block.data))
            self._port.emit(StoreBlock(block))
        self._pump(now_ms)

    def _got_meta(
        self, now_ms: int, node: NodeId, assembly: Assembly, offset: int, end: GetMetaReply | Failure
    ) -> None:
        piece, data = assembly.piece, None
        failure = end if isinstance(end, Failure) else None if end.total else Failure.REFUSED
        if isinstance(end, GetMetaReply) and end.total:
            blamed = piece.kind is Kind.MANIFEST and not assembly.sources - {node}
            try:
                data = assembly.add(node, offset, end)
            except RejectedError:
                if blamed:
                    self._sources.ban(now_ms, node)
                    raise
                failure = Failure.REFUSED
        self._sources.end(node, piece, failure)
        if data is not None:
            self._put_together(now_ms, piece, data)
        self._pump(now_ms)

    def _put_together(self, now_ms: int, piece: Piece, data: bytes) -> None:
        """Store a manifest or a block list whose digest was checked."""
        if piece.dtype is not None:
            blocks = digests(data)
            if self._arrived(now_ms, piece, blocks):
                self._port.emit(StoreTensor(piece.digest, piece.dtype, piece.shape, blocks))
            return
        try:
            manifest = Manifest.decode(data)
        except RejectedError as error:
            self._jobs.refuse(piece.digest, error)
            return
        if self._arrived(now_ms, piece):
            self._jobs.read(manifest)
            self._port.emit(StoreManifest(manifest))

    def _arrived(self, now_ms: int, piece: Piece, blocks: tuple[Digest, ...] = (), *, size: int = 0) -> bool:
        self._sources.stored(piece)
        self._pause_ms, self._look_ms = LOOK_MS, min(self._look_ms, now_ms + LOOK_MS)
        return self._jobs.arrived(now_ms, piece, blocks, size=size)
