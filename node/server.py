"""The server: a socket that turns calls into requests, and replies into answers.

It knows nothing of what a request means. A request that cannot be parsed, or that is refused, becomes a
status code; the caller learns whose fault it was and nothing about this machine.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_reflection.v1alpha import reflection

from crdtmerge.errors import LimitError, NotYetError, PolicyError, RejectedError, StoreError, UsageError
from crdtmerge.keys import NodeId
from crdtmerge.node import transport, wire
from crdtmerge.node.address import Address
from crdtmerge.node.config import CALLS_PER_S
from crdtmerge.node.credentials import Credentials
from crdtmerge.node.guard import Context, Guard, caller
from crdtmerge.node.pb import sync_pb2

log = logging.getLogger(__name__)

STREAMS_PER_CONNECTION_MAX: Final = 64
CONNECTION_AGE_S: Final = 3600


class Backend(Protocol):
    """What stands behind a server."""

    def is_member(self, node: NodeId, /) -> bool:
        """Whether a node is a member at this moment; asked at every call."""
        ...

    def issued_since(self, node: NodeId, /) -> int:
        """Return when the leaf in a node's record was issued, in milliseconds; 0 without a record."""
        ...

    async def handle(self, sender: NodeId, request: wire.Request, /) -> wire.Reply:
        """Carry out a request; errors of the tree become refusals."""
        ...

    async def dial_back(self, node: NodeId, /) -> bool:
        """Say whether a node can be reached."""
        ...


_OPTIONS: Final = (
    *transport.OPTIONS,
    ("grpc.so_reuseport", 0),  # two nodes on one port must not share its connections
    ("grpc.max_concurrent_streams", STREAMS_PER_CONNECTION_MAX),
    ("grpc.max_connection_age_ms", CONNECTION_AGE_S * 1000),
    ("grpc.max_connection_age_grace_ms", int(transport.CALL_S * 1000)),
    ("grpc.max_connection_idle_ms", 600_000),
    ("grpc.server_handshake_timeout_ms", int(transport.CALL_S * 1000)),
    ("grpc.http2.min_ping_interval_without_data_ms", transport.KEEPALIVE_S * 900),
    ("grpc.http2.max_ping_strikes", 2),
)

_STATUS: Final = (
    (PolicyError, grpc.StatusCode.PERMISSION_DENIED),
    (LimitError, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (RejectedError, grpc.StatusCode.INVALID_ARGUMENT),
    (NotYetError, grpc.StatusCode.NOT_FOUND),
)


class Server:
    """Answers the calls of other nodes.

    Args:
        credentials: what this node presents, and which federation it accepts.
        calls_max: served at once; more are refused.
        calls_per_s: of one node; more are told to wait.
    """

    def __init__(self, credentials: Credentials, *, calls_max: int, calls_per_s: float = CALLS_PER_S) -> None:
        self._credentials = credentials
        self._changed = False
        self._backend: Backend | None = None
        self._health = HealthServicer()
        guard = Guard(
            credentials.federation,
            self._is_member,
            issued_since=self._issued_since,
            calls_max=calls_max,
            calls_per_s=calls_per_s,
        )
        self._server = grpc.aio.server(
            interceptors=[guard],
            options=_OPTIONS,
            maximum_concurrent_rpcs=2 * calls_max,  # room to tell those beyond calls_max when to come again
        )
        for service in (wire.SYNC, wire.BLOBS):
            handlers = {
                rpc.path.rpartition("/")[2]: grpc.unary_unary_rpc_method_handler(self._answer(rpc))
                for rpc in wire.RPCS.values()
                if rpc.path.startswith(f"/{service.full_name}/")
            }
            if service is wire.SYNC:
                handlers["Probe"] = grpc.unary_unary_rpc_method_handler(
                    self._answer_probe,
                    sync_pb2.ProbeRequest.FromString,
                    sync_pb2.ProbeReply.SerializeToString,
                )
            self._server.add_generic_rpc_handlers(
                (grpc.method_handlers_generic_handler(service.full_name, handlers),)
            )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = (wire.SYNC.full_name, wire.BLOBS.full_name, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)

    def bind(self, listen: Address) -> int:
        """Take the address, without serving yet; return the port.

        Raises:
            UsageError: if the address cannot be bound.
        """
        try:
            initial = self._credentials.presented()
            dynamic = grpc.dynamic_ssl_server_credentials(
                initial, self._presented, require_client_authentication=True
            )
            port = self._server.add_secure_port(str(listen), dynamic)
        except RuntimeError as error:
            raise UsageError(
                f"cannot listen on {listen}: another process does, or the address is not ours"
            ) from error
        return int(port)

    def renew(self, credentials: Credentials) -> None:
        """Present other leaves from the next handshake on."""
        self._credentials = credentials
        self._changed = True

    def _presented(self) -> Any:
        """Return what to present if that has changed; asked at every handshake, by threads of gRPC's."""
        if not self._changed:
            return None
        self._changed = False
        return self._credentials.presented()

    async def start(self, backend: Backend) -> None:
        """Begin to serve."""
        self._backend = backend
        await self._server.start()
        await self._health.set("", health_pb2.HealthCheckResponse.SERVING)

    async def stop(self, grace_s: float) -> None:
        """Take no more calls, finish those that run (for up to ``grace_s`` seconds), close."""
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace_s)

    def _answer(self, rpc: wire.Rpc) -> Callable[[bytes, Context], Awaitable[bytes]]:
        async def answer(data: bytes, context: Context) -> bytes:
            try:
                request: Any = rpc.request.parse(data)
                return rpc.reply.dump(await self._ready.handle(self._caller(context), request))
            except (RejectedError, NotYetError) as error:
                status = next(status for kind, status in _STATUS if isinstance(error, kind))
                await context.abort(status, str(error))
                raise
            except StoreError as error:
                log.error("cannot answer %s: %s", rpc.path, error)  # names files: not for others
                await context.abort(grpc.StatusCode.INTERNAL, "the disk of this node failed")
                raise

        return answer

    async def _answer_probe(self, request: sync_pb2.ProbeRequest, context: Context) -> sync_pb2.ProbeReply:
        return sync_pb2.ProbeReply(reachable=await self._ready.dial_back(self._caller(context)))

    def _issued_since(self, node: NodeId) -> int:
        return self._ready.issued_since(node)

    def _is_member(self, node: NodeId) -> bool:
        return self._ready.is_member(node)

    @property
    def _ready(self) -> Backend:
        assert self._backend is not None  # noqa: S101 - set before the first call can come in
        return self._backend

    def _caller(self, context: Context) -> NodeId:
        return caller(context, self._credentials.federation)
