"""Processes of a federation: started, waited for, named when they fail, and never left behind.

The nodes here are stand-ins of three lines, so that they can be made to misbehave.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from crdtmerge.demo import federation
from crdtmerge.demo.faults import FaultProxy
from crdtmerge.demo.federation import Federation
from crdtmerge.errors import DemoError

SERVES = "import json, time; print(json.dumps({'event': 'serving', 'address': '127.0.0.1:7'}), flush=True); "
GOOD = SERVES + "time.sleep(60)"
DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + GOOD
BROKEN = "import sys; sys.exit('no disk')"
MUTE = "import time; time.sleep(60)"
ANSWERS = "import json, os, sys; print(json.dumps({'given': sys.argv[1:], 'variables': sorted(os.environ)}))"


class Stub(Federation):
    """A federation whose every command is a script."""

    script = GOOD

    def _line(self, name: str, command: str, *arguments: str) -> list[str]:
        line = super()._line(name, command, *arguments)
        return [sys.executable, "-c", self.script, *line[3:]]

    def pid(self, name: str) -> int:
        return self._running[name].process.pid


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_served_node_has_an_address_and_ends_when_asked(tmp_path: Path) -> None:
    with Stub(tmp_path) as nodes:
        nodes.serve("a")
        pid = nodes.pid("a")
        assert nodes.address("a") == "127.0.0.1:7"
        assert is_alive(pid)
        nodes.stop("a")
        assert not is_alive(pid)


def test_every_process_ends_with_the_federation_even_when_it_is_interrupted(tmp_path: Path) -> None:
    pids = []

    def interrupted() -> None:
        with Stub(tmp_path) as nodes:
            for name in ("a", "b"):
                nodes.serve(name)
                pids.append(nodes.pid(name))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert len(pids) == 2
    assert not any(is_alive(pid) for pid in pids)


def test_a_node_that_ignores_the_request_to_end_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(federation, "STOP_S", 0.1)
    monkeypatch.setattr(Stub, "script", DEAF)
    with Stub(tmp_path) as nodes:
        nodes.serve("a")
        pid = nodes.pid("a")
    assert not is_alive(pid)


def test_a_node_that_fails_to_start_is_reported_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Stub, "script", BROKEN)
    with Stub(tmp_path) as nodes, pytest.raises(DemoError, match=r"a ended before it served(.|\n)*no disk"):
        nodes.serve("a")


def test_a_node_that_never_gets_ready_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(federation, "READY_S", 0.3)
    monkeypatch.setattr(Stub, "script", MUTE)
    with Stub(tmp_path) as nodes, pytest.raises(DemoError, match="a did not begin to serve"):
        nodes.serve("a")


def test_a_command_gets_home_and_json_and_no_proxy_that_is_meant_for_the_web(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", "http://example.invalid")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(Stub, "script", ANSWERS)
    with Stub(tmp_path) as nodes:
        answer = nodes.command("a", "status", "--more")
    assert answer["given"] == ["status", "--home", str(tmp_path / "a"), "--json", "--more"]
    assert {name for name in answer["variables"] if name.lower().endswith("_proxy")} == {"no_grpc_proxy"}


def test_a_command_that_fails_is_reported_with_what_it_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Stub, "script", BROKEN)
    with (
        Stub(tmp_path) as nodes,
        pytest.raises(DemoError, match="a: `crdtmerge init` ended with status 1: no disk"),
    ):
        nodes.command("a", "init")


def test_a_command_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Stub, "script", MUTE)
    with Stub(tmp_path) as nodes, pytest.raises(DemoError, match="took more than"):
        nodes.command("a", "status", timeout_s=0.3)


def test_every_node_dials_through_its_own_door(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[list[str]] = []
    original = Stub._line

    def noted(self: Stub, name: str, command: str, *arguments: str) -> list[str]:
        lines.append([name, *arguments])
        return original(self, name, command, *arguments)

    monkeypatch.setattr(Stub, "_line", noted)
    with FaultProxy() as faults, Stub(tmp_path, faults=faults) as nodes:
        nodes.serve("a")
        nodes.serve("b")
        doors = {line[0]: line[line.index("--proxy") + 1] for line in lines}
        assert doors == {"a": faults.door("a"), "b": faults.door("b")}
    assert doors["a"] != doors["b"]
