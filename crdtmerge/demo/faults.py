"""A proxy that stands between real node processes and breaks the links between them on purpose.

    node a ──► door of a ──┐                 ┌──► address of b
                           ├── links (a, b) ─┤
    node c ──► door of c ──┘        (c, b)   └──► address of d

Every node gets a door of its own, an HTTP CONNECT proxy on a port that the operating system chooses, so
a connection is known by who dials and whom. What passes is TLS from end to end: the proxy can lose,
delay, slow down and damage bytes, but neither read them nor change them unnoticed, exactly like a network.

A fault belongs to a link, which is directed from the dialling node to the dialled one; cutting two nodes
apart takes both directions. The proxy lives on a thread of its own; its methods may be called from any.

gRPC uses a proxy that the channel argument ``grpc.http_proxy`` or the variable ``grpc_proxy`` names,
unless ``no_proxy`` exempts the address, as it commonly does for loopback. `ENVIRONMENT` prevents that.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import Enum
from itertools import permutations
from typing import Any, Final, Literal, Self, TypeAlias, TypeVar

T = TypeVar("T")
Direction: TypeAlias = Literal["sent", "received"]

HOST: Final = "127.0.0.1"
CHUNK_BYTES: Final = 64 * 1024
CHUNKS_UNDER_WAY: Final = 64
"""What a slow link holds before it stops reading: 4 MiB for each direction of a connection."""
REQUEST_TIMEOUT_S: Final = 10.0
RESET: Final = struct.pack("ii", 1, 0)
"""SO_LINGER with a time of 0: closing resets the connection."""

ENVIRONMENT: Final = {"no_grpc_proxy": "", "GRPC_VERBOSITY": "NONE"}
"""For every process that dials through a door: gRPC reads ``no_proxy`` only where ``no_grpc_proxy`` is
unset, and writes each refused connection to standard error unless told not to."""


class Cut(Enum):
    """How a link is cut."""

    NOT = "not"
    REFUSE = "refuse"
    """Connections are reset and new ones refused at once: an unplugged service."""
    SILENT = "silent"
    """Nothing is answered and nothing arrives until the link heals: an unplugged cable."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a link; by default nothing.

    Attributes:
        cut: whether anything passes.
        delay_s: added to the time that every byte takes, in each direction.
        bytes_per_s: shared by all connections of the link, in each direction; None is unlimited.
        damage_every: of so many bytes in each direction, the last one arrives changed; None is never.
    """

    cut: Cut = Cut.NOT
    delay_s: float = 0.0
    bytes_per_s: float | None = None
    damage_every: int | None = None


@dataclass(slots=True)
class Traffic:
    """What passed over a link so far, and what did not.

    Attributes:
        connects: requests to connect, refused ones included.
        refused: requests that the proxy refused.
        sent, received: bytes from the dialling node to the dialled one, and back.
        damaged: those of them that the proxy changed.
    """

    connects: int = 0
    refused: int = 0
    sent: int = 0
    received: int = 0
    damaged: int = 0


class _Link:
    """The state of one link; used on the proxy's thread only."""

    def __init__(self) -> None:
        self.fault = Fault()
        self.traffic = Traffic()
        self.passable = asyncio.Event()
        self.passable.set()
        self._carried: set[asyncio.Task[Any]] = set()
        self._free_at: dict[Direction, float] = {"sent": 0.0, "received": 0.0}

    def set(self, fault: Fault) -> None:
        self.fault = fault
        if fault.cut is Cut.SILENT:
            self.passable.clear()
        else:
            self.passable.set()
        if fault.cut is Cut.REFUSE:
            for tunnel in self._carried:
                tunnel.cancel()

    def refuses(self) -> bool:
        """Count a request to connect and say whether to refuse it."""
        refused = self.fault.cut is Cut.REFUSE
        self.traffic.connects += 1
        self.traffic.refused += refused
        return refused

    @contextmanager
    def carrying(self) -> Iterator[None]:
        """Let a fault of this link cancel the current task."""
        tunnel = asyncio.current_task()
        assert tunnel is not None  # noqa: S101  # only tasks call this
        self._carried.add(tunnel)
        try:
            yield
        finally:
            self._carried.discard(tunnel)

    def pump(
        self,
        group: asyncio.TaskGroup,
        direction: Direction,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        """Start to carry bytes one way: one task says when each chunk arrives, the other delivers it then."""
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(CHUNKS_UNDER_WAY)

        async def receive() -> None:
            chunk = b"first"
            while chunk:
                chunk = await reader.read(CHUNK_BYTES)
                await under_way.put((self._arrival(direction, len(chunk)), chunk))

        async def deliver() -> None:
            while True:
                arrival, chunk = await under_way.get()
                await asyncio.sleep(max(0.0, arrival - asyncio.get_running_loop().time()))
                await self.passable.wait()
                if not chunk:
                    return writer.write_eof()
                writer.write(self._passing(direction, chunk))
                await writer.drain()

        group.create_task(receive())
        group.create_task(deliver())

    def _passing(self, direction: Direction, chunk: bytes) -> bytes:
        """Count what passes and return what arrives of it."""
        passed = getattr(self.traffic, direction)
        setattr(self.traffic, direction, passed + len(chunk))
        every = self.fault.damage_every
        if every is None:
            return chunk
        arriving = bytearray(chunk)
        for place in range(every - 1 - passed % every, len(chunk), every):
            arriving[place] = (arriving[place] + 1) % 256
            self.traffic.damaged += 1
        return bytes(arriving)

    def _arrival(self, direction: Direction, size: int) -> float:
        """Return when bytes sent now arrive: after all before them, as fast as the rate allows."""
        begin = max(asyncio.get_running_loop().time(), self._free_at[direction])
        rate = self.fault.bytes_per_s
        self._free_at[direction] = begin + (size / rate if rate else 0.0)
        return self._free_at[direction] + self.fault.delay_s


class FaultProxy:
    """Doors for nodes, and the faults of the links between them; a context manager.

    Nodes are known by names of the caller's choice. A node that was not located is known by its address.
    """

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault-proxy", daemon=True)
        self._doors: dict[str, asyncio.Server] = {}
        self._names: dict[str, str] = {}
        self._links: defaultdict[tuple[str, str], _Link] = defaultdict(_Link)
        self._tunnels: set[asyncio.Task[None]] = set()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def door(self, source: str) -> str:
        """Open a node's door, if it has none yet, and return the URL that the node takes as its proxy."""
        return self._run(self._open(source))

    def locate(self, node: str, address: str) -> None:
        """Say at which ``host:port`` a node listens."""
        self._names[address] = node

    def set(self, source: str, target: str, fault: Fault) -> None:
        """Put a fault on the link over which `source` dials `target`, in place of what was there."""
        self._run(self._change({(source, target)}, lambda _: fault))

    def partition(self, *groups: Collection[str], cut: Cut = Cut.REFUSE) -> None:
        """Cut every link between nodes of different groups; a node in no group keeps its links.

        Delays, rates and damage stay as they are.
        """
        pairs = {(a, b) for one, other in permutations(groups, 2) for a in one for b in other}
        self._run(self._change(pairs, lambda fault: replace(fault, cut=cut)))

    def heal(self) -> None:
        """Undo every cut; delays, rates and damage stay as they are."""
        self._run(self._change(set(self._links), lambda fault: replace(fault, cut=Cut.NOT)))

    def traffic(self, source: str, target: str) -> Traffic:
        """Return a copy of what was counted for a link."""
        return replace(self._links[source, target].traffic)

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _change(self, pairs: Collection[tuple[str, str]], change: Callable[[Fault], Fault]) -> None:
        for pair in pairs:
            self._links[pair].set(change(self._links[pair].fault))

    async def _open(self, source: str) -> str:
        if source not in self._doors:

            def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                tunnel = self._loop.create_task(self._tunnel(source, reader, writer))
                self._tunnels.add(tunnel)
                tunnel.add_done_callback(self._tunnels.discard)

            self._doors[source] = await asyncio.start_server(accept, HOST, 0)
        host, port = self._doors[source].sockets[0].getsockname()
        return f"http://{host}:{port}"

    async def _close(self) -> None:
        for door in self._doors.values():
            door.close()
        for tunnel in self._tunnels:
            tunnel.cancel()
        await asyncio.gather(*self._tunnels, return_exceptions=True)
        await asyncio.sleep(0)  # aborted transports close their sockets in the loop's next round

    async def _tunnel(self, source: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection to a door until an end closes it or a fault cancels this task."""
        ends, orderly = [writer], False
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                request = await reader.readuntil(b"\r\n\r\n")
            _, target, _ = request.split(b" ", 2)
            address = target.decode("ascii")
            link = self._links[source, self._names.get(address, address)]
            with link.carrying():
                if link.refuses():
                    writer.write(b"HTTP/1.1 503 Link Cut\r\n\r\n")
                else:
                    await link.passable.wait()
                    host, _, port = address.rpartition(":")
                    far_reader, far_writer = await asyncio.open_connection(host.strip("[]"), int(port))
                    ends.append(far_writer)
                    writer.write(b"HTTP/1.1 200 Connection Established\r\n\r\n")
                    async with asyncio.TaskGroup() as pumps:
                        link.pump(pumps, "sent", reader, far_writer)
                        link.pump(pumps, "received", far_reader, writer)
            orderly = True
        except* (OSError, EOFError, ValueError, asyncio.LimitOverrunError):
            orderly = False  # an end is gone, or is no gRPC client: the other end hears a reset
        finally:
            for end in ends:
                _close(end, reset=not orderly)


def _close(end: asyncio.StreamWriter, *, reset: bool) -> None:
    """Close one end of a tunnel; with a reset, so that nobody takes it for an orderly end."""
    if not reset:
        end.close()
    elif not end.transport.is_closing():  # else its own peer was faster, and the socket may be gone
        connection = end.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        end.transport.abort()
