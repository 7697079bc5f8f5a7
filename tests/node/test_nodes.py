"""Whole nodes over real sockets: they join, agree, fetch, refuse, stop and come back."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import node_harness as harness
import pytest
from node_harness import run, until
from node_stories import (
    CONFIG,
    agree,
    calling,
    contribute,
    founder,
    has,
    say,
    serving,
    ticket,
)

from crdtmerge.errors import LockedError, OutOfSpaceError, PolicyError, UsageError
from crdtmerge.keys import NodeId
from crdtmerge.ledger import Ledger
from crdtmerge.limits import BLOCK_BYTES
from crdtmerge.node import figures, identity, lock, wire
from crdtmerge.node.client import CallError, Client, Contact
from crdtmerge.node.config import Config
from crdtmerge.node.driver import Driver
from crdtmerge.node.join import join
from crdtmerge.node.serve import serve
from crdtmerge.op import Ban, Role
from crdtmerge.store import Store
from crdtmerge.sync import messages as m

__all__ = ["founder"]


# --- together -------------------------------------------------------------------------------------


def test_nodes_that_joined_converge_in_operations_and_content(founder: Path, tmp_path: Path) -> None:
    model = os.urandom(3 * BLOCK_BYTES + 17)

    async def story() -> None:
        async with serving(founder):
            early = contribute(founder, model)
            second, third = tmp_path / "second", tmp_path / "third"
            await join(second, ticket(founder), CONFIG)
            await join(third, ticket(founder), CONFIG)
            async with serving(second), serving(third):
                await until(has(second, early, model))
                await until(has(third, early, model))
                late = contribute(second, model[:-1])
                await until(has(third, late, model[:-1]))
                await until(has(founder, late, model[:-1]))
                await until(agree(founder, second, third))
                await asyncio.sleep(1.2)  # time for a dial-back
        with Store.open(founder) as store:
            assert list(store.verify()) == []
            assert figures.load(store).reachable is True
            assert figures.load(store)[identity.signing_key(second).id].success_ms > 0

    run(story())


def test_a_node_that_was_away_catches_up(founder: Path, tmp_path: Path) -> None:
    second = tmp_path / "second"

    async def story() -> None:
        async with serving(founder):
            await join(second, ticket(founder), CONFIG)
            missed = [contribute(founder, bytes([number]) * 10) for number in range(5)]
            async with serving(second):
                for number, contribution in enumerate(missed):
                    await until(has(second, contribution, bytes([number]) * 10))
                await until(agree(founder, second))

    run(story())


def test_two_nodes_meet_through_a_third_that_has_gone(founder: Path, tmp_path: Path) -> None:
    second, third = tmp_path / "second", tmp_path / "third"

    async def story() -> None:
        async with serving(founder):
            await join(second, ticket(founder), CONFIG)
            await join(third, ticket(founder), CONFIG)
            async with serving(second) as there, serving(third) as elsewhere:
                await until(agree(founder, second, third))
                await until(lambda: len(_records(second)) == len(_records(third)) == 3)
        again = [Config(listen=place.listen, period_s=0.2) for place in (there, elsewhere)]
        async with serving(second, again[0]), serving(third, again[1]):
            made = contribute(third, b"without the founder")
            await until(has(second, made, b"without the founder"))

    run(story())


def _records(home: Path) -> list[bytes]:
    with Store.open(home) as store:
        return [record for _, record in store.records()]


# --- who gets in ----------------------------------------------------------------------------------


def test_a_ticket_admits_one_node_and_joining_again_is_harmless(founder: Path, tmp_path: Path) -> None:
    second, third = tmp_path / "second", tmp_path / "third"

    async def story() -> None:
        async with serving(founder):
            invitation = ticket(founder, Role.ADMIN)
            node = await join(second, invitation, CONFIG)
            assert await join(second, invitation, CONFIG) == node
            with pytest.raises(PolicyError, match="refused"):
                await join(third, invitation, CONFIG)
            assert not (third / identity.CA).exists()
            await join(third, ticket(founder), CONFIG)
        with Store.open(second) as store:
            assert Ledger(store, identity.signing_key(second)).authority.is_admin(node)

    run(story())


def test_an_admin_that_was_invited_can_invite(founder: Path, tmp_path: Path) -> None:
    second, third = tmp_path / "second", tmp_path / "third"

    async def story() -> None:
        async with serving(founder):
            await join(second, ticket(founder, Role.ADMIN), CONFIG)
            async with serving(second):
                await join(third, ticket(second), CONFIG)
                async with serving(third):
                    await until(agree(founder, second, third))

    run(story())


def test_an_expired_ticket_is_refused(founder: Path, tmp_path: Path) -> None:
    async def story() -> None:
        async with serving(founder):
            with pytest.raises(PolicyError, match="expired"):
                await join(tmp_path / "second", ticket(founder, life_ms=0), CONFIG)

    run(story())


def test_a_ticket_whose_inviter_is_down_can_be_used_later(founder: Path, tmp_path: Path) -> None:
    second = tmp_path / "second"

    async def story() -> None:
        async with serving(founder) as first:
            invitation = ticket(founder)
        with pytest.raises(CallError):
            await join(second, invitation, CONFIG)
        async with serving(founder, Config(listen=first.listen, period_s=0.2)):
            await join(second, invitation, CONFIG)

    run(story())


def test_a_home_joins_one_federation_only(founder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    harness.founded(other).close()

    async def story() -> None:
        async with serving(founder):
            with pytest.raises(UsageError, match="another federation"):
                await join(other, ticket(founder), CONFIG)

    run(story())


def test_a_ban_reaches_a_connection_that_is_open(founder: Path, tmp_path: Path) -> None:
    second = tmp_path / "second"

    async def story() -> None:
        async with serving(founder) as first:
            node = await join(second, ticket(founder), CONFIG)
            async with calling(second, first) as (client, contact):
                assert await client.call(contact, m.GetOps(())) == m.GetOpsReply(())
                say(founder, Ban(node, ()))
                await until(lambda: not _is_member(founder, node))
                with pytest.raises(CallError, match="PERMISSION_DENIED"):
                    await _call_until_refused(client, contact)

    run(story())


async def _call_until_refused(client: Client, contact: Contact) -> None:
    async with asyncio.timeout(2):
        while True:
            await client.call(contact, m.GetOps(()))
            await asyncio.sleep(0.01)


def _is_member(home: Path, node: NodeId) -> bool:
    with Store.open(home) as store:
        return Ledger(store, identity.signing_key(home)).authority.is_member(node)


# --- one home, one process ------------------------------------------------------------------------


def test_a_served_home_is_locked_and_says_by_whom(founder: Path) -> None:
    async def story() -> None:
        async with serving(founder) as first:
            assert str(first.listen) in (lock.holder(founder) or "")
            with pytest.raises(LockedError, match=str(first.listen)):
                await serve(founder, CONFIG)
        assert lock.holder(founder) is None

    run(story())


def test_a_home_without_a_federation_is_not_served(tmp_path: Path) -> None:
    identity.create_signing_key(tmp_path)
    with pytest.raises(UsageError, match="no federation"):
        run(serve(tmp_path, CONFIG))


def test_a_node_whose_disk_fails_stops_and_says_why(founder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: Store) -> int:
        raise OutOfSpaceError("the disk is full")

    async def story() -> None:
        with pytest.raises(OutOfSpaceError, match="full"):
            await serve(founder, CONFIG, lambda _: monkeypatch.setattr(Store, "data_version", full))

    run(story(), seconds=10)
    assert lock.holder(founder) is None


# --- as a process of its own ----------------------------------------------------------------------

SCRIPT = """
import logging, pathlib, sys
from crdtmerge.node import keeper
from crdtmerge.node.address import Address
from crdtmerge.node.config import Config
from crdtmerge.node.serve import run
logging.basicConfig(level="INFO")
keeper.FLUSH_MS = 200
config = Config(listen=Address("127.0.0.1", int(sys.argv[2])), period_s=0.2)
run(pathlib.Path(sys.argv[1]), config, lambda serving: print(serving.listen.port, flush=True))
"""


def process(home: Path, port: int = 0) -> tuple[subprocess.Popen[str], int]:
    """A node in a process of its own, and its port."""
    with (home / "log").open("a") as log:
        started = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", SCRIPT, home, str(port)],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    assert started.stdout is not None
    with started.stdout:
        return started, int(started.stdout.readline())


def test_a_node_that_was_killed_resumes_with_what_it_had(
    founder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = os.urandom(24 * BLOCK_BYTES)
    second = tmp_path / "second"
    asked: list[wire.Request] = []
    handle = Driver.handle

    async def story() -> None:
        gate = asyncio.Event()

        async def slowly(self: Driver, sender: NodeId, request: wire.Request) -> wire.Reply:
            if isinstance(request, m.GetBlock):
                asked.append(request)
                if len(asked) > 8:
                    await gate.wait()
            return await handle(self, sender, request)

        monkeypatch.setattr(Driver, "handle", slowly)
        async with serving(founder):
            await join(second, ticket(founder), CONFIG)
            made = contribute(founder, model)
            killed, port = await asyncio.to_thread(process, second)
            await until(lambda: blocks(second) == 8)
            killed.kill()
            assert killed.wait(10) == -signal.SIGKILL
            gate.set()
            asked.clear()
            with Store.open(second) as store:
                assert list(store.verify()) == []
            again, _ = await asyncio.to_thread(process, second, port)
            try:
                await until(has(second, made, model))
                assert len({block.digest for block in asked if isinstance(block, m.GetBlock)}) == 16
                await until(agree(founder, second))
            finally:
                again.terminate()
                assert again.wait(20) == 0
        assert "Traceback" not in (second / "log").read_text()

    run(story())


def blocks(home: Path) -> int:
    return sum(1 for _ in (home / "blocks").glob("??/" + "?" * 64))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_a_node_in_good_order(founder: Path, number: signal.Signals) -> None:
    node, _ = process(founder)
    node.send_signal(number)
    assert node.wait(20) == 0
    assert lock.holder(founder) is None
    log = (founder / "log").read_text()
    assert "stopping" in log
    assert "Traceback" not in log
