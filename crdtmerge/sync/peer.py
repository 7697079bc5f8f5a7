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

from crdtmerge.keys import NodeId
from crdtmerge.op import Operation, Role
from crdtmerge.opset import OpSet
from crdtmerge.sync.chance import Chance
from crdtmerge.sync.config import Config
from crdtmerge.sync.events import Content, Failure, Output
from crdtmerge.sync.messages import Reply, Request
from crdtmerge.sync.records import NodeRecord
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
    ) -> None:
        raise NotImplementedError

    key: NodeId
    ops: OpSet

    @property
    def view(self) -> View:
        """What the operations amount to now."""
        raise NotImplementedError

    @property
    def next_tick_ms(self) -> int | None:
        """When to call `on_tick` next; look again after every event. None before `on_start`."""
        raise NotImplementedError

    def record_of(self, node: NodeId) -> NodeRecord | None:
        """Return the valid record of a member: the addresses to dial and the TLS leaf to pin."""
        raise NotImplementedError

    def missing(self) -> int:
        """Return how many manifests, block lists and blocks are known to be missing; 0 is in sync."""
        raise NotImplementedError

    # --- events -------------------------------------------------------------------------------

    def on_start(self, now_ms: int) -> list[Output]:
        """Begin: an exchange soon, and the transfer of what is missing."""
        raise NotImplementedError

    def on_tick(self, now_ms: int) -> list[Output]:
        """Time has come to `next_tick_ms` (calling early or late does no harm)."""
        raise NotImplementedError

    def on_request(self, now_ms: int, sender: NodeId, request: Request) -> tuple[Reply, list[Output]]:
        """Answer ``sender``, whose identity the driver has proved.

        The outputs are carried out before the reply leaves.

        Raises:
            PolicyError: if the sender is no member (refuse the call; nothing was changed).
            RejectedError: if what it sent is refused (nothing was changed).
            StoreError: if stored content cannot be read.
        """
        raise NotImplementedError

    def on_reply(self, now_ms: int, call_id: int, reply: Reply) -> list[Output]:
        """A call was answered. A reply of the wrong kind, or with refused content, counts as a failure."""
        raise NotImplementedError

    def on_failed(self, now_ms: int, call_id: int, failure: Failure) -> list[Output]:
        """A call was not answered, or with an error; it may have been carried out all the same."""
        raise NotImplementedError

    def on_local(self, now_ms: int, operations: Iterable[Operation]) -> list[Output]:
        """Operations of this home: signed by its key, or stored by another process; they are pushed.

        Raises:
            RejectedError: if one does not verify, or is of another federation (nothing was changed).
        """
        raise NotImplementedError

    def on_stored(self, now_ms: int) -> list[Output]:
        """Content was stored by somebody else (a file was added): look again at what is missing."""
        raise NotImplementedError

    def on_record(self, now_ms: int, data: bytes) -> list[Output]:
        """This node's own record was renewed (new address, new TLS leaf): keep it and spread it."""
        raise NotImplementedError

    def on_invite(self, invite: NodeId, role: Role, *, expires_ms: int) -> None:
        """Remember an open invite by the public half of its key; call again after a restart."""
        raise NotImplementedError
