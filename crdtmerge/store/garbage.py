"""Content that nothing points to any more: finding it, letting it rest, and forgetting it.

    needed:  base, visible contributions, coefficients, pins ──> manifests ──> block lists ──> blocks
    garbage: what is stored and not reached from there

A manifest that is not needed is noted with the time when that was first seen, and goes with all that only
it names once that is GRACE ago; so what was retracted by mistake, or is about to be announced, stays for a
day. What is to be purged goes at once. Blocks that no manifest names, left by an ingest that was given up,
go when they are that old.

Always true here: nothing that a kept manifest names is forgotten; blocks go before the rows that name them,
so a run that was interrupted is finished by the next one; a user's file that is referenced in place is
never touched, only what is noted of it. Whoever takes in a model keeps collections away (`Store.taking_in`).
A node that fetched something while its old copy was collected finds out (`Notes.collections`) and fetches
it again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Set
from dataclasses import dataclass

from crdtmerge.digest import Digest
from crdtmerge.errors import NotYetError
from crdtmerge.limits import GARBAGE_GRACE_MS
from crdtmerge.manifest import Manifest
from crdtmerge.op import Add, Coefficients
from crdtmerge.opset import OpSet
from crdtmerge.store.blocks import MemoryBlocks
from crdtmerge.store.database import Database, Kind
from crdtmerge.store.disk import DiskBlocks
from crdtmerge.store.notes import Notes
from crdtmerge.store.references import References
from crdtmerge.view import View

_BATCH = 1024  # references that are forgotten in one transaction


def needed(ops: OpSet, view: View, pins: Iterable[Digest] = ()) -> set[Digest]:
    """Return the manifests that must stay: base, visible contributions, published coefficients, pins."""
    published = (op.body.payload for op in view.coefficients if isinstance(op.body, Coefficients))
    base = ops.charter.base
    return {*([] if base is None else [base]), *view.contributions, *published, *pins}


def withdrawn(ops: OpSet, view: View) -> set[Digest]:
    """Return what was announced and does not count any more: retracted, blocked, or of banned authors."""
    announced: set[Digest] = set()
    for operation in ops:
        if isinstance(operation.body, Add):
            announced.add(operation.body.contribution)
        elif isinstance(operation.body, Coefficients):
            announced.add(operation.body.payload)
    return announced - needed(ops, view)


@dataclass(frozen=True, slots=True)
class Found:
    """What a collection forgets, or would forget.

    Attributes:
        manifests: contributions, ascending.
        roots: tensors whose block lists go, ascending.
        blocks: of our own, ascending.
        references: blocks inside the user's files, of which only the note goes, ascending.
        bytes: what the blocks of our own take.
        resting: manifests that are not needed, and go when their grace is over, ascending.
    """

    manifests: tuple[Digest, ...]
    roots: tuple[Digest, ...]
    blocks: tuple[Digest, ...]
    references: tuple[Digest, ...]
    bytes: int
    resting: tuple[Digest, ...]

    def __bool__(self) -> bool:
        return bool(self.manifests or self.blocks or self.references)


class Garbage:
    """The garbage of one store; `Store.garbage`."""

    def __init__(
        self,
        database: Database,
        owned: DiskBlocks | MemoryBlocks,
        references: References,
        manifest: Callable[[Digest], Manifest],
        block_list: Callable[[Digest], tuple[Digest, ...]],
    ) -> None:
        self._database, self._owned, self._references = database, owned, references
        self._manifest, self._block_list = manifest, block_list

    def collect(
        self,
        wanted: Set[Digest],
        *,
        now_ms: int,
        purge: Set[Digest] = frozenset(),
        grace_ms: int = GARBAGE_GRACE_MS,
        dry_run: bool = False,
    ) -> Found:
        """Forget what is garbage and has rested.

        Args:
            wanted: the manifests that must stay, see `needed`.
            now_ms: the time, in milliseconds since 1970.
            purge: manifests that go at once, unless they are wanted.
            grace_ms: how long garbage rests.
            dry_run: change nothing, and return what would go.

        Raises:
            LockedError: if a model is being taken in.
            StoreError: if the disk fails; the next run goes on.
        """
        with self._owned.collecting():
            found, since = self._find(wanted, purge, now_ms=now_ms, grace_ms=grace_ms)
            if not dry_run:
                self._forget(found, since)
        return found

    def _find(
        self, wanted: Set[Digest], purge: Set[Digest], *, now_ms: int, grace_ms: int
    ) -> tuple[Found, dict[Digest, int]]:
        """Return what goes, and since when everything that is not needed was not."""
        noted = {Digest(key): int(value) for key, value in self._database.entries(Kind.UNNEEDED)}
        stored = [Digest(key) for key in self._database.keys(Kind.MANIFEST)]
        since = {name: min(noted.get(name, now_ms), now_ms) for name in stored if name not in wanted}
        going = {name for name, when in since.items() if when <= now_ms - grace_ms or name in purge}
        kept_roots, kept_blocks = self._reached(name for name in stored if name not in going)
        roots, blocks = self._reached(going)
        roots -= kept_roots
        blocks -= kept_blocks
        own: list[Digest] = []
        size = 0
        for block in self._owned:
            weight = self._owned.weigh(block)
            if block in kept_blocks or weight is None:
                continue
            written_ms = weight[1]
            if block in blocks or (written_ms is not None and written_ms <= now_ms - grace_ms):
                own.append(block)
                size += weight[0]
        found = Found(
            manifests=tuple(sorted(going)),
            roots=tuple(sorted(roots)),
            blocks=tuple(own),
            references=tuple(block for block in self._references if block in blocks),
            bytes=size,
            resting=tuple(sorted(since.keys() - going)),
        )
        return found, since

    def _reached(self, manifests: Iterable[Digest]) -> tuple[set[Digest], set[Digest]]:
        """Return the block lists and blocks that manifests name, as far as they are here."""
        roots: set[Digest] = set()
        blocks: set[Digest] = set()
        for name in manifests:
            manifest = self._manifest(name)
            for root in {tensor.root for tensor in manifest.tensors + manifest.evidence} - roots:
                roots.add(root)
                try:
                    blocks.update(self._block_list(root))
                except NotYetError:
                    continue  # a download that has not come that far
        return roots, blocks

    def _forget(self, found: Found, since: dict[Digest, int]) -> None:
        for block in found.blocks:
            self._owned.discard(block)
        self._owned.flush()  # else a power cut brings back what nothing names any more, and nobody purges
        for batch in _batches(found.references):
            self._references.discard_all(batch)
        noted = {Digest(key) for key in self._database.keys(Kind.UNNEEDED)}
        self._database.remove(
            [
                *((Kind.TENSOR, root) for root in found.roots),
                *((kind, name) for name in found.manifests for kind in (Kind.MANIFEST, Kind.VERDICT)),
                *((Kind.UNNEEDED, name) for name in noted.difference(found.resting)),
            ]
        )
        new = [(name, str(since[name]).encode()) for name in found.resting if name not in noted]
        self._database.put(Kind.UNNEEDED, new)
        if found:
            Notes(self._database).note_collection()


def _batches(names: Collection[Digest]) -> Iterator[list[Digest]]:
    ordered = list(names)
    return (ordered[start : start + _BATCH] for start in range(0, len(ordered), _BATCH))
