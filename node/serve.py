"""Serving a home: everything put together, from the lock on the folder to the last reply."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from crdtmerge import ambient, witness
from crdtmerge.digest import Digest
from crdtmerge.errors import UsageError
from crdtmerge.keys import NodeId, SigningKey
from crdtmerge.ledger import FEDERATION
from crdtmerge.node import config as configuration
from crdtmerge.node import figures, identity, packing, seeds
from crdtmerge.node.address import Address
from crdtmerge.node.client import Client
from crdtmerge.node.config import Config
from crdtmerge.node.credentials import Credentials
from crdtmerge.node.driver import Clock, Driver
from crdtmerge.node.keeper import Keeper
from crdtmerge.node.lock import locked
from crdtmerge.node.record import others_records
from crdtmerge.node.renewal import Renewal
from crdtmerge.node.server import Server
from crdtmerge.opset import OpSet
from crdtmerge.store import Store
from crdtmerge.sync.chance import Chance
from crdtmerge.sync.config import Config as Rates
from crdtmerge.sync.peer import Peer

log = logging.getLogger(__name__)

GRACE_S: Final = 10.0
"""How long calls that are being served may go on when the node stops."""

_COLLECT_S: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Serving:
    """A node that has begun to serve."""

    node: NodeId
    federation: Digest
    listen: Address
    """Where the socket is, with the port that the system chose."""
    addresses: tuple[Address, ...]
    """What other nodes are told."""


async def serve(
    home: Path, config: Config | None = None, ready: Callable[[Serving], None] | None = None
) -> None:
    """Serve ``home`` until cancelled; then finish the calls that run, and stop.

    Args:
        home: a folder that was initialised, or that joined.
        config: by default what the home's configuration file says.
        ready: called once others can call this node.

    Raises:
        UsageError: if the home belongs to no federation, or cannot listen.
        LockedError: if another process serves it.
        StoreError: if the disk fails.
    """
    config = config or configuration.load(home)
    key = identity.signing_key(home)
    with locked(home) as lock, Store.open(home) as store:
        ops, position = operations(store)
        renewal = Renewal(home, store, key, ops.genesis)
        credentials = renewal.credentials()
        server = Server(credentials, calls_max=config.concurrent_calls_max, calls_per_s=config.calls_per_s)
        port = server.bind(config.listen)
        addresses = config.advertised(port)
        record = renewal.record(credentials, addresses)
        async with driving(
            store, key, ops, position, credentials=credentials, config=config, record=record
        ) as driver:
            await server.start(driver)
            listen = Address(config.listen.host, port)
            lock.note(f"process {os.getpid()} serves it at {listen}")
            log.info("serving node=%s listen=%s", key.id.hex()[:16], listen)
            try:
                if ready is not None:
                    ready(Serving(key.id, credentials.federation, listen, addresses))
                driver.spawn(renewal.watch(credentials, addresses, server, driver))
                driver.spawn(_tidy(driver))
                driver.spawn(driver.watch_reachability())
                await driver.broken()
            finally:
                log.info("stopping node=%s", key.id.hex()[:16])
                await server.stop(GRACE_S)


def run(home: Path, config: Config | None = None, ready: Callable[[Serving], None] | None = None) -> None:
    """Serve ``home`` until the process gets SIGINT or SIGTERM; see `serve`."""
    run_until_signal(serve(home, config, ready))


def run_until_signal(work: Coroutine[Any, Any, None]) -> None:
    """Run ``work``; let SIGINT and SIGTERM cancel it, so that it ends in its own way."""

    async def main() -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - inside a coroutine that runs
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        await work

    with contextlib.suppress(asyncio.CancelledError):
        asyncio.run(main())


@asynccontextmanager
async def driving(
    store: Store,
    key: SigningKey,
    ops: OpSet,
    position: int,
    *,
    credentials: Credentials,
    config: Config,
    record: bytes = b"",
) -> AsyncIterator[Driver]:
    """Run a driver for the body: with a server in front of it, or as a node that only calls."""
    known = seeds.load(store)
    clock = Clock()
    peer = Peer(
        key.id,
        ops,
        store,
        Chance(ambient.entropy(32)),
        config=Rates(period_ms=round(1000 * config.period_s), packed=config.compress and packing.available()),
        seeds=tuple(known),
        record=record,
        records=others_records(store, key.id),
        attestations=witness.readable(store),
    )
    keeper = Keeper(store, key, peer, seeds=known, position=position, now_ms=clock.now_ms)
    client = Client(credentials, may_dial_local=config.may_dial_local, proxy=config.proxy)
    driver = Driver(keeper, client, clock, figures.load(store))
    try:
        await driver.start()
        yield driver
    finally:
        try:
            await driver.close()
        finally:
            await client.close()


def operations(store: Store) -> tuple[OpSet, int]:
    """Return the stored operations, and the position up to which they were read.

    Raises:
        UsageError: if the store belongs to no federation.
    """
    federation = store.setting(FEDERATION)
    if federation is None:
        raise UsageError("this folder belongs to no federation: create one, or join one")
    stored, position = store.operations_since(0)
    ops = OpSet(next(operation for operation in stored if operation.id == federation))
    for operation in stored:
        ops.add(operation)
    return ops, position


async def _tidy(driver: Driver) -> None:
    """Collect the garbage now and then."""
    while True:
        await asyncio.sleep(_COLLECT_S)
        await driver.collect()
