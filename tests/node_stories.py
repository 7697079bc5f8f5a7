"""For tests of whole nodes: homes that are served, and what other processes do beside them."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import node_harness as harness
import pytest

from crdtmerge.digest import Digest
from crdtmerge.dtypes import DType
from crdtmerge.ledger import Ledger
from crdtmerge.manifest import Kind
from crdtmerge.node import identity, invites
from crdtmerge.node.client import Client, Contact
from crdtmerge.node.config import Config
from crdtmerge.node.credentials import Credentials
from crdtmerge.node.serve import Serving, serve
from crdtmerge.node.ticket import Ticket
from crdtmerge.op import Add, Body, Operation, Role
from crdtmerge.store import Store, ingest_tensors
from crdtmerge.sync.records import NodeRecord

CONFIG = Config(listen=harness.ANY_PORT, period_s=0.2)


@pytest.fixture
def founder(tmp_path: Path) -> Path:
    """The home of a founder that serves nothing yet."""
    harness.founded(tmp_path / "founder").close()
    return tmp_path / "founder"


@asynccontextmanager
async def serving(home: Path, config: Config = CONFIG) -> AsyncIterator[Serving]:
    started: asyncio.Future[Serving] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(serve(home, config, started.set_result))
    either: set[asyncio.Future[Any]] = {task, started}
    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        task.result()
    try:
        yield started.result()
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def ticket(home: Path, role: Role = Role.MEMBER, **options: Any) -> Ticket:
    """What `crdtmerge invite` makes, beside the running node."""
    with Store.open(home) as store:
        return invites.invite(home, Ledger(store, identity.signing_key(home)), role=role, **options)


def say(home: Path, body: Body) -> None:
    """What another process does that adds an operation to a home."""
    with Store.open(home) as store:
        key = identity.signing_key(home)
        ops = Ledger(store, key).operations
        operation = Operation.sign(
            key, body, federation=ops.federation, created_ms=int(time.time() * 1000), prev=ops.heads(key.id)
        )
        store.add_operations([operation.encoded])


def contribute(home: Path, content: bytes) -> Digest:
    """What `crdtmerge contribute` does, beside the running node."""
    with Store.open(home) as store:
        tensor = (DType.U8, (len(content),), content)
        manifest = ingest_tensors(store, {"tensor": tensor}, kind=Kind.FULL)
    say(home, Add(manifest.digest))
    return manifest.digest


def content(home: Path, contribution: Digest) -> bytes | None:
    """A contribution's bytes, if all of them are there."""
    with Store.open(home) as store:
        if not store.has_manifest(contribution) or store.missing(store.manifest(contribution)):
            return None
        (tensor,) = store.manifest(contribution).tensors
        return store.read(tensor, 0, tensor.bytes)


def standing(home: Path) -> tuple[Digest, Digest]:
    """The roots that nodes have to agree on."""
    with Store.open(home) as store:
        view = Ledger(store, identity.signing_key(home)).view
        return view.root, view.state_root


def agree(*homes: Path) -> Callable[[], bool]:
    return lambda: len({standing(home) for home in homes}) == 1


def has(home: Path, contribution: Digest, wanted: bytes) -> Callable[[], bool]:
    return lambda: content(home, contribution) == wanted


@asynccontextmanager
async def calling(home: Path, serving: Serving) -> AsyncIterator[tuple[Client, Contact]]:
    """A client with a home's credentials, and the contact of a serving node."""
    with Store.open(home) as store:
        genesis = Ledger(store, identity.signing_key(home)).genesis
        records = [NodeRecord.decode(data) for node, data in store.records() if node == serving.node]
    client = Client(Credentials.load(home, genesis), may_dial_local=True)
    try:
        yield client, Contact.of(records[0])
    finally:
        await client.close()
