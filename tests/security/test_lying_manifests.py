"""A manifest claims more than it has, or more than anybody can hold: refused before anything is allocated."""

from __future__ import annotations

import tracemalloc

import pytest

from crdtmerge import canon
from crdtmerge.digest import Digest
from crdtmerge.dtypes import DType
from crdtmerge.errors import LimitError, MalformedError, NotYetError, RejectedError
from crdtmerge.limits import MIB, TENSORS_MAX
from crdtmerge.manifest import Kind, Manifest, Tensor
from crdtmerge.store import Store, ingest_tensors

ROOT = Digest(b"r" * 32)
MEMORY_BYTES = 4 * MIB


def claiming(*tensors: canon.Value) -> bytes:
    """A manifest as its liar encodes it, without the checks that ours make."""
    return canon.encode([1, "full", None, list(tensors), [], [], "1", [], []])


HUGE = {
    "a product that overflows 64 bits to nothing": [1 << 32, 1 << 32],
    "a product that overflows 64 bits to something small": [(1 << 63) + 1, 2],
    "an empty dimension that hides a huge one": [0, 1 << 62],
    "more dimensions than tensors have": [1] * 9,
    "sixteen exabytes": [1 << 44, 1 << 20],
    "less than nothing": [-1],
}


@pytest.mark.parametrize("shape", HUGE.values(), ids=HUGE)
def test_a_shape_that_nobody_can_hold_is_refused_without_being_held(shape: list[int]) -> None:
    lie = claiming(["w", "F32", shape, ROOT])
    tracemalloc.start()
    try:
        with pytest.raises((LimitError, MalformedError)):
            Manifest.decode(lie)
        assert tracemalloc.get_traced_memory()[1] < MEMORY_BYTES
    finally:
        tracemalloc.stop()


def test_a_count_of_tensors_beyond_the_limit_is_refused() -> None:
    with pytest.raises(LimitError, match=str(TENSORS_MAX)):
        Manifest(Kind.FULL, None, (Tensor("w", DType.F32, (1,), ROOT),) * (TENSORS_MAX + 1))


@pytest.mark.parametrize("prefix", [b"\xdd\xff\xff\xff\xff", b"\xdc\xff\xff", b"\xc6\xff\xff\xff\xff"])
def test_a_length_without_the_content_is_refused_without_room_for_it(prefix: bytes) -> None:
    lie = claiming(["w", "F32", [1], ROOT])
    tracemalloc.start()
    try:
        with pytest.raises(RejectedError):
            Manifest.decode(lie[:1] + prefix + lie[1:])
        assert tracemalloc.get_traced_memory()[1] < MEMORY_BYTES
    finally:
        tracemalloc.stop()


def test_a_root_passed_off_under_another_shape_is_no_content_of_this_manifest() -> None:
    with Store.memory() as store:
        honest = ingest_tensors(store, {"w": (DType.F32, (2, 3), bytes(24))}, kind=Kind.FULL)
        (tensor,) = honest.tensors
        lie = Manifest(Kind.FULL, None, (Tensor("w", DType.F32, (3, 2), tensor.root),))
        store.put_manifest(lie)
        with pytest.raises(MalformedError, match="declared as"):
            store.missing(lie)
        with pytest.raises(MalformedError, match="declared as"):
            store.read(lie.tensors[0], 0, 24)


def test_a_manifest_under_another_manifests_digest_is_not_handed_out() -> None:
    with Store.memory() as store:
        honest = ingest_tensors(store, {"w": (DType.F32, (1,), bytes(4))}, kind=Kind.FULL)
        with pytest.raises(NotYetError):
            store.manifest(Digest(b"x" * 32))
        assert store.manifest(honest.digest) == honest
