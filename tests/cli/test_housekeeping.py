"""Cleaning up as people do it: what was retracted is erased when they say so, and nothing else is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from crdtmerge.cli.main import main

Run = Callable[..., dict[str, Any]]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run one command in a federation with two contributions, the second in place; return its JSON."""
    monkeypatch.chdir(tmp_path)

    def command(*words: str) -> dict[str, Any]:
        with pytest.raises(SystemExit) as ended:
            main([*words, "--json"])
        out, err = capsys.readouterr()
        assert not ended.value.code, err + out
        parsed: dict[str, Any] = json.loads(out)
        return parsed

    for name, value in (("base", 1.0), ("one", 2.0), ("two", 3.0)):
        save_file({"w": torch.full((64,), value)}, f"{name}.safetensors")
    command("init", "--base", "base.safetensors")
    command("contribute", "one.safetensors", "--label", "one")
    command("contribute", "two.safetensors", "--label", "two", "--in-place")
    return command


def digest_of(run: Run, label: str) -> str:
    rows = run("status")["contributions"]
    return next(str(row["digest"]) for row in rows if row["label"] == label)


def blocks(tmp_path: Path) -> int:
    return len([path for path in (tmp_path / ".crdtmerge" / "blocks").rglob("*") if path.is_file()])


def test_what_was_retracted_rests_and_a_purge_erases_it_at_once(run: Run, tmp_path: Path) -> None:
    one = digest_of(run, "one")
    before = blocks(tmp_path)
    run("retract", one[:12])
    assert run("gc")["resting"] == [one]
    assert blocks(tmp_path) == before
    told = run("gc", "--purge", "--dry-run")
    assert (told["contributions"], told["blocks"], told["bytes"]) == ([one], 1, 256)
    assert blocks(tmp_path) == before
    assert run("gc", "--purge")["contributions"] == [one]
    assert blocks(tmp_path) == before - 1
    assert run("gc", "--purge")["blocks"] == 0
    run("verify")
    run("merge")


def test_a_file_contributed_in_place_stays_where_it_is(run: Run, tmp_path: Path) -> None:
    two, path = digest_of(run, "two"), tmp_path / "two.safetensors"
    content = path.read_bytes()
    run("retract", two[:12])
    assert run("gc", "--purge")["references"] == 1
    assert path.read_bytes() == content


def test_blocked_content_is_purged_and_results_made_of_it_are_named(run: Run, tmp_path: Path) -> None:
    one = digest_of(run, "one")
    folder = Path(run("merge")["file"]).parent
    run("block", one[:12])
    told = run("gc", "--purge")
    assert (told["contributions"], told["results"]) == ([one], [str(folder)])
    assert folder.exists()


def test_a_pinned_result_can_be_computed_again_after_a_retract(run: Run, tmp_path: Path) -> None:
    one = digest_of(run, "one")
    folder = Path(run("merge")["file"]).parent
    assert one in run("pin", str(folder))["pinned"]
    run("retract", one[:12])
    told = run("gc", "--purge")
    assert (told["contributions"], told["pinned"]) == ([], [one])
    run("pin", str(folder), "--remove")
    assert run("gc", "--purge")["contributions"] == [one]


def test_a_key_is_replaced_and_the_name_stays(run: Run, tmp_path: Path) -> None:
    home, node = tmp_path / ".crdtmerge", run("status")["node"]
    first = run("rotate")
    kept = (home / "tls.key").read_bytes()
    second = run("rotate")
    assert second["host"] != first["host"]
    assert (home / "tls.old.key").read_bytes() == kept
    assert run("rotate", "--at-once")["old_kept"] is False
    assert not (home / "tls.old.key").exists()
    assert run("status")["node"] == node
