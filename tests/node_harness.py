"""Nodes for tests of the transport: members with keys and certificates, servers with an echo behind them."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, TypeVar

import grpc
import grpc.aio
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from grpc_reflection.v1alpha import reflection_pb2

from crdtmerge.digest import Digest
from crdtmerge.errors import PolicyError
from crdtmerge.keys import NodeId, SigningKey
from crdtmerge.ledger import FEDERATION as FEDERATION_SETTING
from crdtmerge.node import certificate, identity, wire
from crdtmerge.node.address import Address
from crdtmerge.node.client import Client, Contact
from crdtmerge.node.credentials import Credentials
from crdtmerge.node.server import Server
from crdtmerge.op import Genesis, Operation
from crdtmerge.recipe import Recipe
from crdtmerge.store import Store
from crdtmerge.sync import messages as m

T = TypeVar("T")

FEDERATION: Final = Digest(b"f" * 32)
CA_SECRET: Final = bytes(31) + b"\x07"
NOW_MS: Final = int(time.time()) * 1000
ANY_PORT: Final = Address("127.0.0.1", 0)


def run(work: Coroutine[Any, Any, T], *, seconds: float = 60) -> T:
    """Run a coroutine, for at most so long."""
    return asyncio.run(asyncio.wait_for(work, seconds))


async def until(condition: Callable[[], bool], *, seconds: float = 20) -> None:
    """Wait for something to become true."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


def signing_key(number: int) -> SigningKey:
    """The identity of the member with this number."""
    return SigningKey(number.to_bytes(32, "big"))


def credentials(
    number: int,
    *,
    tls: int | None = None,
    ca: bytes = CA_SECRET,
    federation: Digest = FEDERATION,
    issued_ms: int = NOW_MS,
) -> Credentials:
    """What a member presents; with another ``tls`` number, what somebody with its identity would."""
    tls_secret = (1000 + (number if tls is None else tls)).to_bytes(32, "big")
    return Credentials.make(
        signing_key(number), tls_secret=tls_secret, ca_secret=ca, federation=federation, issued_ms=issued_ms
    )


@dataclass
class Echo:
    """A backend that accepts everything from its members, and can be made to take its time."""

    members: set[NodeId]
    seen: list[tuple[NodeId, wire.Request]] = field(default_factory=list)
    answer: Callable[[wire.Request], Awaitable[wire.Reply]] | None = None
    issued: dict[NodeId, int] = field(default_factory=dict)

    def is_member(self, node: NodeId) -> bool:
        return node in self.members

    def issued_since(self, node: NodeId) -> int:
        return self.issued.get(node, 0)

    async def handle(self, sender: NodeId, request: wire.Request) -> wire.Reply:
        self.seen.append((sender, request))
        if self.answer is not None:
            return await self.answer(request)
        if isinstance(request, m.Hello):
            if not (sender in self.members or request.invite):
                raise PolicyError("not a member, and not invited")
            return m.HelloReply(request.nonce, request.state_root, request.book_root)
        return m.PushOpsReply(0)

    async def dial_back(self, node: NodeId) -> bool:
        return node in self.members


@asynccontextmanager
async def serving_with(
    echo: Echo, theirs: Credentials, number: int = 1
) -> AsyncIterator[tuple[Server, Address]]:
    """A server with given credentials, which a test can change."""
    server = Server(theirs, calls_max=64)
    port = server.bind(ANY_PORT)
    await server.start(echo)
    try:
        yield server, Address("127.0.0.1", port)
    finally:
        await server.stop(1.0)


@asynccontextmanager
async def serving(
    echo: Echo, number: int = 1, *, calls_max: int = 64, calls_per_s: float = 1000.0
) -> AsyncIterator[Contact]:
    """A server of the member with this number, on a port of its own."""
    theirs = credentials(number)
    server = Server(theirs, calls_max=calls_max, calls_per_s=calls_per_s)
    port = server.bind(ANY_PORT)
    await server.start(echo)
    try:
        yield Contact(signing_key(number).id, (Address("127.0.0.1", port),), theirs.leaf)
    finally:
        await server.stop(1.0)


@asynccontextmanager
async def calling(mine: Credentials, **options: Any) -> AsyncIterator[Client]:
    """A client that presents ``mine``."""
    client = Client(mine, **{"may_dial_local": True, **options})
    try:
        yield client
    finally:
        await client.close()


@asynccontextmanager
async def raw_channel(mine: Credentials, contact: Contact) -> AsyncIterator[Any]:
    """A channel for those who do not keep to our client's manners."""
    host = certificate.read(contact.leaf, FEDERATION).host
    options = [("grpc.ssl_target_name_override", host)]
    target = str(contact.addresses[0])
    channel: Any = grpc.aio.secure_channel(target, mine.client(contact.leaf), options=options)
    try:
        yield channel
    finally:
        await channel.close(None)


@asynccontextmanager
async def connect_proxy() -> AsyncIterator[tuple[str, list[str]]]:
    """An HTTP CONNECT proxy: its URL, and the request lines that it got."""
    asked: list[str] = []

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")[0].decode())
        host, _, port = asked[-1].split()[1].rpartition(":")
        far_reader, far_writer = await asyncio.open_connection(host, int(port))
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer), return_exceptions=True)

    async with await asyncio.start_server(connect, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", asked


def reissued(
    leaf: bytes,
    *,
    key: Any = None,
    drop: object = None,
    name: str | None = None,
    longer: timedelta = timedelta(0),
) -> bytes:
    """What any member, who holds the authority's key, can make of somebody's certificate."""
    old = x509.load_der_x509_certificate(leaf)
    subject = old.subject if name is None else x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    public: Any = key or old.public_key()
    draft = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(old.issuer)
        .public_key(public)
        .serial_number(1)
        .not_valid_before(old.not_valid_before_utc)
        .not_valid_after(old.not_valid_after_utc + longer)
    )
    for extension in old.extensions:
        if extension.oid != drop:
            draft = draft.add_extension(extension.value, critical=extension.critical)
    return draft.sign(identity.p256(CA_SECRET), SHA256()).public_bytes(Encoding.DER)


def with_binding_of(leaf: bytes, *, onto: Credentials) -> Credentials:
    """Another node's names and binding, with an own key that answers the handshake."""
    return replace(onto, leaf=reissued(leaf, key=x509.load_der_x509_certificate(onto.leaf).public_key()))


async def reflected_services(channel: grpc.aio.Channel) -> set[str]:
    """The names that the reflection service gives."""
    method: Any = channel.stream_stream(
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        reflection_pb2.ServerReflectionRequest.SerializeToString,
        reflection_pb2.ServerReflectionResponse.FromString,
    )
    call = method([reflection_pb2.ServerReflectionRequest(list_services="")], timeout=5)
    return {service.name async for answer in call for service in answer.list_services_response.service}


def founded(home: Path) -> Store:
    """The store of a federation without a base, founded in ``home`` by its identity unless it is there."""
    key = identity.create_signing_key(home)
    if (home / "meta.db").exists():
        return Store.open(home)
    genesis = Genesis((key.id,), None, None, Recipe("weight_average", version=1), os.urandom(16))
    operation = Operation.sign(key, genesis, federation=None, created_ms=1)
    store = Store.open(home)
    store.add_operations([operation.encoded])
    store.set_setting(FEDERATION_SETTING, operation.id)
    return store


def hello(invite: bytes | None = None) -> m.Hello:
    """A well-formed Hello."""
    return m.Hello(bytes(16), FEDERATION, Digest(bytes(32)), Digest(bytes(32)), invite=invite)


PUSH: Final = m.PushOps((b"operation",))
