"""Who gets through a connection: the right node, with the right certificate, while it is a member."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from dataclasses import replace
from typing import Any

import grpc
import node_harness as harness
import pytest
from grpc_health.v1 import health_pb2
from node_harness import (
    PUSH,
    Echo,
    calling,
    connect_proxy,
    credentials,
    raw_channel,
    run,
    serving,
    signing_key,
)

from crdtmerge.errors import UsageError
from crdtmerge.limits import MESSAGE_BYTES_MAX
from crdtmerge.node import transport, wire
from crdtmerge.node.address import Address
from crdtmerge.node.certificate import LEAF_BYTES_MAX, LIFE_MS
from crdtmerge.node.client import CHANNELS_MAX, CallError, Contact
from crdtmerge.node.credentials import Credentials
from crdtmerge.node.guard import CALLS_PER_NODE_MAX
from crdtmerge.node.server import Server
from crdtmerge.sync import messages as m
from crdtmerge.sync.events import Failure

PUSH_OPS = wire.RPCS[m.PushOps].path


def members(*numbers: int) -> Echo:
    return Echo({signing_key(number).id for number in numbers})


async def refused(client_of: Credentials, contact: Contact, request: wire.Request = PUSH) -> CallError:
    """The error that a call ends with."""
    async with calling(client_of) as client:
        with pytest.raises(CallError) as caught:
            await client.call(contact, request)
    return caught.value


# --- who is let in --------------------------------------------------------------------------------


def test_a_member_is_known_by_its_node_id_and_answered() -> None:
    async def story() -> None:
        echo = members(1, 2)
        async with serving(echo) as contact, calling(credentials(2)) as client:
            assert await client.call(contact, PUSH) == m.PushOpsReply(0)
        assert echo.seen == [(signing_key(2).id, PUSH)]

    run(story())


def test_a_stranger_with_the_authoritys_key_is_refused_on_every_call() -> None:
    async def story() -> None:
        echo = members(1)
        async with serving(echo) as contact:
            for request in (PUSH, m.GetOps(()), m.Records(), m.Have(()), m.GetBlock(harness.FEDERATION)):
                error = await refused(credentials(2), contact, request)
                assert error.failure is Failure.REFUSED
                assert "not a member" in str(error)
            async with calling(credentials(2)) as client:
                with pytest.raises(CallError, match="not a member"):
                    await client.probe(contact)
                with pytest.raises(CallError, match="not a member"):
                    await client.check(contact)
        assert echo.seen == []

    run(story())


def test_a_stranger_is_refused_before_its_request_is_read() -> None:
    async def story() -> None:
        async with serving(members(1)) as contact, raw_channel(credentials(2), contact) as channel:
            silent = channel.stream_unary(PUSH_OPS)(timeout=30)
            assert await silent.code() is grpc.StatusCode.PERMISSION_DENIED

    run(story(), seconds=5)


def test_only_hello_is_open_to_a_newcomer_and_only_with_an_invitation() -> None:
    async def story() -> None:
        echo = members(1)
        async with serving(echo) as contact, calling(credentials(2)) as client:
            assert isinstance(await client.call(contact, harness.hello(bytes(96))), m.HelloReply)
            with pytest.raises(CallError, match="not invited"):
                await client.call(contact, harness.hello())

    run(story())


def test_a_banned_peers_live_connection_is_refused_at_once() -> None:
    async def story() -> None:
        echo = members(1, 2)
        async with serving(echo) as contact, calling(credentials(2)) as client:
            await client.call(contact, PUSH)
            echo.members.remove(signing_key(2).id)
            with pytest.raises(CallError, match="not a member"):
                await client.call(contact, PUSH)
            echo.members.add(signing_key(2).id)
            await client.call(contact, PUSH)
        assert len(echo.seen) == 2

    run(story())


# --- keys that change -----------------------------------------------------------------------------

DAY_MS = 24 * 3600 * 1000


def test_while_keys_change_whoever_expects_either_leaf_is_answered() -> None:
    async def story() -> None:
        echo = members(1, 2, 3)
        before, after = credentials(1), credentials(1, tls=50, issued_ms=harness.NOW_MS + 1000)
        async with (
            harness.serving_with(echo, before) as (server, address),
            calling(credentials(2)) as early,
            calling(credentials(3)) as late,
        ):
            old, new = (Contact(signing_key(1).id, (address,), made.leaf) for made in (before, after))
            assert await early.call(old, PUSH) == m.PushOpsReply(0)
            server.renew(replace(after, old=(before.tls_key_pem, before.leaf)))
            assert await late.call(old, PUSH) == m.PushOpsReply(0)
            assert await late.call(new, PUSH) == m.PushOpsReply(0)
            server.renew(after)
            assert await late.call(new, PUSH) == m.PushOpsReply(0)
            async with calling(credentials(2)) as behind:
                with pytest.raises(CallError) as caught:
                    await behind.call(old, PUSH)
            assert caught.value.failure is Failure.UNREACHABLE

    run(story())


def test_a_stolen_tls_key_opens_nothing_once_its_node_has_replaced_it() -> None:
    async def story() -> None:
        echo = members(1, 2)
        thief = credentials(2)
        owner = credentials(2, tls=60, issued_ms=harness.NOW_MS + 1000)
        async with serving(echo) as contact, calling(thief) as stealing, calling(owner) as owning:
            assert await stealing.call(contact, PUSH) == m.PushOpsReply(0)
            echo.issued[signing_key(2).id] = harness.NOW_MS + 1000
            for request in (PUSH, harness.hello(bytes(96))):
                with pytest.raises(CallError, match="replaced since"):
                    await stealing.call(contact, request)
            assert await owning.call(contact, PUSH) == m.PushOpsReply(0)

    run(story())


def test_a_leaf_that_has_expired_connects_nobody() -> None:
    async def story() -> None:
        echo = members(1, 2)
        expired = credentials(2, issued_ms=harness.NOW_MS - LIFE_MS - DAY_MS)
        async with serving(echo) as contact:
            assert (await refused(expired, contact)).failure is Failure.UNREACHABLE
        worn = credentials(1, issued_ms=harness.NOW_MS - LIFE_MS - DAY_MS)
        async with harness.serving_with(echo, worn) as (_, address):
            stale = Contact(signing_key(1).id, (address,), worn.leaf)
            assert (await refused(credentials(2), stale)).failure is Failure.UNREACHABLE
        assert echo.seen == []

    run(story())


def test_a_client_with_a_new_certificate_calls_under_it_at_once() -> None:
    async def story() -> None:
        echo = members(1, 2)
        async with serving(echo) as contact, calling(credentials(2)) as client:
            await client.call(contact, PUSH)
            await client.renew(credentials(2, tls=70, issued_ms=harness.NOW_MS + 1000))
            echo.issued[signing_key(2).id] = harness.NOW_MS + 1000
            assert await client.call(contact, PUSH) == m.PushOpsReply(0)
            assert client.connections == 1

    run(story())


# --- who is believed ------------------------------------------------------------------------------


def test_an_impostor_with_the_same_names_under_the_same_authority_is_not_talked_to() -> None:
    async def story() -> None:
        echo = members(1, 2)
        async with serving(echo) as contact:
            # What member 3 can mint for itself: our names, the federation's authority, another key.
            impostor = Contact(contact.node, contact.addresses, credentials(1, tls=3).leaf)
            error = await refused(credentials(2), impostor)
        assert error.failure is Failure.UNREACHABLE
        assert echo.seen == []

    run(story())


def test_a_record_with_somebody_elses_certificate_is_not_dialled() -> None:
    async def story() -> None:
        async with serving(members(1, 2, 3)) as contact:
            error = await refused(credentials(2), Contact(signing_key(3).id, contact.addresses, contact.leaf))
            assert "another node's certificate" in str(error)
            for leaf in (b"", b"garbage", bytes(LEAF_BYTES_MAX + 1)):
                error = await refused(credentials(2), Contact(contact.node, contact.addresses, leaf))
                assert error.failure is Failure.UNREACHABLE

    run(story())


def test_a_certificate_of_another_authority_cannot_connect() -> None:
    async def story() -> None:
        echo = members(1, 2)
        async with serving(echo) as contact:
            error = await refused(credentials(2, ca=bytes(31) + b"\x08"), contact)
        assert error.failure is Failure.UNREACHABLE
        assert echo.seen == []

    run(story())


def test_a_connection_without_a_certificate_is_refused() -> None:
    async def story() -> None:
        echo = members(1, 2)
        async with serving(echo) as contact:
            bare = grpc.ssl_channel_credentials(root_certificates=credentials(1).ca_pem)
            host = [("grpc.ssl_target_name_override", "localhost")]
            channels: tuple[Any, ...] = (
                grpc.aio.secure_channel(str(contact.addresses[0]), bare, options=host),
                grpc.aio.insecure_channel(str(contact.addresses[0])),
            )
            for channel in channels:
                async with channel:
                    with pytest.raises(grpc.aio.AioRpcError):
                        await channel.unary_unary(PUSH_OPS)(b"", timeout=5)
        assert echo.seen == []

    run(story())


def test_a_certificate_whose_binding_another_node_signed_is_refused() -> None:
    async def story() -> None:
        echo = members(1, 2)
        thief = credentials(3)  # a stranger with the authority's key puts member 2's binding onto its own key
        stolen = harness.with_binding_of(credentials(2).leaf, onto=thief)
        async with serving(echo) as contact:
            error = await refused(stolen, contact)
        assert error.failure is Failure.REFUSED
        assert "did not sign" in str(error)
        assert echo.seen == []

    run(story())


# --- how much is taken ----------------------------------------------------------------------------


def test_a_message_beyond_the_limit_is_refused_by_either_side() -> None:
    async def story() -> None:
        echo = members(1, 2)
        async with serving(echo) as contact, raw_channel(credentials(2), contact) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await channel.unary_unary(PUSH_OPS)(bytes(MESSAGE_BYTES_MAX + 1), timeout=5)
            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert echo.seen == []

    run(story())


def test_a_compressed_message_is_refused_however_small_it_is() -> None:
    async def story() -> None:
        echo = members(1, 2)
        async with serving(echo) as contact, raw_channel(credentials(2), contact) as channel:
            for compression in (grpc.Compression.Gzip, grpc.Compression.Deflate):
                with pytest.raises(grpc.aio.AioRpcError):
                    await channel.unary_unary(PUSH_OPS)(bytes(1 << 24), timeout=5, compression=compression)
        assert echo.seen == []

    run(story())


def test_metadata_beyond_the_limit_is_refused() -> None:
    async def story() -> None:
        echo = members(1, 2)
        async with serving(echo) as contact, raw_channel(credentials(2), contact) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await channel.unary_unary(PUSH_OPS)(b"", timeout=5, metadata=(("x", "a" * 5000),))
            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert echo.seen == []

    run(story())


@pytest.mark.parametrize("data", [b"\xff", b"\x0a\x05ab", bytes(1000)])
def test_a_request_that_is_no_message_is_refused_and_not_handled(data: bytes) -> None:
    async def story() -> None:
        echo = members(1, 2)
        async with serving(echo) as contact, raw_channel(credentials(2), contact) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await channel.unary_unary(PUSH_OPS)(data, timeout=5)
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert echo.seen == []

    run(story())


def test_a_handler_that_takes_too_long_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crdtmerge.node.guard.CALL_S", 0.2)

    async def story() -> None:
        echo = members(1, 2)
        echo.answer = lambda _: asyncio.sleep(30, m.PushOpsReply(0))
        async with serving(echo) as contact:
            error = await refused(credentials(2), contact)
        assert error.failure is Failure.TIMEOUT

    run(story(), seconds=5)


def test_a_call_whose_request_never_comes_holds_its_place_for_the_deadline_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("crdtmerge.node.guard.CALL_S", 0.5)

    async def story() -> None:
        async with (
            serving(members(1, 2), calls_max=1) as contact,
            raw_channel(credentials(2), contact) as channel,
        ):
            stuck = channel.stream_unary(PUSH_OPS)(timeout=30)
            await stuck.wait_for_connection()
            with pytest.raises(grpc.aio.AioRpcError, match="RESOURCE_EXHAUSTED"):
                await channel.unary_unary(PUSH_OPS)(b"", timeout=5)
            assert await stuck.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            await _push_until_accepted(channel)

    run(story())


async def _push_until_accepted(channel: Any) -> None:
    async with asyncio.timeout(5):
        while True:
            with contextlib.suppress(grpc.aio.AioRpcError):
                await channel.unary_unary(PUSH_OPS)(b"", timeout=5)
                return
            await asyncio.sleep(0.01)


def test_one_node_cannot_take_every_place() -> None:
    async def story() -> None:
        echo = members(1, 2, 3)
        gate = asyncio.Event()

        async def wait(_: wire.Request) -> wire.Reply:
            await gate.wait()
            return m.PushOpsReply(0)

        echo.answer = wait
        async with (
            serving(echo, calls_max=1000) as contact,
            calling(credentials(2)) as greedy,
            raw_channel(credentials(2), contact) as second,
            calling(credentials(3)) as modest,
        ):
            calls = [asyncio.create_task(greedy.call(contact, PUSH)) for _ in range(CALLS_PER_NODE_MAX)]
            await harness.until(lambda: len(echo.seen) == CALLS_PER_NODE_MAX)
            with pytest.raises(grpc.aio.AioRpcError, match="too many calls"):
                await second.unary_unary(PUSH_OPS)(b"", timeout=5)
            other = asyncio.create_task(modest.call(contact, PUSH))
            await harness.until(lambda: len(echo.seen) == CALLS_PER_NODE_MAX + 1)
            gate.set()
            await asyncio.gather(*calls, other)
            assert await greedy.call(contact, PUSH) == m.PushOpsReply(0)

    run(story())


def test_a_flood_is_told_when_to_come_again_and_others_are_served_meanwhile() -> None:
    async def story() -> None:
        echo = members(1, 2, 3)
        async with (
            serving(echo, calls_per_s=5.0) as contact,
            calling(credentials(2)) as flood,
            calling(credentials(3)) as modest,
        ):
            ends = await asyncio.gather(
                *(flood.call(contact, PUSH) for _ in range(40)), return_exceptions=True
            )
            refused = [end for end in ends if isinstance(end, CallError)]
            assert 10 <= len(ends) - len(refused) <= 20
            assert {error.failure for error in refused} == {Failure.BUSY}
            assert all(0 < error.retry_after_ms <= 200 for error in refused)
            assert await modest.call(contact, PUSH) == m.PushOpsReply(0)
            await asyncio.sleep(max(error.retry_after_ms for error in refused) / 1000)
            assert await flood.call(contact, PUSH) == m.PushOpsReply(0)

    run(story())


def test_strangers_share_one_small_purse_however_many_names_they_have() -> None:
    async def story() -> None:
        echo = members(1, 2)
        async with serving(echo) as contact, contextlib.AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(calling(credentials(n))) for n in range(10, 14)]
            ends = await asyncio.gather(
                *(client.call(contact, harness.hello()) for client in clients for _ in range(15)),
                return_exceptions=True,
            )
            busy = [end for end in ends if isinstance(end, CallError) and end.failure is Failure.BUSY]
            assert len(busy) >= 20
            assert len(echo.seen) <= 40
            member = await stack.enter_async_context(calling(credentials(2)))
            assert await member.call(contact, PUSH) == m.PushOpsReply(0)

    run(story())


def test_a_node_that_is_full_says_that_it_is_busy_and_not_that_the_caller_is_wrong() -> None:
    async def story() -> None:
        echo = members(1, 2, 3)
        gate = asyncio.Event()

        async def wait(_: wire.Request) -> wire.Reply:
            await gate.wait()
            return m.PushOpsReply(0)

        echo.answer = wait
        async with (
            serving(echo, calls_max=4) as contact,
            calling(credentials(2)) as one,
            calling(credentials(3)) as other,
        ):
            calls = [asyncio.create_task(one.call(contact, PUSH)) for _ in range(4)]
            await harness.until(lambda: len(echo.seen) == 4)
            with pytest.raises(CallError) as caught:
                await other.call(contact, PUSH)
            assert (caught.value.failure, caught.value.retry_after_ms) == (Failure.BUSY, 1000)
            gate.set()
            await asyncio.gather(*calls)

    run(story())


# --- whom we call ---------------------------------------------------------------------------------


def test_private_addresses_are_dialled_only_if_allowed_or_given_by_a_person() -> None:
    async def story() -> None:
        async with serving(members(1, 2)) as contact, calling(credentials(2), may_dial_local=False) as client:
            port = contact.addresses[0].port
            for host in ("127.0.0.1", "localhost"):
                hidden = Contact(contact.node, (Address(host, port),), contact.leaf)
                with pytest.raises(CallError, match="no address that may be dialled"):
                    await client.call(hidden, PUSH)
            given = Contact(contact.node, contact.addresses, contact.leaf, given=True)
            assert await client.call(given, PUSH) == m.PushOpsReply(0)

    run(story())


def test_a_dead_address_is_followed_by_the_next_one() -> None:
    async def story() -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))  # bound but not listening: refuses
            dead = Address("127.0.0.1", taken.getsockname()[1])
            async with serving(members(1, 2)) as contact, calling(credentials(2)) as client:
                named = Address("localhost", contact.addresses[0].port)
                both = Contact(contact.node, (dead, named), contact.leaf)
                assert await client.call(both, PUSH) == m.PushOpsReply(0)

    run(story())


def test_a_node_that_comes_back_is_reached_by_the_very_next_call() -> None:
    async def story() -> None:
        async with calling(credentials(2)) as client:
            async with serving(members(1, 2)) as contact:
                await client.call(contact, PUSH)
            with pytest.raises(CallError):
                await client.call(contact, PUSH)
            again = Server(credentials(1), calls_max=8)
            again.bind(contact.addresses[0])
            await again.start(members(1, 2))
            assert await client.call(contact, PUSH) == m.PushOpsReply(0)
            await again.stop(1)

    run(story())


def test_no_more_than_a_few_connections_stay_open() -> None:
    async def story() -> None:
        async with serving(members(1, 2)) as contact, calling(credentials(2)) as client:
            for number in range(CHANNELS_MAX + 5):
                leaf = contact.leaf if number % 2 else credentials(1, tls=number).leaf
                other = Contact(contact.node, (contact.addresses[0],) * 2, leaf)
                try:
                    await client.call(other, PUSH)
                except CallError:
                    assert leaf != contact.leaf
            for number in range(CHANNELS_MAX + 5):
                await client.call(
                    Contact(
                        contact.node,
                        (Address(f"127.0.0.{number + 1}", contact.addresses[0].port), contact.addresses[0]),
                        contact.leaf,
                    ),
                    PUSH,
                )
            assert client.connections <= CHANNELS_MAX

    run(story())


def test_every_connection_goes_through_the_proxy_even_where_the_environment_exempts_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")
    monkeypatch.delenv("no_grpc_proxy", raising=False)

    async def story() -> None:
        async with serving(members(1, 2)) as contact, connect_proxy() as (proxy, asked):
            async with calling(credentials(2), proxy=proxy) as client:
                assert await client.call(contact, PUSH) == m.PushOpsReply(0)
            assert asked == [f"CONNECT {contact.addresses[0]} HTTP/1.1"]
            monkeypatch.setenv("grpc_proxy", proxy)
            async with calling(credentials(2)) as client:
                assert await client.call(contact, PUSH) == m.PushOpsReply(0)
            assert len(asked) == 1

    run(story())


# --- standard services and stopping ---------------------------------------------------------------


def test_health_and_reflection_answer_members() -> None:
    async def story() -> None:
        async with serving(members(1, 2)) as contact, calling(credentials(2)) as client:
            await client.check(contact)
            async with raw_channel(credentials(2), contact) as channel:
                names = await harness.reflected_services(channel)
        assert {"crdtmerge.v1.Sync", "crdtmerge.v1.Blobs", "grpc.health.v1.Health"} <= names

    run(story())


def test_watching_the_health_ends_with_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crdtmerge.node.guard.CALL_S", 0.3)

    async def story() -> None:
        async with serving(members(1, 2)) as contact, raw_channel(credentials(2), contact) as channel:
            watch = channel.unary_stream(
                "/grpc.health.v1.Health/Watch", None, health_pb2.HealthCheckResponse.FromString
            )(health_pb2.HealthCheckRequest().SerializeToString(), timeout=20)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                assert [answer.status async for answer in watch] == [health_pb2.HealthCheckResponse.SERVING]
            assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED

    run(story(), seconds=5)


def test_stopping_finishes_the_calls_that_run_and_takes_no_more() -> None:
    async def story() -> None:
        echo = members(1, 2)
        gate = asyncio.Event()

        async def wait(_: wire.Request) -> wire.Reply:
            await gate.wait()
            return m.PushOpsReply(7)

        echo.answer = wait
        server = Server(credentials(1), calls_max=8)
        port = server.bind(harness.ANY_PORT)
        await server.start(echo)
        contact = Contact(signing_key(1).id, (Address("127.0.0.1", port),), credentials(1).leaf)
        async with calling(credentials(2)) as client:
            running = asyncio.create_task(client.call(contact, PUSH))
            await harness.until(lambda: bool(echo.seen))
            stopping = asyncio.create_task(server.stop(10))
            await asyncio.sleep(0.1)
            error = await refused(credentials(2), contact)
            assert error.failure is Failure.UNREACHABLE
            gate.set()
            assert await running == m.PushOpsReply(7)
            await stopping

    run(story())


def test_an_address_that_is_taken_is_an_error_and_not_shared() -> None:
    async def story() -> None:
        async with serving(members(1)) as contact:
            with pytest.raises(UsageError, match="cannot listen"):
                Server(credentials(2), calls_max=1).bind(contact.addresses[0])

    run(story())


def test_a_node_learns_whether_it_can_be_dialled_back() -> None:
    async def story() -> None:
        async with serving(members(1, 2)) as contact, calling(credentials(2)) as client:
            assert await client.probe(contact)

    run(story())


def test_both_ends_keep_to_the_limits_of_the_protocol() -> None:
    options = dict(transport.OPTIONS)
    assert options["grpc.max_receive_message_length"] == 2 * 1024 * 1024
    assert options["grpc.absolute_max_metadata_size"] == 4 * 1024
    assert options["grpc.keepalive_time_ms"] >= 60_000
    assert transport.CALL_S == 10.0
