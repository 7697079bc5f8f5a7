"""A peer writes paths where names belong, and hopes that something is written or read there."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from crdtmerge import Replica
from crdtmerge.resolve import MODEL

NAMES = ["../../outside", "/outside", "a/../../outside", "..", "~/outside", "C:\\outside", "con\x00"]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_is_a_path_stays_a_name(tmp_path: Path, name: str) -> None:
    home = tmp_path / "deep" / "home"
    with Replica.create(home, base={name: torch.ones(4)}) as replica:
        replica.contribute({name: torch.tensor([1.0, 2.0, 1.0, 1.0])}, label=name, metadata={name: name})
        made = replica.resolve(threads=1)
    assert set(load_file(made.folder / MODEL)) == {name}
    assert {path.relative_to(tmp_path).parts[0] for path in tmp_path.rglob("*")} == {"deep"}
    assert {path.name for path in home.iterdir()} <= {
        *("blocks", "partial", "results", "identity.key", "gc.lock"),
        *("meta.db", "meta.db-wal", "meta.db-shm"),
    }


def test_what_is_written_is_named_by_digests_alone(tmp_path: Path) -> None:
    with Replica.create(tmp_path / "home", base={"../w": torch.ones(4)}) as replica:
        replica.contribute({"../w": torch.tensor([1.0, 2.0, 1.0, 1.0])}, label="../../label")
        folder = replica.resolve(threads=1).folder
    assert folder.parent == tmp_path / "home" / "results"
    assert set(folder.name) <= set("0123456789abcdef-")
    for block in (tmp_path / "home" / "blocks").glob("*/*"):
        assert set(block.parent.name + block.name) <= set("0123456789abcdef")
