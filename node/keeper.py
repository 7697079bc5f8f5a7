"""The keeper: the machine and the disk, in one thread.

    event ──► machine ──► outputs ──► disk, in order ──► a turn: the reply and the calls that may leave now

A turn is one event with everything that follows from it. Nothing of a turn leaves this node before all of
it is stored, and no turn begins before the last one ended, so what others hear from us is never more than
what a restart would find.

One thing is stored later: blocks, whose loss costs a transfer and breaks no promise (`content`). Block lists
that were answered together make one turn, and are stored together.

Every method must be called from the same thread, except where it says otherwise. A method that raises has
left the machine ahead of the disk: the only cure is to begin again from what is stored.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from crdtmerge.authority import Authority
from crdtmerge.digest import Digest
from crdtmerge.errors import CorruptBlockError, CrdtMergeError, NotYetError, RejectedError, StoreError
from crdtmerge.keys import NodeId, SigningKey
from crdtmerge.node import figures, seeds, shortage
from crdtmerge.node.admission import Admissions
from crdtmerge.node.client import Contact
from crdtmerge.node.content import ContentWriter
from crdtmerge.node.record import leaf_issued_ms
from crdtmerge.op import Operation
from crdtmerge.store import Store, garbage
from crdtmerge.store.garbage import Found
from crdtmerge.sync.attestation import contradiction
from crdtmerge.sync.events import (
    AdmissionWanted,
    Call,
    Changed,
    Diverged,
    Failure,
    ForgetAttestations,
    Misbehaved,
    NoRoom,
    Output,
    Ready,
    RoomAgain,
    StoreAttestation,
    StoreBlock,
    StoreManifest,
    StoreOperations,
    StoreRecord,
    StoreTensor,
)
from crdtmerge.sync.messages import Hello, Reply, Request
from crdtmerge.sync.peer import Peer
from crdtmerge.sync.records import NodeRecord

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Turn:
    """What may leave this node after an event.

    Attributes:
        calls: to make, each with its contact, or None where no address is known.
        next_tick_ms: when `Keeper.tick` is due.
        reply: the answer, if the event was a request.
        refusal: the error to answer with instead.
    """

    calls: tuple[tuple[Call, Contact | None], ...]
    next_tick_ms: int | None
    reply: Reply | None = None
    refusal: CrdtMergeError | None = None


class Keeper:
    """Runs one machine against one store.

    Args:
        store: the home's.
        key: this node's identity, which signs admissions.
        peer: the machine, made from what the store holds.
        seeds: contacts of nodes of whom there may be no record yet.
        position: up to which the peer has the store's operations.
        now_ms: a clock that never goes back.

    Attributes:
        content: what is downloaded, on its way to the disk.
    """

    def __init__(
        self,
        store: Store,
        key: SigningKey,
        peer: Peer,
        *,
        seeds: dict[NodeId, Contact],
        position: int,
        now_ms: Callable[[], int],
    ) -> None:
        self._store = store
        self._key = key
        self._peer = peer
        self._seeds = seeds
        self._now_ms = now_ms
        self._version = -1
        self._position = position
        self.content = ContentWriter(store, now_ms)
        self._admissions = Admissions(store, key, peer, self._local, now_ms)
        self._authority = peer.view.authority
        self._collections = store.collections()

    @property
    def authority(self) -> Authority:
        """Who is a member, as of the last turn; for any thread."""
        return self._authority

    def issued_since(self, node: NodeId) -> int:
        """Return when the leaf in a node's record was issued; 0 without a readable one; for any thread."""
        record = self._peer.record_of(node)
        return 0 if record is None else leaf_issued_ms(record.leaf, self._peer.ops.federation)

    # --- events -------------------------------------------------------------------------------

    def start(self) -> Turn:
        """Begin, with what another process added since the store was read."""
        shortage.save(self._store, None)
        turn = self._turn(self._peer.on_start(self._now_ms()))
        return self._and(turn, self.poll())

    def tick(self) -> Turn:
        """Time has passed."""
        return self._turn(self._peer.on_tick(self._now_ms()))

    def request(self, sender: NodeId, request: Request) -> Turn:
        """Answer a request of ``sender``, whose identity is proved."""
        if isinstance(request, Hello) and request.invite is not None:
            return self._and(self.poll(), self._answer(sender, request))  # its invitation may be that new
        return self._answer(sender, request)

    def _answer(self, sender: NodeId, request: Request) -> Turn:
        try:
            reply, outputs = self._peer.on_request(self._now_ms(), sender, request)
        except CorruptBlockError as error:
            log.error("corrupt block=%s error=%s", error.wanted.hex(), error)
            self.content.forget(Digest(error.wanted))
            return self._turn(self._peer.on_stored(self._now_ms(), lost=True), refusal=error)
        except (RejectedError, NotYetError, StoreError) as error:
            return self._turn([], refusal=error)
        return self._turn(outputs, reply=reply)

    def replied(self, replies: Iterable[tuple[int, Reply]]) -> Turn:
        """Calls were answered; block lists among the answers become durable together."""
        calls: list[tuple[Call, Contact | None]] = []
        for call_id, reply in replies:
            calls += self._follow(self._peer.on_reply(self._now_ms(), call_id, reply))
        turn = self._turn(())
        return replace(turn, calls=(*calls, *turn.calls))

    def failed(self, call_id: int, failure: Failure, retry_after_ms: int = 0) -> Turn:
        """A call was not answered; a busy node may have said when to call again."""
        ended = self._peer.on_failed(self._now_ms(), call_id, failure, retry_after_ms=retry_after_ms)
        return self._turn(ended)

    def renewed(self, record: bytes) -> Turn:
        """This node's own record changed."""
        return self._turn(self._peer.on_record(self._now_ms(), record))

    def poll(self) -> Turn:
        """Take up what other processes stored in this home since the last time."""
        self.content.flush_if_due()
        free_bytes = self.content.free_bytes()
        space = [] if free_bytes is None else self._peer.on_space(self._now_ms(), free_bytes)
        changed = self.content.changed_files()
        version = self._store.data_version()
        if version == self._version and not changed:
            return self._turn(space)
        self._version = version
        lost = changed or self._collections != self._store.collections()
        self._collections = self._store.collections()
        fresh, self._position = self._store.operations_since(self._position)
        outputs = space + self._local(operation for operation in fresh if operation.id not in self._peer.ops)
        outputs += self._peer.on_stored(self._now_ms(), lost=lost)
        for _, _, attestation in list(self._store.attestations(self._key.id)):
            outputs += self._peer.on_attested(attestation)
        outputs += self._admissions.look()
        return self._turn(outputs)

    def needed(self) -> set[Digest]:
        """Return the manifests that are no garbage now."""
        return garbage.needed(self._peer.ops, self._peer.view, self._store.pins())

    def collect(self, needed: set[Digest]) -> Found:
        """Forget the garbage; for any thread, since it may take a while. Call `collected` afterwards.

        Raises:
            LockedError: if another process is taking in a model.
        """
        return self._store.garbage.collect(needed, now_ms=self._now_ms())

    def collected(self) -> Turn:
        """Some content is gone: what became visible meanwhile, and was part of it, is fetched again."""
        return self._turn(self._peer.on_stored(self._now_ms(), lost=True))

    def save_figures(self, encoded: bytes) -> None:
        """Store the figures for people."""
        figures.save(self._store, encoded)

    def contact(self, node: NodeId) -> Contact | None:
        """Return how to reach a node, if that is known."""
        record = self._peer.record_of(node)
        return Contact.of(record) if record is not None else self._seeds.get(node)

    def close(self) -> None:
        """Make everything durable; the keeper is not used after this."""
        self.content.flush()

    # --- what follows ---------------------------------------------------------------------------

    def _turn(
        self, outputs: Iterable[Output], *, reply: Reply | None = None, refusal: CrdtMergeError | None = None
    ) -> Turn:
        calls = self._follow(outputs)
        while self.content.lists:
            calls += self._follow(self._settle())
        self._authority = self._peer.view.authority
        return Turn(tuple(calls), self._peer.next_tick_ms, reply, refusal)

    def _follow(self, outputs: Iterable[Output]) -> list[tuple[Call, Contact | None]]:
        """Carry outputs out, but for block lists at their end, which wait; return the calls."""
        calls: list[tuple[Call, Contact | None]] = []
        waiting = deque(outputs)
        while waiting:
            output = waiting.popleft()
            if isinstance(output, Call):
                calls.append((output, self.contact(output.to)))
            elif self.content.lists and not isinstance(output, (StoreTensor, StoreBlock)):
                waiting.appendleft(output)
                waiting.extendleft(reversed(self._settle()))
            else:
                waiting.extendleft(reversed(self._carry_out(output)))
        return calls

    def _settle(self) -> list[Output]:
        return [] if self.content.settle() else self._full()

    def _full(self) -> list[Output]:
        """Something was not stored for want of room: tell the machine; return what follows."""
        return self._peer.on_space(self._now_ms(), 0) + self._peer.on_stored(self._now_ms(), lost=True)

    def _and(self, first: Turn, second: Turn) -> Turn:
        return replace(second, calls=first.calls + second.calls)

    def _carry_out(self, output: Output) -> list[Output]:
        """Do what an output says; return what follows from it at once."""
        match output:
            case StoreOperations(operations):
                self._store.add_operations([operation.encoded for operation in operations])
            case StoreManifest() | StoreTensor() | StoreBlock():
                if not self.content.store(output):
                    return self._full()
            case NoRoom() | RoomAgain():
                self.content.tell(output if isinstance(output, NoRoom) else None)
            case StoreRecord(node, data):
                self._store.put_record(node, data)
                if node in self._seeds:
                    seeds.follow(self._store, self._seeds, NodeRecord.decode(data))
            case StoreAttestation(attested):
                self._store.put_attestation(attested.node, attested.id, attested.encoded)
            case ForgetAttestations(attestations):
                for attested in attestations:
                    self._store.remove_attestation(attested.node, attested.id)
            case AdmissionWanted(node, role, invite):
                return self._admissions.admit(node, role, invite)
            case Changed(state_root, visible_root):
                log.info("changed visible=%s state=%s", visible_root.hex()[:16], state_root.hex()[:16])
            case Ready(contribution):
                self.content.flush()
                log.info("ready contribution=%s", contribution.hex()[:16])
            case Diverged(ours, theirs):
                log.error("DIVERGED %s", contradiction(ours, theirs))
            case Misbehaved(node, error):
                log.warning("misbehaved node=%s error=%s", node.hex()[:16], error)
        return []

    def _local(self, operations: Iterable[Operation]) -> list[Output]:
        """Give the machine operations that are stored already, each by itself: one may be refused."""
        outputs: list[Output] = []
        for operation in operations:
            try:
                outputs += self._peer.on_local(self._now_ms(), [operation])
            except RejectedError as error:
                log.error("refused operation=%s error=%s", operation.id.hex()[:16], error)
        return outputs
