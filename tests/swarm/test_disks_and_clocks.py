"""What the simulated world does to disks and clocks, so that a promise kept there is worth something."""

from __future__ import annotations

import pytest

from crdtmerge.digest import Domain, digest
from crdtmerge.errors import CorruptBlockError, NotYetError, OutOfSpaceError
from crdtmerge.op import Add
from crdtmerge.simulations.clock import Alarm, Clock, LocalClock
from crdtmerge.simulations.disk import Disk
from crdtmerge.simulations.swarm import Swarm
from crdtmerge.sync.chance import Chance

CHANCE = Chance(b"disk")
DATA = b"sixteen bytes ok"
NAME = digest(Domain.BLOCK, DATA)


def test_a_power_cut_loses_what_was_not_flushed_and_nothing_else() -> None:
    disk = Disk()
    disk.put_block(NAME, DATA)
    disk.blocks.flush()
    late = digest(Domain.BLOCK, b"late")
    disk.put_block(late, b"late")
    assert disk.blocks.cut(CHANCE, torn_percent=0) == 0
    assert set(disk.blocks) == {NAME}


def test_a_torn_block_is_there_and_cannot_be_read() -> None:
    disk = Disk()
    disk.put_block(NAME, DATA)
    assert disk.blocks.cut(CHANCE, torn_percent=100) == 1
    assert disk.blocks.has(NAME)
    with pytest.raises(CorruptBlockError):
        disk.blocks.get(NAME)
    assert disk.damaged() == [NAME]
    disk.put_block(NAME, DATA)
    assert disk.blocks.get(NAME) == DATA


def test_a_row_makes_durable_what_it_speaks_of() -> None:
    disk = Disk()
    manifest = disk.put_model({"w": DATA})
    disk.blocks.cut(CHANCE, torn_percent=0)
    assert disk.holds(manifest.digest)


def test_rot_is_found_by_whoever_reads_and_by_a_scrub() -> None:
    disk = Disk()
    manifest = disk.put_model({"w": DATA})
    root = manifest.tensors[0].root
    for name in (NAME, root, manifest.digest):
        assert disk.holds(manifest.digest)
        disk.rot(name, CHANCE)
        assert not disk.holds(manifest.digest)
        assert disk.damaged() == [name]
        disk.discard(name)
        disk.put_model({"w": DATA})
    disk.rot(root, CHANCE)
    with pytest.raises(CorruptBlockError):
        disk.block_list(root)
    disk.discard(root)
    with pytest.raises(NotYetError):
        disk.block_list(root)


def test_a_full_disk_confirms_nothing() -> None:
    swarm = Swarm(seed=1, hosts=2)
    host = swarm.hosts[1]
    host.disk.full = True
    before = list(host.acknowledged), dict(host.disk.operations)
    with pytest.raises(OutOfSpaceError):
        host.say(Add(NAME))
    assert (host.acknowledged, host.disk.operations) == before
    host.disk.full = False
    assert host.say(Add(NAME)).id in host.acknowledged


def test_content_waits_for_room_while_operations_stop_a_node_that_begins_again() -> None:
    swarm = Swarm(seed=2, hosts=3)
    assert swarm.run_until(swarm.complete, within_ms=120_000) is not None
    host = swarm.hosts[2]
    add = swarm.contribute(swarm.hosts[1])
    host.disk.full = True
    swarm.run(60_000)
    assert add.id not in host.disk.operations
    host.disk.full = False
    assert swarm.run_until(lambda: host.peer is not None and swarm.complete(), within_ms=600_000) is not None
    assert add.id in host.disk.operations


@pytest.mark.parametrize("output", range(12))
def test_what_was_confirmed_survives_a_power_cut_at_any_output(output: int) -> None:
    swarm = Swarm(seed=3, hosts=3)
    swarm.run(30_000)
    host = swarm.hosts[1]
    host.steps_left = output
    add = swarm.contribute(host)
    swarm.run(30_000)
    assert host.peer is None, "the power did not fail"
    host.revive()
    assert add.id in host.running.ops
    assert swarm.run_until(swarm.complete, within_ms=600_000) is not None


def test_a_slow_disk_delays_replies_and_loses_nothing() -> None:
    swarm = Swarm(seed=4, hosts=3)
    for host in swarm.hosts:
        host.sync_ms = (200, 900)
        swarm.contribute(host)
    assert swarm.run_until(swarm.complete, within_ms=600_000) is not None


def test_a_running_process_sees_its_clock_jump_forward_but_never_back() -> None:
    clock = Clock()
    local = LocalClock(clock)
    start_ms = clock.now_ms
    local.set(5000)
    assert local.now_ms == start_ms + 5000
    local.set(-7000)
    clock.run(10)
    assert local.now_ms == start_ms + 5010
    local.restart()
    assert local.now_ms == start_ms - 6990
    assert local.true_ms(local.now_ms) == clock.now_ms


def test_an_alarm_rings_once_at_the_earliest_time_it_was_set_to() -> None:
    clock, rung = Clock(), list[int]()
    alarm = Alarm(clock)

    def ring() -> None:
        rung.append(clock.elapsed_ms)

    for wait_ms in (30, 10, 20):
        alarm.set(clock.now_ms + wait_ms, ring)
    clock.run(100)
    assert rung == [10]
    alarm.set(clock.now_ms + 5, ring)
    alarm.put_out()
    clock.run(100)
    assert rung == [10]
