"""Models come in from files and memory, and nothing else does; see ingest.py and shards.py."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from crdtmerge.digest import Digest
from crdtmerge.dtypes import DType
from crdtmerge.errors import (
    LimitError,
    MalformedError,
    OutOfSpaceError,
    RejectedError,
    ShapeMismatchError,
    StoreError,
)
from crdtmerge.limits import BLOCK_BYTES
from crdtmerge.manifest import Factor, Kind
from crdtmerge.store import (
    DiskBlocks,
    Store,
    TensorFileWriter,
    block_digest,
    ingest_file,
    ingest_tensors,
    shards_of,
)

WEIGHTS = {
    "embed": torch.arange(3 * 200_000, dtype=torch.float32).reshape(3, -1),  # two blocks and a part
    "norm": torch.ones(5, dtype=torch.bfloat16),
    "steps": torch.tensor(7),
    "none": torch.zeros(0, 4),
}


def raw(tensor: torch.Tensor) -> bytes:
    return tensor.reshape(-1).view(torch.uint8).numpy().tobytes()


@pytest.fixture
def store(tmp_home: Path) -> Iterator[Store]:
    with Store.open(tmp_home) as opened:
        yield opened


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    safetensors.torch.save_file(WEIGHTS, path)
    return path


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    folder = tmp_path / "sharded"
    folder.mkdir()
    parts = {"model-1.safetensors": ["norm", "none"], "model-2.safetensors": ["embed", "steps"]}
    for file, names in parts.items():
        safetensors.torch.save_file({name: WEIGHTS[name] for name in names}, folder / file)
    places = {name: file for file, names in parts.items() for name in names}
    index(folder, {"metadata": {}, "weight_map": places})
    return folder


def index(folder: Path, value: Any) -> Path:
    path = folder / "model.safetensors.index.json"
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return path


@pytest.mark.parametrize("reference", [False, True])
def test_every_byte_of_a_file_comes_back(store: Store, model: Path, reference: bool) -> None:
    manifest = ingest_file(store, model, kind=Kind.FULL, reference=reference)
    assert store.manifest(manifest.digest) == manifest
    assert [tensor.name for tensor in manifest.tensors] == sorted(WEIGHTS)
    for tensor in manifest.tensors:
        assert tensor.shape == tuple(WEIGHTS[tensor.name].shape)
        assert store.read(tensor, 0, tensor.bytes) == raw(WEIGHTS[tensor.name])
    assert not store.missing(manifest)
    assert list(store.verify()) == []


def test_one_model_has_one_digest_whichever_way_it_comes_in(store: Store, model: Path, sharded: Path) -> None:
    digests = {
        ingest_file(store, model, kind=Kind.FULL).digest,
        ingest_file(store, sharded, kind=Kind.FULL).digest,
        ingest_file(store, sharded, kind=Kind.FULL, reference=True).digest,
        ingest_file(store, sharded / "model.safetensors.index.json", kind=Kind.FULL).digest,
        ingest_file(store, sorted(sharded.glob("*.safetensors"))[::-1], kind=Kind.FULL).digest,
        ingest_tensors(
            store,
            {
                "steps": (DType.I64, (), raw(WEIGHTS["steps"])),
                "none": (DType.F32, (0, 4), b""),
                "norm": (DType.BF16, (5,), bytearray(raw(WEIGHTS["norm"]))),
                "embed": (DType.F32, [3, 200_000], memoryview(raw(WEIGHTS["embed"]))),
            },
            kind=Kind.FULL,
        ).digest,
    }
    assert len(digests) == 1


def test_declarations_and_evidence_stand_in_the_manifest(store: Store, model: Path, tmp_path: Path) -> None:
    fisher = tmp_path / "fisher.safetensors"
    safetensors.torch.save_file({"norm": torch.full((5,), 0.5)}, fisher)
    base = ingest_file(store, model, kind=Kind.BASE)
    manifest = ingest_file(
        store,
        model,
        kind=Kind.FULL,
        base=base.digest,
        evidence=fisher,
        weight="2.5",
        metrics={"loss": "0.25", "accuracy": "0.9"},
        metadata={"label": "x", "author": "y"},
    )
    assert (manifest.base, manifest.weight) == (base.digest, "2.5")
    assert manifest.metrics == (("accuracy", "0.9"), ("loss", "0.25"))
    assert manifest.metadata == (("author", "y"), ("label", "x"))
    assert manifest.tensors == base.tensors
    assert store.read(manifest.evidence[0], 0, 20) == raw(torch.full((5,), 0.5))


def test_factors_may_be_given_in_any_order(store: Store) -> None:
    factors = [Factor(target, "a", "b", (2, 1)) for target in ("y", "x")]
    tensors = {"a": (DType.F32, (1, 2), bytes(8)), "b": (DType.F32, (3, 1), bytes(12))}
    manifest = ingest_tensors(store, tensors, kind=Kind.LORA, base=Digest(bytes(32)), factors=factors)
    assert [factor.target for factor in manifest.factors] == ["x", "y"]


def test_progress_adds_up_to_the_bytes_of_the_model(store: Store, model: Path) -> None:
    steps: list[int] = []
    manifest = ingest_file(store, model, kind=Kind.FULL, progress=steps.append)
    assert sum(steps) == manifest.content_bytes
    assert max(steps) == BLOCK_BYTES


def test_content_that_does_not_fit_its_shape_is_refused(store: Store) -> None:
    with pytest.raises(ShapeMismatchError) as caught:
        ingest_tensors(store, {"w": (DType.F32, (2,), bytes(7))}, kind=Kind.FULL)
    assert caught.value.tensors == ("w",)


def test_a_tensor_in_two_files_is_refused(store: Store, model: Path, sharded: Path) -> None:
    with pytest.raises(MalformedError):
        ingest_file(store, [model, sharded / "model-1.safetensors"], kind=Kind.FULL)


def test_what_the_manifest_would_refuse_is_refused_before_anything_is_read(store: Store, model: Path) -> None:
    steps: list[int] = []
    with pytest.raises(MalformedError, match="weight"):
        ingest_file(store, model, kind=Kind.FULL, weight="1.0", progress=steps.append)
    with pytest.raises(MalformedError, match="base"):
        ingest_file(store, model, kind=Kind.DELTA, progress=steps.append)
    assert steps == []
    assert list(store.blocks) == []


# --- interruptions ---


def test_a_second_run_writes_only_what_is_not_there(
    store: Store, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class PowerCut(Exception):
        pass

    def cut(_: int) -> None:
        raise PowerCut

    with pytest.raises(PowerCut):
        ingest_file(store, model, kind=Kind.FULL, progress=cut)
    assert list(store.manifests()) == []
    store.blocks.flush()
    kept = set(store.blocks)
    written: list[bytes] = []
    write = DiskBlocks._write

    def traced(self: DiskBlocks, data: bytes) -> Path:
        written.append(block_digest(data))
        return write(self, data)

    monkeypatch.setattr(DiskBlocks, "_write", traced)
    manifest = ingest_file(store, model, kind=Kind.FULL)
    assert kept
    assert set(written) == set(store.blocks) - kept
    assert not store.missing(manifest)


def test_a_full_disk_leaves_no_manifest_and_a_later_run_succeeds(
    store: Store, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room, pwrite = [2], os.pwrite

    def filling(descriptor: int, data: memoryview, offset: int) -> int:
        room[0] -= 1
        if room[0] < 0:
            raise OSError(errno.ENOSPC, "no room")
        return pwrite(descriptor, data, offset)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", filling)
        with pytest.raises(OutOfSpaceError):
            ingest_file(store, model, kind=Kind.FULL)
    assert list(store.manifests()) == []
    assert len(list(store.blocks)) <= 2
    assert not store.missing(ingest_file(store, model, kind=Kind.FULL))


def test_a_file_that_changes_while_it_is_read_is_refused(store: Store, model: Path) -> None:
    def meddle(_: int) -> None:
        os.utime(model, ns=(1, 1))

    with pytest.raises(RejectedError, match="changed"):
        ingest_file(store, model, kind=Kind.FULL, reference=True, progress=meddle)
    assert list(store.manifests()) == []
    assert list(store.blocks) == []


MEASURE = """
import resource, sys
from pathlib import Path
from crdtmerge.manifest import Kind
from crdtmerge.store import Store, ingest_file
with Store.open(Path(sys.argv[1])) as store:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    manifest = ingest_file(store, Path(sys.argv[2]), kind=Kind.FULL, reference=sys.argv[3] == "True")
    for tensor in manifest.tensors:
        for begin in range(0, tensor.bytes, 1 << 20):
            store.read(tensor, begin, begin + 1)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, manifest.content_bytes >> 10)
"""


@pytest.mark.parametrize("reference", [False, True])
def test_memory_is_bounded_however_large_the_file(tmp_path: Path, reference: bool) -> None:
    path, megabytes = tmp_path / "sparse.safetensors", 384
    with TensorFileWriter(path, [("w", DType.U8, (megabytes, BLOCK_BYTES))]) as writer:
        os.ftruncate(writer._descriptor, writer._entries["w"].begin)
        os.ftruncate(writer._descriptor, writer._entries["w"].end)
        for number in range(megabytes):
            writer.write("w", number * BLOCK_BYTES, number.to_bytes(4))  # no two blocks are equal
        writer.written("w")
        writer.publish()
    command = [sys.executable, "-c", MEASURE, str(tmp_path / "home"), str(path), str(reference)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    grown_kib, size_kib = map(int, output.split())
    assert size_kib == megabytes * 1024
    assert grown_kib < 96 * 1024  # the reader's cache of 64 MiB is most of it


# --- which files ---


@pytest.mark.parametrize("name", ["model.safetensors", "adapter_model.safetensors"])
def test_a_folder_stands_for_the_model_in_it(tmp_path: Path, name: str) -> None:
    safetensors.torch.save_file(WEIGHTS, tmp_path / name)
    assert shards_of(tmp_path) == [tmp_path / name]


def test_a_folder_with_an_index_stands_for_its_shards(sharded: Path) -> None:
    assert shards_of(sharded) == [sharded / "model-1.safetensors", sharded / "model-2.safetensors"]


def test_a_shard_may_be_a_link_as_in_the_cache_of_hugging_face(sharded: Path, tmp_path: Path) -> None:
    blob = (sharded / "model-1.safetensors").rename(tmp_path / "blob")
    (sharded / "model-1.safetensors").symlink_to(blob)
    assert shards_of(sharded)[0].samefile(blob)


@pytest.mark.parametrize("suffix", [".bin", ".pt", ".pth", ".ckpt", ".pkl", ".PT"])
def test_pickle_is_refused_with_the_way_out(store: Store, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"pytorch_model{suffix}"
    torch.save(WEIGHTS, path)
    for place in (path, tmp_path):
        with pytest.raises(RejectedError, match="safetensors"):
            ingest_file(store, place, kind=Kind.FULL)


def test_pickle_under_the_name_of_a_safetensors_file_is_refused(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    torch.save(WEIGHTS, path)
    with pytest.raises(LimitError, match="no safetensors file"):
        ingest_file(store, path, kind=Kind.FULL)


@pytest.mark.parametrize(
    "place",
    [
        "../secret.safetensors",
        "/etc/secret.safetensors",
        "sub/model.safetensors",
        "..\\secret.safetensors",
        "secret\0.safetensors",
        "config.json",
        "",
        7,
        None,
    ],
)
def test_an_index_that_points_elsewhere_is_refused(tmp_path: Path, place: object) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for there in (tmp_path / "secret.safetensors", folder / "config.json"):
        safetensors.torch.save_file(WEIGHTS, there)
    index(folder, {"weight_map": {"w": place}})
    with pytest.raises(MalformedError):
        shards_of(folder)


@pytest.mark.parametrize(
    "value", ["", "{", "[]", "7", {}, {"weight_map": {}}, {"weight_map": ["a.safetensors"]}, "[" * 100_000]
)
def test_an_index_that_is_none_is_refused(tmp_path: Path, value: Any) -> None:
    with pytest.raises(MalformedError):
        shards_of(index(tmp_path, value))


def test_an_index_that_is_too_long_is_refused(tmp_path: Path) -> None:
    path = index(tmp_path, "{}")
    os.truncate(path, 1 << 40)
    with pytest.raises(LimitError):
        shards_of(path)


def broken_index(path: Path) -> None:
    path.mkdir()
    index(path, {"weight_map": {"w": "gone.safetensors"}})


MAKE: dict[str, Callable[[Path], object]] = {
    "nothing": lambda path: None,
    "an empty folder": lambda path: path.mkdir(),
    "a text": lambda path: path.write_text("hello", encoding="utf-8"),
    "an index of a shard that is not there": broken_index,
}


@pytest.mark.parametrize("what", MAKE)
def test_a_path_without_a_model_is_refused(tmp_path: Path, what: str) -> None:
    MAKE[what](tmp_path / "place")
    with pytest.raises(RejectedError):
        shards_of(tmp_path / "place")


def test_a_model_that_may_not_be_read_is_an_error_of_the_disk(
    store: Store, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def deny(*_: object) -> int:
        raise PermissionError(errno.EACCES, "no")

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", deny)
        with pytest.raises(StoreError, match="opening"):
            ingest_file(store, model, kind=Kind.FULL)
