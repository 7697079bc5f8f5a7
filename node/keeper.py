"""The keeper: the machine and the disk, in one thread.

    event ──► machine ──► outputs ──► disk, in order ──► a turn: the reply and the calls that may leave now

A turn is one event with everything that follows from it. Nothing of a turn leaves this node before all of
it is stored, and no turn begins before the last one ended, so what others hear from us is never more than
what a restart would find.

One thing is stored later: blocks, whose loss costs a transfer and breaks no promise. They are flushed when
something is complete, and every FLUSH_BYTES or FLUSH_MS.

Every method must be called from the same thread, except where it says otherwise. A method that raises has
left the machine ahead of the disk: the only cure is to begin again from what is stored.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from crdtmerge.authority import Authority
from crdtmerge.digest import Digest
from crdtmerge.errors import CorruptBlockError, CrdtMergeError, NotYetError, RejectedError, StoreError
from crdtmerge.keys import NodeId, SigningKey
from crdtmerge.node import figures, invites
from crdtmerge.node.client import Contact
from crdtmerge.op import Admit, Operation, Role
from crdtmerge.store import Store
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
from crdtmerge.sync.messages import Hello, Reply, Request
from crdtmerge.sync.peer import Peer

log = logging.getLogger(__name__)

FLUSH_BYTES: Final = 64 << 20
FLUSH_MS: Final = 5000


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
    """

    def __init__(
        self,
        store: Store,
        key: SigningKey,
        peer: Peer,
        *,
        seeds: Mapping[NodeId, Contact],
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
        self._unflushed_bytes = 0
        self._unflushed_since_ms = 0
        self._authority = peer.view.authority

    @property
    def authority(self) -> Authority:
        """Who is a member, as of the last turn; for any thread."""
        return self._authority

    # --- events -------------------------------------------------------------------------------

    def start(self) -> Turn:
        """Begin, with what another process added since the store was read."""
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
            self._store.blocks.discard(Digest(error.wanted))
            return self._turn(self._peer.on_stored(self._now_ms(), lost=True), refusal=error)
        except (RejectedError, NotYetError, StoreError) as error:
            return self._turn([], refusal=error)
        return self._turn(outputs, reply=reply)

    def replied(self, call_id: int, reply: Reply) -> Turn:
        """A call was answered."""
        return self._turn(self._peer.on_reply(self._now_ms(), call_id, reply))

    def failed(self, call_id: int, failure: Failure) -> Turn:
        """A call was not answered."""
        return self._turn(self._peer.on_failed(self._now_ms(), call_id, failure))

    def renewed(self, record: bytes) -> Turn:
        """This node's own record changed."""
        return self._turn(self._peer.on_record(self._now_ms(), record))

    def poll(self) -> Turn:
        """Take up what other processes stored in this home since the last time."""
        if self._unflushed_bytes and self._now_ms() - self._unflushed_since_ms > FLUSH_MS:
            self._flush()
        version = self._store.data_version()
        if version == self._version:
            return self._turn([])
        self._version = version
        fresh, self._position = self._store.operations_since(self._position)
        outputs = self._local(operation for operation in fresh if operation.id not in self._peer.ops)
        outputs += self._peer.on_stored(self._now_ms())
        for invite in list(invites.outstanding(self._store)):
            if invite.claimed is not None:
                outputs += self._admit(invite.claimed, invite.role, invite.key)
            elif invite.expires_ms <= self._now_ms():
                invites.forget(self._store, invite.key)
            else:
                self._peer.on_invite(invite.key, invite.role, expires_ms=invite.expires_ms)
        return self._turn(outputs)

    def save_figures(self, encoded: bytes) -> None:
        """Store the figures for people."""
        figures.save(self._store, encoded)

    def contact(self, node: NodeId) -> Contact | None:
        """Return how to reach a node, if that is known."""
        record = self._peer.record_of(node)
        return Contact.of(record) if record is not None else self._seeds.get(node)

    def close(self) -> None:
        """Make everything durable; the keeper is not used after this."""
        self._flush()

    # --- what follows ---------------------------------------------------------------------------

    def _turn(
        self, outputs: Iterable[Output], *, reply: Reply | None = None, refusal: CrdtMergeError | None = None
    ) -> Turn:
        calls: list[tuple[Call, Contact | None]] = []
        waiting = deque(outputs)
        while waiting:
            output = waiting.popleft()
            if isinstance(output, Call):
                calls.append((output, self.contact(output.to)))
            else:
                waiting.extendleft(reversed(self._carry_out(output)))
        self._authority = self._peer.view.authority
        return Turn(tuple(calls), self._peer.next_tick_ms, reply, refusal)

    def _and(self, first: Turn, second: Turn) -> Turn:
        return replace(second, calls=first.calls + second.calls)

    def _carry_out(self, output: Output) -> list[Output]:
        """Do what an output says; return what follows from it at once."""
        match output:
            case StoreOperations(operations):
                self._store.add_operations([operation.encoded for operation in operations])
            case StoreManifest(manifest):
                self._store.put_manifest(manifest)
            case StoreTensor(_, dtype, shape, blocks):
                self._store.put_tensor(dtype, shape, blocks)
            case StoreBlock(_, data):
                self._put(data)
            case StoreRecord(node, data):
                self._store.put_record(node, data)
            case AdmissionWanted(node, role, invite):
                return self._admit(node, role, invite)
            case Changed(state_root, visible_root):
                log.info("changed visible=%s state=%s", visible_root.hex()[:16], state_root.hex()[:16])
            case Ready(contribution):
                self._flush()
                log.info("ready contribution=%s", contribution.hex()[:16])
            case Misbehaved(node, error):
                log.warning("misbehaved node=%s error=%s", node.hex()[:16], error)
        return []

    def _put(self, data: bytes) -> None:
        if not self._unflushed_bytes:
            self._unflushed_since_ms = self._now_ms()
        self._store.blocks.put(data)
        self._unflushed_bytes += len(data)
        if self._unflushed_bytes >= FLUSH_BYTES:
            self._flush()

    def _flush(self) -> None:
        self._store.blocks.flush()
        self._unflushed_bytes = 0

    def _admit(self, node: NodeId, role: Role, key: NodeId) -> list[Output]:
        invite = invites.find(self._store, key)
        if invite is None or invite.claimed not in (None, node):
            log.warning("refused node=%s reason=the invitation is used up", node.hex()[:16])
            return []
        invites.save(self._store, invites.Invite(key, role, invite.expires_ms, claimed=node))
        outputs: list[Output] = []
        if self._peer.view.authority.level(node) is None:
            operation = Operation.sign(
                self._key,
                Admit(node, role),
                federation=self._peer.ops.federation,
                created_ms=self._now_ms(),
                prev=self._peer.ops.heads(self._key.id),
            )
            self._store.add_operations([operation.encoded])
            outputs = self._local([operation])
            log.info("admitted node=%s role=%s", node.hex()[:16], role.value)
        invites.forget(self._store, key)
        return outputs

    def _local(self, operations: Iterable[Operation]) -> list[Output]:
        """Give the machine operations that are stored already, each by itself: one may be refused."""
        outputs: list[Output] = []
        for operation in operations:
            try:
                outputs += self._peer.on_local(self._now_ms(), [operation])
            except RejectedError as error:
                log.error("refused operation=%s error=%s", operation.id.hex()[:16], error)
        return outputs
