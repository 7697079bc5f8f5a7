"""Connections that are opened and never used: they end by themselves, and nobody else waits for them."""

from __future__ import annotations

import asyncio
import time

import node_harness as harness
import pytest
from node_harness import calling, credentials, run, serving, signing_key

from crdtmerge.node import server
from crdtmerge.sync import messages as m

CONNECTIONS = 100
HANDSHAKE_S = 1.0


@pytest.fixture
def short_handshakes(monkeypatch: pytest.MonkeyPatch) -> None:
    key = "grpc.server_handshake_timeout_ms"
    assert dict(server._OPTIONS)[key] > 0
    options = tuple((name, value) for name, value in server._OPTIONS if name != key)
    monkeypatch.setattr(server, "_OPTIONS", (*options, (key, int(1000 * HANDSHAKE_S))))


@pytest.mark.usefixtures("short_handshakes")
@pytest.mark.parametrize("said", [b"", b"\x16\x03\x01\x02\x00\x01"], ids=["silent", "half a greeting"])
def test_idle_connections_are_ended_and_a_member_is_served_meanwhile(said: bytes) -> None:
    async def story() -> None:
        members = {signing_key(number).id for number in (1, 2)}
        async with serving(harness.Echo(members)) as contact, calling(credentials(2)) as client:
            (address,) = contact.addresses
            idle = [await asyncio.open_connection(address.host, address.port) for _ in range(CONNECTIONS)]
            begun = time.monotonic()
            for _, writer in idle:
                writer.write(said)
            assert await client.call(contact, harness.PUSH) == m.PushOpsReply(0)
            for reader, writer in idle:
                async with asyncio.timeout(5 * HANDSHAKE_S):
                    await reader.read()  # until the server hangs up
                writer.close()
            assert time.monotonic() - begun < 5 * HANDSHAKE_S
            assert await client.call(contact, harness.PUSH) == m.PushOpsReply(0)

    run(story())
