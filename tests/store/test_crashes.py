"""What was acknowledged is there after `kill -9`, whole; and processes may write at once."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from crdtmerge.digest import from_hex
from crdtmerge.store import Store

WRITER = """
import os, sys
from pathlib import Path
from crdtmerge.digest import Digest
from crdtmerge.dtypes import DType
from crdtmerge.keys import SigningKey
from crdtmerge.manifest import Kind
from crdtmerge.op import Add, Operation
from crdtmerge.store import Store, ingest_tensors

home, seed, most = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
key = SigningKey(seed.to_bytes(32, "big"))
with Store.open(home) as store:
    for number in range(most):
        def content(tensor):  # every third tensor is the same for all, so writers meet
            mark = (seed, number, tensor) if tensor else (0, number, 0)
            return repr(mark).encode().ljust(1 << 12 << 2 * tensor, b".")
        tensors = {f"t{i}": (DType.U8, (len(content(i)),), content(i)) for i in range(3)}
        model = ingest_tensors(store, tensors, kind=Kind.FULL)
        os.write(1, b"manifest %s\\n" % model.digest.hex().encode())
        added = [
            Operation.sign(key, Add(model.digest), federation=Digest(bytes(32)), created_ms=2 * number + i)
            for i in range(2)
        ]
        store.add_operations(op.encoded for op in added)
        os.write(1, b"".join(b"operation %s\\n" % op.id.hex().encode() for op in added))
        store.set_setting(f"{seed}/last", str(number).encode())
        os.write(1, b"setting %d %d\\n" % (seed, number))
"""


def start(home: Path, seed: int, most: int = 1 << 30) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", WRITER, str(home), str(seed), str(most)]
    return subprocess.Popen(command, stdout=subprocess.PIPE)


def acknowledged(output: bytes) -> list[list[str]]:
    """Return the complete lines, as words."""
    return [line.split() for line in output.decode().split("\n")[:-1]]


def check(home: Path, acks: list[list[str]]) -> None:
    """Everything that was acknowledged is there, and everything that is there is sound."""
    with Store.open(home) as store:
        operations = {operation.id for operation in store.operations()}
        for what, *words in acks:
            if what == "operation":
                assert from_hex(words[0]) in operations
            elif what == "manifest":
                manifest = store.manifest(from_hex(words[0]))
                assert not store.missing(manifest)
                for tensor in manifest.tensors:
                    assert len(store.read(tensor, 0, tensor.bytes)) == tensor.bytes
            else:
                last = store.setting(f"{words[0]}/last")
                assert last is not None
                assert int(last) >= int(words[1])
        assert list(store.verify()) == []
        assert len(list((home / "partial").iterdir())) == 1  # our own


def test_kill_9_at_any_moment_loses_nothing_acknowledged(tmp_home: Path) -> None:
    chance = random.Random(20)
    acks: list[list[str]] = []
    for seed in range(12):
        with start(tmp_home, seed) as writer:
            assert writer.stdout is not None
            output = os.read(writer.stdout.fileno(), 1)  # it is writing now
            time.sleep(chance.uniform(0, 0.15))
            writer.send_signal(signal.SIGKILL)
            output += writer.stdout.read()
            assert writer.wait() == -signal.SIGKILL
        acks += acknowledged(output)
        check(tmp_home, acks)
    assert {ack[0] for ack in acks} == {"manifest", "operation", "setting"}


def test_processes_that_write_at_once_lose_nothing(tmp_home: Path) -> None:
    writers = [start(tmp_home, seed, most=10) for seed in range(3)]  # they create the home at once, too
    outputs = [writer.communicate()[0] for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0, 0]
    acks = [ack for output in outputs for ack in acknowledged(output)]
    assert len(acks) == 3 * 10 * 4
    check(tmp_home, acks)
    with Store.open(tmp_home) as store:
        assert len(list(store.operations())) == 3 * 10 * 2
        assert len(list(store.blocks)) == 10 + 3 * 10 * 2


def test_a_process_killed_while_others_write_takes_nothing_of_theirs(tmp_home: Path) -> None:
    with start(tmp_home, 1) as victim, start(tmp_home, 2, most=25) as other:
        assert victim.stdout is not None
        first = os.read(victim.stdout.fileno(), 1)
        time.sleep(0.05)
        victim.kill()
        killed = first + victim.stdout.read()
        output = other.communicate()[0]
        assert other.returncode == 0
    check(tmp_home, acknowledged(killed) + acknowledged(output))


def test_a_home_whose_making_was_interrupted_is_made_to_the_end(tmp_home: Path) -> None:
    tmp_home.mkdir()
    (tmp_home / "meta.db").touch()
    (tmp_home / "blocks").mkdir()
    with Store.open(tmp_home) as store:
        store.set_setting("a", b"1")
        assert list(store.verify()) == []
