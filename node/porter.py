"""Packing and unpacking blocks beside the machine, which sees raw blocks only.

At most PACKERS_MAX blocks are packed at a time, in threads of their own; what is asked for meanwhile travels
raw, so nobody can have this machine compress for them without end. A node whose packed blocks cannot be
unpacked is asked for raw ones from then on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final

from crdtmerge.digest import Digest
from crdtmerge.errors import RejectedError
from crdtmerge.keys import NodeId
from crdtmerge.limits import BLOCK_BYTES
from crdtmerge.node import packing
from crdtmerge.node.client import CallError
from crdtmerge.sync.events import Failure
from crdtmerge.sync.messages import Coding, GetBlock, GetBlockReply, Reply, Request

PACKERS_MAX: Final = 2
PLAIN_MAX: Final = 1024
"""Nodes remembered as asked for raw blocks."""


class Porter:
    """Packs what leaves, unpacks what comes.

    Args:
        block: returns a stored block, or None if it is not here.
    """

    def __init__(self, block: Callable[[Digest], Awaitable[bytes | None]]) -> None:
        self._block = block
        self._packing = 0
        self._plain: dict[NodeId, None] = {}

    async def packed(self, request: Request, reply: Reply) -> Reply:
        """Return the reply to a request, packed if that was asked for and is worth it."""
        wanted = isinstance(request, GetBlock) and request.coding is Coding.PACKED
        if not wanted or self._packing >= PACKERS_MAX or not packing.available():
            return reply
        assert isinstance(request, GetBlock)  # noqa: S101 - as wanted says
        if not isinstance(reply, GetBlockReply) or not reply.data:
            return reply
        self._packing += 1
        try:
            against = await self._block(Digest(request.against)) if request.against else None
            data = await asyncio.to_thread(packing.pack, reply.data, against, width=request.width)
        finally:
            self._packing -= 1
        return reply if data is None else GetBlockReply(data, Coding.PACKED)

    def asked(self, node: NodeId, request: Request) -> Request:
        """Return the request to be sent to a node: for a raw block, if packed ones of it were no use."""
        if isinstance(request, GetBlock) and node in self._plain:
            return replace(request, coding=Coding.RAW)
        return request

    async def unpacked(self, node: NodeId, request: Request, reply: Reply) -> Reply:
        """Return a reply with its block raw.

        Raises:
            CallError: if it cannot be unpacked.
        """
        if not isinstance(reply, GetBlockReply) or reply.coding is Coding.RAW:
            return reply
        try:
            if not isinstance(request, GetBlock) or request.coding is Coding.RAW or reply.data is None:
                raise CallError(Failure.REFUSED, "a packed block that nobody asked for")
            mixed = packing.is_mixed(reply.data) and request.against
            against = await self._block(Digest(request.against)) if mixed else None
            data = await asyncio.to_thread(
                packing.unpack, reply.data, against, width=request.width, bytes_max=BLOCK_BYTES
            )
        except RejectedError as error:
            self._plain[node] = None
            if len(self._plain) > PLAIN_MAX:
                del self._plain[next(iter(self._plain))]
            raise CallError(Failure.REFUSED, str(error)) from error
        return GetBlockReply(data)
