"""Swarms of hundreds and thousands: founded at once, and without doing the same sum twice.

Every host runs the real machine. Two things are not simulated, since they would take most of the time and
show nothing: how everybody was admitted and got to know everybody (`gathered` begins after that), and the
same signature being verified again by every host (`remembering` asks the real code once for each).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

from crdtmerge import keys
from crdtmerge.keys import NodeId
from crdtmerge.manifest import Kind
from crdtmerge.op import Add, Admit, Operation, Role
from crdtmerge.recipe import Recipe
from crdtmerge.simulations.checkers import broken
from crdtmerge.simulations.clock import HOUR_MS
from crdtmerge.simulations.disk import Raw
from crdtmerge.simulations.host import RECORD_LIFE_MS, Host
from crdtmerge.simulations.network import Conditions
from crdtmerge.simulations.swarm import Swarm
from crdtmerge.simulations.work import floats
from crdtmerge.sync.chance import Chance
from crdtmerge.sync.config import Config
from crdtmerge.sync.records import NodeRecord

T = TypeVar("T")

SMALL: Final[dict[str, tuple[int, ...]]] = {"w": (16, 12), "b": (12,)}
"""The tensors of a small model."""


def gathered(
    seed: int,
    hosts: int,
    *,
    conditions: Conditions | None = None,
    config: Config | None = None,
    base: dict[str, Raw] | None = None,
    recipe: Recipe | None = None,
) -> Swarm:
    """Return a swarm in which everybody is admitted, knows everybody and holds the base."""
    swarm = Swarm(seed=seed, hosts=1, conditions=conditions, config=config, base=base, recipe=recipe)
    founder = swarm.founder
    founder.crash()
    newcomers = [swarm.add_host(Host) for _ in range(hosts - 1)]
    said = [swarm.genesis]
    for number, host in enumerate(newcomers):
        said.append(
            Operation.sign(
                founder.key,
                Admit(host.id, Role.MEMBER),
                federation=swarm.federation,
                created_ms=swarm.clock.now_ms + number,
                prev=() if number == 0 else (said[-1].id,),
            )
        )
    swarm.clock.run(hosts)
    records = {host.id: _record(swarm, host) for host in swarm.hosts}
    for host in swarm.hosts:
        host.disk.put_operations(said)
        host.disk.records = dict(records)
        if base is not None:
            host.disk.put_model(base, kind=Kind.BASE)
        host.start(swarm.genesis, seeds=[founder.id])
    return swarm


def _record(swarm: Swarm, host: Host) -> bytes:
    return NodeRecord.sign(
        host.key,
        addresses=[f"{host.id.hex()[:12]}.example:1"],
        leaf=b"",
        sequence=swarm.clock.now_ms,
        expires_ms=swarm.clock.now_ms + RECORD_LIFE_MS,
    ).encoded


@contextmanager
def remembering() -> Iterator[None]:
    """Decode every operation and record, and verify every signature, once only while this lasts.

    All of these are pure functions of bytes. What is refused is refused every time.
    """
    kept = keys.verify, Operation.decode, NodeRecord.decode
    seen: set[tuple[NodeId, str, bytes, bytes]] = set()

    def verify(signer: NodeId, context: str, message: bytes, signature: bytes) -> None:
        if (signer, context, message, signature) not in seen:
            kept[0](signer, context, message, signature)
            seen.add((signer, context, message, signature))

    keys.verify = verify
    Operation.decode = staticmethod(_once(kept[1]))  # type: ignore[method-assign,assignment]
    NodeRecord.decode = staticmethod(_once(kept[2]))  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        keys.verify = kept[0]
        Operation.decode = classmethod(kept[1].__func__)  # type: ignore[method-assign,assignment,attr-defined]
        NodeRecord.decode = classmethod(kept[2].__func__)  # type: ignore[method-assign,assignment,attr-defined]


def _once(decode: Callable[[bytes], T]) -> Callable[[bytes], T]:
    found: dict[bytes, T] = {}

    def remembered(data: bytes) -> T:
        if data not in found:
            found[data] = decode(data)
        return found[data]

    return remembered


# --- what is done with them, and measured ---------------------------------------------------------


def add(host: Host, number: int, shapes: dict[str, tuple[int, ...]] = SMALL) -> None:
    """Have a host contribute the model with this number."""
    model = floats(Chance(f"contribution {number}".encode()), shapes)
    host.say(Add(host.disk.put_model(model, base=host.running.ops.charter.base).digest))


def took(swarm: Swarm, so: Callable[[], bool], every_ms: int = 100) -> float:
    """Let time pass until something is so; return the seconds, rounded to milliseconds.

    Raises:
        SimulationError: if it is not within an hour.
    """
    ms = swarm.run_until(so, within_ms=HOUR_MS, every_ms=every_ms)
    if ms is None:
        raise broken("G3", "not within an hour")
    return round(ms / 1000, 3)


def traffic(swarm: Swarm) -> dict[str, object]:
    """Return what was sent so far."""
    each = sorted(swarm.network.bytes_of[host.id] for host in swarm.hosts)
    return {
        "messages per node": round(swarm.network.sent.total() / len(each), 1),
        "kB per node": round(sum(each) / len(each) / 1000, 1),
        "kB, busiest node": round(each[-1] / 1000, 1),
    }


def settle(swarm: Swarm, contributions: int) -> dict[str, object]:
    """Have random hosts contribute at once, and measure until all agree and hold everything."""
    chance = Chance(b"who")
    for number in range(contributions):
        add(chance.choose(swarm.up()), number)
    agreed = took(swarm, swarm.agreed)
    complete = round(agreed + took(swarm, swarm.complete), 3)
    return {"agreed": agreed, "complete": complete, **traffic(swarm)}


def of_small_models(seed: int, nodes: int, conditions: Conditions | None = None) -> Swarm:
    """Return a swarm of small models."""
    return gathered(seed, nodes, conditions=conditions, base=floats(Chance(b"base"), SMALL))
