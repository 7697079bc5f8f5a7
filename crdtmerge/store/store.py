"""The store: what one replica keeps, checked whenever it is read.

Two kinds of thing are kept. Content (operations, manifests, block lists, blocks) is known by its digest
and checked against it on every way out; what fails, `discard` forgets, and a sync brings it again.
Settings, verdicts and the address book are this replica's own notes.

Order of writes: blocks are made durable before a row of the database speaks of them. So a row that
survives a crash never names a block of ours that did not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Final

from crdtmerge import canon
from crdtmerge.digest import Digest, Domain, digest
from crdtmerge.dtypes import DType
from crdtmerge.errors import (
    CorruptBlockError,
    CrdtMergeError,
    LimitError,
    MalformedError,
    NotYetError,
    RejectedError,
    StoreError,
)
from crdtmerge.limits import MANIFEST_BYTES_MAX
from crdtmerge.manifest import Manifest, Tensor, tensor_root
from crdtmerge.op import Operation
from crdtmerge.store import files
from crdtmerge.store.audit import stored_operation, wrong, wrong_operations
from crdtmerge.store.blocks import MemoryBlocks
from crdtmerge.store.database import Database, Kind
from crdtmerge.store.disk import DiskBlocks
from crdtmerge.store.garbage import Garbage
from crdtmerge.store.missing import Missing, missing
from crdtmerge.store.notes import Notes
from crdtmerge.store.reader import Reader, split
from crdtmerge.store.references import ReferencedBlocks, References

READER_BYTES: Final = 64 << 20
"""Cache of a reader unless told otherwise: the blocks that 64 tiles are cut from."""


class Store(Notes):
    """What one replica keeps; make it with `open` or `memory`.

    Every method may be called from several threads, and on several stores of one home in several
    processes, at once. What changes something is durable on return, blocks after `blocks.flush`.
    All methods raise StoreError when the disk fails, OutOfSpaceError when it is full.

    Attributes:
        blocks: blocks of our own and blocks in the user's files, as one set.
        references: where in the user's files blocks are.
        garbage: what nothing points to any more.
    """

    def __init__(self, database: Database, owned: DiskBlocks | MemoryBlocks) -> None:
        super().__init__(database)
        self._owned = owned
        self.references = References(database)
        self.blocks = ReferencedBlocks(owned, self.references)
        self.garbage = Garbage(database, owned, self.references, self.manifest, self.block_list)
        self._reader = self.reader()

    @classmethod
    def open(cls, home: Path) -> Store:
        """Open the store under the folder ``home``, which is made if it is not there.

        Raises:
            StoreError: if the folder cannot be used, or another version of this software wrote it.
        """
        with files.disk_errors("making", home):
            files.make_folder(home)
        database = Database(home / "meta.db")
        try:
            return cls(database, DiskBlocks(home))
        except BaseException:
            database.close()
            raise

    @classmethod
    def memory(cls) -> Store:
        """Make an empty store that lives and dies with this object."""
        return cls(Database(), MemoryBlocks())

    def close(self) -> None:
        """Flush the blocks and let go of the home; the store is of no use afterwards."""
        try:
            self.blocks.flush()
        finally:
            self._owned.close()
            self._database.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- operations ---

    def add_operations(self, encoded: Iterable[bytes]) -> int:
        """Keep operations that are not known yet, all or none; return how many were new.

        Their form is checked here. Signatures are the caller's to check, before, as `OpSet.add` does.

        Raises:
            MalformedError, LimitError: if one is no operation.
        """
        return self._database.add_operations([(Operation.decode(data).id, data) for data in encoded])

    def operations(self) -> Iterator[Operation]:
        """Yield all operations in the order in which they were added: in a replica, the genesis first.

        Raises:
            CorruptBlockError: if what is stored is no longer the operation with its id.
        """
        return (stored_operation(name, data) for _, name, data in self._database.operations())

    def operations_since(self, position: int) -> tuple[list[Operation], int]:
        """Return the operations added after ``position`` (0: all), and the position to go on from.

        With `data_version`, this is how one process learns what another one added.
        """
        rows = list(self._database.operations(position))
        added = [stored_operation(name, data) for _, name, data in rows]
        return added, rows[-1][0] if rows else position

    # --- manifests and tensors ---

    def put_manifest(self, manifest: Manifest) -> Digest:
        """Keep a manifest, once all blocks put so far are durable; return its digest.

        Raises:
            LimitError: if it is longer than peers, and `manifest`, accept.
        """
        if len(manifest.encoded) > MANIFEST_BYTES_MAX:
            raise LimitError(f"a manifest of {len(manifest.encoded)} bytes, at most {MANIFEST_BYTES_MAX}")
        self.blocks.flush()
        self._database.put(Kind.MANIFEST, [(manifest.digest, manifest.encoded)])
        self._database.pop(Kind.UNNEEDED, manifest.digest)  # it is a new thing: its grace begins anew
        return manifest.digest

    def has_manifest(self, wanted: Digest) -> bool:
        """Say whether a manifest is here."""
        return self._database.has(Kind.MANIFEST, wanted)

    def manifest(self, wanted: Digest) -> Manifest:
        """Return a manifest.

        Raises:
            NotYetError: if it is not here.
            CorruptBlockError: if what is stored is no longer it.
        """
        data = self._database.get(Kind.MANIFEST, wanted)
        if data is None:
            raise NotYetError(f"manifest {wanted.hex()} is not here; a sync may bring it", [wanted])
        got = digest(Domain.MANIFEST, data)
        if got != wanted:
            raise CorruptBlockError("manifest", wanted=wanted, got=got)
        return Manifest.decode(data)

    def manifests(self) -> Iterator[Digest]:
        """Yield the digests of all manifests, ascending."""
        return (Digest(key) for key in self._database.keys(Kind.MANIFEST))

    def put_tensor(self, dtype: DType, shape: Sequence[int], blocks: Sequence[Digest]) -> Digest:
        """Keep a block list, once all blocks put so far are durable; return the tensor's root.

        Raises:
            MalformedError: if the number of blocks does not fit the size.
        """
        return self.put_tensors([(dtype, shape, blocks)])[0]

    def put_tensors(self, tensors: Iterable[tuple[DType, Sequence[int], Sequence[Digest]]]) -> list[Digest]:
        """Keep several block lists, all or none; see `put_tensor`."""
        entries = [
            (tensor_root(dtype, shape, names), canon.encode([dtype.code, list(shape), b"".join(names)]))
            for dtype, shape, names in tensors
        ]
        self.blocks.flush()
        self._database.put(Kind.TENSOR, entries)
        return [root for root, _ in entries]

    def has_tensor(self, root: Digest) -> bool:
        """Say whether a tensor's block list is here."""
        return self._database.has(Kind.TENSOR, root)

    def block_list(self, root: Digest) -> tuple[Digest, ...]:
        """Return the digests of a tensor's blocks, in order.

        Raises:
            NotYetError, CorruptBlockError: as `manifest` does.
        """
        return split(self._tensor(root)[2])

    def missing(self, manifest: Manifest) -> Missing:
        """Return what of a manifest's content, evidence included, is not here; see `Missing`.

        Raises:
            MalformedError: if the manifest gives a root the dtype or shape of another tensor.
        """
        return missing(manifest, self._block_names, self.blocks.has)

    # --- reading ---

    def reader(self, budget_bytes: int = READER_BYTES) -> Reader:
        """Make a reader with a cache and a counter of its own."""
        return Reader(self.blocks.get, self._block_names, budget_bytes=budget_bytes)

    def read(self, tensor: Tensor, begin: int, end: int) -> bytes:
        """Return bytes ``[begin, end)`` of a tensor's raw content, verified; see `Reader.read`."""
        return self._reader.read(tensor, begin, end)

    @property
    def blocks_read(self) -> int:
        """Number of blocks that `read` fetched from below its cache so far."""
        return self._reader.blocks_read

    # --- the whole ---

    def data_version(self) -> int:
        """Return a number that changes when another process, or another store of this home, commits."""
        return self._database.data_version()

    def taking_in(self) -> AbstractContextManager[None]:
        """Keep the collection of garbage away until what is taken in is named by something that stays."""
        return self._owned.taking_in()

    def discard(self, wanted: Digest) -> None:
        """Forget the block, block list, manifest or operation with this digest, so that a sync brings it."""
        self.blocks.discard(wanted)
        self._database.pop(Kind.MANIFEST, wanted)
        self._database.pop(Kind.TENSOR, wanted)
        self._database.remove_operation(wanted)

    def verify(self, *, discard: bool = False) -> Iterator[CrdtMergeError]:
        """Read everything and yield what is wrong, as the error that says so.

        That is: CorruptBlockError for an operation, manifest, block list or block (ours, or in a user's
        file) whose bytes changed; SignatureError for an operation that its author did not sign;
        NotYetError for a user's file that changed or went away, with the blocks that were left in it;
        StoreError for what the disk or SQLite cannot read. What is absent because no sync brought it yet
        is not wrong.

        Args:
            discard: forget what is wrong, so that a sync brings it again.
        """
        try:
            yield from self._wrong(discard)
        except StoreError as error:
            yield error  # of the database: it ends the search

    def _wrong(self, discard: bool) -> Iterator[CrdtMergeError]:
        yield from (StoreError(f"database: {problem}") for problem in self._database.problems())
        for name, error in chain(
            wrong_operations(self._database),
            wrong(self.manifests(), self.manifest),
            wrong((Digest(key) for key in self._database.keys(Kind.TENSOR)), self._tensor),
            wrong(self._owned, self._owned.get),
        ):
            yield error
            if discard:
                self.discard(name)
        yield from self.references.verify(discard=discard)

    def _tensor(self, root: Digest) -> tuple[DType, tuple[int, ...], bytes]:
        """Return the dtype, shape and joined block digests that are stored under a root, verified."""
        data = self._database.get(Kind.TENSOR, root)
        if data is None:
            raise NotYetError(f"block list {root.hex()} is not here; a sync may bring it", [root])
        try:
            code, sizes, joined = canon.array(canon.decode(data, bytes_max=len(data)), 3)
            dtype, names = DType.of(canon.text(code)), canon.octets(joined)
            shape = tuple(canon.integer(size, 0) for size in canon.array(sizes))
            got = tensor_root(dtype, shape, split(names))
        except (RejectedError, KeyError):
            got = digest(Domain.TENSOR, data)
        if got != root:
            raise CorruptBlockError("block list", wanted=root, got=got)
        return dtype, shape, names

    def _block_names(self, tensor: Tensor) -> bytes:
        dtype, shape, names = self._tensor(tensor.root)
        if (dtype, shape) != (tensor.dtype, tensor.shape):
            raise MalformedError(
                f"{tensor.name} is declared as {tensor.dtype.code} {list(tensor.shape)}, "
                f"but its root is that of a tensor {dtype.code} {list(shape)}"
            )
        return names
