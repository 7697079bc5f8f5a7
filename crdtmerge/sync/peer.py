"""One node's whole side of the protocol, as a machine: it is told what happened and says what to do.

    driver ── on_start, on_tick, on_request, on_reply, on_failed, on_local ──> Peer
    driver <────────────── outputs: calls, writes, news (events.py) ────────── Peer

It sends nothing, sleeps nowhere, draws no randomness and reads no clock: time comes with every event, in
milliseconds that never decrease, and `next_tick_ms` says when it wants to be woken. Equal events give
equal outputs. The node over gRPC and the simulator drive this same class.

Always true: nothing unverified is kept, passed on or returned; only R(S) is reconciled; whoever is not a
member is refused whatever it asks, except a newcomer with an invite; memory is bounded.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from crdtmerge.digest import Digest
from crdtmerge.errors import MalformedError, PolicyError
from crdtmerge.keys import NodeId
from crdtmerge.op import Add, Admit, Ban, Operation, Role, Unban
from crdtmerge.opset import OpSet
from crdtmerge.sync import messages, wanted
from crdtmerge.sync.answers import Answers
from crdtmerge.sync.attestation import Attestation
from crdtmerge.sync.chance import Chance
from crdtmerge.sync.config import Config
from crdtmerge.sync.contacts import Contacts
from crdtmerge.sync.events import (
    AdmissionWanted,
    Changed,
    Content,
    Failure,
    Output,
    StoreOperations,
)
from crdtmerge.sync.exchange import Exchange
from crdtmerge.sync.gossip import Gossip
from crdtmerge.sync.intake import Intake
from crdtmerge.sync.invite import Invites
from crdtmerge.sync.messages import Reply, Request
from crdtmerge.sync.port import Port
from crdtmerge.sync.records import NodeRecord
from crdtmerge.sync.server import Server
from crdtmerge.sync.shelves import Shelves
from crdtmerge.sync.transfer import Transfer
from crdtmerge.visible import View


class Peer:
    """The state machine of one node.

    Args:
        key: this node's id; the driver proves it to others by TLS, and proves others' to us.
        ops: the stored operations; the peer owns the set from now on.
        content: what is stored of manifests, block lists and blocks, current after every output that has
            been carried out.
        chance: source of all choices.
        config: rates and bounds.
        seeds: nodes that are dialled now and then whatever happens; their addresses are the driver's.
        record: this node's own encoded record; empty if it is not reachable.
        records: the stored records of others.
        attestations: all that are stored.

    Raises:
        RejectedError: if a stored record or attestation is damaged.
    """

    def __init__(
        self,
        key: NodeId,
        ops: OpSet,
        content: Content,
        chance: Chance,
        *,
        config: Config | None = None,
        seeds: Sequence[NodeId] = (),
        record: bytes = b"",
        records: Iterable[bytes] = (),
        attestations: Iterable[bytes] = (),
    ) -> None:
        self.key, self.ops = key, ops
        self._own = NodeRecord.decode(record) if record else None
        self._stored = [NodeRecord.decode(data) for data in records]
        self._attested = [Attestation.decode(data) for data in attestations]
        self._invites = Invites(key, ops.federation)
        config = config or Config()
        self._intake = Intake(ops)
        self._contacts = Contacts(
            lambda: self._shelves.book.nodes,
            self._is_member,
            me=key,
            seeds=seeds,
            chance=chance,
            config=config,
        )
        self._port = Port(self._contacts.ended, self._contacts.busy)
        self._shelves = Shelves(ops.federation, self._is_member, me=key, port=self._port)
        self._gossip = Gossip(self._port, self._contacts, chance=chance, config=config)
        self._exchange = Exchange(
            self._port,
            self._contacts,
            self._intake,
            self._shelves,
            self._keep,
            me=key,
            chance=chance,
            config=config,
        )
        self._transfer = Transfer(
            content,
            self._port,
            authors=self._authors,
            candidates=self._contacts.live,
            config=config,
            bytes_max=ops.charter.policy.contribution_bytes_max,
            rests_until=self._contacts.rests_until,
        )
        self._server = Server(content)
        self._answers = Answers(self._exchange, self._intake, self._shelves, self._server, self._keep)

    @property
    def view(self) -> View:
        """What the operations amount to now."""
        return self._intake.view

    @property
    def next_tick_ms(self) -> int | None:
        """When to call `on_tick` next; look again after every event. None before `on_start`."""
        due = (self._gossip.due_ms, self._exchange.due_ms, self._transfer.due_ms)
        return min((when for when in due if when is not None), default=None)

    def record_of(self, node: NodeId) -> NodeRecord | None:
        """Return the valid record of a member: the addresses to dial and the TLS leaf to pin."""
        return self._shelves.book.get(node)

    @property
    def missing(self) -> int:
        """How many manifests, block lists and blocks are known to be missing; 0 if all is there."""
        return self._transfer.missing

    # --- events -------------------------------------------------------------------------------

    def on_start(self, now_ms: int) -> list[Output]:
        """Begin: an exchange soon, and the transfer of what is missing."""
        self._shelves.keep_records(now_ms, self._stored)
        self._shelves.keep_attestations(self._attested, stored=True)
        self._standing_changed(now_ms)
        self._exchange.schedule(now_ms, soon=True)
        self._want(now_ms)
        return self._outputs()

    def on_tick(self, now_ms: int) -> list[Output]:
        """Time has come to `next_tick_ms` (calling early or late does no harm)."""
        self._gossip.tick(now_ms)
        self._exchange.tick(now_ms)
        self._transfer.tick(now_ms)
        return self._outputs()

    def on_request(self, now_ms: int, sender: NodeId, request: Request) -> tuple[Reply, list[Output]]:
        """Answer ``sender``, whose identity the driver has proved.

        The outputs are carried out before the reply leaves.

        Raises:
            PolicyError: if the sender is no member (refuse the call; nothing was changed).
            RejectedError: if what it sent is refused (nothing was changed).
            StoreError: if stored content cannot be read.
        """
        if isinstance(request, messages.Hello) and request.invite is not None:
            reply: Reply = self._welcome(now_ms, sender, request, request.invite)
        elif self._is_member(sender):
            reply = self._answers.answer(now_ms, sender, request)
            self._contacts.ended(now_ms, sender, True)
        else:
            raise PolicyError(f"{sender.hex()} is no member")
        return reply, self._outputs()

    def on_reply(self, now_ms: int, call_id: int, reply: Reply) -> list[Output]:
        """A call was answered. A reply of the wrong kind, or with refused content, counts as a failure."""
        self._port.finish(now_ms, call_id, reply)
        return self._outputs()

    def on_failed(
        self, now_ms: int, call_id: int, failure: Failure, *, retry_after_ms: int = 0
    ) -> list[Output]:
        """A call was not answered, or with an error; it may have been carried out all the same.

        A callee that is BUSY says when it wants to be called again; it is left alone until then.
        """
        self._port.finish(now_ms, call_id, failure, retry_after_ms)
        return self._outputs()

    def on_local(self, now_ms: int, operations: Iterable[Operation]) -> list[Output]:
        """Operations of this home: signed by its key, or stored by another process; they are pushed.

        Raises:
            RejectedError: if one does not verify, or is of another federation (nothing was changed).
        """
        self._keep(now_ms, self._intake.verified(operations), None, True)
        return self._outputs()

    def on_stored(self, now_ms: int, *, lost: bool = False) -> list[Output]:
        """Content was stored by somebody else (a file was added): look again at what is missing.

        With ``lost``, some is gone, or was found damaged and discarded: it is fetched again.
        """
        if lost:
            self._server.forget()
        self._transfer.look_again(now_ms, lost=lost)
        return self._outputs()

    def on_space(self, now_ms: int, free_bytes: int) -> list[Output]:
        """So many bytes of content may be stored: what does not fit waits. Until told, everything fits."""
        self._transfer.space(now_ms, free_bytes)
        return self._outputs()

    def on_record(self, now_ms: int, data: bytes) -> list[Output]:
        """This node's own record was renewed (new address, new TLS leaf): keep it and spread it.

        Raises:
            MalformedError: if it is another node's, or otherwise refused.
        """
        record = NodeRecord.decode(data)
        if record.node != self.key:
            raise MalformedError(f"a record of {record.node.hex()}, wanted one of {self.key.hex()}")
        self._own = record
        self._shelves.keep_records(now_ms, [record])
        return self._outputs()

    def on_attested(self, data: bytes) -> list[Output]:
        """This node attested a result, and stored that: spread it.

        Raises:
            RejectedError: if it is another node's or another federation's, or otherwise refused.
        """
        attestation = Attestation.decode(data)
        if attestation.node != self.key:
            raise MalformedError(f"an attestation of {attestation.node.hex()}, wanted {self.key.hex()}'s")
        self._shelves.keep_attestations([attestation], stored=True)
        return self._outputs()

    def on_invite(self, key: NodeId, role: Role, *, expires_ms: int) -> None:
        """Remember an open invite by the public half of its key; call again after a restart."""
        self._invites.add(key, role, expires_ms=expires_ms)

    # --- answering ----------------------------------------------------------------------------

    def _welcome(self, now_ms: int, sender: NodeId, hello: messages.Hello, proof: bytes) -> Reply:
        """Answer a newcomer who proves an invite, and ask the driver to admit it; it may ask twice."""
        authority = self.view.authority
        reply = self._exchange.greet(hello, genesis=self.ops.genesis.encoded)
        if not authority.is_member(sender):
            key, role = self._invites.spend(now_ms, proof, sender, authority)
            self._port.emit(AdmissionWanted(sender, role, key))
        return reply

    # --- what follows from what -----------------------------------------------------------------

    def _keep(self, now_ms: int, operations: list[Operation], sender: NodeId | None, news: bool) -> int:
        before = self.view
        kept = self._intake.take(operations)
        if not kept:
            return 0
        self._port.emit(StoreOperations(tuple(kept)))
        self._port.emit(Changed(self.view.state_root, self.view.root))
        if news:
            self._gossip.add(now_ms, kept, sender)
        if any(isinstance(operation.body, (Admit, Ban, Unban)) for operation in kept):
            self._standing_changed(now_ms)
        if self.view.root != before.root or self.view.published is not before.published:
            self._want(now_ms, kept)
        return len(kept)

    def _standing_changed(self, now_ms: int) -> None:
        """Somebody was admitted or banned."""
        self._shelves.prune(now_ms)
        self._contacts.forget_strangers()
        if self._own is not None:
            self._shelves.keep_records(now_ms, [self._own])

    def _want(self, now_ms: int, kept: Sequence[Operation] = ()) -> None:
        """Fetch what counts now; after nothing but adds, looking at those is enough without coefficients."""
        view = self.view
        added = [operation.body.contribution for operation in kept if isinstance(operation.body, Add)]
        if kept and len(added) == len(kept) and not view.published:
            self._transfer.want_also(now_ms, [one for one in added if one in view.contributions])
        else:
            base = self.ops.charter.base
            self._transfer.want(now_ms, wanted.contributions(view, base), wanted.payloads(view))

    def _is_member(self, node: NodeId) -> bool:
        return self.view.authority.is_member(node)

    def _authors(self, content: Digest) -> Sequence[NodeId]:
        return wanted.authors(self.view, content)

    def _outputs(self) -> list[Output]:
        self._transfer.flushed()
        return self._port.take()
