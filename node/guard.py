"""The guard: who is calling, and may they?

Every call that reaches this server, health and reflection included, passes here. The leaf of its TLS
connection says which node it is; the view says, at this very moment, whether that node is a member. So a
ban takes effect on a connection that has been open for hours.

Always true here: for somebody who is not a member nothing is read and no handler runs, except `Hello` for a
node that proved who it is and may hold an invitation; no call lasts longer than CALL_S; nobody has more than
CALLS_PER_NODE_MAX calls running.
"""

from __future__ import annotations

import asyncio
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
from crdtmerge.node.transport import CALL_S

CALLS_PER_NODE_MAX: Final = 64

Context = grpc.aio.ServicerContext[Any, Any]


class Guard(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]  # not generic at run time
    """Refuses calls of whoever is not a member.

    Args:
        federation: whose certificates are accepted.
        is_member: asked at every call; must not block.
    """

    def __init__(self, federation: Digest, is_member: Callable[[NodeId], bool]) -> None:
        self._federation = federation
        self._is_member = is_member
        self._running: Counter[NodeId] = Counter()

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
            with self._counted(await self._caller(context, newcomers=newcomers)) as running:
                if running > CALLS_PER_NODE_MAX:
                    await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many calls at once")
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
            node = caller(context, self._federation)
            if not (newcomers or self._is_member(node)):
                raise PolicyError(f"{node.hex()[:12]}… is not a member")
        except RejectedError as error:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, str(error))
            raise
        return node

    @contextmanager
    def _counted(self, node: NodeId) -> Iterator[int]:
        self._running[node] += 1
        try:
            yield self._running[node]
        finally:
            self._running[node] -= 1
            if not self._running[node]:
                del self._running[node]


def caller(context: Context, federation: Digest) -> NodeId:
    """Return the node at the other end of a call.

    Raises:
        RejectedError: if its certificate does not prove one.
    """
    for leaf in context.auth_context().get("x509_pem_cert", ()):
        return _node_of(leaf, federation)
    raise PolicyError("a call without a certificate")


@lru_cache(maxsize=4096)
def _node_of(pem: bytes, federation: Digest) -> NodeId:
    return certificate.node_of(certificate.leaf_der(pem), federation)


async def _only(requests: AsyncIterable[Any], context: Context) -> Any:
    async for request in requests:
        return request
    await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "a call without a request")
    return None
