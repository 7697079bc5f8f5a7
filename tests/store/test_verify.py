"""One changed byte anywhere is found, and can be fetched again; see crdtmerge/store/audit.py."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtmerge.digest import Digest
from crdtmerge.dtypes import DType
from crdtmerge.errors import CorruptBlockError, NotYetError, SignatureError, StoreError
from crdtmerge.keys import SigningKey
from crdtmerge.manifest import Kind, Manifest
from crdtmerge.op import Add, Operation
from crdtmerge.store import Store, block_digest, ingest_tensors

CONTENT = bytes(range(200))
OPERATION = Operation.sign(
    SigningKey(bytes(32)), Add(Digest(bytes(32))), federation=Digest(bytes(32)), created_ms=1
)


@dataclass(frozen=True)
class Home:
    """A home with one of everything."""

    path: Path
    manifest: Manifest

    def change(self, table: str, column: str, old: bytes, new: bytes) -> None:
        connection = sqlite3.connect(self.path / "meta.db")
        sql = f"UPDATE {table} SET {column} = ? WHERE {column} = ?"  # noqa: S608 - names of this file
        assert connection.execute(sql, (new, old)).rowcount == 1
        connection.commit()
        connection.close()

    def stored(self, kind: str) -> tuple[bytes, bytes]:
        connection = sqlite3.connect(self.path / "meta.db")
        ((key, value),) = connection.execute(
            "SELECT key, value FROM entries WHERE kind = ?", (kind,)
        ).fetchall()
        connection.close()
        return key, value

    @property
    def block(self) -> Path:
        name = block_digest(CONTENT).hex()
        return self.path / "blocks" / name[:2] / name


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    path = tmp_path_factory.mktemp("home")
    with Store.open(path) as store:
        manifest = ingest_tensors(store, {"w": (DType.U8, (200,), CONTENT)}, kind=Kind.FULL)
        store.add_operations([OPERATION.encoded])
    return Home(path, manifest)


@pytest.fixture(autouse=True)
def _sound_before_and_after(home: Home) -> Iterator[None]:
    with Store.open(home.path) as store:
        assert list(store.verify()) == []
    yield
    with Store.open(home.path) as store:
        assert list(store.verify()) == []


def problems(home: Home) -> list[Exception]:
    with Store.open(home.path) as store:
        return list(store.verify())


def flipped(data: bytes, bit: int) -> bytes:
    raw = bytearray(data)
    raw[bit // 8 % len(raw)] ^= 1 << bit % 8
    return bytes(raw)


@given(bit=st.integers(0, 8 * len(OPERATION.encoded) - 1))
def test_a_changed_operation_is_found(home: Home, bit: int) -> None:
    bad = flipped(OPERATION.encoded, bit)
    home.change("operations", "encoded", OPERATION.encoded, bad)
    try:
        (problem,) = problems(home)
        assert isinstance(problem, CorruptBlockError | SignatureError)
        assert OPERATION.id.hex() in str(problem)
    finally:
        home.change("operations", "encoded", bad, OPERATION.encoded)


def test_a_changed_signature_is_told_from_changed_bytes(home: Home) -> None:
    for position, error in ((-1, SignatureError), (10, CorruptBlockError)):
        bad = flipped(OPERATION.encoded, 8 * (position % len(OPERATION.encoded)))
        home.change("operations", "encoded", OPERATION.encoded, bad)
        assert [type(problem) for problem in problems(home)] == [error]
        home.change("operations", "encoded", bad, OPERATION.encoded)


def test_an_operation_whose_bytes_changed_is_not_handed_out(home: Home) -> None:
    bad = flipped(OPERATION.encoded, 80)
    home.change("operations", "encoded", OPERATION.encoded, bad)
    with Store.open(home.path) as store:
        with pytest.raises(CorruptBlockError):
            list(store.operations())
        with pytest.raises(CorruptBlockError):
            store.operations_since(0)
    home.change("operations", "encoded", bad, OPERATION.encoded)


@pytest.mark.parametrize("kind", ["manifest", "tensor"])
@given(bit=st.integers(0, 1 << 16), of_the_key=st.booleans())
def test_a_changed_manifest_or_block_list_is_found(home: Home, kind: str, bit: int, of_the_key: bool) -> None:
    key, value = home.stored(kind)
    column, old = ("key", key) if of_the_key else ("value", value)
    bad = flipped(old, bit)
    home.change("entries", column, old, bad)
    try:
        (problem,) = problems(home)
        assert isinstance(problem, CorruptBlockError)
        assert problem.wanted == (bad if of_the_key else key)
    finally:
        home.change("entries", column, bad, old)


def test_a_changed_manifest_or_block_list_is_not_handed_out(home: Home) -> None:
    for kind in ("manifest", "tensor"):
        _, value = home.stored(kind)
        bad = flipped(value, 77)
        home.change("entries", "value", value, bad)
        with Store.open(home.path) as store:
            tensor = home.manifest.tensors[0]
            read: dict[str, Callable[[], object]] = {
                "manifest": partial(store.manifest, home.manifest.digest),
                "tensor": partial(store.read, tensor, 0, 1),
            }
            with pytest.raises(CorruptBlockError):
                read[kind]()
        home.change("entries", "value", bad, value)


@given(bit=st.integers(0, 8 * len(CONTENT) - 1))
def test_a_changed_block_is_found(home: Home, bit: int) -> None:
    home.block.write_bytes(flipped(CONTENT, bit))
    try:
        (problem,) = problems(home)
        assert isinstance(problem, CorruptBlockError)
        assert problem.wanted == block_digest(CONTENT)
        assert problem.where == str(home.block)
    finally:
        home.block.write_bytes(CONTENT)


def test_a_block_under_another_blocks_name_is_found(home: Home) -> None:
    other = block_digest(b"other").hex()
    path = home.path / "blocks" / other[:2] / other
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(CONTENT)
    assert [type(problem) for problem in problems(home)] == [CorruptBlockError]
    path.unlink()


def test_a_damaged_database_file_is_found(home: Home, tmp_path: Path) -> None:
    raw = (home.path / "meta.db").read_bytes()
    for page in range(4096, len(raw), 4096):
        (tmp_path / "meta.db").write_bytes(raw[:page] + bytes(4096) + raw[page + 4096 :])
        with Store.open(tmp_path) as store:
            assert StoreError in [type(problem) for problem in store.verify()]


def test_what_is_wrong_is_forgotten_on_demand_and_a_sync_can_bring_it_again(
    home: Home, tmp_path: Path
) -> None:
    _, manifest_bytes = home.stored("manifest")
    _, tensor_bytes = home.stored("tensor")
    home.change("entries", "value", manifest_bytes, flipped(manifest_bytes, 3))
    home.change("entries", "value", tensor_bytes, flipped(tensor_bytes, 3))
    home.change("operations", "encoded", OPERATION.encoded, flipped(OPERATION.encoded, -1))
    home.block.write_bytes(b"damage")
    tensor = home.manifest.tensors[0]
    with Store.open(home.path) as store:
        assert len(list(store.verify(discard=True))) == 4
        assert list(store.verify()) == []
        assert list(store.operations()) == []
        assert [*store.manifests(), *store.blocks] == []
        with pytest.raises(NotYetError):
            store.manifest(home.manifest.digest)
        store.add_operations([OPERATION.encoded])
        store.put_manifest(home.manifest)
        assert store.missing(home.manifest).roots == (tensor.root,)
        store.put_tensor(tensor.dtype, tensor.shape, [store.blocks.put(CONTENT)])
        assert not store.missing(home.manifest)
        assert store.read(tensor, 0, 200) == CONTENT
