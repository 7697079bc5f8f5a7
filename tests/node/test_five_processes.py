"""Five real processes on a bad network, one of them killed outright: they agree all the same.

Every byte between them passes a proxy that does to it what networks do, and a little more: TLS has to notice
each byte that was changed, the node to dial again, and the machine to ask again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from safetensors.torch import save_file

from crdtmerge.demo.faults import Fault, FaultProxy
from crdtmerge.demo.federation import Federation
from crdtmerge.digest import Digest
from crdtmerge.limits import MIB
from crdtmerge.resolve import MODEL, RECORD, verify_result

NAMES = ("one", "two", "three", "four", "five")
ELEMENTS = 3 * MIB // 4  # of float32: three blocks


def model(number: int) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(number)
    base = torch.arange(ELEMENTS, dtype=torch.float32)
    return {"w": base + torch.randn(ELEMENTS, generator=draw), "b": torch.full((8,), 1.0 + number / 100)}


def contribute(nodes: Federation, name: str, number: int) -> Digest:
    with nodes.replica(name) as replica:
        return replica.contribute(model(number), label=name)


def blocks(nodes: Federation, name: str) -> int:
    return sum(1 for _ in (nodes.home(name) / "blocks").glob("??/" + "?" * 64))


def wait(condition: Callable[[], bool], *, seconds: float = 20) -> None:
    """Wait until something is true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not become true in time"
        time.sleep(0.02)


def others(name: str) -> Iterable[str]:
    return (other for other in NAMES if other != name)


def test_five_processes_agree_byte_for_byte_after_damage_a_kill_and_a_partition(tmp_path: Path) -> None:
    save_file({name: tensor.clone() for name, tensor in model(0).items()}, tmp_path / "base.safetensors")
    with FaultProxy() as faults, Federation(tmp_path, faults=faults) as nodes:
        nodes.found("one", base=tmp_path / "base.safetensors", recipe="task_arithmetic")
        nodes.join(*NAMES[1:])
        made = [contribute(nodes, "one", 1)]

        # Bad weather: one is far, two is slow, and whatever four dials damages a byte now and then.
        for name in others("one"):
            faults.set(name, "one", Fault(delay_s=0.03))
        for name in others("two"):
            faults.set("two", name, Fault(bytes_per_s=4 * MIB))
        for name in others("four"):
            faults.set("four", name, Fault(damage_every=200_000))
        made.append(contribute(nodes, "four", 2))
        nodes.settle("one", "two", "three", "five", contributions=made)
        wait(lambda: sum(faults.traffic("four", name).damaged for name in others("four")) > 2)
        for name in others("four"):
            faults.set("four", name, Fault())
        nodes.settle(contributions=made)

        # Three is killed while a model comes in, and goes on where it was.
        for name in others("three"):
            faults.set("three", name, Fault(bytes_per_s=MIB / 2))
        held = blocks(nodes, "three")
        made.append(contribute(nodes, "two", 3))
        wait(lambda: _is_fetching(nodes, "three", made[-1]))
        nodes.kill("three")
        for name in others("three"):
            faults.set("three", name, Fault())
        with nodes.replica("three") as replica:
            assert list(replica.store.verify()) == []
            assert not replica.is_ready(made[-1])
        assert blocks(nodes, "three") >= held
        nodes.serve("three")

        # The network is cut, and both sides go on.
        sides = NAMES[:2], NAMES[2:]
        nodes.settle(contributions=made)
        faults.partition(*sides)
        apart = [contribute(nodes, "one", 4)], [contribute(nodes, "five", 5)]
        for side, own in zip(sides, apart, strict=True):
            nodes.settle(*side, contributions=made + own)
        assert nodes.status("one").root != nodes.status("five").root
        faults.heal()
        stand = nodes.settle(contributions=made + apart[0] + apart[1])

        assert len({status.root for status in stand.values()}) == 1
        folders = []
        for threads, name in enumerate(NAMES, 1):
            with nodes.replica(name) as replica:
                folders.append(replica.resolve(tmp_path / f"merged-{name}", threads=threads).folder)
        for file in (MODEL, RECORD):
            assert len({(folder / file).read_bytes() for folder in folders}) == 1
        assert verify_result(folders[0]).contributions == tuple(sorted(made + apart[0] + apart[1]))
        reconnected = sum(faults.traffic("four", name).connects for name in others("four"))
        assert reconnected > len(NAMES) - 1  # more than once each: TLS broke off what was damaged


def _is_fetching(nodes: Federation, name: str, contribution: Digest) -> bool:
    """Whether a node knows of a contribution that it does not hold yet."""
    status = nodes.status(name)
    return contribution in status.contributions and contribution not in status.ready
