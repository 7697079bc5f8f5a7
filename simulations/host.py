"""One simulated computer: a disk, a machine that runs on it, and what it is asked to do.

The disk outlives the machine: `Host.crash` loses everything else, `Host.start` begins again from it. The
outputs of one event are carried out before anything else happens, as a real driver does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from crdtmerge.digest import Digest, Domain, digest
from crdtmerge.dtypes import DType
from crdtmerge.errors import MalformedError, NotYetError
from crdtmerge.keys import NodeId, SigningKey
from crdtmerge.limits import BLOCK_BYTES
from crdtmerge.manifest import Kind, Manifest, Tensor, tensor_root
from crdtmerge.op import Admit, Body, Operation
from crdtmerge.opset import OpSet
from crdtmerge.simulations.clock import Clock
from crdtmerge.simulations.network import Network
from crdtmerge.sync import messages
from crdtmerge.sync.chance import Chance
from crdtmerge.sync.config import Config
from crdtmerge.sync.events import (
    AdmissionWanted,
    Call,
    Changed,
    Failure,
    Misbehaved,
    Output,
    Ready,
    StoreBlock,
    StoreManifest,
    StoreOperations,
    StoreRecord,
    StoreTensor,
)
from crdtmerge.sync.invite import prove
from crdtmerge.sync.messages import Reply, Request
from crdtmerge.sync.peer import Peer
from crdtmerge.sync.records import NodeRecord

DAY_MS = 86_400_000
NOTHING = Digest(bytes(32))


class Blocks(dict[Digest, bytes]):
    """Blocks in memory."""

    def has(self, digest: Digest) -> bool:
        """Whether a block is stored."""
        return digest in self

    def get(self, digest: Digest) -> bytes:  # type: ignore[override]
        """Return a block, or raise NotYetError."""
        if digest not in self:
            raise NotYetError("no such block", [digest])
        return self[digest]


@dataclass
class Disk:
    """All that a host keeps; a `crdtmerge.sync.events.Content`."""

    operations: dict[Digest, Operation] = field(default_factory=dict)
    records: dict[NodeId, bytes] = field(default_factory=dict)
    manifests: dict[Digest, Manifest] = field(default_factory=dict)
    tensors: dict[Digest, tuple[Digest, ...]] = field(default_factory=dict)
    blocks: Blocks = field(default_factory=Blocks)

    def manifest(self, digest: Digest) -> Manifest:
        """Return a stored manifest, or raise NotYetError."""
        if digest not in self.manifests:
            raise NotYetError("no such manifest", [digest])
        return self.manifests[digest]

    def block_list(self, root: Digest) -> tuple[Digest, ...]:
        """Return a stored block list, or raise NotYetError."""
        if root not in self.tensors:
            raise NotYetError("no such tensor", [root])
        return self.tensors[root]

    def put_model(self, tensors: Mapping[str, bytes], *, kind: Kind = Kind.FULL) -> Manifest:
        """Store a model of byte tensors; return its manifest."""
        rows = []
        for name in sorted(tensors):
            raw = tensors[name]
            parts = [raw[start : start + BLOCK_BYTES] for start in range(0, len(raw), BLOCK_BYTES)]
            blocks = tuple(digest(Domain.BLOCK, part) for part in parts)
            root = tensor_root(DType.U8, (len(raw),), blocks)
            self.blocks.update(zip(blocks, parts, strict=True))
            self.tensors[root] = blocks
            rows.append(Tensor(name, DType.U8, (len(raw),), root))
        manifest = Manifest(kind=kind, base=None, tensors=tuple(rows))
        self.manifests[manifest.digest] = manifest
        return manifest


class Host:
    """A computer on the network.

    Attributes:
        key, disk: its identity and what it keeps.
        peer: the machine, while it runs.
        ready: contributions that were reported complete.
        accused: nodes that were reported to misbehave, in order.
        stored_blocks: digests of blocks that were written, in order.
    """

    def __init__(
        self, key: SigningKey, clock: Clock, network: Network, chance: Chance, *, config: Config
    ) -> None:
        self.key, self.disk = key, Disk()
        self.peer: Peer | None = None
        self.ready: set[Digest] = set()
        self.accused: list[NodeId] = []
        self.stored_blocks: list[Digest] = []
        self._clock, self._network, self._chance, self._config = clock, network, chance, config
        self._record: bytes = b""
        self._seeds: tuple[NodeId, ...] = ()
        self._life = 0

    @property
    def id(self) -> NodeId:
        """Its node id."""
        return self.key.id

    @property
    def running(self) -> Peer:
        """The machine, which runs."""
        if self.peer is None:
            raise RuntimeError(f"host {self.id.hex()[:12]} is down")
        return self.peer

    # --- life -------------------------------------------------------------------------------------

    def start(self, genesis: Operation, *, seeds: Iterable[NodeId] = ()) -> None:
        """Run the machine from what is on the disk."""
        self._seeds = tuple(seeds) or self._seeds
        self.disk.operations.setdefault(genesis.id, genesis)
        ops = OpSet(genesis)
        for operation in self.disk.operations.values():
            ops.add(operation)
        self._life += 1
        self._record = NodeRecord.sign(
            self.key,
            addresses=[f"{self.id.hex()[:12]}.example:1"],
            leaf=b"",
            sequence=self._clock.now_ms,
            expires_ms=self._clock.now_ms + 30 * DAY_MS,
        ).encoded
        self.peer = Peer(
            self.id,
            ops,
            self.disk,
            self._chance.fork(f"life {self._life}"),
            config=self._config,
            seeds=self._seeds,
            record=self._record,
            records=self.disk.records.values(),
        )
        self._network.attach(self.id, self._serve)
        self._do(self.peer.on_start(self._clock.now_ms))

    def crash(self) -> None:
        """Lose everything that is not on the disk."""
        self._network.detach(self.id)
        self.peer = None

    def join(self, inviter: NodeId, invite: SigningKey, federation: Digest) -> None:
        """Ask an inviter to be admitted, again and again until it answers, then start."""
        hello = messages.Hello(
            nonce=self._chance.draw(messages.NONCE_BYTES),
            federation=federation,
            state_root=NOTHING,
            book_root=NOTHING,
            invite=prove(invite, federation=federation, node=self.id),
        )

        def ended(end: Reply | Failure) -> None:
            if end is Failure.TIMEOUT:
                self.join(inviter, invite, federation)
            elif isinstance(end, messages.HelloReply):
                genesis = Operation.decode(end.genesis)
                if genesis.id != federation:
                    raise MalformedError("the genesis of another federation")
                self.start(genesis, seeds=[inviter])

        self._network.call(self.id, inviter, hello, ended)

    # --- work -------------------------------------------------------------------------------------

    def say(self, body: Body) -> Operation:
        """Sign an operation and spread it."""
        ops = self.running.ops
        operation = Operation.sign(
            self.key,
            body,
            federation=ops.federation,
            created_ms=self._clock.now_ms,
            prev=ops.heads(self.id),
        )
        self._do(self.running.on_local(self._clock.now_ms, [operation]))
        return operation

    # --- driving the machine ------------------------------------------------------------------------

    def _serve(self, sender: NodeId, request: Request) -> Reply:
        reply, outputs = self.running.on_request(self._clock.now_ms, sender, request)
        self._do(outputs)
        return reply

    def _do(self, outputs: Iterable[Output]) -> None:
        for output in outputs:
            self._carry_out(output)
        due_ms, life = self.running.next_tick_ms, self._life
        if due_ms is not None:
            self._clock.at(due_ms, lambda: self._tick(life))

    def _tick(self, life: int) -> None:
        due_ms = None if self.peer is None else self.peer.next_tick_ms
        if life == self._life and due_ms is not None and due_ms <= self._clock.now_ms:
            self._do(self.running.on_tick(self._clock.now_ms))

    def _carry_out(self, output: Output) -> None:
        disk = self.disk
        match output:
            case Call():
                self._call(output)
            case StoreOperations(operations):
                disk.operations.update((operation.id, operation) for operation in operations)
            case StoreManifest(manifest):
                disk.manifests[manifest.digest] = manifest
            case StoreTensor(root, _, _, blocks):
                disk.tensors[root] = blocks
            case StoreBlock(block, data):
                disk.blocks[block] = data
                self.stored_blocks.append(block)
            case StoreRecord(node, data):
                disk.records[node] = data
            case AdmissionWanted(node, role, _):
                self.say(Admit(node, role))
            case Ready(contribution):
                self.ready.add(contribution)
            case Misbehaved(node, _):
                self.accused.append(node)
            case Changed():
                pass

    def _call(self, call: Call) -> None:
        life = self._life

        def ended(end: Reply | Failure) -> None:
            if self.peer is None or life != self._life:
                return
            now_ms = self._clock.now_ms
            if isinstance(end, Failure):
                self._do(self.peer.on_failed(now_ms, call.call_id, end))
            else:
                self._do(self.peer.on_reply(now_ms, call.call_id, end))

        self._network.call(self.id, call.to, call.request, ended)
