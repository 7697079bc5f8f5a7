"""What a member's request is answered with: each kind of request goes to the part that knows.

The answering side keeps nothing about who asked. What comes with a request (operations, records) is taken
in by the same doors as what is asked for.
"""

from __future__ import annotations

from crdtmerge.keys import NodeId
from crdtmerge.sync import messages
from crdtmerge.sync.exchange import Exchange, Keep
from crdtmerge.sync.intake import Intake
from crdtmerge.sync.messages import Reply, Request, Space
from crdtmerge.sync.server import Server
from crdtmerge.sync.shelves import Shelves


class Answers:
    """Answers members.

    Args:
        exchange, intake, shelves, server: of the same peer.
        keep: keeps verified operations.
    """

    def __init__(
        self, exchange: Exchange, intake: Intake, shelves: Shelves, server: Server, keep: Keep
    ) -> None:
        self._exchange, self._intake, self._shelves = exchange, intake, shelves
        self._server, self._keep = server, keep

    def answer(self, now_ms: int, sender: NodeId, request: Request) -> Reply:
        """Answer ``sender``, who is a member.

        Raises:
            RejectedError: if what came with the request is refused; nothing was changed.
            StoreError: if stored content cannot be read.
        """
        match request:
            case messages.Hello():
                reply = self._exchange.greet(request)
                self._shelves.keep(now_ms, Space.RECORDS, [request.record] if request.record else [])
                return reply
            case messages.Reconcile():
                return self._exchange.answer(request)
            case messages.PushOps():
                new = self._intake.read(request.operations)
                return messages.PushOpsReply(self._keep(now_ms, new, sender, request.news))
            case messages.GetOps():
                held = map(self._intake.ops.get, request.ids)
                return messages.GetOpsReply(tuple(op.encoded for op in held if op is not None))
            case messages.Records():
                self._shelves.keep(now_ms, request.space, request.records)
                return messages.RecordsReply(tuple(self._shelves.held(request.space, request.ids)))
            case messages.Have():
                return self._server.have(request)
            case messages.GetBlock():
                return self._server.block(request)
            case messages.GetMeta():
                return self._server.meta(request)
