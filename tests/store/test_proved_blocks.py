"""A block that was hashed once need not be hashed again, and nothing else gets by without it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtmerge import block as block_module
from crdtmerge.block import Block
from crdtmerge.digest import Digest, Domain, digest
from crdtmerge.errors import LimitError
from crdtmerge.limits import BLOCK_BYTES
from crdtmerge.store import DiskBlocks, MemoryBlocks


@given(st.binary(max_size=3000))
def test_a_block_has_the_digest_of_its_bytes(data: bytes) -> None:
    assert Block(data).digest == digest(Domain.BLOCK, data)


def test_nobody_can_give_a_block_a_digest() -> None:
    make: Any = Block
    with pytest.raises(TypeError):
        make(b"data", Digest(bytes(32)))
    with pytest.raises(TypeError):
        make(data=b"data", digest=Digest(bytes(32)))
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(Block(b"data"), "digest", Digest(bytes(32)))  # noqa: B010 - mypy refuses the plain form
    with pytest.raises(ValueError, match="init=False"):
        dataclasses.replace(Block(b"data"), digest=Digest(bytes(32)))
    assert dataclasses.replace(Block(b"data"), data=b"other") == Block(b"other")


def test_bytes_that_change_later_change_no_block() -> None:
    data: Any = bytearray(b"data")
    block = Block(data)
    data[0] ^= 1
    assert (block.data, block.digest) == (b"data", digest(Domain.BLOCK, b"data"))


def test_a_block_longer_than_a_block_cannot_be_made() -> None:
    assert len(Block(bytes(BLOCK_BYTES)).data) == BLOCK_BYTES
    with pytest.raises(LimitError):
        Block(bytes(BLOCK_BYTES + 1))


def test_a_block_is_kept_under_its_own_digest_without_being_hashed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    block = Block(b"data")

    def never(data: object) -> Digest:
        raise AssertionError("hashed again")

    disk, memory = DiskBlocks(tmp_path), MemoryBlocks()
    with monkeypatch.context() as patched:
        patched.setattr(block_module, "digest", never)
        patched.setattr("crdtmerge.store.blocks.block_digest", never)
        assert disk.put(block) == memory.put(block) == block.digest
        with pytest.raises(AssertionError, match="hashed again"):
            disk.put(b"data")
    disk.flush()
    assert disk.get(block.digest) == memory.get(block.digest) == b"data"
    disk.close()
