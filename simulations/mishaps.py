"""What befalls hosts and the network, and how it ends.

A mishap begins at its time and undoes itself after its own; whatever still lasts when a simulation heals is
ended by `relieve`. Nothing here makes the promises impossible: the last readable copy of something is not
destroyed, and what a disk confirmed it has.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from crdtmerge.digest import Digest
from crdtmerge.simulations.clock import DAY_MS, SECOND_MS
from crdtmerge.simulations.host import Host
from crdtmerge.simulations.network import Wall
from crdtmerge.simulations.plan import Incident
from crdtmerge.simulations.work import Scene

SLOW_SYNC_MS: Final = (20, 400)
SKEW_MS: Final = DAY_MS
"""How far a clock is set wrong at most, by a mishap."""

Mishap: TypeAlias = "Callable[[Scene, Incident], bool]"
"""Lets something befall somebody; returns whether it could."""


def crash(scene: Scene, incident: Incident) -> bool:
    """A process dies at the next output, or one of the next, and starts again at once."""
    host = _victim(scene)
    if host is None:
        return False
    host.steps_left, host.torn_percent = scene.chance.below(20), 0
    scene.swarm.clock.after(30 * SECOND_MS, host.revive)
    return True


def power_cut(scene: Scene, incident: Incident) -> bool:
    """The power fails at one of the next outputs, with what the disk had not written, and stays off."""
    host = _victim(scene)
    if host is None:
        return False
    host.steps_left, host.torn_percent = scene.chance.below(20), scene.chance.choose([0, 50, 100])
    host.off = True

    def back() -> None:
        host.off = False
        host.revive()

    scene.swarm.clock.after(incident.for_ms, back)
    return True


def partition(scene: Scene, incident: Incident) -> bool:
    """The network falls apart into sides that hear nothing of each other."""
    _wall_for(scene, incident, one_way=False)
    return True


def one_way(scene: Scene, incident: Incident) -> bool:
    """Messages pass in one direction only: requests arrive and replies do not, or the reverse."""
    _wall_for(scene, incident, one_way=True)
    return True


def flapping(scene: Scene, incident: Incident) -> bool:
    """A partition that comes and goes every few seconds."""
    network, clock = scene.swarm.network, scene.swarm.clock
    until_ms, chance = clock.now_ms + incident.for_ms, scene.chance

    def toggle(wall: Wall | None) -> None:
        if wall is not None and wall in network.walls:
            network.walls.remove(wall)
            wall = None
        elif clock.now_ms < until_ms:
            wall = _wall(scene, incident, one_way=bool(chance.below(2)))
        else:
            return
        clock.after(chance.between(SECOND_MS, 8 * SECOND_MS), lambda: toggle(wall))

    toggle(None)
    return True


def storm(scene: Scene, incident: Incident) -> bool:
    """Most of what is sent is lost, late or doubled."""
    network, calm = scene.swarm.network, scene.plan.conditions
    network.conditions = scene.plan.bad

    def over() -> None:
        network.conditions = calm

    scene.swarm.clock.after(incident.for_ms, over)
    return True


def disk_full(scene: Scene, incident: Incident) -> bool:
    """A disk takes nothing more: content waits for room, and who has an operation to write stops."""
    host = scene.one()
    if host is None:
        return False
    host.disk.full = True

    def room() -> None:
        host.disk.full = False

    scene.swarm.clock.after(incident.for_ms, room)
    return True


def disk_slow(scene: Scene, incident: Incident) -> bool:
    """Writing takes a tenth of a second and more; everything waits for it."""
    host = scene.one()
    if host is None:
        return False
    host.sync_ms = SLOW_SYNC_MS

    def fast() -> None:
        host.sync_ms = (0, 0)

    scene.swarm.clock.after(incident.for_ms, fast)
    return True


def rot(scene: Scene, incident: Incident) -> bool:
    """Something stored changes, of which another honest host has a sound copy; nobody is told."""
    host = scene.one()
    if host is None:
        return False
    disk = host.disk
    found = [
        name for name in sorted({*disk.blocks, *disk.manifests, *disk.tensors}) if _spare(scene, host, name)
    ]
    if not found:
        return False
    disk.rot(scene.chance.choose(found), scene.chance)
    return True


def clock(scene: Scene, incident: Incident) -> bool:
    """A clock is set wrong, by up to a day in either direction; a running process never sees it go back."""
    host = scene.one()
    if host is None:
        return False
    host.reset_clock(scene.chance.between(-SKEW_MS, SKEW_MS))
    return True


def sleep(scene: Scene, incident: Incident) -> bool:
    """A computer is suspended; what comes meanwhile waits, and its calls run out of time."""
    host = scene.one()
    if host is None:
        return False
    host.sleep(incident.for_ms)
    return True


def relieve(scene: Scene) -> None:
    """End everything that lasts: the network is whole, disks have room, hosts are on and read their disks."""
    scene.swarm.network.heal()
    scene.swarm.network.conditions = scene.plan.conditions
    for host in scene.swarm.hosts:
        host.off, host.disk.full, host.sync_ms, host.steps_left = False, False, (0, 0), None
        host.scrub()
        host.revive()


def _victim(scene: Scene) -> Host | None:
    """Return an honest host that runs and is not about to fail already."""
    able = [host for host in scene.able() if host.steps_left is None]
    return scene.chance.choose(able) if able else None


def _wall(scene: Scene, incident: Incident, *, one_way: bool) -> Wall:
    sides: list[list[bytes]] = [[] for _ in range(incident.sides)]
    for host in scene.swarm.hosts:
        sides[scene.chance.below(incident.sides)].append(host.id)
    return scene.swarm.network.split(*sides, one_way=one_way, silent=bool(scene.chance.below(2)))  # type: ignore[arg-type]


def _wall_for(scene: Scene, incident: Incident, *, one_way: bool) -> None:
    network, wall = scene.swarm.network, _wall(scene, incident, one_way=one_way)
    scene.swarm.clock.after(
        incident.for_ms, lambda: network.walls.remove(wall) if wall in network.walls else None
    )


def _spare(scene: Scene, host: Host, name: Digest) -> bool:
    """Whether another honest host that will run again has a sound and durable copy."""
    for other in scene.swarm.hosts:
        disk = other.disk
        if other is host or not other.honest or name in disk.rotten or name in disk.blocks.unsynced:
            continue
        if name in disk.manifests or name in disk.tensors:
            return True
        if name in disk.blocks and disk.blocks.sound(name):
            return True
    return False


MISHAPS: Final[dict[str, Mishap]] = {
    "crash": crash,
    "power_cut": power_cut,
    "partition": partition,
    "one_way": one_way,
    "flapping": flapping,
    "storm": storm,
    "disk_full": disk_full,
    "disk_slow": disk_slow,
    "rot": rot,
    "clock": clock,
    "sleep": sleep,
}
