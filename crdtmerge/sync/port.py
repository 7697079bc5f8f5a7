"""Where the parts of a peer leave what the driver is to do, and wait for the answers to their calls.

A part that calls says what is to happen with the answer. A reply of the wrong kind, or one whose content
is refused while it is read, is reported as `Misbehaved` and then treated like a refusal: handlers parse
a reply before they change anything.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from crdtmerge.errors import MalformedError, RejectedError
from crdtmerge.keys import NodeId
from crdtmerge.sync.events import Call, Failure, Misbehaved, Output
from crdtmerge.sync.messages import Reply, Request

R = TypeVar("R", bound=Reply)


class Port:
    """The outputs of one event, and the calls under way.

    Args:
        ended: told the time, the callee and whether it answered, of every call that ends.
        busy: told the time, the callee and when it wants to be called again, of those that it put off.
    """

    def __init__(
        self,
        ended: Callable[[int, NodeId, bool], None],
        busy: Callable[[int, NodeId, int], None] = lambda now_ms, node, retry_after_ms: None,
    ) -> None:
        self._ended, self._busy = ended, busy
        self._outputs: list[Output] = []
        self._calls: dict[int, tuple[Call, type[Any], Callable[[int, Any], None]]] = {}
        self._next_id = 1

    def emit(self, output: Output) -> None:
        """Leave an output."""
        self._outputs.append(output)

    def call(
        self, to: NodeId, request: Request, wanted: type[R], handler: Callable[[int, R | Failure], None]
    ) -> None:
        """Call ``to``.

        Args:
            to: whom.
            request: what to ask.
            wanted: the reply that belongs to the request.
            handler: gets the time and the reply or the failure; raises a RejectedError, before it changes
                anything, if the reply is none that an honest node gives.
        """
        call = Call(self._next_id, to, request)
        self._next_id += 1
        self._calls[call.call_id] = call, wanted, handler
        self._outputs.append(call)

    def take(self) -> list[Output]:
        """Return the outputs since the last time."""
        outputs, self._outputs = self._outputs, []
        return outputs

    def finish(self, now_ms: int, call_id: int, end: Reply | Failure, retry_after_ms: int = 0) -> None:
        """Pass the end of a call to whoever made it; of an unknown call, to nobody."""
        if call_id not in self._calls:
            return
        call, wanted, handler = self._calls.pop(call_id)
        self._ended(now_ms, call.to, end is Failure.BUSY or not isinstance(end, Failure))
        if end is Failure.BUSY:
            self._busy(now_ms, call.to, retry_after_ms)
        try:
            if not isinstance(end, (Failure, wanted)):
                raise MalformedError(f"wanted a {wanted.__name__}, got a {type(end).__name__}")
            handler(now_ms, end)
        except RejectedError as error:
            self.emit(Misbehaved(call.to, error))
            handler(now_ms, Failure.REFUSED)
