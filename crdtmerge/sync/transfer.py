"""Fetching what is missing, from several nodes at once, and believing none of them.

    wanted ──> choose sources ──> Have ──> rarest first ──> GetBlock ──> digest right? ── yes ──> StoreBlock
                                                                                    └── no ──> banned

Always true here: nothing is stored before its digest was checked; at most 8 calls are under way with one
node and 32 in all; what is stored is not asked for. The last few blocks are asked of two nodes, so one
slow node does not hold up a contribution.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import islice
from typing import Final, TypeVar

from crdtmerge.digest import Digest, Domain, digest
from crdtmerge.errors import DigestMismatchError, LimitError, NotYetError, RejectedError
from crdtmerge.keys import NodeId
from crdtmerge.limits import HAVE_DIGESTS_MAX
from crdtmerge.manifest import Tensor, tensor_root
from crdtmerge.sync.config import Config
from crdtmerge.sync.events import Content, Failure, Misbehaved, Ready, StoreBlock, StoreManifest, StoreTensor
from crdtmerge.sync.messages import GetBlock, GetBlockReply, GetMetaReply, Have, HaveReply, Reply, Request
from crdtmerge.sync.meta import Assembly
from crdtmerge.sync.port import Port
from crdtmerge.sync.sources import Source, Sources
from crdtmerge.sync.wants import Job, Kind, Piece

R = TypeVar("R", bound=Reply)

JOBS_MAX: Final = 4
"""Contributions that are fetched at a time."""

STALLED_MS: Final = 30_000
"""A job that nothing arrived for in this time makes room for another."""

LOOK_MS: Final = 5_000
"""Pause between two looks for sources while something is missing."""

LAST_BLOCKS: Final = 16
"""When no more than these are left, they are asked of two sources each."""


class Transfer:
    """Completes contributions.

    Args:
        content: what is stored.
        port: where outputs and calls go.
        authors: who added a contribution.
        candidates: nodes to fetch from, in order of preference after the authors.
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
        self._authors, self._candidates, self._config = authors, candidates, config
        self._bytes_max = bytes_max
        self._sources = Sources(config)
        self._settled: set[Digest] = set()  # ready, or too large
        self._jobs: dict[Digest, Job] = {}
        self._waiting: deque[Digest] = deque()
        self._assemblies: dict[Piece, Assembly] = {}
        self._fresh: set[Piece] = set()
        self.due_ms: int | None = None

    @property
    def missing(self) -> int:
        """How much is known to be missing; 0 if nothing is."""
        return sum(map(len, self._jobs.values())) + len(self._waiting)

    def want(self, now_ms: int, contributions: Iterable[Digest]) -> None:
        """Complete exactly these contributions, in this order; stop fetching others."""
        wanted = dict.fromkeys(contributions)
        self._jobs = {digest: job for digest, job in self._jobs.items() if digest in wanted}
        self._settled.intersection_update(wanted)
        self._waiting = deque(d for d in wanted if d not in self._settled and d not in self._jobs)
        self._pump(now_ms)

    def look_again(self, now_ms: int) -> None:
        """Content was stored by somebody else: begin all jobs anew."""
        self._waiting.extendleft(reversed(self._jobs))
        self._jobs.clear()
        self._pump(now_ms)

    def tick(self, now_ms: int) -> None:
        """Look for sources again, and for jobs that are stuck, if it is time."""
        if self.due_ms is None or now_ms < self.due_ms:
            return
        for contribution, job in list(self._jobs.items()):
            if self._waiting and now_ms - job.progress_ms >= STALLED_MS:
                del self._jobs[contribution]
                self._waiting.append(contribution)
        self._look(now_ms)
        self._pump(now_ms)

    def _look(self, now_ms: int) -> None:
        candidates = self._candidates()
        reachable = set(candidates)
        authors = [author for job in self._jobs for author in self._authors(job) if author in reachable]
        self._sources.choose(now_ms, [*authors, *candidates])

    # --- what to ask ----------------------------------------------------------------------------

    def _pump(self, now_ms: int) -> None:
        """Walk on, finish jobs, and ask for as much as there is room for."""
        unfinished = self._walk(now_ms)
        self._fresh.clear()
        if not self._jobs:
            self.due_ms = None
            return
        if self.due_ms is None or self.due_ms <= now_ms:
            if self.due_ms is None:
                self._look(now_ms)
            self.due_ms = now_ms + (0 if unfinished else LOOK_MS)
        wanted = sorted({piece for job in self._jobs.values() for piece in job.wanted})
        blocks = [piece for piece in wanted if piece.kind is Kind.BLOCK]
        for source in self._sources.by_node.values():
            self._ask_have(source, blocks)
        busy = {piece for source in self._sources.by_node.values() for piece in source.in_flight}
        rarity = self._sources.rarity()
        metas = [piece for piece in wanted if piece.kind is not Kind.BLOCK]
        held = sorted((piece for piece in blocks if piece.digest in rarity), key=lambda p: rarity[p.digest])
        for piece in [*metas, *held]:
            if piece not in busy:
                self._ask(now_ms, piece)
        if len(blocks) <= LAST_BLOCKS and not metas and all(job.walked for job in self._jobs.values()):
            for piece in busy.intersection(blocks):
                self._ask_twice(now_ms, piece)

    def _walk(self, now_ms: int) -> bool:
        """Fill the windows of jobs; return whether some were not walked to their ends for lack of time."""
        unfinished = False
        while self._waiting and len(self._jobs) < JOBS_MAX:
            contribution = self._waiting.popleft()
            self._jobs[contribution] = Job(contribution, self._content, now_ms=now_ms)
        ...
        return unfinished
