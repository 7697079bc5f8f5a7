"""What simulated hosts tell whoever looks on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crdtmerge.keys import NodeId
from crdtmerge.sync.events import Output
from crdtmerge.sync.messages import Reply, Request

if TYPE_CHECKING:
    from crdtmerge.simulations.driver import Driver


class Watch:
    """Who looks on; this one sees nothing. Drivers call it as things happen."""

    def started(self, host: Driver) -> None:
        """A machine was made from what the disk holds, and has not begun yet."""

    def storing(self, host: Driver, output: Output) -> None:
        """A machine wants something stored, or done."""

    def answering(self, host: Driver, sender: NodeId, request: Request, reply: Reply) -> None:
        """A machine gives a reply."""

    def noticed(self, what: str) -> None:
        """Something went wrong that is to be counted."""
