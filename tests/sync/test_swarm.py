"""Whole federations in virtual time: whatever the network does, those that can talk come to agree."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from crdtmerge.digest import Domain, digest
from crdtmerge.op import Retract
from crdtmerge.simulations.host import Host
from crdtmerge.simulations.lies import wrong_blocks, wrong_metas
from crdtmerge.simulations.network import Conditions, Tamper
from crdtmerge.simulations.swarm import Swarm
from crdtmerge.sync.messages import GetBlock

BAD = Conditions(delay_ms=(10, 400), loss_percent=20, duplicate_percent=20)
MINUTE_MS = 60_000


def settled(seed: int, hosts: int, conditions: Conditions | None = None) -> Swarm:
    """A federation whose members know of each other."""
    swarm = Swarm(seed=seed, hosts=hosts, conditions=Conditions())
    everybody_knows = swarm.run_until(
        lambda: all(
            host.running.record_of(other.id) is not None for host in swarm.hosts for other in swarm.hosts
        ),
        within_ms=10 * MINUTE_MS,
    )
    assert everybody_knows is not None, f"seed {seed}"
    swarm.network.conditions = conditions or Conditions()
    return swarm


@pytest.mark.parametrize("seed", range(3))
def test_all_converge_under_loss_duplicates_and_reordering(seed: int) -> None:
    swarm = Swarm(seed=seed, hosts=10, conditions=BAD)
    for host in swarm.hosts:
        swarm.contribute(host)
    assert swarm.run_until(swarm.complete, within_ms=15 * MINUTE_MS) is not None, f"seed {seed}"
    for host in swarm.hosts:
        assert len(host.running.view.contributions) == 10
        assert host.accused == []
        assert len(set(host.stored_blocks)) == len(host.stored_blocks), "a block was stored twice"


def test_news_reaches_everybody_within_seconds() -> None:
    swarm = settled(1, 24, Conditions(loss_percent=5))
    swarm.contribute(swarm.hosts[5])
    took_ms = swarm.run_until(swarm.agreed, within_ms=MINUTE_MS)
    assert took_ms is not None
    assert took_ms < 20_000


@pytest.mark.parametrize("seed", range(2))
def test_both_sides_of_a_partition_work_on_and_agree_after_it_heals(seed: int) -> None:
    swarm = settled(seed, 8)
    left, right = swarm.hosts[:4], swarm.hosts[4:]
    swarm.network.split([host.id for host in left], [host.id for host in right])
    for host in swarm.hosts:
        swarm.contribute(host)
    swarm.run(5 * MINUTE_MS)
    assert swarm.complete(left)
    assert swarm.complete(right)
    assert not swarm.agreed()
    assert {len(host.running.view.contributions) for host in swarm.hosts} == {4}
    swarm.network.heal()
    assert swarm.run_until(swarm.complete, within_ms=10 * MINUTE_MS) is not None, f"seed {seed}"
    assert len(swarm.hosts[0].running.view.contributions) == 8


def test_a_retract_on_one_side_beats_a_stale_copy_on_the_other() -> None:
    swarm = settled(3, 6)
    add = swarm.contribute(swarm.hosts[1])
    assert swarm.run_until(swarm.complete, within_ms=5 * MINUTE_MS) is not None
    swarm.network.split([host.id for host in swarm.hosts[:3]])
    swarm.hosts[1].say(Retract((add.id,)))
    swarm.contribute(swarm.hosts[5])
    swarm.run(2 * MINUTE_MS)
    swarm.network.heal()
    assert swarm.run_until(swarm.complete, within_ms=10 * MINUTE_MS) is not None
    for host in swarm.hosts:
        assert len(host.running.view.contributions) == 1


def test_a_member_banned_midway_is_shut_out_and_what_it_says_afterwards_counts_nowhere() -> None:
    swarm = settled(4, 6)
    founder, outcast = swarm.hosts[0], swarm.hosts[3]
    early = swarm.contribute(outcast)
    assert swarm.run_until(swarm.complete, within_ms=5 * MINUTE_MS) is not None
    swarm.ban(outcast, by=founder, keep=[early.id])
    others = [host for host in swarm.hosts if host is not outcast]
    assert swarm.run_until(lambda: swarm.agreed(others), within_ms=5 * MINUTE_MS) is not None
    late = swarm.contribute(outcast)
    swarm.contribute(swarm.hosts[1])
    assert swarm.run_until(lambda: swarm.complete(others), within_ms=5 * MINUTE_MS) is not None
    swarm.run(MINUTE_MS)
    for host in others:
        assert late.id not in host.running.ops
        assert len(host.running.view.contributions) == 2
    assert late.id in outcast.running.ops
    assert not swarm.agreed()


def test_a_late_joiner_by_invitation_gets_everything_and_takes_part() -> None:
    swarm = settled(5, 5, Conditions(loss_percent=10))
    for host in swarm.hosts[1:]:
        swarm.contribute(host)
    assert swarm.run_until(swarm.complete, within_ms=10 * MINUTE_MS) is not None
    joiner = swarm.invite(by=swarm.hosts[0])
    assert swarm.run_until(lambda: joiner.peer is not None, within_ms=MINUTE_MS) is not None
    assert swarm.run_until(swarm.complete, within_ms=10 * MINUTE_MS) is not None
    assert len(joiner.running.view.contributions) == 4
    swarm.contribute(joiner)
    assert swarm.run_until(swarm.complete, within_ms=10 * MINUTE_MS) is not None
    assert len(swarm.hosts[2].running.view.contributions) == 5


@pytest.mark.parametrize("lie", [wrong_blocks, wrong_metas])
def test_a_liar_spoils_nothing_and_everything_arrives_from_others(lie: Tamper) -> None:
    swarm = settled(6, 5)
    liar = swarm.hosts[1]
    swarm.network.corrupt(liar.id, lie)
    swarm.contribute(swarm.hosts[2], tensors=40)
    assert swarm.run_until(swarm.complete, within_ms=10 * MINUTE_MS) is not None
    accused = {node for host in swarm.hosts for node in host.accused}
    assert accused <= {liar.id}
    for host in swarm.hosts:
        for block, data in host.disk.blocks.items():
            assert digest(Domain.BLOCK, data) == block


def test_a_liar_who_is_asked_for_blocks_is_accused() -> None:
    swarm = settled(6, 3)
    author, liar, victim = swarm.hosts
    swarm.contribute(author, tensors=60)
    assert swarm.run_until(lambda: swarm.complete([author, liar]), within_ms=5 * MINUTE_MS) is not None
    victim.crash()
    victim.disk.blocks.clear()
    swarm.network.corrupt(liar.id, wrong_blocks)
    victim.start(swarm.genesis)
    assert swarm.run_until(swarm.complete, within_ms=5 * MINUTE_MS) is not None
    assert set(victim.accused) == {liar.id}
    assert victim.disk.blocks == author.disk.blocks


def test_a_host_that_crashes_midway_goes_on_where_it_was() -> None:
    swarm = settled(7, 3)
    author, _, victim = swarm.hosts
    swarm.contribute(author, tensors=100)
    assert swarm.run_until(lambda: len(victim.disk.blocks) > 40, within_ms=5 * MINUTE_MS) is not None
    before = set(victim.disk.blocks)
    victim.crash()
    swarm.run(MINUTE_MS)
    asked = swarm.network.sent[GetBlock.__name__]
    victim.start(swarm.genesis)
    assert swarm.run_until(swarm.complete, within_ms=10 * MINUTE_MS) is not None
    assert len(set(victim.stored_blocks)) == len(victim.stored_blocks) == 100
    assert swarm.network.sent[GetBlock.__name__] - asked < 2 * (100 - len(before)) + 8


def lively(seed: int) -> Swarm:
    """A run in which a little of everything happens."""
    swarm = Swarm(seed=seed, hosts=6, conditions=BAD)
    for host in swarm.hosts[1:4]:
        swarm.contribute(host)
    swarm.run(20_000)
    swarm.network.split([host.id for host in swarm.hosts[:3]])
    swarm.ban(swarm.hosts[2], by=swarm.hosts[0])
    swarm.run(40_000)
    swarm.network.heal()
    swarm.hosts[4].crash()
    joiner: Host = swarm.invite(by=swarm.hosts[0])
    swarm.run(40_000)
    swarm.hosts[4].start(swarm.genesis)
    if joiner.peer is not None:
        swarm.contribute(joiner)
    swarm.run(60_000)
    return swarm


def test_one_seed_has_one_history_and_another_has_another() -> None:
    first, again, other = lively(11), lively(11), lively(12)
    assert first.trace == again.trace
    assert first.network.sent == again.network.sent
    assert first.trace != other.trace
    assert first.network.sent.total() > 500


def test_a_history_does_not_depend_on_how_python_hashes() -> None:
    program = (
        "from crdtmerge.simulations.network import Conditions\n"
        "from crdtmerge.simulations.swarm import Swarm\n"
        "swarm = Swarm(seed=1, hosts=6, conditions=Conditions(loss_percent=20, duplicate_percent=20))\n"
        "[swarm.contribute(host, tensors=9) for host in swarm.hosts]\n"
        "swarm.run(60_000)\n"
        "print(swarm.trace.hex())\n"
    )
    traces = set()
    for hash_seed in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": hash_seed}
        traces.add(
            subprocess.run(
                [sys.executable, "-c", program], env=environment, check=True, capture_output=True, text=True
            ).stdout
        )
    assert len(traces) == 1
