"""A user's file is read where it is, and never believed; see crdtmerge/store/references.py."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from crdtmerge.dtypes import DType
from crdtmerge.errors import CorruptBlockError, NotYetError
from crdtmerge.limits import BLOCK_BYTES
from crdtmerge.manifest import Kind, Manifest
from crdtmerge.store import Store, TensorFileWriter, block_digest, ingest_file
from crdtmerge.sync.messages import GetBlock, Have
from crdtmerge.sync.server import Server

CONTENT = bytes(BLOCK_BYTES) + b"tail"
NAMES = (block_digest(CONTENT[:BLOCK_BYTES]), block_digest(b"tail"))


@pytest.fixture
def store(tmp_home: Path) -> Iterator[Store]:
    with Store.open(tmp_home) as opened:
        yield opened


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    with TensorFileWriter(path, [("w", DType.U8, (len(CONTENT),))]) as writer:
        writer.write("w", 0, CONTENT)
        writer.publish()
    return path


@pytest.fixture
def manifest(store: Store, model: Path) -> Manifest:
    return ingest_file(store, model, kind=Kind.FULL, reference=True)


def edit(path: Path, position: int, *, keep_times: bool = False) -> None:
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(position, os.SEEK_END)
        file.write(b"!")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + (0 if keep_times else 1)))


def test_a_referenced_file_is_not_copied(store: Store, manifest: Manifest, tmp_home: Path) -> None:
    assert [path for path in (tmp_home / "blocks").rglob("*") if path.is_file()] == []
    assert list(store.blocks) == sorted(NAMES)
    assert not store.missing(manifest)


def test_references_are_there_when_the_home_is_opened_again(
    store: Store, manifest: Manifest, tmp_home: Path
) -> None:
    with Store.open(tmp_home) as other:
        assert other.read(manifest.tensors[0], 0, len(CONTENT)) == CONTENT


def test_a_file_that_changed_counts_as_gone_and_its_references_are_dropped(
    store: Store, manifest: Manifest, model: Path
) -> None:
    edit(model, -1)
    assert not store.blocks.has(NAMES[0])
    assert list(store.blocks) == []
    with pytest.raises(NotYetError) as caught:
        store.read(manifest.tensors[0], 0, 1)
    assert caught.value.wanted == (NAMES[0],)
    assert store.missing(manifest).blocks == NAMES


def test_a_file_that_was_replaced_by_an_equal_one_counts_as_gone(
    store: Store, manifest: Manifest, model: Path
) -> None:
    status, copy = model.stat(), model.with_name("copy")
    copy.write_bytes(model.read_bytes())
    os.utime(copy, ns=(status.st_atime_ns, status.st_mtime_ns))
    copy.replace(model)
    assert store.missing(manifest).blocks == NAMES


def test_a_change_that_hides_its_time_is_found_by_the_hash(
    store: Store, manifest: Manifest, model: Path
) -> None:
    edit(model, -1, keep_times=True)
    assert store.blocks.has(NAMES[1])
    with pytest.raises(NotYetError):
        store.blocks.get(NAMES[1])
    assert not store.blocks.has(NAMES[1])
    assert store.blocks.get(NAMES[0]) == CONTENT[:BLOCK_BYTES]


def test_a_file_out_of_reach_is_absent_until_it_comes_back(
    store: Store, manifest: Manifest, model: Path
) -> None:
    away = model.rename(model.with_name("away"))
    assert store.missing(manifest).blocks == NAMES
    with pytest.raises(NotYetError):
        store.blocks.get(NAMES[0])
    away.rename(model)
    assert not store.missing(manifest)


def test_a_pipe_in_the_place_of_the_file_is_not_waited_for(
    store: Store, manifest: Manifest, model: Path
) -> None:
    model.unlink()
    os.mkfifo(model)
    with pytest.raises(NotYetError):
        store.blocks.get(NAMES[0])


def test_a_block_in_two_files_is_read_from_the_one_that_is_left(
    store: Store, manifest: Manifest, model: Path
) -> None:
    copy = model.with_name("copy.safetensors")
    copy.write_bytes(model.read_bytes())
    assert ingest_file(store, copy, kind=Kind.FULL, reference=True) == manifest
    model.unlink()
    assert store.read(manifest.tensors[0], 0, len(CONTENT)) == CONTENT


def test_a_changed_file_can_be_taken_in_again(store: Store, manifest: Manifest, model: Path) -> None:
    edit(model, -1)
    again = ingest_file(store, model, kind=Kind.FULL, reference=True)
    assert again != manifest
    assert store.read(again.tensors[0], BLOCK_BYTES, len(CONTENT)) == b"tai!"
    assert store.missing(manifest).blocks == (NAMES[1],)


def test_discarding_a_referenced_block_leaves_the_file_alone(
    store: Store, manifest: Manifest, model: Path
) -> None:
    store.discard(NAMES[1])
    assert not store.blocks.has(NAMES[1])
    assert model.read_bytes().endswith(b"tail")


def test_a_block_of_our_own_is_asked_before_the_file(store: Store, manifest: Manifest, model: Path) -> None:
    store.blocks.put(b"tail")
    model.unlink()
    assert store.missing(manifest).blocks == (NAMES[0],)
    assert list(store.blocks) == sorted(NAMES)


def test_a_stale_file_is_found_by_verify_with_all_that_was_left_in_it(
    store: Store, manifest: Manifest, model: Path
) -> None:
    assert list(store.verify()) == []
    edit(model, -1)
    for _ in range(2):
        (problem,) = store.verify()
        assert isinstance(problem, NotYetError)
        assert set(problem.wanted) == set(NAMES)
        assert str(model) in str(problem)
    assert len(list(store.verify(discard=True))) == 1
    assert list(store.verify()) == []


def test_a_flipped_byte_in_a_file_is_found_by_verify(store: Store, manifest: Manifest, model: Path) -> None:
    edit(model, -2, keep_times=True)
    (problem,) = store.verify(discard=True)
    assert isinstance(problem, CorruptBlockError)
    assert (problem.wanted, problem.got) == (NAMES[1], block_digest(b"ta!l"))
    assert problem.where == str(model)
    assert store.missing(manifest).blocks == (NAMES[1],)


def test_a_node_serves_nothing_from_a_file_that_changed_and_says_which_it_was(
    store: Store, manifest: Manifest, model: Path
) -> None:
    blocks = [block for tensor in manifest.tensors for block in store.block_list(tensor.root)]
    server = Server(store)
    assert server.block(GetBlock(blocks[0])).data is not None
    assert store.references.changed() == []
    edit(model, -1, keep_times=True)
    served = [server.block(GetBlock(block)).data for block in blocks]
    assert [block for block, data in zip(blocks, served, strict=True) if data is None] == blocks[-1:]
    assert store.references.changed() == [model.resolve()]
    assert int.from_bytes(server.have(Have(tuple(blocks))).bitmap, "little").bit_count() == len(blocks) - 1
    edit(model, -1)
    assert server.have(Have(tuple(blocks))).bitmap.strip(b"\0") == b""
    assert store.references.changed() == [model.resolve()]
    assert store.references.changed() == []
