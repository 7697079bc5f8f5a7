"""The guard: who is calling, and may they?

Every call that reaches this server, health and reflection included, passes here. The leaf of its TLS
connection says which node it is; the view says, at this very moment, whether that node is a member. So a
ban takes effect on a connection that has been open for hours.

Always true here: for somebody who is not a member nothing is read and no handler runs, except `Hello` for a
node that proved who it is and may hold an invitation; no call lasts longer than CALL_S; nobody has more than
CALLS_PER_NODE_MAX calls running, nor calls faster than its bucket fills. Whoever calls too much is told
when to try again (RETRY_AFTER) and is not thought worse of.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Final

import grpc
import grpc.aio

from crdtmerge.digest import Digest
from crdtmerge.errors import PolicyError, RejectedError
from crdtmerge.keys import NodeId
from crdtmerge.node import certificate, wire
from crdtmerge.node.buckets import Buckets
from crdtmerge.node.certificate import Leaf
from crdtmerge.node.transport import CALL_S, RETRY_AFTER

CALLS_PER_NODE_MAX: Final = 64
BUSY_S: Final = 1.0
"""What is said to whoever finds every place taken: nobody knows when one will be free."""

STRANGERS_PER_S: Final = 10.0
"""Calls a second of all who are no members together: each is worth a look at its invitation, no more."""

Context = grpc.aio.ServicerContext[Any, Any]


class Guard(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]  # not generic at run time
    """Refuses calls of whoever is not a member.

    Args:
        federation: whose certificates are accepted.
        is_member: asked at every call; must not block.
        issued_since: when the leaf that a node's record pins was issued; asked likewise.
        calls_max: that run at once, of all callers.
        calls_per_s: of one member, for ever; twice as many at once after a rest.
        now_s: a clock that never goes back.
    """

    def __init__(
        self,
        federation: Digest,
        is_member: Callable[[NodeId], bool],
        *,
        issued_since: Callable[[NodeId], int],
        calls_max: int,
        calls_per_s: float,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._federation = federation
        self._is_member, self._issued_since = is_member, issued_since
        self._calls_max = calls_max
        self._running: Counter[NodeId] = Counter()
        self._members = Buckets(calls_per_s, 2 * calls_per_s, now_s)
        self._strangers = Buckets(STRANGERS_PER_S, 2 * STRANGERS_PER_S, now_s)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any]]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any]:
        """Put the checks in front of the method's handler.

        What comes out takes its request as a stream even where there is one request only, which is the same
        on the wire: so the caller is judged, and the deadline runs, before a byte of the request is read.
        """
        handler = await continuation(handler_call_details)
        if handler is None:
            return handler  # unknown method: the server answers UNIMPLEMENTED
        behaviour: Any = (
            handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
        )
        newcomers = handler_call_details.method == wire.HELLO

        async def guarded(requests: AsyncIterable[Any], context: Context) -> Any:
            node = await self._caller(context, newcomers=newcomers)
            with self._counted(node) as running:
                if running > CALLS_PER_NODE_MAX or self._running.total() > self._calls_max:
                    await _later(context, "too many calls at once", BUSY_S)
                if wait_s := self._wait_s(node):
                    await _later(context, "too many calls a second", wait_s)
                try:
                    async with asyncio.timeout(CALL_S):
                        request = requests if handler.request_streaming else await _only(requests, context)
                        answer = behaviour(request, context)
                        if not isinstance(answer, AsyncIterator):
                            return await answer
                        async for part in answer:
                            await context.write(part)
                except TimeoutError:
                    await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, f"this took over {CALL_S} s")
            return None

        make: Any = (
            grpc.stream_stream_rpc_method_handler
            if handler.response_streaming
            else grpc.stream_unary_rpc_method_handler
        )
        made: grpc.RpcMethodHandler[Any, Any] = make(
            guarded, handler.request_deserializer, handler.response_serializer
        )
        return made

    async def _caller(self, context: Context, *, newcomers: bool) -> NodeId:
        try:
            leaf = _leaf_of(context, self._federation)
            node = leaf.node
            if leaf.issued_ms < self._issued_since(node):
                raise PolicyError("a certificate that its node has replaced since")
            if not (newcomers or self._is_member(node)):
                raise PolicyError(f"{node.hex()[:12]}… is not a member")
        except RejectedError as error:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, str(error))
            raise
        return node

    def _wait_s(self, node: NodeId) -> float:
        if self._is_member(node):
            return self._members.wait_s(node)
        return self._strangers.wait_s(None)  # of one purse: identities cost strangers nothing

    @contextmanager
    def _counted(self, node: NodeId) -> Iterator[int]:
        self._running[node] += 1
        try:
            yield self._running[node]
        finally:
            self._running[node] -= 1
            if not self._running[node]:
                del self._running[node]


async def _later(context: Context, why: str, wait_s: float) -> None:
    """Refuse a call for now."""
    after = ((RETRY_AFTER, str(math.ceil(1000 * wait_s))),)
    await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, why, trailing_metadata=after)


def caller(context: Context, federation: Digest) -> NodeId:
    """Return the node at the other end of a call.

    Raises:
        RejectedError: if its certificate does not prove one.
    """
    return _leaf_of(context, federation).node


def _leaf_of(context: Context, federation: Digest) -> Leaf:
    for pem in context.auth_context().get("x509_pem_cert", ()):
        return _read(pem, federation)
    raise PolicyError("a call without a certificate")


@lru_cache(maxsize=4096)
def _read(pem: bytes, federation: Digest) -> Leaf:
    return certificate.read(certificate.leaf_der(pem), federation)


async def _only(requests: AsyncIterable[Any], context: Context) -> Any:
    async for request in requests:
        return request
    await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "a call without a request")
    return None
