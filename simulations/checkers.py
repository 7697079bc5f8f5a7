"""What must hold at every moment of a simulation, checked where it would break.

    G2  what was confirmed to somebody is there after every restart
    G4  nothing is stored, and nothing leaves, that is not what its digest or signature says
    G5  whom a ban expels stays out until an admin of sufficient level lifts it, and is answered nothing
    G6  no queue, table or message grows beyond its bound
        an honest node is never accused

The checks repeat, in the plainest way, what the protocol should have done, with other code: a broken
promise raises `SimulationError` at the event that broke it.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from crdtmerge.digest import Digest, Domain, digest
from crdtmerge.errors import RejectedError, SimulationError
from crdtmerge.keys import NodeId
from crdtmerge.limits import HAVE_DIGESTS_MAX, PENDING_OPERATIONS_MAX
from crdtmerge.manifest import tensor_root
from crdtmerge.op import Ban, Operation, Unban
from crdtmerge.simulations.driver import Driver
from crdtmerge.simulations.watch import Watch
from crdtmerge.sync import exchange, gossip, jobs, sources, transfer, wants
from crdtmerge.sync.attestation import Attestation
from crdtmerge.sync.blobs import GetBlock, GetBlockReply, GetMeta, GetMetaReply, Meta
from crdtmerge.sync.events import (
    AdmissionWanted,
    Changed,
    Misbehaved,
    Output,
    StoreBlock,
    StoreManifest,
    StoreOperations,
    StoreRecord,
    StoreTensor,
)
from crdtmerge.sync.messages import (
    GetOps,
    GetOpsReply,
    Hello,
    PushOps,
    Records,
    RecordsReply,
    Reply,
    Request,
    Space,
)
from crdtmerge.sync.peer import Peer
from crdtmerge.sync.records import NodeRecord

CALLS_MAX: Final = 1000
"""Calls that a machine may have under way: of transfers 40, of exchanges 8, the rest pushes."""


def broken(promise: str, text: str) -> SimulationError:
    """Return the error that says which promise was broken, and how."""
    return SimulationError(f"{promise}: {text}", promise=promise)


class Checker(Watch):
    """Checks honest hosts as things happen, and counts what befalls them.

    Attributes:
        enemies: who may be accused.
        noted: what happened, and how often.
    """

    def __init__(self) -> None:
        self.enemies: set[NodeId] = set()
        self.noted: Counter[str] = Counter()
        self._verified: set[bytes] = set()
        self._wholes: dict[tuple[Meta, Digest], bytes] = {}
        self._bans: dict[NodeId, dict[Digest, Ban]] = {}

    def noticed(self, what: str) -> None:
        """Count it."""
        self.noted[what] += 1

    # --- G2 -----------------------------------------------------------------------------------------

    def started(self, host: Driver) -> None:
        """Everything that was confirmed on this host is there."""
        lost = [op_id for op_id in host.acknowledged if op_id not in host.running.ops]
        if lost:
            raise broken(
                "G2", f"{_name(host.id)} began again without {len(lost)} of its confirmed operations"
            )
        self._bans.pop(host.id, None)

    # --- G4 -----------------------------------------------------------------------------------------

    def storing(self, host: Driver, output: Output) -> None:
        """Whatever is stored is what it says, and nobody honest is accused."""
        if not host.honest:
            return
        match output:
            case StoreBlock(block):
                _same("stored block", block.digest, digest(Domain.BLOCK, block.data))
            case StoreTensor(root, dtype, shape, blocks):
                _same("stored block list", root, tensor_root(dtype, shape, blocks))
            case StoreManifest(manifest):
                _same("stored manifest", manifest.digest, digest(Domain.MANIFEST, manifest.encoded))
            case StoreOperations(operations):
                expelled: set[NodeId] = set()
                for operation in reversed(operations):
                    self._verify(operation.encoded)
                    void = not host.running.view.authority.retains(operation)
                    if void and operation.author not in expelled:  # by a ban that came along, behind it
                        raise broken("G5", f"{_name(host.id)} keeps an operation that a ban voids")
                    if isinstance(operation.body, Ban):
                        expelled.add(operation.body.key)
            case StoreRecord(node, data):
                if self._record(data).node != node:
                    raise broken("G4", "a record was stored as another node's")
            case AdmissionWanted():
                if not host.running.view.authority.is_admin(host.id):
                    raise broken("G5", f"{_name(host.id)} is no admin and lets somebody in")
            case Misbehaved(node, error):
                if node not in self.enemies:
                    raise broken(
                        "fairness", f"{_name(host.id)} accuses {_name(node)}, who is honest: {error}"
                    )
            case Changed():
                self._changed(host)

    def answering(self, host: Driver, sender: NodeId, request: Request, reply: Reply) -> None:
        """Whatever leaves is what was asked for, and leaves to members only."""
        if not host.honest:
            return
        invited = isinstance(request, Hello) and request.invite is not None
        if not invited and not isinstance(request, PushOps) and not _is_member(host.running, sender):
            raise broken("G5", f"{_name(host.id)} answers {_name(sender)}, who is no member")
        match request, reply:
            case GetBlock(), GetBlockReply() if reply.data is not None:
                _same("served block", request.digest, digest(Domain.BLOCK, reply.data))
            case GetMeta(), GetMetaReply() if reply.total:
                whole = self._whole(host, request)
                if reply.chunk != whole[request.offset : request.offset + len(reply.chunk)]:
                    raise broken("G4", f"{_name(host.id)} serves something else than a {request.kind.value}")
            case GetOps(), GetOpsReply():
                for data in reply.operations:
                    if self._verify(data) not in request.ids:
                        raise broken("G4", "an operation was given that nobody asked for")
            case Records(), RecordsReply():
                for data in reply.records:
                    self._record(data) if request.space is Space.RECORDS else Attestation.decode(data)

    def _whole(self, host: Driver, request: GetMeta) -> bytes:
        """Return what the digest stands for; a machine may still know what its disk has just lost."""
        name = request.kind, request.digest
        if name not in self._wholes:
            if request.kind is Meta.MANIFEST:
                self._wholes[name] = host.disk.manifests[request.digest].encoded
            else:
                self._wholes[name] = b"".join(host.disk.tensors[request.digest])
        return self._wholes[name]

    def _verify(self, data: bytes) -> Digest:
        operation = Operation.decode(data)
        if data not in self._verified:
            try:
                operation.verify()
            except RejectedError as error:
                raise broken("G4", f"an operation without a valid signature: {error}") from error
            self._verified.add(data)
        return operation.id

    def _record(self, data: bytes) -> NodeRecord:
        try:
            return NodeRecord.decode(data)
        except RejectedError as error:
            raise broken("G4", f"a record that is none: {error}") from error

    # --- G5 -----------------------------------------------------------------------------------------

    def _changed(self, host: Driver) -> None:
        """Every ban still counts, unless it was lifted, or its author expelled, or its target raised."""
        peer, known = host.running, self._bans.setdefault(host.id, {})
        authority = peer.view.authority
        lifted: set[Digest] | None = None
        for ban_id, ban in known.items():
            standing = authority.standings.get(ban.key)
            if standing is None or ban_id in standing.bans:
                continue
            if lifted is None:
                lifted = {b for op in peer.ops if isinstance(op.body, Unban) for b in op.body.bans}
            said = peer.ops.get(ban_id)
            counts = said is not None and authority.honours(said) and authority.outranks(said.author, ban.key)
            if counts and ban_id not in lifted:
                raise broken("G5", f"{_name(host.id)} forgot a ban of {_name(ban.key)}")
        self._bans[host.id] = {
            ban_id: operation.body
            for standing in authority.standings.values()
            for ban_id in standing.bans
            if (operation := peer.ops.get(ban_id)) is not None and isinstance(operation.body, Ban)
        }

    # --- G6 -----------------------------------------------------------------------------------------

    def look(self, host: Driver) -> None:
        """Nothing has grown beyond its bound."""
        peer = host.peer
        if peer is None or not host.honest:
            return
        for what, (size, most) in sizes(peer).items():
            if size > most:
                raise broken("G6", f"{_name(host.id)} holds {size} {what}, at most {most} are allowed")


def sizes(peer: Peer) -> dict[str, tuple[int, int]]:
    """Return how much of everything a machine holds in memory, and the most that it may."""
    members = len(peer.view.authority.standings)
    fetching = peer._transfer
    active = fetching._jobs._active
    pieces = jobs.JOBS_MAX * (wants.WINDOW + 1)
    run = peer._exchange._run
    found = 0 if run is None else sum(len(s.missing) + len(s.surplus) for s in run.sessions.values())
    return {
        "calls under way": (len(peer._port._calls), CALLS_MAX),
        "outputs that nobody took": (len(peer._port._outputs), 0),
        "operations waiting for a push": (len(peer._gossip._queue), gossip.QUEUE_MAX),
        "operations of strangers": (len(peer._intake._waiting), PENDING_OPERATIONS_MAX),
        "records": (len(peer._shelves.book.nodes), members),
        "suspects": (len(peer._contacts._failures), members + len(peer._contacts._seeds)),
        "contributions under way": (len(active), jobs.JOBS_MAX),
        "pieces wanted": (sum(len(job.wanted) for job in active.values()), pieces),
        "sources": (len(fetching._sources.all), sources.SOURCES_MAX),
        "blocks that sources hold": (
            sum(len(source.has) for source in fetching._sources.all),
            sources.SOURCES_MAX * HAVE_DIGESTS_MAX,
        ),
        "bytes of manifests and lists": (
            sum(len(assembly._data) for assembly in fetching._assemblies.values()),
            transfer.ASSEMBLY_BYTES_MAX,
        ),
        "calls of an exchange": (0 if run is None else run.in_flight, exchange.CALLS_MAX + 1),
        "ids found by an exchange": (found, 1 << 20),
    }


def _is_member(peer: Peer, node: NodeId) -> bool:
    return peer.view.authority.is_member(node)


def _same(what: str, wanted: Digest, got: Digest) -> None:
    if wanted != got:
        raise broken("G4", f"{what}: wanted {wanted.hex()}, got {got.hex()}")


def _name(node: NodeId) -> str:
    return node.hex()[:8]
