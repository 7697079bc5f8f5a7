"""Many real nodes on one machine: how soon all know what one said, and what that costs.

    python benchmarks/hundred_nodes.py [--nodes 20] [--contributions 10] [--period 5]

Every node has a home with a database, a gRPC server and mutual TLS on loopback, as `crdtmerge serve` runs
it; all of them share one process, one event loop and one interpreter lock, so times are the work of all
nodes one after the other and an upper bound for machines of their own. Each node joins by a ticket.

Watched from beside, as another process would see it, is what stands in the homes:

    joined      every node was admitted
    met         every node knows every other one's admission
    heard       one small contribution is announced: its operation stands in 50 %, 99 %, all of the homes
    held        its content is complete and verified in all of them
    at rest     what ten seconds cost in which nobody says anything
    all         so many nodes contribute at once: every operation and all content is everywhere

Bytes are what calls carried in both directions, without the framing of HTTP/2 and TLS.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from crdtmerge.digest import Digest
from crdtmerge.dtypes import DType
from crdtmerge.ledger import FEDERATION, Ledger
from crdtmerge.limits import MIB
from crdtmerge.manifest import Kind
from crdtmerge.node import identity, invites
from crdtmerge.node.address import Address
from crdtmerge.node.client import CallError, Client, Contact
from crdtmerge.node.config import Config
from crdtmerge.node.join import join
from crdtmerge.node.serve import Serving, serve
from crdtmerge.op import Add, Genesis, Operation, Role
from crdtmerge.recipe import Recipe
from crdtmerge.store import Store, ingest_tensors

JOINING = 8
"""Nodes that join at the same time."""
TENSOR_BYTES = 4096
LOOK_S = 0.1
REST_S = 10.0


@dataclass
class Carried:
    """What calls carried, in bytes; how many there were, and how many of them got no reply."""

    bytes: int = 0
    calls: int = 0
    failed: int = 0

    def count(self) -> None:
        """Have every client of this process count its calls here."""
        real = Client._call

        async def counted(client: Client, contact: Contact, path: str, data: bytes) -> bytes:
            self.calls += 1
            self.bytes += len(data)
            try:
                reply = await real(client, contact, path, data)
            except CallError:
                self.failed += 1
                raise
            self.bytes += len(reply)
            return reply

        Client._call = counted  # type: ignore[method-assign, assignment]


@dataclass
class Watcher:
    """Looks at one home from beside."""

    home: Path
    store: Store
    position: int = 0
    known: set[Digest] = field(default_factory=set)

    def knows(self, operations: set[Digest]) -> bool:
        """Whether all of these operations stand in the home."""
        fresh, self.position = self.store.operations_since(self.position)
        self.known.update(operation.id for operation in fresh)
        return operations <= self.known

    def holds(self, contributions: Sequence[Digest]) -> bool:
        """Whether the content of all of these is complete."""
        return all(
            self.store.has_manifest(one) and not self.store.missing(self.store.manifest(one))
            for one in contributions
        )

    def contribute(self, content: bytes) -> tuple[Digest, Digest]:
        """Do what `crdtmerge contribute` does; return the contribution and the operation."""
        key = identity.signing_key(self.home)
        tensor = (DType.U8, (len(content),), content)
        made = ingest_tensors(self.store, {"tensor": tensor}, kind=Kind.FULL)
        federation = self.store.setting(FEDERATION)
        said = Operation.sign(
            key,
            Add(made.digest),
            federation=Digest(federation or b""),
            created_ms=time.time_ns() // 1_000_000,
        )
        self.store.add_operations([said.encoded])
        return made.digest, said.id


def found(home: Path) -> None:
    """Found a federation without a base."""
    key = identity.create_signing_key(home)
    genesis = Genesis((key.id,), None, None, Recipe("weight_average", version=1), os.urandom(16))
    said = Operation.sign(key, genesis, federation=None, created_ms=1)
    with Store.open(home) as store:
        store.add_operations([said.encoded])
        store.set_setting(FEDERATION, said.id)


@asynccontextmanager
async def serving(home: Path, config: Config) -> AsyncIterator[None]:
    """Serve a home for the body."""
    ready: asyncio.Future[Serving] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(serve(home, config, ready.set_result))
    either: set[asyncio.Future[Any]] = {task, ready}
    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        task.result()
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def enter(founder: Path, homes: Sequence[Path], config: Config) -> None:
    """Let nodes join by tickets, several at a time."""
    gate = asyncio.Semaphore(JOINING)

    async def one(home: Path) -> None:
        async with gate:
            with Store.open(founder) as store:
                ledger = Ledger(store, identity.signing_key(founder))
                ticket = invites.invite(founder, ledger, role=Role.MEMBER)
            await join(home, ticket, config)

    await asyncio.gather(*(one(home) for home in homes))


async def spread(watchers: Sequence[Watcher], operations: set[Digest]) -> list[float]:
    """Wait until operations stand everywhere; return after how many seconds they did in each home."""
    begun, waiting, times = time.perf_counter(), list(watchers), []
    while waiting:
        await asyncio.sleep(LOOK_S)
        left = [watcher for watcher in waiting if not watcher.knows(operations)]
        times += [time.perf_counter() - begun] * (len(waiting) - len(left))
        waiting = left
    return times


async def complete(watchers: Sequence[Watcher], contributions: Sequence[Digest]) -> None:
    """Wait until content is complete everywhere."""
    waiting = list(watchers)
    while waiting:
        await asyncio.sleep(LOOK_S)
        waiting = [watcher for watcher in waiting if not watcher.holds(contributions)]


class Phase:
    """One line of the report: time, processor time and calls from here on."""

    def __init__(self, carried: Carried) -> None:
        self._carried, self._before = carried, replace(carried)
        self._begun, self._cpu = time.perf_counter(), time.process_time()

    def told(self, what: str, more: str = "") -> None:
        """Print it."""
        seconds, cpu = time.perf_counter() - self._begun, time.process_time() - self._cpu
        mib = (self._carried.bytes - self._before.bytes) / MIB
        calls = self._carried.calls - self._before.calls
        failed = self._carried.failed - self._before.failed
        print(
            f"{what:8} {seconds:7.2f} s  {cpu:7.2f} s CPU  {mib:7.2f} MiB  {calls:6} calls"
            f"  {failed:4} failed  {more}",
            flush=True,
        )


async def story(folder: Path, nodes: int, contributions: int, period_s: float) -> None:
    """Found, join, say one thing, say many."""
    config = Config(listen=Address("127.0.0.1", 0), period_s=period_s)
    homes = [folder / f"node{number:03}" for number in range(nodes)]
    carried = Carried()
    carried.count()
    found(homes[0])
    at_first = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    async with AsyncExitStack() as stack:
        phase = Phase(carried)
        await stack.enter_async_context(serving(homes[0], config))
        await enter(homes[0], homes[1:], config)
        phase.told("joined")
        phase = Phase(carried)
        for home in homes[1:]:
            await stack.enter_async_context(serving(home, config))
        watchers = [Watcher(home, stack.enter_context(Store.open(home))) for home in homes]
        watchers[0].knows(set())
        await spread(watchers, set(watchers[0].known))
        phase.told("met")
        await asyncio.sleep(2 * period_s)
        phase = Phase(carried)
        await asyncio.sleep(REST_S)
        phase.told("at rest")

        phase = Phase(carried)
        made, said = watchers[-1].contribute(os.urandom(TENSOR_BYTES))
        times = await spread(watchers, {said})
        half, most = times[len(times) // 2], times[int(0.99 * len(times)) - 1]
        phase.told("heard", f"half {half:.2f} s, 99 % {most:.2f} s, all {times[-1]:.2f} s")
        await complete(watchers, [made])
        phase.told("held")

        phase = Phase(carried)
        many = [watcher.contribute(os.urandom(TENSOR_BYTES)) for watcher in watchers[:contributions]]
        await spread(watchers, {operation for _, operation in many})
        phase.told("all said", f"{contributions} contributions")
        await complete(watchers, [contribution for contribution, _ in many])
        phase.told("all held")
        roots = set()
        for home, watcher in zip(homes, watchers, strict=True):
            roots.add(Ledger(watcher.store, identity.signing_key(home)).view.root)
        assert len(roots) == 1
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        each = (memory - at_first) / 1024 / nodes
        print(f"one visible root; memory {memory / 1024:.0f} MiB, {each:.1f} MiB a node", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--nodes", type=int, default=20)
    parser.add_argument("--contributions", type=int, default=10)
    parser.add_argument("--period", type=float, default=5.0, help="of anti-entropy, in seconds")
    arguments = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with tempfile.TemporaryDirectory() as folder:
        contributions = min(arguments.contributions, arguments.nodes)
        asyncio.run(story(Path(folder), arguments.nodes, contributions, arguments.period))


if __name__ == "__main__":
    main()
