"""One simulated disk: what is written, what of it is durable, and what becomes of it.

    rows      operations, records, manifests, block lists, invitations: durable when written
    blocks    durable after the next flush; until then a power cut loses them, or tears them

Always true here: `Blocks.get` returns what its digest says, or raises. A full disk takes nothing and says
so. What is damaged is found by whoever reads it, as on a real disk: nothing tells of it before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from crdtmerge.digest import Digest, Domain, digest
from crdtmerge.dtypes import DType
from crdtmerge.errors import CorruptBlockError, NotYetError, OutOfSpaceError
from crdtmerge.keys import NodeId
from crdtmerge.limits import BLOCK_BYTES
from crdtmerge.manifest import Kind, Manifest, Tensor, tensor_root
from crdtmerge.op import Operation, Role
from crdtmerge.sync.chance import Chance
from crdtmerge.sync.events import (
    ForgetAttestations,
    Output,
    StoreAttestation,
    StoreBlock,
    StoreManifest,
    StoreOperations,
    StoreRecord,
    StoreTensor,
)

Raw: TypeAlias = "tuple[DType, tuple[int, ...], bytes]"
"""A tensor: dtype, shape and raw little-endian content."""


class Blocks(dict[Digest, bytes]):
    """Blocks by their digests, as the disk has them: perhaps damaged.

    Attributes:
        unsynced: those that no flush has made durable, in the order in which they came.
    """

    def __init__(self) -> None:
        super().__init__()
        self.unsynced: dict[Digest, None] = {}

    def has(self, digest: Digest) -> bool:
        """Whether a block is stored, whole or damaged."""
        return digest in self

    def get(self, wanted: Digest) -> bytes:  # type: ignore[override]
        """Return a block; raise NotYetError, or CorruptBlockError if it is damaged."""
        if wanted not in self:
            raise NotYetError("no such block", [wanted])
        data = self[wanted]
        got = digest(Domain.BLOCK, data)
        if got != wanted:
            raise CorruptBlockError("block", wanted=wanted, got=got)
        return data

    def sound(self, name: Digest) -> bool:
        """Whether a block is stored and undamaged."""
        return name in self and digest(Domain.BLOCK, self[name]) == name

    def put(self, name: Digest, data: bytes) -> None:
        """Write a block, to be flushed later."""
        if self.pop(name, None) != data:
            self.unsynced[name] = None
        self[name] = data

    def flush(self) -> None:
        """Make durable what was written."""
        self.unsynced.clear()

    def cut(self, chance: Chance, torn_percent: int) -> int:
        """Cut the power: what was not flushed is gone, or torn; return how many blocks are torn."""
        torn = 0
        for name in self.unsynced:
            data = self.pop(name, b"")
            if data and chance.below(100) < torn_percent:
                self[name] = data[: chance.below(len(data))]
                torn += 1
        self.unsynced.clear()
        return torn


@dataclass
class Disk:
    """All that a host keeps; a `crdtmerge.sync.events.Content`.

    Attributes:
        operations, records, manifests, tensors, blocks: what the store keeps; tensors are block lists.
        attestations: what members attest of results, encoded.
        invites: what the open ones let in, and until when; whom the used ones let in.
        rotten: digests of rows that are damaged.
        full: whether nothing more can be written.
    """

    operations: dict[Digest, Operation] = field(default_factory=dict)
    records: dict[NodeId, bytes] = field(default_factory=dict)
    manifests: dict[Digest, Manifest] = field(default_factory=dict)
    tensors: dict[Digest, tuple[Digest, ...]] = field(default_factory=dict)
    blocks: Blocks = field(default_factory=Blocks)
    attestations: dict[Digest, bytes] = field(default_factory=dict)
    invites: dict[NodeId, tuple[Role, int, NodeId | None]] = field(default_factory=dict)
    rotten: set[Digest] = field(default_factory=set)
    full: bool = False

    # --- reading ----------------------------------------------------------------------------------

    def manifest(self, digest: Digest) -> Manifest:
        """Return a stored manifest, or raise NotYetError; CorruptBlockError if it is damaged."""
        if digest not in self.manifests:
            raise NotYetError("no such manifest", [digest])
        self._sound("manifest", digest)
        return self.manifests[digest]

    def block_list(self, root: Digest) -> tuple[Digest, ...]:
        """Return a stored block list, or raise NotYetError; CorruptBlockError if it is damaged."""
        if root not in self.tensors:
            raise NotYetError("no such tensor", [root])
        self._sound("block list", root)
        return self.tensors[root]

    def _sound(self, what: str, name: Digest) -> None:
        if name in self.rotten:
            raise CorruptBlockError(what, wanted=name, got=digest(Domain.PAYLOAD, name))

    def holds(self, contribution: Digest) -> bool:
        """Whether everything of a contribution can be read."""
        try:
            for tensor in (manifest := self.manifest(contribution)).tensors + manifest.evidence:
                for block in self.block_list(tensor.root):
                    self.blocks.get(block)
        except (NotYetError, CorruptBlockError):
            return False
        return True

    def damaged(self) -> list[Digest]:
        """Read everything; return what is not what it was, ascending."""
        wrong = [name for name, data in self.blocks.items() if digest(Domain.BLOCK, data) != name]
        return sorted({*wrong, *self.rotten})

    # --- writing ----------------------------------------------------------------------------------

    def check_space(self) -> None:
        """Raise OutOfSpaceError if the disk is full."""
        if self.full:
            raise OutOfSpaceError("the disk is full")

    def store(self, output: Output) -> None:
        """Write what an output says is to be stored; nothing for an output of another kind."""
        match output:
            case StoreOperations(operations):
                self.put_operations(operations)
            case StoreManifest(manifest):
                self.put_manifest(manifest)
            case StoreTensor(root, _, _, blocks):
                self.put_tensor(root, blocks)
            case StoreBlock(block):
                self.put_block(block.digest, block.data)
            case StoreRecord(node, data):
                self.put_record(node, data)
            case StoreAttestation(attested):
                self.check_space()
                self.attestations[attested.id] = attested.encoded
            case ForgetAttestations(attestations):
                for attested in attestations:
                    self.attestations.pop(attested.id, None)

    def put_operations(self, operations: Iterable[Operation]) -> None:
        """Keep operations."""
        self.check_space()
        for operation in operations:
            self.operations.setdefault(operation.id, operation)

    def put_record(self, node: NodeId, data: bytes) -> None:
        """Keep a record in place of any other of the same node."""
        self.check_space()
        self.records[node] = data

    def put_manifest(self, manifest: Manifest) -> None:
        """Keep a manifest, and make durable what it speaks of."""
        self.check_space()
        self.blocks.flush()
        self.manifests[manifest.digest] = manifest
        self.rotten.discard(manifest.digest)

    def put_tensor(self, root: Digest, blocks: tuple[Digest, ...]) -> None:
        """Keep a block list, and make durable what was written before."""
        self.check_space()
        self.blocks.flush()
        self.tensors[root] = blocks
        self.rotten.discard(root)

    def put_block(self, name: Digest, data: bytes) -> None:
        """Write a block."""
        self.check_space()
        self.blocks.put(name, data)

    def put_model(
        self, tensors: Mapping[str, bytes | Raw], *, kind: Kind = Kind.FULL, base: Digest | None = None
    ) -> Manifest:
        """Store a model, durable on return, and return its manifest; plain bytes are a tensor of U8."""
        rows = []
        for name in sorted(tensors):
            given = tensors[name]
            dtype, shape, raw = given if isinstance(given, tuple) else (DType.U8, (len(given),), given)
            parts = [raw[start : start + BLOCK_BYTES] for start in range(0, len(raw), BLOCK_BYTES)]
            blocks = tuple(digest(Domain.BLOCK, part) for part in parts)
            root = tensor_root(dtype, shape, blocks)
            for block, part in zip(blocks, parts, strict=True):
                self.put_block(block, part)
            self.put_tensor(root, blocks)
            rows.append(Tensor(name, dtype, shape, root))
        manifest = Manifest(kind=kind, base=base, tensors=tuple(rows))
        self.put_manifest(manifest)
        return manifest

    def discard(self, name: Digest) -> None:
        """Forget the block, manifest or block list with this digest."""
        self.blocks.pop(name, None)
        self.blocks.unsynced.pop(name, None)
        self.manifests.pop(name, None)
        self.tensors.pop(name, None)
        self.rotten.discard(name)

    def rot(self, name: Digest, chance: Chance) -> None:
        """Damage what is stored under a digest: one bit of a block, or a row."""
        data = self.blocks.pop(name, None)
        if data:
            bit = chance.below(8 * len(data))
            flipped = data[bit // 8] ^ (1 << bit % 8)
            self.blocks[name] = data[: bit // 8] + bytes([flipped]) + data[bit // 8 + 1 :]
        else:
            self.rotten.add(name)
