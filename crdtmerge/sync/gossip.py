"""First sight, first told: an operation that is new here goes to a few random members at once.

What arrives within a few tens of milliseconds travels together. A push that fails is sent to somebody
else right away; when that fails too, or everybody was unlucky, the periodic exchange makes up for it:
pushing is for speed, reconciliation for certainty.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from crdtmerge.keys import NodeId
from crdtmerge.limits import OPERATIONS_PER_MESSAGE_MAX
from crdtmerge.op import Operation
from crdtmerge.sync.chance import Chance
from crdtmerge.sync.config import Config
from crdtmerge.sync.contacts import Contacts
from crdtmerge.sync.events import Failure
from crdtmerge.sync.messages import PushOps, PushOpsReply
from crdtmerge.sync.port import Port

TRIES: Final = 3
"""Members to whom one batch is sent in turn until one takes it."""

QUEUE_MAX: Final = 4096
"""Operations waiting for the next push; what comes on top is left to reconciliation."""


class Gossip:
    """Pushes operations on first sight.

    Attributes:
        due_ms: when to call `tick`; None while there is nothing to push.
    """

    def __init__(self, port: Port, contacts: Contacts, *, chance: Chance, config: Config) -> None:
        self._port, self._contacts = port, contacts
        self._chance, self._config = chance, config
        self._queue: list[tuple[Operation, NodeId | None]] = []
        self.due_ms: int | None = None

    def add(self, now_ms: int, operations: Iterable[Operation], sender: NodeId | None) -> None:
        """Have new and durable operations pushed soon, to others than their sender."""
        room = QUEUE_MAX - len(self._queue)
        self._queue += [(operation, sender) for operation in operations][:room]
        if self._queue and self.due_ms is None:
            self.due_ms = now_ms + self._chance.between(*self._config.push_delay_ms)

    def tick(self, now_ms: int) -> None:
        """Push what is queued, if it is time."""
        if self.due_ms is None or now_ms < self.due_ms:
            return
        queue, self._queue, self.due_ms = self._queue, [], None
        targets = self._contacts.some(now_ms, self._config.fanout)
        tried = set(targets)
        for target in targets:
            batch = [operation.encoded for operation, sender in queue if sender != target]
            for start in range(0, len(batch), OPERATIONS_PER_MESSAGE_MAX):
                push = PushOps(tuple(batch[start : start + OPERATIONS_PER_MESSAGE_MAX]))
                self._send(target, push, tried, TRIES)

    def _send(self, to: NodeId, push: PushOps, tried: set[NodeId], tries: int) -> None:
        def ended(now_ms: int, end: PushOpsReply | Failure) -> None:
            if isinstance(end, Failure) and tries > 1:
                for other in self._contacts.some(now_ms, 1, but=tried):
                    tried.add(other)
                    self._send(other, push, tried, tries - 1)

        self._port.call(to, push, PushOpsReply, ended)
