"""Real node processes of one federation on this machine, each with a home and a socket of its own.

    directory/
      node-1/  node-2/  …     the homes
      node-1.log  …           what each node wrote to standard error

Every process is started as a person would start it, by the command line. What is said about a federation
in a program (contribute, retract, where it stands) may be done in this process, beside the node that
serves the same home: that is what homes are for, and spares a start of the tensor library.

Leaving the context ends every process, whatever happened; files are left to who made the directory.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, Self

from crdtmerge.demo.faults import ENVIRONMENT, FaultProxy
from crdtmerge.digest import Digest
from crdtmerge.errors import DemoError
from crdtmerge.ledger import Ledger, Status
from crdtmerge.replica import Replica

READY_S: Final = 30.0
"""For a node to serve: it has to load its libraries, perhaps on a busy machine."""
COMMAND_S: Final = 60.0
SETTLE_S: Final = 45.0
"""For nodes to agree after a partition: several rounds of gossip, some of them with who seemed dead."""
POLL_S: Final = 0.1
STOP_S: Final = 10.0
LOG_LINES: Final = 20


@dataclass(frozen=True)
class _Node:
    """A process that serves a home.

    Attributes:
        process: of `crdtmerge serve`.
        address: where it listens.
        output: its open files: standard output and the log.
    """

    process: subprocess.Popen[bytes]
    address: str
    output: tuple[IO[bytes], ...]


def answer(
    line: list[str], what: str, environment: dict[str, str], *, timeout_s: float = COMMAND_S
) -> dict[str, Any]:
    """Run a command that prints one JSON object, and return that.

    Raises:
        DemoError: if it fails or takes too long; ``what`` names it.
    """
    try:
        done = subprocess.run(line, capture_output=True, env=environment, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired as error:
        raise DemoError(f"{what} took more than {timeout_s:.0f} s") from error
    if done.returncode != 0:
        said = (done.stdout + done.stderr).decode("utf-8", "replace").strip()
        raise DemoError(f"{what} ended with status {done.returncode}: {said}")
    given: dict[str, Any] = json.loads(done.stdout)
    return given


class Federation:
    """Starts, joins, watches and stops nodes; a context manager.

    Attributes:
        directory: holds the homes and the logs.
        names: of all nodes, in the order in which they joined; the first one is the founder.
    """

    def __init__(self, directory: Path, *, faults: FaultProxy | None = None, period_s: float = 0.5) -> None:
        """Prepare; nothing is started yet.

        Args:
            directory: exists, and holds no homes yet.
            faults: the proxy through which nodes reach each other; directly without one.
            period_s: between two rounds of anti-entropy of a node.
        """
        self.directory = directory
        self.names: tuple[str, ...] = ()
        self._faults = faults
        self._period_s = period_s
        self._running: dict[str, _Node] = {}
        self._addresses: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            for node in self._running.values():
                node.process.terminate()
            for name in list(self._running):
                self._end(name)
        finally:  # also when interrupted a second time
            for node in self._running.values():
                node.process.kill()

    def home(self, name: str) -> Path:
        """Return a node's folder."""
        return self.directory / name

    def address(self, name: str) -> str:
        """Return where a node listens, or listened last."""
        return self._addresses[name]

    def found(self, name: str, *, base: Path, recipe: str = "weight_average") -> None:
        """Create the federation with a first node, and serve it."""
        self.command(name, "init", "--base", str(base), "--recipe", recipe)
        self.names = (name,)
        self.serve(name)

    def join(self, *names: str) -> None:
        """Let nodes join by tickets of the founder, several at a time, and serve them."""

        def enter(name: str) -> None:
            founder = self.names[0]
            ticket = self.command(founder, "invite", "--address", self.address(founder))["ticket"]
            self.command(name, "join", ticket, *self._proxy(name))
            self.serve(name)

        with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
            list(pool.map(enter, names))
        self.names += names

    def serve(self, name: str) -> None:
        """Start a node and wait until it listens: where it did before, if it ever did.

        Raises:
            DemoError: if it ends or is not ready in time.
        """
        listen = self._addresses.get(name, "127.0.0.1:0")
        arguments = ["--listen", listen, "--period", str(self._period_s), *self._proxy(name)]
        output = self.directory / f"{name}.out"
        files = output.open("wb"), self._log(name).open("ab")
        process = subprocess.Popen(
            self._line(name, "serve", *arguments),
            stdin=subprocess.DEVNULL,
            stdout=files[0],
            stderr=files[1],
            env=self._environment(),
            start_new_session=True,  # an interrupt at the terminal is for this process, which ends them all
        )
        self._running[name] = _Node(process, listen, files)
        deadline = time.monotonic() + READY_S
        while b"\n" not in (said := output.read_bytes()):
            ended = process.poll() is not None
            if ended or time.monotonic() > deadline:
                self.kill(name)
                how = "ended before it served" if ended else f"did not begin to serve within {READY_S:.0f} s"
                raise DemoError(f"{name} {how}{self._tail(name)}")
            time.sleep(POLL_S / 2)
        address = str(json.loads(said.splitlines()[0])["address"])
        self._addresses[name] = address
        if self._faults is not None:
            self._faults.locate(name, address)

    def stop(self, name: str) -> int:
        """Ask a node to end, wait for it, and return its exit status."""
        self._running[name].process.terminate()
        return self._end(name)

    def kill(self, name: str) -> None:
        """End a node as a power cut would."""
        self._running[name].process.kill()
        self._end(name)

    def command(
        self, name: str, command: str, *arguments: str, timeout_s: float = COMMAND_S
    ) -> dict[str, Any]:
        """Run ``crdtmerge COMMAND --home … --json`` on a node's home and return what it printed.

        Raises:
            DemoError: if it fails or takes too long, with what it said.
        """
        line = self._line(name, command, *arguments)
        return answer(line, f"{name}: `crdtmerge {command}`", self._environment(), timeout_s=timeout_s)

    @contextmanager
    def replica(self, name: str) -> Iterator[Replica]:
        """Open a node's home in this process too, running or not."""
        with Replica.open(self.home(name)) as replica:
            yield replica

    def status(self, name: str) -> Status:
        """Return where a node stands, as its home tells."""
        with Ledger.open(self.home(name)) as ledger:
            return ledger.status()

    def settle(
        self, *names: str, contributions: Collection[Digest], timeout_s: float = SETTLE_S
    ) -> dict[str, Status]:
        """Wait until nodes see exactly some contributions, hold all their content and agree in all else.

        Args:
            names: the nodes; all by default.
            contributions: what each is to see.
            timeout_s: how long to wait.

        Raises:
            DemoError: if they do not in time, or if one of them ended.
        """
        wanted = tuple(sorted(contributions))
        deadline = time.monotonic() + timeout_s
        while True:
            stand = {name: self.status(name) for name in names or self.names}
            complete = all(s.contributions == wanted == s.ready for s in stand.values())
            if complete and len({s.state_root for s in stand.values()}) == 1:
                return stand
            for name in stand:
                if name in self._running and self._running[name].process.poll() is not None:
                    raise DemoError(f"{name} ended by itself{self._tail(name)}")
            if time.monotonic() > deadline:
                seen = "; ".join(
                    f"{name} sees {len(set(s.contributions) & set(wanted))} of {len(wanted)}"
                    f" and {len(set(s.contributions) - set(wanted))} others, holds {len(s.ready)},"
                    f" state {s.state_root.hex()[:8]}"
                    for name, s in stand.items()
                )
                raise DemoError(f"no agreement within {timeout_s:.0f} s: {seen}{self._tail(*stand)}")
            time.sleep(POLL_S)

    def _line(self, name: str, command: str, *arguments: str) -> list[str]:
        home = ["--home", str(self.home(name)), "--json"]
        return [sys.executable, "-m", "crdtmerge.cli", command, *home, *arguments]

    def _proxy(self, name: str) -> list[str]:
        return [] if self._faults is None else ["--proxy", self._faults.door(name)]

    def _log(self, name: str) -> Path:
        return self.directory / f"{name}.log"

    def _tail(self, *names: str) -> str:
        """Return the end of some nodes' logs, for an error message."""
        text = ""
        for name in names:
            lines = self._log(name).read_text("utf-8", "replace").splitlines()[-LOG_LINES:]
            text += "".join(f"\n  {name}: {line}" for line in lines)
        return text

    def _environment(self) -> dict[str, str]:
        """Return this process' environment without the proxies that are meant for the web."""
        own = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        return own | ENVIRONMENT

    def _end(self, name: str) -> int:
        """Wait for a process that was told to end, make it end if it does not, and return its status."""
        node = self._running[name]
        try:
            status = node.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            node.process.kill()
            status = node.process.wait()
        for file in node.output:
            file.close()
        del self._running[name]
        return status
