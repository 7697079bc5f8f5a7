"""What a store is told it still knows, in other threads and processes too; see crdtmerge/store/store.py."""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from crdtmerge.digest import Digest
from crdtmerge.dtypes import DType
from crdtmerge.errors import (
    LimitError,
    MalformedError,
    NotYetError,
    OutOfSpaceError,
    ParameterError,
    StoreError,
)
from crdtmerge.keys import SigningKey
from crdtmerge.limits import BLOCK_BYTES, OPERATION_BYTES_MAX
from crdtmerge.manifest import Kind, Manifest, Tensor, tensor_root
from crdtmerge.op import Add, Operation
from crdtmerge.store import Missing, Store, block_digest
from crdtmerge.store import missing as missing_module
from crdtmerge.store import store as store_module
from crdtmerge.store.database import SCHEMA_VERSION

KEY = SigningKey(bytes(32))
FEDERATION = Digest(bytes(32))


def operation(number: int) -> Operation:
    contribution = Digest(number.to_bytes(32, "big"))
    return Operation.sign(KEY, Add(contribution), federation=FEDERATION, created_ms=number)


@pytest.fixture(params=["memory", "disk"])
def store(request: pytest.FixtureRequest, tmp_home: Path) -> Iterator[Store]:
    with Store.memory() if request.param == "memory" else Store.open(tmp_home) as opened:
        yield opened


def put(store: Store, name: str, content: bytes, *, dtype: DType = DType.U8) -> Tensor:
    blocks = [store.blocks.put(content[i : i + BLOCK_BYTES]) for i in range(0, len(content), BLOCK_BYTES)]
    shape = (len(content) // dtype.itemsize,)
    return Tensor(name, dtype, shape, store.put_tensor(dtype, shape, blocks))


# --- operations ---


def test_operations_come_back_in_the_order_in_which_they_were_added(store: Store) -> None:
    added = [operation(number) for number in (5, 3, 9, 1)]
    assert store.add_operations(op.encoded for op in added) == 4
    assert list(store.operations()) == added


def test_an_operation_that_is_known_is_not_added_again(store: Store) -> None:
    store.add_operations([operation(1).encoded])
    assert store.add_operations([operation(1).encoded, operation(2).encoded, operation(2).encoded]) == 1
    assert store.add_operations([]) == 0
    assert list(store.operations()) == [operation(1), operation(2)]


@pytest.mark.parametrize(
    ("bad", "error"), [(b"no operation", MalformedError), (bytes(OPERATION_BYTES_MAX + 1), LimitError)]
)
def test_one_bad_operation_keeps_out_all_of_its_batch(
    store: Store, bad: bytes, error: type[Exception]
) -> None:
    with pytest.raises(error):
        store.add_operations([operation(1).encoded, bad])
    assert list(store.operations()) == []


def test_operations_since_a_position_are_the_new_ones(store: Store) -> None:
    assert store.operations_since(0) == ([], 0)
    store.add_operations([operation(1).encoded])
    first, position = store.operations_since(0)
    store.add_operations([operation(3).encoded, operation(2).encoded])
    second, last = store.operations_since(position)
    assert (first, second) == ([operation(1)], [operation(3), operation(2)])
    assert store.operations_since(last) == ([], last)


def test_a_position_stays_good_after_a_discard(store: Store) -> None:
    store.add_operations([operation(1).encoded, operation(2).encoded])
    _, position = store.operations_since(0)
    store.discard(operation(2).id)
    store.add_operations([operation(3).encoded])
    assert store.operations_since(position)[0] == [operation(3)]


def test_more_operations_than_a_page_are_all_read_while_others_are_added(store: Store) -> None:
    added = [operation(number) for number in range(300)]
    store.add_operations(op.encoded for op in added)
    seen: list[Operation] = []
    for op in store.operations():
        if not seen:
            store.add_operations([operation(1000).encoded])
        seen.append(op)
    assert seen == [*added, operation(1000)]


# --- manifests and block lists ---


def test_a_manifest_and_its_block_lists_come_back(store: Store) -> None:
    tensor = put(store, "w", b"1234", dtype=DType.F16)
    manifest = Manifest(Kind.FULL, None, (tensor,), metadata=(("label", "ü"),))
    assert not store.has_manifest(manifest.digest)
    assert store.put_manifest(manifest) == manifest.digest
    assert store.has_manifest(manifest.digest)
    assert store.manifest(manifest.digest) == manifest
    assert list(store.manifests()) == [manifest.digest]
    assert store.has_tensor(tensor.root)
    assert store.block_list(tensor.root) == (block_digest(b"1234"),)


def test_a_manifest_longer_than_peers_accept_is_not_kept(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = Manifest(Kind.FULL, None, (put(store, "w", b"1234"),))
    monkeypatch.setattr(store_module, "MANIFEST_BYTES_MAX", len(manifest.encoded) - 1)
    with pytest.raises(LimitError):
        store.put_manifest(manifest)
    assert not store.has_manifest(manifest.digest)


def test_what_is_absent_is_named_by_the_error(store: Store) -> None:
    wanted = Digest(b"?" * 32)
    for look in (store.manifest, store.block_list):
        with pytest.raises(NotYetError) as caught:
            look(wanted)
        assert caught.value.wanted == (wanted,)
    assert not store.has_tensor(wanted)


@pytest.mark.parametrize("count", [0, 2])
def test_a_block_list_that_does_not_fit_the_shape_is_refused(store: Store, count: int) -> None:
    with pytest.raises(MalformedError):
        store.put_tensor(DType.U8, (3,), [block_digest(b"abc")] * count)


def test_missing_names_first_the_block_lists_and_then_the_blocks(store: Store) -> None:
    content = bytes(BLOCK_BYTES) + b"tail"
    names = [block_digest(content[:BLOCK_BYTES]), block_digest(b"tail")]
    root = tensor_root(DType.U8, (len(content),), names)
    tensor = Tensor("w", DType.U8, (len(content),), root)
    manifest = Manifest(Kind.FULL, None, (tensor, replace(tensor, name="x")), evidence=(tensor,))
    assert store.missing(manifest) == Missing((root,), ())
    store.put_tensor(DType.U8, tensor.shape, names)
    assert store.missing(manifest) == Missing((), tuple(names))
    store.blocks.put(b"tail")
    assert store.missing(manifest) == Missing((), (names[0],))
    store.blocks.put(bytes(BLOCK_BYTES))
    assert not store.missing(manifest)


def test_an_answer_about_what_is_missing_is_bounded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(missing_module, "MISSING_MAX", 3)
    names = [Digest(bytes([number]) * 32) for number in range(5)]
    shape = (5 * BLOCK_BYTES,)
    root = store.put_tensor(DType.U8, shape, names)
    unknown = [Tensor(f"x{number}", DType.U8, (1,), Digest(bytes([9, number]) * 16)) for number in range(5)]
    listed = Manifest(Kind.FULL, None, (Tensor("w", DType.U8, shape, root),))
    assert store.missing(listed) == Missing((), tuple(names[:3]))
    assert store.missing(Manifest(Kind.FULL, None, tuple(unknown))) == Missing(
        tuple(tensor.root for tensor in unknown[:3]), ()
    )


# --- reading ---


@pytest.mark.parametrize(
    ("begin", "end"),
    [
        (0, 0),
        (0, 1),
        (BLOCK_BYTES - 1, BLOCK_BYTES),
        (BLOCK_BYTES - 1, BLOCK_BYTES + 1),
        (BLOCK_BYTES, BLOCK_BYTES),
        (5, 2 * BLOCK_BYTES + 7),
        (0, 2 * BLOCK_BYTES + 7),
        (2 * BLOCK_BYTES + 6, 2 * BLOCK_BYTES + 7),
    ],
)
def test_any_range_of_a_tensor_is_read(store: Store, begin: int, end: int) -> None:
    content = os.urandom(2 * BLOCK_BYTES + 7)
    tensor = put(store, "w", content)
    assert store.read(tensor, begin, end) == content[begin:end]


def test_a_view_is_what_is_read_without_a_copy_and_outlives_the_cache(store: Store) -> None:
    content = os.urandom(2 * BLOCK_BYTES + 7)
    tensor = put(store, "w", content)
    reader = store.reader(budget_bytes=0)
    ranges = [(0, 5), (5, 5), (3, BLOCK_BYTES), (7, BLOCK_BYTES + 9), (0, len(content))]
    views = [reader.view(tensor, begin, end) for begin, end in ranges]
    assert [bytes(view) for view in views] == [content[begin:end] for begin, end in ranges]
    assert all(memoryview(view).readonly for view in views)
    warm = store.reader(budget_bytes=4 * BLOCK_BYTES)
    near, far = (warm.view(tensor, begin, begin + 4) for begin in (0, 100))
    assert isinstance(near, memoryview)
    assert isinstance(far, memoryview)
    assert near.obj is far.obj


@pytest.mark.parametrize(("begin", "end"), [(-1, 1), (2, 1), (0, 5)])
def test_a_range_outside_of_the_tensor_is_refused(store: Store, begin: int, end: int) -> None:
    with pytest.raises(ParameterError):
        store.read(put(store, "w", b"1234"), begin, end)


def test_a_block_that_tensors_share_is_read_once(store: Store) -> None:
    content = bytes(BLOCK_BYTES)
    tensors = [
        put(store, "a", content + b"a"),
        put(store, "b", content + content + b"b"),
        put(store, "c", content),
    ]
    for tensor in tensors * 2:
        assert len(store.read(tensor, 0, tensor.bytes)) == tensor.bytes
    assert store.blocks_read == 3


def test_a_cache_keeps_to_its_budget_and_drops_what_was_not_used_for_longest(store: Store) -> None:
    tensors = [put(store, name, name.encode() * BLOCK_BYTES) for name in "abc"]
    reader = store.reader(budget_bytes=2 * BLOCK_BYTES + 1000)
    for name in "abacab":  # b goes when c comes, c when b does
        tensor = tensors["abc".index(name)]
        assert reader.read(tensor, 0, 1) == name.encode()
    assert reader.blocks_read == 4


def test_a_reader_without_a_budget_still_reads(store: Store) -> None:
    tensor = put(store, "w", b"1234")
    reader = store.reader(budget_bytes=0)
    assert [reader.read(tensor, 0, 4), reader.read(tensor, 1, 2)] == [b"1234", b"2"]
    assert reader.blocks_read == 2
    assert reader.block_list(tensor) == (block_digest(b"1234"),)


def test_threads_that_want_one_block_wait_for_one_read(store: Store) -> None:
    tensor = put(store, "w", b"1234")
    together = threading.Barrier(8)

    def read(_: int) -> bytes:
        together.wait()
        return store.read(tensor, 0, 4)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(read, range(8))) == [b"1234"] * 8
    assert store.blocks_read == 1


def test_a_read_that_failed_is_tried_again(store: Store) -> None:
    tensor = put(store, "w", b"1234")
    store.blocks.discard(block_digest(b"1234"))
    with pytest.raises(NotYetError):
        store.read(tensor, 0, 4)
    store.blocks.put(b"1234")
    assert store.read(tensor, 0, 4) == b"1234"


def test_a_block_of_the_wrong_length_for_its_place_is_no_content(store: Store) -> None:
    names = [store.blocks.put(b"short"), store.blocks.put(b"tail")]
    shape = (BLOCK_BYTES + 4,)
    tensor = Tensor("w", DType.U8, shape, store.put_tensor(DType.U8, shape, names))
    assert store.read(tensor, BLOCK_BYTES, BLOCK_BYTES + 4) == b"tail"
    with pytest.raises(MalformedError, match="block 0 of w"):
        store.read(tensor, 0, 1)


@pytest.mark.parametrize(
    "lie", [Tensor("w", DType.F16, (2,), Digest(b"")), Tensor("w", DType.U8, (2, 2), Digest(b""))]
)
def test_a_root_under_another_dtype_or_shape_is_no_content(store: Store, lie: Tensor) -> None:
    tensor = put(store, "w", b"1234")
    lie = replace(lie, root=tensor.root)
    store.read(tensor, 0, 4)  # fills the cache, which must not help
    with pytest.raises(MalformedError, match="declared"):
        store.read(lie, 0, 4)
    with pytest.raises(MalformedError, match="declared"):
        store.missing(Manifest(Kind.FULL, None, (tensor, replace(lie, name="x"))))


# --- notes ---


def test_settings_are_kept_replaced_and_taken_away(store: Store) -> None:
    assert store.setting("a") is None
    store.set_setting("a", b"1")
    store.set_setting("a", b"2")
    assert store.setting("a") == b"2"
    assert [store.pop_setting("a"), store.pop_setting("a"), store.setting("a")] == [b"2", None, None]


def test_settings_are_listed_by_prefix(store: Store) -> None:
    for key in ("invite/b", "invite/ä", "invite/", "invit", "invite0", "other"):
        store.set_setting(key, key.encode())
    assert [key for key, _ in store.settings("invite/")] == ["invite/", "invite/b", "invite/ä"]
    assert dict(store.settings()) == {key: key.encode() for key, _ in store.settings()}
    assert len(dict(store.settings())) == 6


def test_verdicts_and_records_are_kept(store: Store) -> None:
    assert store.verdict(FEDERATION) is None
    store.set_verdict(FEDERATION, "NaN in w")
    assert store.verdict(FEDERATION) == "NaN in w"
    store.put_record(b"b" * 32, b"old")
    store.put_record(b"b" * 32, b"new")
    store.put_record(b"a" * 32, b"first")
    assert list(store.records()) == [(b"a" * 32, b"first"), (b"b" * 32, b"new")]
    store.remove_record(b"b" * 32)
    assert list(store.records()) == [(b"a" * 32, b"first")]


# --- the whole ---


def test_everything_is_there_when_the_home_is_opened_again(tmp_home: Path) -> None:
    with Store.open(tmp_home) as store:
        tensor = put(store, "w", b"1234")
        manifest = Manifest(Kind.FULL, None, (tensor,))
        store.put_manifest(manifest)
        store.add_operations([operation(1).encoded])
        store.set_setting("key", b"value")
    with Store.open(tmp_home) as store:
        assert store.read(store.manifest(manifest.digest).tensors[0], 0, 4) == b"1234"
        assert list(store.operations()) == [operation(1)]
        assert store.setting("key") == b"value"
        assert list(store.verify()) == []


def test_data_version_tells_of_others_and_not_of_oneself(tmp_home: Path) -> None:
    with Store.open(tmp_home) as one, Store.open(tmp_home) as other:
        before = one.data_version()
        one.set_setting("a", b"1")
        assert one.data_version() == before
        other.add_operations([operation(1).encoded])
        after = one.data_version()
        assert after != before
        assert one.data_version() == after
        assert one.operations_since(0)[0] == [operation(1)]


def test_of_two_stores_that_take_a_setting_away_one_gets_it(tmp_home: Path) -> None:
    with Store.open(tmp_home) as one, Store.open(tmp_home) as other:
        for number in range(10):
            one.set_setting("invite", bytes([number]))
            with ThreadPoolExecutor(2) as pool:
                got = list(pool.map(lambda store: store.pop_setting("invite"), (one, other)))
            assert sorted(got, key=str) == sorted([bytes([number]), None], key=str)


def test_threads_share_a_store(tmp_home: Path) -> None:
    with Store.open(tmp_home) as store:

        def work(thread: int) -> None:
            for number in range(10):
                store.add_operations([operation(100 * thread + number).encoded])
                tensor = put(store, "w", bytes([thread, number]))
                assert store.read(tensor, 0, 2) == bytes([thread, number])

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(work, range(4)))
        assert len(list(store.operations())) == 40
        assert len(list(store.blocks)) == 40


def test_blocks_are_durable_before_a_row_speaks_of_them(tmp_home: Path) -> None:
    with Store.open(tmp_home) as store, Store.open(tmp_home) as other:
        name = store.blocks.put(b"1234")
        assert not other.blocks.has(name)
        store.put_tensor(DType.U8, (4,), [name])
        assert other.blocks.has(name)
        name = store.blocks.put(b"evidence")
        store.put_manifest(Manifest(Kind.FULL, None, (Tensor("w", DType.U8, (4,), FEDERATION),)))
        assert other.blocks.has(name)


def test_a_home_of_a_newer_version_is_refused(tmp_home: Path) -> None:
    Store.open(tmp_home).close()
    connection = sqlite3.connect(tmp_home / "meta.db")
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    connection.close()
    with pytest.raises(StoreError, match="version"):
        Store.open(tmp_home)


def test_a_home_that_cannot_be_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError):
        Store.open(tmp_path / "file" / "home")
    (tmp_path / "meta.db").write_bytes(b"this is no database at all, and long enough to be sure of it" * 20)
    with pytest.raises(StoreError, match="database"):
        Store.open(tmp_path)


def test_a_full_disk_under_the_database_says_so_and_keeps_what_was_there(tmp_home: Path) -> None:
    with Store.open(tmp_home) as store:
        store.set_setting("a", b"1")
        store._database._connection.execute("PRAGMA max_page_count = 12")
        with pytest.raises(OutOfSpaceError):
            store.set_setting("b", bytes(1 << 20))
        assert dict(store.settings()) == {"a": b"1"}


def test_a_full_disk_under_the_blocks_says_so_and_keeps_what_was_there(
    tmp_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Store.open(tmp_home) as store:
        tensor = put(store, "w", b"1234")

        def full(descriptor: int, data: memoryview, offset: int) -> int:
            raise OSError(errno.ENOSPC, "no room")

        monkeypatch.setattr(os, "pwrite", full)
        with pytest.raises(OutOfSpaceError):
            put(store, "x", b"5678")
        assert store.read(tensor, 0, 4) == b"1234"
        assert list(store.blocks) == [block_digest(b"1234")]
        assert list(store.verify()) == []
