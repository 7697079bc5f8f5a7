"""Nothing that is needed is ever forgotten; what is not goes after a day, or at once if it is purged."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from crdtmerge import testing
from crdtmerge.digest import Digest
from crdtmerge.dtypes import DType
from crdtmerge.errors import CorruptBlockError, LockedError, NotYetError
from crdtmerge.limits import GARBAGE_GRACE_MS
from crdtmerge.manifest import Kind, Manifest, Tensor
from crdtmerge.op import Block, Coefficients, Retract
from crdtmerge.store import Store, ingest_file, ingest_tensors
from crdtmerge.store.garbage import Garbage, needed, withdrawn
from crdtmerge.view import view

LATER_MS = 1 << 42
"""2109: later than every file of this test by more than a day."""


@pytest.fixture
def store(tmp_home: Path) -> Iterator[Store]:
    with Store.open(tmp_home) as opened:
        yield opened


def put(store: Store, **tensors: bytes) -> Manifest:
    content = {name: (DType.U8, (len(raw),), raw) for name, raw in tensors.items()}
    manifest = ingest_tensors(store, content, kind=Kind.FULL)
    store.blocks.flush()
    return manifest


def whole(store: Store, manifest: Manifest) -> bool:
    return store.has_manifest(manifest.digest) and not store.missing(manifest)


def test_what_is_not_needed_rests_for_a_day_and_goes(store: Store) -> None:
    kept, gone = put(store, a=b"kept"), put(store, a=b"gone")
    first = store.garbage.collect({kept.digest}, now_ms=LATER_MS)
    assert (bool(first), first.resting) == (False, (gone.digest,))
    assert not store.garbage.collect({kept.digest}, now_ms=LATER_MS + GARBAGE_GRACE_MS - 1)
    assert whole(store, gone)
    found = store.garbage.collect({kept.digest}, now_ms=LATER_MS + GARBAGE_GRACE_MS)
    assert (found.manifests, len(found.blocks), found.bytes) == ((gone.digest,), 1, 4)
    assert not store.has_manifest(gone.digest)
    assert not store.has_tensor(gone.tensors[0].root)
    assert whole(store, kept)
    assert list(store.verify()) == []


def test_a_block_that_something_needed_shares_stays(store: Store) -> None:
    kept, gone = put(store, frozen=b"same", a=b"1"), put(store, frozen=b"same", a=b"2")
    found = store.garbage.collect({kept.digest}, now_ms=LATER_MS, purge={gone.digest})
    assert len(found.blocks) == 1
    assert whole(store, kept)


def test_what_becomes_needed_again_in_time_has_its_grace_anew(store: Store) -> None:
    manifest = put(store, a=b"x")
    store.garbage.collect(set(), now_ms=LATER_MS)
    store.garbage.collect({manifest.digest}, now_ms=LATER_MS + 1)
    assert not store.garbage.collect(set(), now_ms=LATER_MS + GARBAGE_GRACE_MS)
    assert store.garbage.collect(set(), now_ms=LATER_MS + 2 * GARBAGE_GRACE_MS)


def test_what_is_taken_in_again_has_its_grace_anew(store: Store) -> None:
    put(store, a=b"x")
    store.garbage.collect(set(), now_ms=LATER_MS)
    manifest = put(store, a=b"x")
    assert not store.garbage.collect(set(), now_ms=LATER_MS + GARBAGE_GRACE_MS)
    assert whole(store, manifest)


def test_a_clock_that_was_a_century_ahead_keeps_garbage_a_day_and_not_a_century(store: Store) -> None:
    put(store, a=b"x")
    store.garbage.collect(set(), now_ms=2 * LATER_MS)
    assert not store.garbage.collect(set(), now_ms=LATER_MS)
    assert store.garbage.collect(set(), now_ms=2 * LATER_MS + GARBAGE_GRACE_MS)


def test_a_purge_does_not_wait_and_does_not_touch_what_is_needed(store: Store) -> None:
    one, other = put(store, a=b"1"), put(store, a=b"2")
    found = store.garbage.collect({one.digest}, now_ms=0, purge={one.digest, other.digest})
    assert found.manifests == (other.digest,)
    assert whole(store, one)


def test_a_dry_run_says_what_would_go_and_changes_nothing(store: Store) -> None:
    manifest = put(store, a=b"x")
    found = store.garbage.collect(set(), now_ms=0, purge={manifest.digest}, dry_run=True)
    assert found.manifests == (manifest.digest,)
    assert whole(store, manifest)
    assert found == store.garbage.collect(set(), now_ms=0, purge={manifest.digest})


def test_blocks_of_an_ingest_that_was_given_up_go_after_a_day(store: Store, tmp_home: Path) -> None:
    block = store.blocks.put(b"orphan")
    store.blocks.flush()
    path = tmp_home / "blocks" / block.hex()[:2] / block.hex()
    written_ms = 1_000_000_000_000
    os.utime(path, ns=(0, written_ms * 1_000_000))
    assert not store.garbage.collect(set(), now_ms=written_ms + GARBAGE_GRACE_MS - 1)
    assert store.garbage.collect(set(), now_ms=written_ms + GARBAGE_GRACE_MS).blocks == (block,)
    assert not store.blocks.has(block)


def test_a_purge_leaves_alone_what_is_being_taken_in_and_not_announced(store: Store) -> None:
    manifest, block = put(store, a=b"x"), store.blocks.put(b"next")
    store.blocks.flush()
    assert not store.garbage.collect(set(), now_ms=0, purge={Digest(bytes(32))})
    assert whole(store, manifest)
    assert store.blocks.has(block)


def test_blocks_that_wait_for_a_flush_stay(store: Store) -> None:
    block = store.blocks.put(b"waiting")
    store.garbage.collect(set(), now_ms=LATER_MS)
    assert store.blocks.get(block) == b"waiting"


def test_a_users_file_is_never_touched(store: Store, tmp_path: Path) -> None:
    import numpy as np

    path = tmp_path / "mine.safetensors"
    save_file({"w": np.arange(9, dtype=np.uint8)}, path)
    before = path.read_bytes(), path.stat().st_mtime_ns
    manifest = ingest_file(store, path, kind=Kind.FULL, reference=True)
    found = store.garbage.collect(set(), now_ms=0, purge={manifest.digest})
    assert (len(found.references), found.blocks, found.bytes) == (1, (), 0)
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
    assert not store.blocks.has(found.references[0]), "it is offered no more"


def test_a_block_in_a_users_file_is_still_offered_for_what_is_needed(store: Store, tmp_path: Path) -> None:
    import numpy as np

    frozen = np.zeros(9, dtype=np.uint8)
    manifests = []
    for number in (1, 2):
        path = tmp_path / f"{number}.safetensors"
        save_file({"frozen": frozen, "w": np.full(9, number, dtype=np.uint8)}, path)
        manifests.append(ingest_file(store, path, kind=Kind.FULL, reference=True))
    kept, gone = manifests
    found = store.garbage.collect({kept.digest}, now_ms=0, purge={gone.digest})
    assert len(found.references) == 1
    assert whole(store, kept)


def test_evidence_stays_as_long_as_its_contribution(store: Store) -> None:
    content = {"w": (DType.U8, (1,), b"w")}
    evidence = {"fisher": (DType.U8, (1,), b"f")}
    manifest = ingest_tensors(store, content, kind=Kind.FULL, evidence=evidence)
    store.blocks.flush()
    store.garbage.collect({manifest.digest}, now_ms=LATER_MS)
    store.garbage.collect({manifest.digest}, now_ms=2 * LATER_MS)
    assert whole(store, manifest)


def test_a_collection_that_is_interrupted_is_finished_by_the_next(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, gone = put(store, a=b"kept"), put(store, a=b"gone", b=b"gone too")
    discard, calls = store._owned.discard, []

    def failing(block: Digest) -> None:
        calls.append(block)
        if len(calls) == 2:
            raise KeyboardInterrupt
        discard(block)

    monkeypatch.setattr(store._owned, "discard", failing)
    with pytest.raises(KeyboardInterrupt):
        store.garbage.collect({kept.digest}, now_ms=0, purge={gone.digest})
    assert store.has_manifest(gone.digest), "what is left can still be found"
    monkeypatch.undo()
    assert len(store.garbage.collect({kept.digest}, now_ms=0, purge={gone.digest}).blocks) == 1
    assert len(list(store.blocks)) == 1
    assert whole(store, kept)


def test_nothing_is_collected_while_a_model_is_taken_in(store: Store) -> None:
    with store.taking_in(), store.taking_in(), pytest.raises(LockedError, match="try again"):
        store.garbage.collect(set(), now_ms=LATER_MS)
    store.garbage.collect(set(), now_ms=LATER_MS)


def test_an_ingest_waits_for_a_collection_and_finds_its_blocks_or_writes_them(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = put(store, a=b"again")
    started, taken = threading.Event(), []
    find = Garbage._find

    def slow(garbage: Garbage, *args: object, **kwargs: object) -> object:
        found = find(garbage, *args, **kwargs)  # type: ignore[arg-type]
        thread.start()
        started.wait(5)
        return found

    def again() -> None:
        started.set()
        taken.append(put(store, a=b"again"))

    thread = threading.Thread(target=again)
    monkeypatch.setattr(Garbage, "_find", slow)
    store.garbage.collect(set(), now_ms=0, purge={old.digest})
    thread.join(10)
    assert whole(store, taken[0])


def test_other_processes_learn_that_something_was_collected(store: Store, tmp_home: Path) -> None:
    manifest = put(store, a=b"x")
    with Store.open(tmp_home) as other:
        store.garbage.collect(set(), now_ms=0)
        assert other.collections() == 0
        store.garbage.collect(set(), now_ms=0, purge={manifest.digest})
        assert other.collections() == 1


def test_a_damaged_manifest_stops_the_collection_since_nobody_knows_what_it_names(store: Store) -> None:
    from crdtmerge.store.database import Kind as Row

    manifest = put(store, a=b"x")
    store._database.put(Row.MANIFEST, [(manifest.digest, b"rot")])
    with pytest.raises(CorruptBlockError):
        store.garbage.collect({manifest.digest}, now_ms=LATER_MS)
    assert list(store.blocks)


def test_a_download_that_has_only_begun_is_no_obstacle(store: Store) -> None:
    manifest = Manifest(kind=Kind.FULL, base=None, tensors=(Tensor("a", DType.U8, (5,), Digest(b"r" * 32)),))
    store.put_manifest(manifest)
    assert store.garbage.collect(set(), now_ms=0, purge={manifest.digest}).manifests == (manifest.digest,)


@given(st.data())
def test_whatever_overlaps_everything_needed_stays_whole(data: st.DataObject) -> None:
    models = data.draw(st.lists(st.sets(st.integers(0, 9), min_size=1), min_size=1, max_size=6))
    with Store.memory() as store:
        manifests = [put(store, **{f"t{n}": bytes([n]) for n in model}) for model in models]
        keep = data.draw(st.sets(st.sampled_from(range(len(models)))))
        wanted = {manifests[i].digest for i in keep}
        store.garbage.collect(wanted, now_ms=0, purge={m.digest for m in manifests})
        assert {m.digest for m in manifests if whole(store, m)} >= wanted
        left = {block for i in keep for block in models[i]}
        assert len(list(store.blocks)) == len(left)


# --- what is needed, and what was taken back ------------------------------------------------------


def test_retracted_blocked_and_banned_content_is_withdrawn_unless_somebody_else_stands_for_it() -> None:
    story = testing.Story()
    for name in ("ann", "bob", "mallory"):
        story.admit("root", name)
    adds = {name: story.add("ann", name) for name in ("retracted", "blocked", "kept", "shared")}
    story.add("bob", "shared")
    story.add("mallory", "poison")
    story("ann", Retract(tuple(sorted([adds["retracted"].id, adds["shared"].id]))))
    story("root", Block(testing.content("blocked")))
    story.ban("root", "mallory")
    seen = view(story.ops)
    assert withdrawn(story.ops, seen) == {testing.content(n) for n in ("retracted", "blocked", "poison")}
    assert needed(story.ops, seen) == {testing.content("kept"), testing.content("shared")}


def test_coefficients_and_pins_are_needed() -> None:
    story = testing.Story()
    story("root", Coefficients(testing.content("payload"), (testing.content("x"),)))
    pin = testing.content("pinned")
    assert needed(story.ops, view(story.ops), [pin]) == {testing.content("payload"), pin}


def test_pins_are_kept_and_let_go(store: Store) -> None:
    manifest = put(store, a=b"x")
    store.pin(manifest.digest)
    assert list(store.pins()) == [manifest.digest]
    store.unpin(manifest.digest)
    assert list(store.pins()) == []
    with pytest.raises(NotYetError):
        store.manifest(Digest(bytes(32)))
