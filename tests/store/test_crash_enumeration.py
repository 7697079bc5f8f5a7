"""Power fails after any operation and takes what was not synced: nothing acknowledged is lost, ever.

What is enumerated, and what a disk may forget, is described in `crash_harness`. In every state: the home
opens; what was acknowledged is there and verifies; whatever else is there verifies too; no manifest names a
block that is not there; nothing waits in ``partial/``; and the interrupted work can be done again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from crash_harness import Killed, Recorder, recording

from crdtmerge import Recipe, Replica
from crdtmerge.digest import Digest
from crdtmerge.dtypes import DType
from crdtmerge.keys import SigningKey
from crdtmerge.manifest import Kind, Manifest
from crdtmerge.op import Add, Operation
from crdtmerge.resolve import verify_result
from crdtmerge.store import Store, TensorFile, TensorFileWriter, disk, files, ingest_tensors
from crdtmerge.store.secrets import create_secret, read_secret

KEY = SigningKey(bytes(31) + b"\x01")
DAY_MS = 24 * 3600 * 1000
EVER_MS = 1 << 60

Work = Callable[[Path, Recorder], None]
Look = Callable[[Path, tuple[Any, ...]], None]


def every_crash(folder: Path, work: Work, look: Look) -> int:
    """Do some work in ``folder/work`` and look at all that a power cut may leave of it; return how many."""
    (folder / "work").mkdir(exist_ok=True)
    with recording(folder / "work") as recorder:
        work(folder / "work", recorder)
    return every_state(folder, recorder, look)


def every_state(folder: Path, recorder: Recorder, look: Look, *, after: int = 0) -> int:
    """Look at all that a power cut may leave of what was recorded; return how many states that are."""
    number = 0
    for number, state in enumerate(recorder.states(after=after), 1):
        place = folder / f"state{number}"
        state.build(place)
        try:
            look(place, state.promises)
        except BaseException as error:
            error.add_note(f"after a power cut at step {state.told}")
            raise
    return number


def sound(home: Path, promises: tuple[Any, ...], *, then: Callable[[Store], None] | None = None) -> None:
    """What holds for a store after every crash, and after what is done ``then``."""
    with Store.open(home) as store:
        if then is not None:
            assert list(store.verify()) == []
            then(store)
        assert list(store.verify()) == []
        for name in store.manifests():
            assert not store.missing(store.manifest(name))
        assert len(list((home / "partial").iterdir())) == 1  # our own
        for promise in promises:
            promise(store)


def bytes_of(number: int, size: int = 40) -> bytes:
    return bytes([number]) * size


def has_block(name: Digest, store: Store) -> None:
    store.blocks.get(name)


def has_model(digest: Digest, store: Store) -> None:
    manifest = store.manifest(digest)
    for tensor in manifest.tensors:
        assert len(store.read(tensor, 0, tensor.bytes)) == tensor.bytes


def has_operation(operation: Operation, store: Store) -> None:
    assert operation.id in {stored.id for stored in store.operations()}


def has_setting(store: Store) -> None:
    assert store.setting("a") == b"1"


def lacks_block(name: Digest, store: Store) -> None:
    assert not store.blocks.has(name)


def take_in(store: Store, *numbers: int) -> Manifest:
    tensors = {f"t{n}": (DType.U8, (40,), bytes_of(n)) for n in numbers}
    return ingest_tensors(store, tensors, kind=Kind.FULL)


def announce(store: Store, digest: Digest) -> Operation:
    operation = Operation.sign(KEY, Add(digest), federation=Digest(bytes(32)), created_ms=1)
    store.add_operations([operation.encoded])
    return operation


def opened(folder: Path) -> Path:
    """A home in which a store was opened and closed again, all of it durable."""
    (folder / "work").mkdir()
    Store.open(folder / "work" / "home").close()
    return folder / "work" / "home"


# --- the paths that publish ---------------------------------------------------------------------------


def test_a_home_is_made_whole_or_made_again(tmp_path: Path) -> None:
    def work(folder: Path, recorder: Recorder) -> None:
        with Store.open(folder / "deep" / "home") as store:
            store.set_setting("a", b"1")
            recorder.acknowledge(has_setting)

    assert every_crash(tmp_path, work, lambda place, kept: sound(place / "deep" / "home", kept)) > 10


def test_an_identity_that_was_used_is_never_lost_with_what_it_signed(tmp_path: Path) -> None:
    def keeps(secret: bytes, home: Path) -> None:
        assert read_secret(home / "identity.key") == secret

    def work(folder: Path, recorder: Recorder) -> None:
        secret = create_secret(folder / "new" / "home" / "identity.key", None, lambda: bytes_of(7, 32))
        recorder.acknowledge(partial(keeps, secret))

    def look(place: Path, promises: tuple[Any, ...]) -> None:
        for promise in promises:
            promise(place / "new" / "home")
        again = create_secret(place / "new" / "home" / "identity.key", None, lambda: bytes_of(8, 32))
        assert again in (bytes_of(7, 32), bytes_of(8, 32))

    assert every_crash(tmp_path, work, look) > 5


def test_blocks_are_durable_once_they_are_flushed(tmp_path: Path) -> None:
    opened(tmp_path)

    def work(folder: Path, recorder: Recorder) -> None:
        with Store.open(folder / "home") as store:
            for round_ in range(2):
                names = [store.blocks.put(bytes_of(10 * round_ + n)) for n in range(2)]
                store.blocks.flush()
                for name in names:
                    recorder.acknowledge(partial(has_block, name))

    assert every_crash(tmp_path, work, lambda place, kept: sound(place / "home", kept)) > 50


def test_a_model_taken_in_and_announced_is_there_and_one_interrupted_can_be_taken_in_again(
    tmp_path: Path,
) -> None:
    opened(tmp_path)

    def work(folder: Path, recorder: Recorder) -> None:
        with Store.open(folder / "home") as store:
            for numbers in ((1, 2), (1, 3)):
                made = take_in(store, *numbers)
                recorder.acknowledge(partial(has_model, made.digest))
                recorder.acknowledge(partial(has_operation, announce(store, made.digest)))

    def again(store: Store) -> None:
        for name in store.manifests():
            assert not store.missing(store.manifest(name))
        has_model(take_in(store, 1, 2).digest, store)

    def look(place: Path, promises: tuple[Any, ...]) -> None:
        sound(place / "home", promises, then=again)

    assert every_crash(tmp_path, work, look) > 60


def test_a_process_killed_before_the_power_cut_harms_no_model_of_the_next_process(tmp_path: Path) -> None:
    """What the dead one renamed and did not sync lies in the page cache, and the next one relies on it."""
    states = 0
    for kill_at in range(2, 24, 4):
        folder = tmp_path / str(kill_at)
        folder.mkdir()
        opened(folder)
        with recording(folder / "work") as recorder:
            victim = Store.open(folder / "work" / "home")
            recorder.kill_at = recorder.count + kill_at
            with contextlib.suppress(Killed):
                take_in(victim, 1, 2)
            recorder.revive()
            dead = len(recorder.steps)
            victim._database.close()
            with Store.open(folder / "work" / "home") as store:
                made = take_in(store, 1, 2)
                recorder.acknowledge(partial(has_model, made.digest))
        states += every_state(folder, recorder, lambda place, kept: sound(place / "home", kept), after=dead)
    assert states > 100


def test_a_collection_takes_nothing_that_is_needed_and_what_it_purged_stays_purged(tmp_path: Path) -> None:
    home = opened(tmp_path)
    with Store.open(home) as store:
        kept, purged = take_in(store, 1, 2), take_in(store, 1, 3)
        (own,) = set(store.blocks) - {
            block for tensor in kept.tensors for block in store.block_list(tensor.root)
        }

    def work(folder: Path, recorder: Recorder) -> None:
        with Store.open(folder / "home") as store:
            recorder.acknowledge(partial(has_model, kept.digest))
            store.garbage.collect({kept.digest}, now_ms=DAY_MS, purge={purged.digest}, grace_ms=EVER_MS)
            recorder.acknowledge(partial(lacks_block, own))

    def again(store: Store) -> None:
        store.garbage.collect({kept.digest}, now_ms=DAY_MS, purge={purged.digest}, grace_ms=EVER_MS)
        lacks_block(own, store)

    def look(place: Path, promises: tuple[Any, ...]) -> None:
        with Store.open(place / "home") as store:
            for promise in promises:
                promise(store)
        sound(place / "home", promises, then=again)

    assert every_crash(tmp_path, work, look) > 5


def test_a_file_is_replaced_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    layout = [("t", DType.U8, (4,))]

    def write(path: Path, content: bytes) -> None:
        with TensorFileWriter(path, layout) as writer:
            writer.write("t", 0, content[:2])
            writer.write("t", 2, content[2:])
            writer.publish()

    def holds(content: bytes, path: Path) -> None:
        with TensorFile(path) as file:
            assert file.read("t", 0, 4) == content

    def work(folder: Path, recorder: Recorder) -> None:
        write(folder / "m.safetensors", b"new!")
        recorder.acknowledge(partial(holds, b"new!"))

    def look(place: Path, promises: tuple[Any, ...]) -> None:
        path = place / "m.safetensors"
        with TensorFile(path) as file:
            assert file.read("t", 0, 4) in (b"old.", b"new!")
        for promise in promises:
            promise(path)

    write(tmp_path / "work" / "m.safetensors", b"old.")
    assert every_crash(tmp_path, work, look) > 10


def test_a_merged_model_appears_whole_and_stays_and_a_merge_cut_short_ends_in_the_same_bytes(
    tmp_path: Path,
) -> None:
    (tmp_path / "work").mkdir()
    with Replica.create(
        tmp_path / "work" / "home", base={"w": torch.ones(3)}, recipe=Recipe("weight_average"), key=KEY
    ) as replica:
        replica.contribute({"w": torch.tensor([1.0, 2.0, 1.0])})
    results = []

    def work(folder: Path, recorder: Recorder) -> None:
        with Replica.open(folder / "home") as replica:
            made = replica.resolve(threads=1)
            results.append(made.result)
            name = made.folder.name
            recorder.acknowledge(lambda home: verify_result(home / "results" / name))

    def look(place: Path, promises: tuple[Any, ...]) -> None:
        home = place / "home"
        for folder in (home / "results").glob("*"):
            assert folder.name.endswith(".part") or verify_result(folder) == results[0]
        for promise in promises:
            promise(home)
        with Replica.open(home) as replica:
            assert replica.resolve(threads=1).result == results[0]

    assert every_crash(tmp_path, work, look) > 30


# --- the enumeration itself ---------------------------------------------------------------------------


@pytest.mark.parametrize("forgotten", ["content", "names"])
def test_a_sync_that_is_forgotten_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forgotten: str
) -> None:
    real = files.sync

    def forgetful(path: Path) -> None:
        if path.is_dir() is (forgotten == "content"):
            real(path)

    opened(tmp_path)
    monkeypatch.setattr(files, "sync", forgetful)

    def work(folder: Path, recorder: Recorder) -> None:
        with Store.open(folder / "home") as store:
            recorder.acknowledge(partial(has_model, take_in(store, 1).digest))

    with pytest.raises(AssertionError):
        every_crash(tmp_path, work, lambda place, kept: sound(place / "home", kept))


def test_a_rename_before_the_content_is_durable_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(tmp_path)
    monkeypatch.setattr(disk.DiskBlocks, "_await", lambda self, *synced: None)

    def work(folder: Path, recorder: Recorder) -> None:
        with Store.open(folder / "home") as store:
            take_in(store, 1)

    with pytest.raises(AssertionError):
        every_crash(tmp_path, work, lambda place, kept: sound(place / "home", kept))
