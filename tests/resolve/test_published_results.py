"""Results as folders: whole or absent, checked byte by byte, taken up again after an interruption."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from crdtmerge import Recipe, Replica, merge
from crdtmerge.errors import CorruptBlockError, MalformedError, UsageError
from crdtmerge.resolve import MODEL, RECORD, read_record, verify_result


def model(seed: int, rows: int = 64) -> dict[str, torch.Tensor]:
    draw, tune = torch.Generator().manual_seed(0), torch.Generator().manual_seed(seed)
    state = {f"layer{i}.weight": torch.randn(rows, 33, generator=draw) for i in range(4)}
    if seed:
        state = {k: v + 0.05 * torch.randn(v.shape, generator=tune) for k, v in state.items()}
    return state


@pytest.fixture
def replica(tmp_path: Path) -> Iterator[Replica]:
    with Replica.create(tmp_path / "home", base=model(0), recipe=Recipe("ties", density="0.4")) as made:
        for seed in (1, 2, 3):
            made.contribute(model(seed), label=str(seed))
        yield made


def test_a_published_model_is_the_one_that_merge_gives(replica: Replica) -> None:
    resolved = replica.resolve()
    merged = merge([model(i) for i in (1, 2, 3)], base=model(0), recipe=Recipe("ties", density="0.4"))
    loaded = load_file(resolved.folder / MODEL)
    assert loaded.keys() == merged.keys()
    assert all(loaded[name].equal(merged[name]) for name in merged)


def test_the_record_says_what_the_model_was_made_of(replica: Replica) -> None:
    resolved = replica.resolve()
    record = read_record(resolved.folder / RECORD)
    assert record == resolved.result
    assert record.contributions == replica.visible
    assert record.root == replica.root
    assert record.recipe.strategy == "ties"
    assert verify_result(resolved.folder) == record


def test_publishing_twice_gives_the_same_bytes(replica: Replica, tmp_path: Path) -> None:
    first, second = (
        replica.resolve(tmp_path / "a"),
        replica.resolve(tmp_path / "b", threads=3, budget_bytes=1),
    )
    assert first.result.digest == second.result.digest
    assert (tmp_path / "a" / MODEL).read_bytes() == (tmp_path / "b" / MODEL).read_bytes()
    assert (tmp_path / "a" / RECORD).read_bytes() == (tmp_path / "b" / RECORD).read_bytes()


def test_one_flipped_byte_anywhere_in_the_model_or_its_record_is_found(replica: Replica) -> None:
    folder = replica.resolve().folder
    for name in (MODEL, RECORD):
        path = folder / name
        good = path.read_bytes()
        for position in range(0, len(good), max(len(good) // 97, 1)):
            bad = bytearray(good)
            bad[position] ^= 0x20
            path.write_bytes(bad)
            with pytest.raises((CorruptBlockError, MalformedError)):
                verify_result(folder)
        path.write_bytes(good)
    verify_result(folder)


def test_a_result_that_is_there_is_checked_and_not_merged_again(replica: Replica) -> None:
    first = replica.resolve()
    merged: list[int] = []
    again = replica.resolve(progress=merged.append)
    assert again.result == first.result
    assert merged == []
    (folder,) = {first.folder, again.folder}
    content = bytearray((folder / MODEL).read_bytes())
    content[-1] ^= 1
    (folder / MODEL).write_bytes(content)
    with pytest.raises(CorruptBlockError):
        replica.resolve()


def test_a_folder_with_something_else_is_never_overwritten(replica: Replica, tmp_path: Path) -> None:
    replica.resolve(tmp_path / "out")
    replica.contribute(model(4))
    with pytest.raises(UsageError, match="holds another merged model"):
        replica.resolve(tmp_path / "out")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    with pytest.raises(UsageError, match="is no merged model"):
        replica.resolve(tmp_path / "mine")
    (tmp_path / "empty").mkdir()
    assert verify_result(replica.resolve(tmp_path / "empty").folder)


_SLOW = textwrap.dedent(
    """
    import sys, time
    from pathlib import Path
    from crdtmerge import Replica
    with Replica.open(sys.argv[1]) as replica:
        def slowly(done: int) -> None:
            print("tile", flush=True)
            time.sleep(0.02)
        replica.resolve(threads=1, budget_bytes=1, progress=slowly)
    """
)


def test_a_merge_killed_at_any_moment_is_taken_up_and_ends_in_the_same_bytes(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with Replica.create(home, base=model(0, 400), recipe=Recipe("task_arithmetic", scale=1)) as replica:
        replica.contribute(model(1, 400))
        replica.contribute(model(2, 400))
        wanted = replica.resolve(tmp_path / "whole").result
        name = f"{wanted.recipe.digest.hex()[:16]}-{wanted.root.hex()[:16]}"
    for kill_after in (3, 7, 9):
        with subprocess.Popen(
            [sys.executable, "-c", _SLOW, str(home)], stdout=subprocess.PIPE, env=os.environ
        ) as process:
            assert process.stdout is not None
            for _ in range(kill_after):
                process.stdout.readline()
            process.send_signal(signal.SIGKILL)
            process.wait(timeout=60)
        assert not (home / "results" / name).exists()
    with Replica.open(home) as replica:
        merged: list[int] = []
        started = time.monotonic()
        resolved = replica.resolve(progress=merged.append)
        assert time.monotonic() - started < 60
    assert resolved.result == wanted
    assert sum(merged) < replica_elements(400)
    assert (resolved.folder / MODEL).read_bytes() == (tmp_path / "whole" / MODEL).read_bytes()


def test_an_interrupted_merge_leaves_nothing_to_a_merge_by_another_recipe(
    replica: Replica, tmp_path: Path
) -> None:
    left = 3 * 64 * 33

    def interrupt(done: int) -> None:
        nonlocal left
        left -= done
        if left < 0:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        replica.resolve(tmp_path / "out", recipe=Recipe("task_arithmetic", scale=5), progress=interrupt)
    assert any(journal.read_text() for journal in (tmp_path / "out.part").glob("done-*"))
    resolved = replica.resolve(tmp_path / "out", recipe=Recipe("weight_average"))
    assert resolved.result == replica.resolve(tmp_path / "alone", recipe=Recipe("weight_average")).result
    assert verify_result(resolved.folder) == resolved.result
    assert {path.name for path in resolved.folder.iterdir()} == {MODEL, RECORD}


def replica_elements(rows: int) -> int:
    return sum(tensor.numel() for tensor in model(0, rows).values())


def test_a_tensor_damaged_while_the_merge_was_interrupted_is_merged_again(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with Replica.create(home, base=model(0, 400), recipe=Recipe("task_arithmetic", scale=1)) as replica:
        replica.contribute(model(1, 400))
        wanted = replica.resolve(tmp_path / "whole").result
        with pytest.raises(KeyboardInterrupt):
            replica.resolve(budget_bytes=1, threads=1, progress=_interrupt_after(8))
        (part,) = (home / "results").glob("*.part/*.part")
        content = bytearray(part.read_bytes())
        content[len(content) // 8] ^= 1
        part.write_bytes(content)
        resolved = replica.resolve()
    assert resolved.result == wanted
    assert verify_result(resolved.folder) == wanted


def _interrupt_after(tiles: int):  # type: ignore[no-untyped-def]
    left = [tiles]

    def progress(_: int) -> None:
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt

    return progress
