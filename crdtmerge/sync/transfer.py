"""Fetching what is missing, from several nodes at once, and believing none of them.

    wanted ──> sources ──> Have ──> rarest first ──> GetBlock ──> digest right? ── yes ──> StoreBlock
                                                                              └── no ───> banned

Always true here: nothing is stored before its digest was checked; at most 8 calls are under way with one
node and 32 in all; what is stored is not asked for. Only the last few blocks are asked of two nodes at
once, so that one slow node does not hold up a contribution.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from crdtmerge.digest import Digest, Domain, digest
from crdtmerge.errors import DigestMismatchError, LimitError, MalformedError, NotYetError, RejectedError
from crdtmerge.keys import NodeId
from crdtmerge.limits import HAVE_DIGESTS_MAX
from crdtmerge.manifest import Manifest, tensor_root
from crdtmerge.sync.config import Config
from crdtmerge.sync.events import Content, Failure, Misbehaved, Ready, StoreBlock, StoreManifest, StoreTensor
from crdtmerge.sync.messages import META_BYTES_MAX, GetBlock, GetBlockReply, GetMetaReply, Have, HaveReply
from crdtmerge.sync.meta import Assembly, digests
from crdtmerge.sync.port import Port
from crdtmerge.sync.sources import Source, Sources
from crdtmerge.sync.wants import Job, Kind, Piece

JOBS_MAX: Final = 4
"""Contributions that are fetched at a time."""

ASSEMBLY_BYTES_MAX: Final = 4 * META_BYTES_MAX
"""Manifests and block lists that are put together at a time, in memory: few large or many small ones."""

STALLED_MS: Final = 30_000
"""A job that nothing arrived for in this time makes room for another."""

LOOK_MS: Final = 5_000
"""Time between two looks around for sources while something is missing."""

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
    ) -> None:
        self._content, self._port = content, port
        self._authors, self._candidates, self._bytes_max = authors, candidates, bytes_max
        self._sources = Sources(config)
        self._settled: set[Digest] = set()  # ready, or refused
        self._jobs: dict[Digest, Job] = {}
        self._waiting: deque[Digest] = deque()
        self._assemblies: dict[Piece, Assembly] = {}
        self._fresh: set[Piece] = set()
        self._look_ms = 0
        self.due_ms: int | None = None

    @property
    def missing(self) -> int:
        """How much is known to be missing; 0 if nothing is."""
        return sum(map(len, self._jobs.values())) + len(self._waiting)

    def want(self, now_ms: int, contributions: Iterable[Digest]) -> None:
        """Complete exactly these contributions, in this order; stop fetching others."""
        wanted = dict.fromkeys(contributions)
        self._jobs = {contribution: job for contribution, job in self._jobs.items() if contribution in wanted}
        self._settled.intersection_update(wanted)
        self._waiting = deque(c for c in wanted if c not in self._settled and c not in self._jobs)
        self._pump(now_ms)

    def want_also(self, now_ms: int, contributions: Iterable[Digest]) -> None:
        """Complete these contributions, too."""
        known = {*self._settled, *self._jobs, *self._waiting}
        self._waiting.extend(c for c in dict.fromkeys(contributions) if c not in known)
        self._pump(now_ms)

    def look_again(self, now_ms: int, *, lost: bool = False) -> None:
        """Content was stored by somebody else: walk again; if some was lost, over what was complete too."""
        self._waiting.extendleft(reversed(self._jobs))
        if lost:
            self._waiting.extend(sorted(self._settled))
            self._settled.clear()
        self._jobs.clear()
        self._pump(now_ms)

    def tick(self, now_ms: int) -> None:
        """Go on, if it is time."""
        if self.due_ms is None or now_ms < self.due_ms:
            return
        for contribution, job in list(self._jobs.items()):
            if self._waiting and now_ms - job.progress_ms >= STALLED_MS:
                del self._jobs[contribution]
                self._waiting.append(contribution)
        self._pump(now_ms)

    def flushed(self) -> None:
        """The outputs so far are with the driver."""
        self._fresh.clear()

    def _pump(self, now_ms: int) -> None:
        """Walk on, finish jobs, and ask for as much as there is room for."""
        more = self._walk(now_ms)
        if not self._jobs:
            self.due_ms = None
            self._assemblies.clear()
            return
        if self.due_ms is None or now_ms >= self._look_ms:
            self._look(now_ms)
        self.due_ms = now_ms if more else self._look_ms
        wanted = sorted(
            {piece for job in self._jobs.values() for piece in job.wanted}, key=lambda piece: piece.order
        )
        metas = [piece for piece in wanted if not piece.is_block]
        blocks = [piece for piece in wanted if piece.is_block]
        for source in self._sources.all:
            self._ask_what(source, blocks)
        rarity = self._sources.rarity()
        held = [piece for piece in blocks if rarity[piece.digest]]
        held.sort(key=lambda piece: rarity[piece.digest])
        for piece in [*self._under_assembly(metas), *held]:
            if not self._sources.asked(piece):
                self._ask(piece)
        if len(blocks) <= LAST_BLOCKS and not metas and all(job.walked for job in self._jobs.values()):
            for piece in held:
                if self._sources.asked(piece) == 1:
                    self._ask(piece)

    def _look(self, now_ms: int) -> None:
        candidates = self._candidates()
        able = set(candidates)
        preferred = [author for job in self._jobs for author in self._authors(job) if author in able]
        self._sources.choose(now_ms, preferred, candidates)
        self._look_ms = now_ms + LOOK_MS

    def _walk(self, now_ms: int) -> bool:
        """Fill all windows and drop what is done; return whether there is more to walk right away."""
        more = False
        ahead = list(self._jobs)
        while ahead or (self._waiting and len(self._jobs) < JOBS_MAX):
            if not ahead:
                ahead.append(self._waiting.popleft())
                job = Job(ahead[0], self._content, now_ms=now_ms, bytes_max=self._bytes_max)
                self._jobs[ahead[0]] = job
                self._look_ms = now_ms  # its authors are good sources
            contribution = ahead.pop(0)
            job = self._jobs[contribution]
            try:
                more |= job.fill(self._fresh)
                self._store_empty(job)
            except LimitError as error:
                self._refuse(contribution, error)
            else:
                if job.done:
                    self._settle(contribution)
                    self._port.emit(Ready(contribution))
        return more

    def _store_empty(self, job: Job) -> None:
        """Store the block lists of tensors without a block: they are known without asking."""
        while job.empty:
            tensor = job.empty.pop()
            try:
                self._content.block_list(tensor.root)
            except NotYetError:
                if tensor_root(tensor.dtype, tensor.shape, ()) == tensor.root:
                    self._port.emit(StoreTensor(tensor.root, tensor.dtype, tensor.shape, ()))

    def _settle(self, contribution: Digest) -> None:
        del self._jobs[contribution]
        self._settled.add(contribution)

    def _refuse(self, contribution: Digest, error: RejectedError) -> None:
        """Give up a contribution that its author should not have published."""
        self._settle(contribution)
        for author in self._authors(contribution):
            self._port.emit(Misbehaved(author, error))

    # --- asking and getting -----------------------------------------------------------------------

    def _ask_what(self, source: Source, blocks: Sequence[Piece]) -> None:
        """Ask a source which of the wanted blocks it holds."""
        new = [piece.digest for piece in blocks if piece.digest not in source.asked][:HAVE_DIGESTS_MAX]
        if source.asking or not new:
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
        self._assemblies = {piece: a for piece, a in self._assemblies.items() if piece in metas}
        room = ASSEMBLY_BYTES_MAX - sum(piece.meta_bytes for piece in self._assemblies)
        for piece in metas:
            if piece not in self._assemblies and piece.meta_bytes <= room:
                self._assemblies[piece] = Assembly(piece)
                room -= piece.meta_bytes
        return list(self._assemblies)

    def _ask(self, piece: Piece) -> None:
        source = self._sources.pick(piece)
        if source is None:
            return
        node = source.node
        self._sources.begin(source, piece)
        if piece.is_block:

            def got_block(now_ms: int, end: GetBlockReply | Failure) -> None:
                self._got_block(now_ms, node, piece, end)

            self._port.call(node, GetBlock(piece.digest), GetBlockReply, got_block)
        else:
            assembly = self._assemblies[piece]

            def got_meta(now_ms: int, end: GetMetaReply | Failure) -> None:
                self._got_meta(now_ms, node, assembly, end)

            self._port.call(node, assembly.request, GetMetaReply, got_meta)

    def _got_block(self, now_ms: int, node: NodeId, piece: Piece, end: GetBlockReply | Failure) -> None:
        data = None if isinstance(end, Failure) else end.data
        if data is not None and (got := digest(Domain.BLOCK, data)) != piece.digest:
            self._sources.ban(now_ms, node)
            raise DigestMismatchError("block", wanted=piece.digest, got=got)
        failure = end if isinstance(end, Failure) else Failure.REFUSED if data is None else None
        self._sources.end(node, piece, failure)
        if data is not None and self._arrived(now_ms, piece):
            self._port.emit(StoreBlock(piece.digest, data))
        self._pump(now_ms)

    def _got_meta(self, now_ms: int, node: NodeId, assembly: Assembly, end: GetMetaReply | Failure) -> None:
        piece, data = assembly.piece, None
        failure = end if isinstance(end, Failure) else None if end.total else Failure.REFUSED
        if isinstance(end, GetMetaReply) and end.total:
            blamed = piece.kind is Kind.MANIFEST and not assembly.sources - {node}
            try:
                data = assembly.add(node, end)
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
            if piece.digest in self._jobs:
                self._refuse(piece.digest, error)
            return
        if self._arrived(now_ms, piece):
            self._jobs[piece.digest].manifest = manifest
            self._port.emit(StoreManifest(manifest))

    def _arrived(self, now_ms: int, piece: Piece, blocks: tuple[Digest, ...] = ()) -> bool:
        """Note that a checked piece is here; return whether anybody wants it, so whether to store it."""
        self._sources.stored(piece)
        wanting = [job for job in self._jobs.values() if job.arrived(piece, blocks, now_ms=now_ms)]
        if wanting:
            self._fresh.add(piece)
        return bool(wanting)
