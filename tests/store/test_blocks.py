"""What is put comes back, or an error says why not; see crdtmerge/store/blocks.py and disk.py."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtmerge.digest import Digest
from crdtmerge.errors import (
    CorruptBlockError,
    LimitError,
    NotYetError,
    OutOfSpaceError,
    StoreError,
)
from crdtmerge.limits import BLOCK_BYTES
from crdtmerge.store import DiskBlocks, MemoryBlocks, block_digest, files
from crdtmerge.store import disk as disk_module

AnyBlocks = DiskBlocks | MemoryBlocks


@pytest.fixture(params=["memory", "disk"])
def blocks(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[AnyBlocks]:
    opened: AnyBlocks = MemoryBlocks() if request.param == "memory" else DiskBlocks(tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[DiskBlocks]:
    opened = DiskBlocks(tmp_path)
    yield opened
    opened.close()


def file_of(home: Path, name: Digest) -> Path:
    return home / "blocks" / name.hex()[:2] / name.hex()


def waiting(home: Path) -> list[Path]:
    return [path for path in (home / "partial").rglob("*") if path.is_file()]


@pytest.mark.parametrize("data", [b"", b"x", bytes(BLOCK_BYTES)], ids=["empty", "one byte", "full"])
def test_a_block_comes_back_before_and_after_a_flush(blocks: AnyBlocks, data: bytes) -> None:
    name = blocks.put(memoryview(data))
    assert name == block_digest(data)
    assert blocks.get(name) == data
    blocks.flush()
    assert blocks.get(name) == data
    assert blocks.has(name)
    assert list(blocks) == [name]


def test_a_block_that_is_not_there_is_named_by_the_error(blocks: AnyBlocks) -> None:
    name = block_digest(b"never put")
    assert not blocks.has(name)
    with pytest.raises(NotYetError) as caught:
        blocks.get(name)
    assert caught.value.wanted == (name,)


def test_a_block_of_one_byte_too_many_is_refused(blocks: AnyBlocks) -> None:
    with pytest.raises(LimitError):
        blocks.put(bytes(BLOCK_BYTES + 1))
    assert list(blocks) == []


@pytest.mark.parametrize("flushed", [False, True])
def test_a_discarded_block_is_gone_and_can_come_again(blocks: AnyBlocks, flushed: bool) -> None:
    name = blocks.put(b"data")
    if flushed:
        blocks.flush()
    blocks.discard(name)
    blocks.discard(name)
    assert not blocks.has(name)
    assert list(blocks) == []
    assert blocks.put(b"data") == name
    blocks.flush()
    assert blocks.get(name) == b"data"


@given(contents=st.lists(st.binary(max_size=8), max_size=20))
def test_blocks_are_a_set_and_iterate_ascending(
    contents: list[bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    disk = DiskBlocks(tmp_path_factory.mktemp("home"))
    for number, data in enumerate(contents):
        disk.put(data)
        if number % 3 == 0:
            disk.flush()
    assert list(disk) == sorted({block_digest(data) for data in contents})
    disk.close()


def test_blocks_of_a_closed_process_are_there_for_the_next(tmp_path: Path) -> None:
    first = DiskBlocks(tmp_path)
    name = first.put(b"data")
    first.flush()
    first.close()
    second = DiskBlocks(tmp_path)
    assert second.get(name) == b"data"
    second.close()


def test_a_block_has_no_name_before_it_is_durable(disk: DiskBlocks, tmp_path: Path) -> None:
    name = disk.put(b"data")
    assert not file_of(tmp_path, name).exists()
    other = DiskBlocks(tmp_path)
    assert not other.has(name)
    disk.flush()
    assert other.get(name) == b"data"
    other.close()


def test_files_are_synced_before_they_are_renamed_and_folders_after(
    disk: DiskBlocks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[tuple[str, str]] = []
    fsync, replace = os.fsync, Path.replace

    def traced_fsync(descriptor: int) -> None:
        steps.append(("fsync", str(Path(f"/proc/self/fd/{descriptor}").readlink())))
        fsync(descriptor)

    def traced_replace(self: Path, target: Path) -> Path:
        steps.append(("rename", str(self)))
        steps.append(("to", str(target)))
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", traced_fsync)
    monkeypatch.setattr(Path, "replace", traced_replace)
    final = file_of(tmp_path, disk.put(b"data"))
    (temporary,) = waiting(tmp_path)
    disk.flush()
    assert steps[:3] == [("fsync", str(temporary)), ("rename", str(temporary)), ("to", str(final))]
    assert set(steps[3:]) == {("fsync", str(final.parent)), ("fsync", str(tmp_path / "blocks"))}


def test_a_block_that_is_there_is_not_written_again(disk: DiskBlocks, tmp_path: Path) -> None:
    name = disk.put(b"data")
    disk.put(b"data")
    assert len(waiting(tmp_path)) == 1
    disk.flush()
    before = file_of(tmp_path, name).stat()
    disk.put(b"data")
    assert waiting(tmp_path) == []
    disk.flush()
    assert file_of(tmp_path, name).stat() == before


def test_a_folder_renamed_into_by_another_process_is_synced_by_whoever_relies_on_it(
    disk: DiskBlocks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = DiskBlocks(tmp_path)
    name = other.put(b"data")
    other.flush()
    synced: list[Path] = []
    sync = files.sync

    def traced(path: Path) -> None:
        synced.append(path)
        sync(path)

    monkeypatch.setattr(files, "sync", traced)
    disk.put(b"data")
    disk.flush()
    assert file_of(tmp_path, name).parent in synced
    other.close()


@pytest.mark.parametrize("position", [0, 1, 499, 999])
def test_one_flipped_byte_is_found_by_the_next_read(disk: DiskBlocks, tmp_path: Path, position: int) -> None:
    name = disk.put(bytes(1000))
    disk.flush()
    path = file_of(tmp_path, name)
    raw = bytearray(path.read_bytes())
    raw[position] ^= 1
    path.write_bytes(raw)
    with pytest.raises(CorruptBlockError) as caught:
        disk.get(name)
    assert (caught.value.wanted, caught.value.got) == (name, block_digest(raw))
    assert caught.value.where == str(path)


@pytest.mark.parametrize("damage", [b"", bytes(999), bytes(1001), bytes(2 * BLOCK_BYTES)])
def test_a_block_of_another_length_is_found_and_heals_by_being_put(
    disk: DiskBlocks, tmp_path: Path, damage: bytes
) -> None:
    name = disk.put(bytes(1000))
    disk.flush()
    file_of(tmp_path, name).write_bytes(damage)
    with pytest.raises(CorruptBlockError):
        disk.get(name)
    disk.put(bytes(1000))
    disk.flush()
    assert disk.get(name) == bytes(1000)


def test_files_of_other_names_are_no_blocks(disk: DiskBlocks, tmp_path: Path) -> None:
    name = disk.put(b"data")
    disk.flush()
    for stray in (".DS_Store", name.hex().upper(), name.hex() + "~"):
        (file_of(tmp_path, name).parent / stray).touch()
    assert list(disk) == [name]


def test_reaching_the_budget_flushes(
    disk: DiskBlocks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk_module, "FLUSH_BYTES", 3000)
    names = [disk.put(bytes([number]) * 1000) for number in range(4)]
    assert len(waiting(tmp_path)) == 1
    assert [file_of(tmp_path, name).exists() for name in names] == [True, True, True, False]


def test_threads_that_put_the_same_blocks_at_once_keep_each_once(disk: DiskBlocks, tmp_path: Path) -> None:
    contents = [number.to_bytes(2) * 50 for number in range(40)]
    start = threading.Barrier(4)

    def work(_: int) -> None:
        start.wait()
        for number, data in enumerate(contents):
            disk.put(data)
            if number % 7 == 0:
                disk.flush()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    disk.flush()
    assert waiting(tmp_path) == []
    assert [disk.get(name) for name in disk] == [
        disk.get(name) for name in sorted(map(block_digest, contents))
    ]


def test_readers_never_miss_a_block_while_it_is_renamed(disk: DiskBlocks) -> None:
    name = disk.put(b"data")
    stop = threading.Event()

    def read() -> int:
        count = 0
        while not stop.is_set():
            assert disk.has(name)
            assert disk.get(name) == b"data"
            count += 1
        return count

    with ThreadPoolExecutor(2) as pool:
        reader = pool.submit(read)
        for number in range(30):
            disk.put(number.to_bytes(4))
            disk.flush()
        stop.set()
        assert reader.result() > 0


def failing_at(call: int, error: int, real: Callable[..., int]) -> Callable[..., int]:
    """Return ``real`` with an error at the given call; a write gets half of its bytes out first."""
    calls = iter(range(1, 1 << 30))

    def fake(descriptor: int, *arguments: object) -> int:
        if next(calls) == call:
            if arguments:
                data, offset = arguments
                assert isinstance(data, memoryview)
                real(descriptor, data[: len(data) // 2], offset)
            raise OSError(error, os.strerror(error))
        return real(descriptor, *arguments)

    return fake


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_leaves_nothing_half_written(
    disk: DiskBlocks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    first = disk.put(b"first")
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", failing_at(1, error, os.pwrite))
        with pytest.raises(OutOfSpaceError):
            disk.put(b"second")
    assert len(waiting(tmp_path)) == 1
    assert not disk.has(block_digest(b"second"))
    second = disk.put(b"second")  # room was made
    disk.flush()
    assert [disk.get(first), disk.get(second)] == [b"first", b"second"]


def test_a_rename_that_failed_is_done_by_the_next_flush(
    disk: DiskBlocks, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    names = [disk.put(bytes([number])) for number in range(5)]

    def full(self: Path, target: Path) -> Path:
        raise OSError(errno.ENOSPC, "no room for a name")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full)
        with pytest.raises(OutOfSpaceError):
            disk.flush()
    assert all(disk.has(name) for name in names)
    disk.flush()
    assert all(file_of(tmp_path, name).exists() for name in names)


def test_after_a_failed_fsync_nothing_is_acknowledged_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = DiskBlocks(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing_at(1, errno.EIO, lambda _: 0))
        name = disk.put(b"data")
        with pytest.raises(StoreError):
            disk.flush()
    with pytest.raises(StoreError, match="again"):
        disk.put(b"other")
    with pytest.raises(StoreError, match="again"):
        disk.flush()
    assert not disk.has(name)
    assert waiting(tmp_path) == []
    disk.close()
    again = DiskBlocks(tmp_path)
    assert not again.has(name)
    assert again.put(b"data") == name
    again.flush()
    again.close()


def test_what_a_dead_process_left_is_removed_and_what_a_live_one_writes_is_not(tmp_path: Path) -> None:
    alive = DiskBlocks(tmp_path)
    name = alive.put(b"data")
    left = tmp_path / "partial" / "left by a dead process"
    left.mkdir()
    (left / "half a block").write_bytes(b"half")
    DiskBlocks(tmp_path).close()
    assert not left.exists()
    alive.flush()
    assert alive.get(name) == b"data"
    alive.close()
    assert list((tmp_path / "partial").iterdir()) == []
