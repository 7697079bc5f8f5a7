"""How news spread among ten thousand: the real dissemination, without the sets that it disseminates.

Every node runs the real `Gossip` and `Contacts`; an operation is known or it is not. In place of finding the
difference by reconciliation, whose cost `benchmarks/reconcile.py` measures, an exchange levels what differs
in as many messages. A full machine for each of n nodes would hold n² admissions and records.
"""

from __future__ import annotations

from collections.abc import Sequence

from crdtmerge.digest import DIGEST_BYTES, Digest, Domain, digest
from crdtmerge.errors import CrdtMergeError
from crdtmerge.keys import NodeId
from crdtmerge.op import Operation
from crdtmerge.simulations.clock import Clock
from crdtmerge.simulations.network import Answer, Conditions, Ended, Network
from crdtmerge.sync.chance import Chance
from crdtmerge.sync.config import Config
from crdtmerge.sync.contacts import Contacts
from crdtmerge.sync.events import Call, Failure
from crdtmerge.sync.gossip import Gossip
from crdtmerge.sync.messages import (
    NONCE_BYTES,
    GetOps,
    GetOpsReply,
    Hello,
    HelloReply,
    PushOps,
    PushOpsReply,
    Reply,
    Request,
)
from crdtmerge.sync.port import Port

NONCE = bytes(NONCE_BYTES)


class Crowd:
    """Nodes that know each other, a network, and the operations that there are.

    Args:
        seed: decides everything that is uncertain.
        size: how many nodes.
        conditions: what the network is like.
        down_percent: nodes that are down all the time, without anybody knowing.

    Attributes:
        nodes: those that are up.
    """

    def __init__(self, seed: int, size: int, *, conditions: Conditions, down_percent: int = 0) -> None:
        chance = Chance(f"crowd {seed}".encode())
        self.clock, self.config = Clock(), Config()
        self.network = Network(self.clock, chance.fork("network"), conditions)
        self.ids = sorted(NodeId(chance.draw(DIGEST_BYTES)) for _ in range(size))
        self.operations: dict[bytes, Operation] = {}
        down = set(chance.sample(self.ids, size * down_percent // 100))
        self.nodes = [Node(self, node, chance.fork(node.hex())) for node in self.ids if node not in down]

    def publish(self, operation: Operation, node: Node) -> None:
        """Have a node say something new."""
        self.operations[operation.encoded] = operation
        node.hear([operation.encoded], None)

    def knowing(self, operation: Operation) -> int:
        """Return how many nodes that are up know an operation."""
        return sum(operation.encoded in node.known for node in self.nodes)


class Node:
    """One node: what it knows, and whom it tells."""

    def __init__(self, crowd: Crowd, id: NodeId, chance: Chance) -> None:
        self.id = id
        self.known: set[bytes] = set()
        self._crowd, self._chance = crowd, chance
        self._contacts = Contacts(
            lambda: crowd.ids,
            lambda node: True,
            me=id,
            seeds=crowd.ids[:1],
            chance=chance,
            config=crowd.config,
        )
        self._port = Port(self._contacts.ended)
        self._gossip = Gossip(self._port, self._contacts, chance=chance, config=crowd.config)
        crowd.network.attach(id, self._serve)
        self._exchange_later(soon=True)

    def hear(self, encoded: Sequence[bytes], sender: NodeId | None) -> int:
        """Take note of operations, pass on what is new, and return how many were."""
        new = [data for data in encoded if data not in self.known]
        self.known.update(new)
        clock = self._crowd.clock
        self._gossip.add(clock.now_ms, [self._crowd.operations[data] for data in new], sender)
        if new and self._gossip.due_ms is not None:
            clock.at(self._gossip.due_ms, self._push)
        return len(new)

    def _push(self) -> None:
        self._gossip.tick(self._crowd.clock.now_ms)
        self._send()

    def _send(self) -> None:
        for output in self._port.take():
            if isinstance(output, Call):
                self._crowd.network.call(self.id, output.to, output.request, self._ender(output.call_id))

    def _ender(self, call_id: int) -> Ended:
        def ended(end: Reply | Failure) -> None:
            self._port.finish(self._crowd.clock.now_ms, call_id, end)
            self._send()

        return ended

    # --- exchanges ----------------------------------------------------------------------------------

    def _exchange_later(self, *, soon: bool = False) -> None:
        config = self._crowd.config
        period = config.period_ms * (1 + ((len(self._crowd.ids) - 1) // 32).bit_length())
        jitter = period * config.jitter_percent // 100
        wait = self._chance.between(0 if soon else period - jitter, period + jitter)
        self._crowd.clock.after(wait, self._exchange)

    def _exchange(self) -> None:
        partner = self._contacts.partner(self._crowd.clock.now_ms)
        self._exchange_later()
        if partner is None:
            return

        def greeted(now_ms: int, end: HelloReply | Failure) -> None:
            if isinstance(end, Failure) or end.state_root == self._root():
                return
            self._port.call(partner, PushOps(tuple(sorted(self.known)), news=True), PushOpsReply, _done)
            lacking = [op.id for data, op in self._crowd.operations.items() if data not in self.known]
            self._port.call(partner, GetOps(tuple(lacking)), GetOpsReply, got)

        def got(now_ms: int, end: GetOpsReply | Failure) -> None:
            if isinstance(end, GetOpsReply):
                self.hear(end.operations, partner)

        hello = Hello(NONCE, Digest(bytes(DIGEST_BYTES)), self._root(), Digest(bytes(DIGEST_BYTES)))
        self._port.call(partner, hello, HelloReply, greeted)
        self._send()

    def _root(self) -> Digest:
        return digest(Domain.SET, *sorted(self.known))

    def _serve(self, sender: NodeId, request: Request, answer: Answer) -> None:
        self._contacts.ended(self._crowd.clock.now_ms, sender, True)
        answer(self._reply(sender, request))

    def _reply(self, sender: NodeId, request: Request) -> Reply | CrdtMergeError:
        match request:
            case PushOps():
                return PushOpsReply(self.hear(request.operations, sender))
            case GetOps():
                held = (data for data, op in self._crowd.operations.items() if op.id in request.ids)
                return GetOpsReply(tuple(data for data in held if data in self.known))
            case _:
                return HelloReply(NONCE, self._root(), Digest(bytes(DIGEST_BYTES)))


def _done(now_ms: int, end: PushOpsReply | Failure) -> None:
    """Do nothing when what was pushed has arrived, or not."""
