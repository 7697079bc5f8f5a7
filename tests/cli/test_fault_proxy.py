"""What the demo's proxy promises: links break as told, both ends notice, and nothing else is touched."""

from __future__ import annotations

import asyncio
import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from crdtmerge.demo.faults import ENVIRONMENT, Cut, Fault, FaultProxy


class Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        while data := self._receive():
            self.request.sendall(data)

    def _receive(self) -> bytes:
        try:
            return bytes(self.request.recv(65536))
        except ConnectionResetError:
            return b""


@pytest.fixture
def address() -> Iterator[str]:
    """Where a server listens that echoes; node "b"."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Echo) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.fixture
def proxy(address: str) -> Iterator[FaultProxy]:
    with FaultProxy() as proxy:
        proxy.locate("b", address)
        yield proxy


def dial(proxy: FaultProxy, source: str, address: str) -> socket.socket:
    door = urlsplit(proxy.door(source))
    connection = socket.create_connection((door.hostname, door.port), timeout=5)
    connection.sendall(f"CONNECT {address} HTTP/1.1\r\nHost: {address}\r\n\r\n".encode())
    return connection


def connect(proxy: FaultProxy, source: str, address: str) -> socket.socket:
    connection = dial(proxy, source, address)
    assert answer(connection).startswith(b"HTTP/1.1 200 ")
    return connection


def answer(connection: socket.socket) -> bytes:
    received = b""
    while not received.endswith(b"\r\n\r\n"):
        received += connection.recv(1)
    return received


def echoed(connection: socket.socket, data: bytes) -> bytes:
    connection.sendall(data)
    received = b""
    while len(received) < len(data):
        received += connection.recv(65536)
    return received


def test_a_healthy_link_carries_bytes_and_counts_them(proxy: FaultProxy, address: str) -> None:
    with connect(proxy, "a", address) as connection:
        data = bytes(range(256)) * 1024
        assert echoed(connection, data) == data
    traffic = proxy.traffic("a", "b")
    assert (traffic.connects, traffic.refused, traffic.sent, traffic.received) == (1, 0, len(data), len(data))


def test_an_end_that_stops_sending_still_receives(proxy: FaultProxy, address: str) -> None:
    with connect(proxy, "a", address) as connection:
        connection.sendall(b"last words")
        connection.shutdown(socket.SHUT_WR)
        with connection.makefile("rb") as answers:
            assert answers.read() == b"last words"


def test_a_partition_resets_connections_and_refuses_new_ones_until_it_heals(
    proxy: FaultProxy, address: str
) -> None:
    with connect(proxy, "a", address) as connection:
        proxy.partition({"a"}, {"b"})
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
    with dial(proxy, "a", address) as connection:
        assert answer(connection).startswith(b"HTTP/1.1 503 ")
    assert proxy.traffic("a", "b").refused == 1
    proxy.heal()
    with connect(proxy, "a", address) as connection:
        assert echoed(connection, b"again") == b"again"


def test_a_partition_leaves_links_inside_a_group_alone(proxy: FaultProxy, address: str) -> None:
    with connect(proxy, "a", address) as inside, connect(proxy, "c", address) as outside:
        proxy.partition({"a", "b"}, {"c"})
        assert echoed(inside, b"here") == b"here"
        with pytest.raises(ConnectionResetError):
            outside.recv(1)


def test_a_silent_link_holds_bytes_and_connections_back_until_it_heals(
    proxy: FaultProxy, address: str
) -> None:
    with connect(proxy, "a", address) as old:
        proxy.partition({"a"}, {"b"}, cut=Cut.SILENT)
        with dial(proxy, "a", address) as new:
            for connection in (old, new):
                connection.settimeout(0.1)
            old.sendall(b"held")
            for connection in (old, new):
                with pytest.raises(TimeoutError):
                    connection.recv(1)
                connection.settimeout(5)
            proxy.heal()
            assert old.recv(4, socket.MSG_WAITALL) == b"held"
            assert answer(new).startswith(b"HTTP/1.1 200 ")


def test_a_delayed_link_is_late_each_way_and_not_slower(proxy: FaultProxy, address: str) -> None:
    with connect(proxy, "a", address) as connection:
        proxy.set("a", "b", Fault(delay_s=0.1))
        data = bytes(1 << 20)
        begun = time.monotonic()
        assert echoed(connection, data) == data
        assert 0.2 <= time.monotonic() - begun < 3  # chunk by chunk it would take 3.2 s


def test_a_throttled_link_keeps_its_rate_over_all_its_connections(proxy: FaultProxy, address: str) -> None:
    proxy.set("a", "b", Fault(bytes_per_s=400_000))
    with connect(proxy, "a", address) as one, connect(proxy, "a", address) as other:
        begun = time.monotonic()
        for connection in (one, other):
            connection.sendall(bytes(50_000))
        for connection in (one, other):
            assert len(connection.recv(50_000, socket.MSG_WAITALL)) == 50_000
        assert time.monotonic() - begun >= 0.25


def test_a_damaging_link_changes_one_of_so_many_bytes_and_counts_them(
    proxy: FaultProxy, address: str
) -> None:
    proxy.set("a", "b", Fault(damage_every=1000))
    with connect(proxy, "a", address) as connection:
        wanted = bytearray(2500)
        wanted[999] = wanted[1999] = 2  # one more on the way there, and one on the way back
        assert echoed(connection, bytes(2500)) == wanted
    assert proxy.traffic("a", "b").damaged == 4


def test_who_does_not_speak_connect_is_reset(proxy: FaultProxy, address: str) -> None:
    door = urlsplit(proxy.door("a"))
    for request in (b"\x16\x03\x01\r\n\r\n", b"CONNECT nowhere HTTP/1.1\r\n\r\n"):
        with socket.create_connection((door.hostname, door.port), timeout=5) as connection:
            connection.sendall(request)
            with pytest.raises(ConnectionResetError):
                connection.recv(1)


def test_leaving_the_proxy_ends_what_is_still_open(address: str) -> None:
    with FaultProxy() as proxy:
        connection = connect(proxy, "a", address)
    with connection, pytest.raises(ConnectionResetError):
        connection.recv(1)


def test_grpc_over_tls_goes_through_a_door_fails_when_cut_and_comes_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)

    async def echo(request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        return request

    async def scenario(proxy: FaultProxy) -> None:
        key, certificate = credentials()
        server = grpc.aio.server()
        method = grpc.unary_unary_rpc_method_handler(echo)
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("test.Echo", {"Say": method})])
        both_ways = grpc.ssl_server_credentials([(key, certificate)], certificate, require_client_auth=True)
        port = server.add_secure_port("127.0.0.1:0", both_ways)
        await server.start()
        proxy.locate("b", f"127.0.0.1:{port}")
        options = [
            ("grpc.http_proxy", proxy.door("a")),
            ("grpc.ssl_target_name_override", "b"),
            ("grpc.initial_reconnect_backoff_ms", 100),
        ]
        own = grpc.ssl_channel_credentials(certificate, key, certificate)
        async with grpc.aio.secure_channel(f"127.0.0.1:{port}", own, options) as channel:
            say = channel.unary_unary("/test.Echo/Say", None, None)
            assert await say(bytes(100_000), timeout=5) == bytes(100_000)
            assert proxy.traffic("a", "b").sent > 100_000
            proxy.partition({"a"}, {"b"})
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await say(b"?", timeout=5)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
            proxy.heal()
            assert await say(b"again", timeout=5, wait_for_ready=True) == b"again"
        await server.stop(None)

    with FaultProxy() as proxy:
        asyncio.run(scenario(proxy))


def credentials() -> tuple[bytes, bytes]:
    """Return a key and its own certificate, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "b")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("b")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return private, certificate.public_bytes(pem)
