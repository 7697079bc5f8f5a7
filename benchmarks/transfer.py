"""How fast a model travels between two nodes, beside bare calls of the same size over the same transport.

    python benchmarks/transfer.py [--mib 512] [--rounds 3]

Both ends are processes of their own on loopback, with mutual TLS.

    bare calls   a server that answers every call with the same 1 MiB, and a client with 8 calls in flight
                 that throws the answers away: what gRPC and TLS give in Python, and nothing else
    echo         the same, but 1 MiB goes to the server as well, and it is what comes back
    node         `crdtmerge serve` on one side and a node on the other: from the moment when the contribution
                 is visible there to the moment when every block was checked, written, synced and reported;
                 the content is random, so packing saves nothing: once it is off, once it is tried (default)

The figure is the best of the rounds, which alternate, so that other work on the machine meets all alike.
Processor time is that of both ends, and depends less on what else the machine does.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc.aio
from hundred_nodes import found, serving

from crdtmerge.digest import Digest
from crdtmerge.dtypes import DType
from crdtmerge.keys import SigningKey
from crdtmerge.ledger import FEDERATION, Ledger
from crdtmerge.limits import MIB
from crdtmerge.manifest import Kind
from crdtmerge.node import certificate, identity, invites, transport
from crdtmerge.node.address import Address
from crdtmerge.node.config import Config
from crdtmerge.node.credentials import Credentials
from crdtmerge.node.join import join
from crdtmerge.node.serve import run
from crdtmerge.op import Add, Operation
from crdtmerge.store import Store, ingest_tensors

FEDERATION_OF_ECHO = Digest(b"e" * 32)
IN_FLIGHT = 8
CONFIG = Config(listen=Address("127.0.0.1", 0), period_s=0.5)


def credentials(number: int) -> Credentials:
    """What one end of the bare calls presents."""
    key, tls = SigningKey(number.to_bytes(32, "big")), (100 + number).to_bytes(32, "big")
    now_ms = time.time_ns() // 1_000_000
    ca = (7).to_bytes(32, "big")
    return Credentials.make(
        key, tls_secret=tls, ca_secret=ca, federation=FEDERATION_OF_ECHO, issued_ms=now_ms // 10**9 * 10**9
    )


async def serve_bare() -> None:
    """Answer calls with 1 MiB, until this process ends."""
    mine, block = credentials(1), os.urandom(MIB)

    async def answer(request: bytes, context: Any) -> bytes:
        return request if len(request) == MIB else block

    server = grpc.aio.server(options=transport.OPTIONS)
    method = grpc.unary_unary_rpc_method_handler(answer)
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("bare.Blocks", {"Get": method})])
    pair = (mine.tls_key_pem, certificate.leaf_pem(mine.leaf))
    both = grpc.ssl_server_credentials([pair], mine.ca_pem, require_client_auth=True)
    port = server.add_secure_port("127.0.0.1:0", both)
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


@dataclass
class Cost:
    """What carrying some bytes took, in seconds: on the clock, and of both processors."""

    bytes: int
    seconds: float
    cpu: float


def cpu_s(other: int) -> float:
    """Return the processor time of this process and another one, in seconds."""
    fields = Path(f"/proc/{other}/stat").read_text().rpartition(")")[2].split()
    return time.process_time() + (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@asynccontextmanager
async def process(*arguments: str) -> AsyncIterator[tuple[int, str]]:
    """Run this program in another role for the body; yield its id and the first line that it prints."""
    child = subprocess.Popen([sys.executable, __file__, *arguments], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    try:
        yield child.pid, (await asyncio.to_thread(child.stdout.readline)).strip()
    finally:
        child.kill()
        child.wait()
        child.stdout.close()


async def bare(mib: int, request: bytes = b"0" * 32) -> Cost:
    """Make bare calls."""
    async with process("--role", "bare") as (other, port):
        mine, leaf = credentials(2), credentials(1).leaf
        host = certificate.read(leaf, FEDERATION_OF_ECHO).host
        options = [*transport.OPTIONS, ("grpc.ssl_target_name_override", host), ("grpc.enable_http_proxy", 0)]
        async with grpc.aio.secure_channel(f"127.0.0.1:{port}", mine.client(leaf), options) as channel:
            get = channel.unary_unary("/bare.Blocks/Get", None, None)
            await get(request, wait_for_ready=True, timeout=30)
            left = iter(range(mib))

            async def fetch() -> None:
                for _ in left:
                    assert len(await get(request, timeout=30)) == MIB

            begun, before = time.perf_counter(), cpu_s(other)
            await asyncio.gather(*(fetch() for _ in range(IN_FLIGHT)))
            return Cost(mib * MIB, time.perf_counter() - begun, cpu_s(other) - before)


class Moments(logging.Handler):
    """When the node in this process said what."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.visible = asyncio.Event()
        self.ready = asyncio.Event()
        self.at: dict[str, float] = {}
        self._loop = asyncio.get_running_loop()

    def emit(self, record: logging.LogRecord) -> None:
        """Note a moment."""
        word = record.getMessage().partition(" ")[0]
        self.at[word] = time.perf_counter()
        if word == "ready":
            self._loop.call_soon_threadsafe(self.ready.set)


async def node(mib: int, *, compress: bool) -> Cost:
    """Let one node fetch a model from another."""
    with tempfile.TemporaryDirectory() as name:
        source, target = Path(name, "source"), Path(name, "target")
        found(source)
        with Store.open(source) as store:
            tensors = {f"t{i}": (DType.U8, (8 * MIB,), os.urandom(8 * MIB)) for i in range(mib // 8)}
            made = ingest_tensors(store, tensors, kind=Kind.FULL)
            del tensors
        async with AsyncExitStack() as stack:
            other, _ = await stack.enter_async_context(process("--role", "node", "--home", str(source)))
            config = replace(CONFIG, compress=compress)
            with Store.open(source) as store:
                ledger = Ledger(store, identity.signing_key(source))
                await join(target, invites.invite(source, ledger), config)
            await stack.enter_async_context(serving(target, config))
            await asyncio.sleep(1)
            moments, log = Moments(), logging.getLogger("crdtmerge.node.keeper")
            log.addHandler(moments)
            log.setLevel(logging.INFO)
            log.propagate = False
            before = cpu_s(other)
            announce(source, made.digest)
            async with asyncio.timeout(120):
                await moments.ready.wait()
            log.removeHandler(moments)
            return Cost(mib * MIB, moments.at["ready"] - moments.at["changed"], cpu_s(other) - before)


def announce(home: Path, contribution: Digest) -> None:
    """Say that a contribution is there."""
    with Store.open(home) as store:
        federation = store.setting(FEDERATION)
        assert federation is not None
        now_ms = time.time_ns() // 1_000_000
        said = Operation.sign(
            identity.signing_key(home),
            Add(contribution),
            federation=Digest(federation),
            created_ms=now_ms,
        )
        store.add_operations([said.encoded])


async def measure(mib: int, rounds: int) -> None:
    """Print a table."""
    best: dict[str, Cost] = {}
    for _ in range(rounds):
        for what, work in (
            ("bare calls", bare(mib)),
            ("echo", bare(mib, os.urandom(MIB))),
            ("node, packing off", node(mib, compress=False)),
            ("node, packing tried", node(mib, compress=True)),
        ):
            cost = await work
            best[what] = min(best.get(what, cost), cost, key=lambda cost: cost.seconds)
    yardstick = best["bare calls"]
    for what, cost in best.items():
        rate, cpu = cost.bytes / 1e6 / cost.seconds, 1e9 * cost.cpu / cost.bytes
        print(
            f"{what:20} {rate:7.0f} MB/s  {yardstick.seconds / cost.seconds:.2f} of bare calls"
            f"   {cpu:6.2f} s CPU a GB  {cost.cpu / yardstick.cpu:.2f} times bare calls"
        )


def main() -> None:
    """Measure and print, or be the other end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--mib", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--role", choices=["measure", "bare", "node"], default="measure")
    parser.add_argument("--home", type=Path)
    arguments = parser.parse_args()
    if arguments.role == "bare":
        asyncio.run(serve_bare())
    elif arguments.role == "node":
        run(arguments.home, CONFIG, lambda serving: print(serving.listen.port, flush=True))
    else:
        asyncio.run(measure(arguments.mib, arguments.rounds))


if __name__ == "__main__":
    main()
