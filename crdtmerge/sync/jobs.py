"""Which contributions are being completed, which wait, and which are settled.

A few are walked at a time (`crdtmerge.sync.wants.Job`); one that nothing arrives for makes room for the
next, and its turn comes again. Settled is what is complete and what was refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from crdtmerge.digest import Digest
from crdtmerge.errors import LimitError, NotYetError, RejectedError
from crdtmerge.keys import NodeId
from crdtmerge.manifest import Manifest, tensor_root
from crdtmerge.sync.events import Content, Misbehaved, Ready, StoreTensor
from crdtmerge.sync.port import Port
from crdtmerge.sync.wants import Job, Piece

JOBS_MAX: Final = 4
"""Contributions that are walked at a time."""

STALLED_MS: Final = 30_000
"""A job that nothing arrived for in this time makes room for another."""


class Jobs:
    """The walks over what is wanted.

    Args:
        content: what is stored.
        port: where outputs go.
        authors: who added a contribution.
        bytes_max: contributions beyond this size are refused.
    """

    def __init__(
        self,
        content: Content,
        port: Port,
        *,
        authors: Callable[[Digest], Sequence[NodeId]],
        bytes_max: int | None,
    ) -> None:
        self._content, self._port = content, port
        self._authors, self._bytes_max = authors, bytes_max
        self._active: dict[Digest, Job] = {}
        self._waiting: dict[Digest, None] = {}
        self._settled: set[Digest] = set()
        self._fresh: set[Piece] = set()

    def __len__(self) -> int:
        """How much is known to be missing; 0 if nothing is."""
        return sum(map(len, self._active.values())) + len(self._waiting)

    @property
    def walked(self) -> bool:
        """Whether all that is missing is wanted now."""
        return not self._waiting and all(job.walked for job in self._active.values())

    @property
    def wanted(self) -> list[Piece]:
        """The pieces to be fetched now, in canonical order."""
        pieces = {piece for job in self._active.values() for piece in job.wanted}
        return sorted(pieces, key=lambda piece: piece.order)

    @property
    def authors(self) -> list[NodeId]:
        """The authors of what is being completed, each at least once."""
        return [author for contribution in self._active for author in self._authors(contribution)]

    def want(self, contributions: Iterable[Digest]) -> None:
        """Complete exactly these, in this order."""
        wanted = dict.fromkeys(contributions)
        self._active = {digest: job for digest, job in self._active.items() if digest in wanted}
        self._settled.intersection_update(wanted)
        self._waiting.clear()
        self.want_also(wanted)

    def want_also(self, contributions: Iterable[Digest]) -> None:
        """Complete these, too."""
        for digest in contributions:
            if digest not in self._settled and digest not in self._active:
                self._waiting.setdefault(digest)

    def begin_anew(self, *, lost: bool) -> None:
        """Walk again over what is not complete; if content was lost, over everything."""
        settled = sorted(self._settled) if lost else []
        self._waiting = dict.fromkeys([*self._active, *self._waiting, *settled])
        self._active.clear()
        self._settled.difference_update(settled)

    def rotate(self, now_ms: int) -> None:
        """Let those that wait take the place of those that are stuck."""
        for contribution, job in list(self._active.items()):
            if self._waiting and now_ms - job.progress_ms >= STALLED_MS:
                del self._active[contribution]
                self._waiting[contribution] = None

    def flushed(self) -> None:
        """The outputs so far are with the driver: what arrived is found in the content from now on."""
        self._fresh.clear()

    def walk(self, now_ms: int) -> tuple[bool, bool]:
        """Fill the windows of all jobs and settle what is complete.

        Returns:
            Whether there is more to walk right away, and whether a job was begun.
        """
        more = begun = False
        ahead = list(self._active)
        while ahead or (self._waiting and len(self._active) < JOBS_MAX):
            if not ahead:
                ahead = [next(iter(self._waiting))]
                del self._waiting[ahead[0]]
                self._active[ahead[0]] = Job(
                    ahead[0], self._content, now_ms=now_ms, bytes_max=self._bytes_max
                )
                begun = True
            contribution = ahead.pop(0)
            job = self._active[contribution]
            try:
                more |= job.fill(self._fresh)
            except LimitError as error:
                self.refuse(contribution, error)
                continue
            self._store_empty(job)
            if job.done:
                self._settle(contribution)
                self._port.emit(Ready(contribution))
        return more, begun

    def arrived(self, now_ms: int, piece: Piece, blocks: tuple[Digest, ...] = ()) -> bool:
        """Note that a checked piece is here, a block list with its blocks; return whether to store it."""
        wanting = [job for job in self._active.values() if job.arrived(piece, blocks, now_ms=now_ms)]
        if wanting:
            self._fresh.add(piece)
        return bool(wanting)

    def read(self, manifest: Manifest) -> None:
        """Walk this manifest, which has just arrived."""
        self._active[manifest.digest].manifest = manifest

    def refuse(self, contribution: Digest, error: RejectedError) -> None:
        """Give up a contribution that its authors should not have published."""
        if contribution in self._active:
            self._settle(contribution)
            for author in self._authors(contribution):
                self._port.emit(Misbehaved(author, error))

    def _settle(self, contribution: Digest) -> None:
        del self._active[contribution]
        self._settled.add(contribution)

    def _store_empty(self, job: Job) -> None:
        """Store the block lists of tensors without a byte: they are known without asking."""
        while job.empty:
            tensor = job.empty.pop()
            try:
                self._content.block_list(tensor.root)
            except NotYetError:
                if tensor_root(tensor.dtype, tensor.shape, ()) == tensor.root:
                    self._port.emit(StoreTensor(tensor.root, tensor.dtype, tensor.shape, ()))
