"""The client: our calls to other nodes, over a bounded pool of connections.

A connection belongs to one node under one certificate. A connection that failed is thrown away instead of
waiting out the library's own back-off, because when to try again is the machine's decision; a connection
that nobody used lately makes room when there are more than CHANNELS_MAX.

Always true here: bytes are sent only to the holder of the exact leaf that was asked for, and never to a
private address that the configuration does not allow, whatever a name resolves to.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2

from crdtmerge.digest import Digest
from crdtmerge.errors import MalformedError, NotYetError, RejectedError
from crdtmerge.keys import NodeId
from crdtmerge.node import certificate, transport, wire
from crdtmerge.node.address import Address, is_ip, is_local
from crdtmerge.node.certificate import Leaf
from crdtmerge.node.credentials import Credentials
from crdtmerge.node.pb import sync_pb2
from crdtmerge.sync.events import Failure
from crdtmerge.sync.records import NodeRecord

CHANNELS_MAX: Final = 16
REASON_CHARACTERS_MAX: Final = 200
_MILLISECONDS: Final = re.compile("[0-9]{1,9}")


class CallError(NotYetError):
    """A call got no reply.

    Attributes:
        failure: why, as far as the machine wants to know.
        retry_after_ms: when the other side, being busy, wants to be called again.
    """

    def __init__(self, failure: Failure, reason: str, *, retry_after_ms: int = 0) -> None:
        self.failure, self.retry_after_ms = failure, retry_after_ms
        super().__init__(f"{failure.value}: {reason[:REASON_CHARACTERS_MAX]}")


@dataclass(frozen=True, slots=True)
class Contact:
    """Whom to call, where, and which certificate to expect there."""

    node: NodeId
    addresses: tuple[Address, ...]
    leaf: bytes
    given: bool = False
    """By a person, in a ticket, and not by the node itself: private addresses are meant as they are."""

    @staticmethod
    @lru_cache(maxsize=4096)
    def of(record: NodeRecord) -> Contact:
        """Return the contact that a verified record describes; addresses in no known form are left out."""
        addresses = []
        for text in record.addresses:
            try:
                addresses.append(Address.parse(text))
            except MalformedError:
                continue
        return Contact(record.node, tuple(addresses), record.leaf)


@dataclass(slots=True, eq=False)
class _Channel:
    channel: grpc.aio.Channel
    users: int = 0
    dropped: bool = False


@dataclass(slots=True)
class Client:
    """Makes calls to other nodes.

    Args:
        credentials: what this node presents.
        may_dial_local: whether private addresses may be dialled.
        proxy: HTTP CONNECT proxy for every connection.
    """

    credentials: Credentials
    may_dial_local: bool
    proxy: str | None = None
    _warm: OrderedDict[tuple[str, bytes], _Channel] = field(default_factory=OrderedDict, init=False)

    def __post_init__(self) -> None:
        if self.proxy is not None:
            # gRPC exempts what no_proxy names from any proxy; this name, where it is set, comes first.
            os.environ.setdefault("no_grpc_proxy", "")

    @property
    def connections(self) -> int:
        """How many connections are kept."""
        return len(self._warm)

    async def call(self, contact: Contact, request: wire.Request) -> wire.Reply:
        """Send a request and return the reply.

        Raises:
            CallError: if there is none.
        """
        rpc = wire.RPCS[type(request)]
        data = await self._call(contact, rpc.path, rpc.request.dump(request))
        try:
            reply: Any = rpc.reply.parse(data)
        except RejectedError as error:
            raise CallError(Failure.REFUSED, f"the reply is not well formed: {error}") from error
        answer: wire.Reply = reply
        return answer

    async def probe(self, contact: Contact) -> bool:
        """Ask a node to dial back; return whether it could."""
        data = await self._call(contact, wire.PROBE, sync_pb2.ProbeRequest().SerializeToString())
        return sync_pb2.ProbeReply.FromString(data).reachable

    async def check(self, contact: Contact) -> None:
        """Ask a node whether it is well.

        Raises:
            CallError: if it does not answer, or is about to stop.
        """
        path = f"/{health.SERVICE_NAME}/Check"
        data = await self._call(contact, path, health_pb2.HealthCheckRequest().SerializeToString())
        if health_pb2.HealthCheckResponse.FromString(data).status != health_pb2.HealthCheckResponse.SERVING:
            raise CallError(Failure.REFUSED, "not serving")

    async def renew(self, credentials: Credentials) -> None:
        """Present another leaf from now on: connections under the old one are used no more."""
        self.credentials = credentials
        for warm in list(self._warm.values()):
            self._drop(warm)
            if not warm.users:
                await warm.channel.close(None)

    async def close(self) -> None:
        """Close every connection; calls in flight fail."""
        while self._warm:
            await self._warm.popitem()[1].channel.close(None)

    async def _call(self, contact: Contact, path: str, data: bytes) -> bytes:
        """Try the node's addresses in order, within one deadline; requests may arrive twice."""
        self._require_own(contact)
        deadline = asyncio.get_running_loop().time() + transport.CALL_S
        targets = await self._targets(contact)
        error = CallError(Failure.UNREACHABLE, "no address that may be dialled")
        for index, target in enumerate(targets):
            left = deadline - asyncio.get_running_loop().time()
            try:
                return await self._call_at(target, contact, path, data, left / (len(targets) - index))
            except CallError as tried:
                error = tried
                if tried.failure in (Failure.REFUSED, Failure.BUSY):
                    break
        raise error

    async def _call_at(
        self, target: str, contact: Contact, path: str, data: bytes, timeout_s: float
    ) -> bytes:
        async with self._channel(target, contact) as warm:
            try:
                method: Any = warm.channel.unary_unary(path, None, None)
                return bytes(await method(data, timeout=timeout_s))
            except grpc.aio.AioRpcError as error:
                if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                    raise CallError(Failure.TIMEOUT, error.details() or "") from error
                if error.code() is grpc.StatusCode.UNAVAILABLE:
                    self._drop(warm)
                    raise CallError(Failure.UNREACHABLE, error.details() or "") from error
                retry_after_ms = _retry_after_ms(error)
                if retry_after_ms is not None:
                    raise CallError(
                        Failure.BUSY, error.details() or "", retry_after_ms=retry_after_ms
                    ) from error
                raise CallError(Failure.REFUSED, f"{error.code().name}: {error.details()}") from error

    @asynccontextmanager
    async def _channel(self, target: str, contact: Contact) -> AsyncIterator[_Channel]:
        key = (target, contact.leaf)
        warm = self._warm.get(key)
        if warm is None:
            warm = self._warm[key] = _Channel(self._dial(target, contact))
        self._warm.move_to_end(key)
        warm.users += 1
        try:
            yield warm
        finally:
            warm.users -= 1
            await self._trim(warm)

    async def _trim(self, left: _Channel) -> None:
        if left.dropped and not left.users:
            await left.channel.close(None)
        idle = [key for key, warm in self._warm.items() if not warm.users]
        for key in idle[: max(0, len(self._warm) - CHANNELS_MAX)]:
            await self._warm.pop(key).channel.close(None)

    def _drop(self, failed: _Channel) -> None:
        failed.dropped = True
        for key in [key for key, warm in self._warm.items() if warm is failed]:
            del self._warm[key]

    def _dial(self, target: str, contact: Contact) -> grpc.aio.Channel:
        options = [
            *transport.OPTIONS,
            ("grpc.ssl_target_name_override", _leaf_of(contact.leaf, self.credentials.federation).host),
            ("grpc.use_local_subchannel_pool", 1),  # else a new channel inherits a failed one's back-off
            ("grpc.enable_http_proxy", int(self.proxy is not None)),
        ]
        if self.proxy is not None:
            options.append(("grpc.http_proxy", self.proxy))
        return grpc.aio.secure_channel(target, self.credentials.client(contact.leaf), options=options)

    async def _targets(self, contact: Contact) -> list[str]:
        """Return what to dial; names are resolved here, so that what they stand for can be checked."""
        targets: dict[str, None] = {}
        for address in contact.addresses:
            for ip in [address.host] if is_ip(address.host) else await _resolve(address):
                if self.may_dial_local or contact.given or not is_local(ip):
                    targets[f"ipv6:[{ip}]:{address.port}" if ":" in ip else f"ipv4:{ip}:{address.port}"] = (
                        None
                    )
        return list(targets)

    def _require_own(self, contact: Contact) -> None:
        """Refuse a contact with somebody else's certificate: members write what they like into records."""
        try:
            if _leaf_of(contact.leaf, self.credentials.federation).node != contact.node:
                raise CallError(Failure.UNREACHABLE, "its record carries another node's certificate")
        except RejectedError as error:
            raise CallError(Failure.UNREACHABLE, str(error)) from error


def _retry_after_ms(error: grpc.aio.AioRpcError) -> int | None:
    """Return when a busy node wants to be called again; None if it did not refuse for being busy."""
    if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
        return None
    trailing: Any = error.trailing_metadata() or ()
    for key, value in trailing:
        if key == transport.RETRY_AFTER and _MILLISECONDS.fullmatch(str(value)):
            return int(value)
    return None


async def _resolve(address: Address) -> list[str]:
    try:
        async with asyncio.timeout(transport.CALL_S / 2):
            found = await asyncio.get_running_loop().getaddrinfo(
                address.host, address.port, type=socket.SOCK_STREAM
            )
    except (OSError, TimeoutError):
        return []
    return [str(item[4][0]) for item in found]


_leaf_of: Callable[[bytes, Digest], Leaf] = lru_cache(maxsize=4096)(certificate.read)
