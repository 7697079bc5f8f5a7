"""Which contributions are being completed, which wait, and which are settled.

A few are walked at a time (`crdtmerge.sync.wants.Job`); one that nothing arrives for makes room for the
next, and its turn comes again. Settled is what is complete and what was refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from typing import Final

from crdtmerge.digest import Digest
from crdtmerge.errors import LimitError, NotYetError, RejectedError
from crdtmerge.keys import NodeId
from crdtmerge.limits import COEFFICIENTS_BYTES_MAX
from crdtmerge.manifest import Kind, Manifest, Tensor, tensor_root
from crdtmerge.sync.events import Content, Misbehaved, NoRoom, Ready, RoomAgain, StoreTensor
from crdtmerge.sync.port import Port
from crdtmerge.sync.room import Room
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
        bytes_max: contributions beyond this size are refused; of coefficients, COEFFICIENTS_BYTES_MAX.

    Attributes:
        room: on the disk.
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
        self.room = Room()
        self._short: dict[Digest, int] = {}
        self._payloads: set[Digest] = set()

    def __len__(self) -> int:
        """How much is known to be missing; 0 if nothing is."""
        return sum(map(len, self._active.values())) + len(self._waiting)

    @property
    def queued(self) -> bool:
        """Whether contributions wait for their turn."""
        return bool(self._waiting)

    @property
    def walked(self) -> bool:
        """Whether all that is missing is wanted now."""
        return not self._waiting and all(job.walked for job in self._active.values())

    @property
    def wanted(self) -> tuple[list[Piece], list[Piece]]:
        """The manifests and block lists, and the blocks, to be fetched now; each in canonical order."""
        pieces = dict[Piece, None]()
        for job in self._active.values():
            if job.short_bytes is None:
                pieces |= job.wanted
        metas = [piece for piece in pieces if not piece.is_block]
        blocks = [piece for piece in pieces if piece.is_block]
        return sorted(metas, key=attrgetter("order")), sorted(blocks, key=attrgetter("digest"))

    @property
    def authors(self) -> list[NodeId]:
        """The authors of what is being completed, each at least once."""
        return [author for contribution in self._active for author in self._authors(contribution)]

    def want(self, contributions: Iterable[Digest], payloads: Iterable[Digest] = ()) -> None:
        """Complete exactly these, in this order; payloads have a limit of their own."""
        wanted = dict.fromkeys(contributions)
        self._payloads = {payload for payload in payloads if payload not in wanted}
        wanted |= dict.fromkeys(sorted(self._payloads))
        self._drop([digest for digest in self._active if digest not in wanted])
        self._has_room([digest for digest in self._short if digest not in wanted])
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
        self._drop(list(self._active))
        self._settled.difference_update(settled)

    def measured(self, free_bytes: int) -> None:
        """Take note of what is free; where more was promised, what was begun last waits."""
        self.room.free_bytes = free_bytes
        for job in reversed(self._active.values()):
            if self.room.overbooked:
                job.revoke()

    def rotate(self, now_ms: int) -> None:
        """Let those that wait take the place of those that are stuck, or for which there is no room."""
        for contribution, job in list(self._active.items()):
            stuck = job.short_bytes is not None or now_ms - job.progress_ms >= STALLED_MS
            if self._waiting and stuck:
                self._drop([contribution])
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
                bytes_max = COEFFICIENTS_BYTES_MAX if ahead[0] in self._payloads else self._bytes_max
                self._active[ahead[0]] = Job(
                    ahead[0], self._content, now_ms=now_ms, bytes_max=bytes_max, room=self.room
                )
                begun = True
            contribution = ahead.pop(0)
            job = self._active[contribution]
            try:
                more |= job.fill(self._fresh)
            except LimitError as error:
                self.refuse(contribution, error)
                continue
            self._tell_room(job)
            self._store_empty(job)
            if job.done:
                self._settle(contribution)
                self._port.emit(Ready(contribution))
        return more, begun

    def arrived(self, now_ms: int, piece: Piece, blocks: tuple[Digest, ...] = (), *, size: int = 0) -> bool:
        """Note that a checked piece is here, a block list with its blocks; return whether to store it.

        Args:
            now_ms: the time.
            piece: which.
            blocks: of a block list.
            size: of a block, in bytes.
        """
        wanting = [job for job in self._active.values() if job.arrived(piece, blocks, now_ms=now_ms)]
        for job in wanting:
            self.room.keep(job.contribution, size)
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

    def hint(self, block: Digest) -> tuple[bytes, int]:
        """Return what helps to pack a block: the base's block at its place, or nothing, and its width."""
        for job in self._active.values():
            place = job.place(block)
            if place is not None and job.manifest is not None:
                tensor, index = place
                return self._twin(job.manifest, tensor, index), tensor.dtype.itemsize
        return b"", 1

    def _twin(self, manifest: Manifest, tensor: Tensor, index: int) -> bytes:
        """Return the digest of the base's block at a place; empty if that is not known."""
        if manifest.base is None or manifest.kind is not Kind.FULL:
            return b""
        try:
            twin = self._content.manifest(manifest.base).by_name.get(tensor.name)
            if twin is None or (twin.dtype, twin.shape) != (tensor.dtype, tensor.shape):
                return b""
            return self._content.block_list(twin.root)[index]
        except NotYetError:
            return b""

    def _settle(self, contribution: Digest) -> None:
        self._drop([contribution])
        self._settled.add(contribution)

    def _drop(self, contributions: Iterable[Digest]) -> None:
        """Forget the walks over these, and what room was promised to them."""
        for contribution in contributions:
            del self._active[contribution]
            self.room.release(contribution)

    def _tell_room(self, job: Job) -> None:
        """Tell the driver when room is short for something, and when it is for nothing any more."""
        if job.short_bytes is not None:
            if job.contribution not in self._short:
                self._port.emit(NoRoom(job.contribution, job.short_bytes, self.room.free_bytes or 0))
            self._short[job.contribution] = job.short_bytes
        else:
            self._has_room([job.contribution])

    def _has_room(self, contributions: Iterable[Digest]) -> None:
        before = bool(self._short)
        for contribution in contributions:
            self._short.pop(contribution, None)
        if before and not self._short:
            self._port.emit(RoomAgain())

    def _store_empty(self, job: Job) -> None:
        """Store the block lists of tensors without a byte: they are known without asking.

        A full disk does not take even these, and would be offered them for ever.
        """
        while job.empty and self.room.free_bytes != 0:
            tensor = job.empty.pop()
            try:
                self._content.block_list(tensor.root)
            except NotYetError:
                if tensor_root(tensor.dtype, tensor.shape, ()) == tensor.root:
                    self._port.emit(StoreTensor(tensor.root, tensor.dtype, tensor.shape, ()))
