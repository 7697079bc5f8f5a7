"""Files that are written are whole, canonical, and everybody can load them; see tensorfile.py."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import safetensors.numpy
import safetensors.torch
import torch

from crdtmerge.dtypes import DType
from crdtmerge.errors import (
    LimitError,
    LockedError,
    MalformedError,
    OutOfSpaceError,
    ParameterError,
    UsageError,
)
from crdtmerge.limits import TENSORS_MAX
from crdtmerge.store import TensorFile, TensorFileWriter

LAYOUT = [
    ("β", DType.I16, (2,)),
    ("b", DType.U8, (3,)),
    ("a", DType.F32, (2, 1)),
    ("empty", DType.F16, (0, 4)),
]
CONTENT = {"a": bytes(range(8)), "b": b"xyz", "β": b"\1\0\2\0"}


def write(path: Path, *, metadata: dict[str, str] | None = None) -> bytes:
    with TensorFileWriter(path, LAYOUT, metadata=metadata) as writer:
        for name, raw in CONTENT.items():
            writer.write(name, len(raw) - 1, raw[-1:])
            writer.write(name, 0, memoryview(raw)[:-1])
        writer.publish()
    return path.read_bytes()


def test_the_layout_of_a_written_file_is_exactly_this(tmp_path: Path) -> None:
    assert write(tmp_path / "m.safetensors", metadata={"z": "1", "format": "pt"}) == (
        (272).to_bytes(8, "little")
        + '{"__metadata__":{"format":"pt","z":"1"},'
        '"a":{"data_offsets":[0,8],"dtype":"F32","shape":[2,1]},'
        '"b":{"data_offsets":[8,11],"dtype":"U8","shape":[3]},'
        '"empty":{"data_offsets":[11,11],"dtype":"F16","shape":[0,4]},'
        '"β":{"data_offsets":[11,15],"dtype":"I16","shape":[2]}}'.encode().ljust(272)
        + CONTENT["a"]
        + CONTENT["b"]
        + CONTENT["β"]
    )


def test_the_official_library_loads_a_written_file(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    write(path, metadata={"format": "pt"})
    loaded = safetensors.torch.load_file(path)
    assert {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in loaded.items()} == {
        "a": (torch.float32, (2, 1)),
        "b": (torch.uint8, (3,)),
        "empty": (torch.float16, (0, 4)),
        "β": (torch.int16, (2,)),  # at an odd offset
    }
    assert loaded["β"].tolist() == [1, 2]
    assert safetensors.numpy.load_file(path)["a"].tobytes() == CONTENT["a"]


@pytest.mark.parametrize("dtype", DType)
def test_every_dtype_is_one_that_the_official_library_knows(tmp_path: Path, dtype: DType) -> None:
    path = tmp_path / "m.safetensors"
    with TensorFileWriter(path, [("odd", DType.U8, (1,)), ("t", dtype, (3,))]) as writer:
        writer.write("odd", 0, b"\1")
        writer.write("t", 0, bytes(3 * dtype.itemsize))
        writer.publish()
    tensor = safetensors.torch.load_file(path)["t"]
    assert tensor.element_size() == dtype.itemsize
    assert tensor.is_floating_point() == dtype.floating


def test_a_file_of_the_official_library_is_read(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    weights = {"w": torch.arange(6, dtype=torch.bfloat16).reshape(2, 3), "n": torch.tensor(7)}
    safetensors.torch.save_file(weights, path, metadata={"format": "pt"})
    with TensorFile(path) as file:
        assert {t.name: (t.dtype, t.shape) for t in file.tensors.values()} == {
            "w": (DType.BF16, (2, 3)),
            "n": (DType.I64, ()),
        }
        assert file.read("n", 0, 8) == (7).to_bytes(8, "little")
        assert file.read("w", 2, 4) == weights["w"].view(torch.int16).numpy().tobytes()[2:4]


@pytest.mark.parametrize(("begin", "end"), [(-1, 1), (2, 1), (0, 4), (4, 4)])
def test_a_range_outside_of_the_tensor_is_refused(tmp_path: Path, begin: int, end: int) -> None:
    write(tmp_path / "m.safetensors")
    with TensorFile(tmp_path / "m.safetensors") as file, pytest.raises(ParameterError):
        file.read("b", begin, end)


@pytest.mark.parametrize(("offset", "raw"), [(-1, b"x"), (0, b"abcd"), (3, b"x")])
def test_a_write_outside_of_the_tensor_is_refused(tmp_path: Path, offset: int, raw: bytes) -> None:
    with TensorFileWriter(tmp_path / "m.safetensors", LAYOUT) as writer, pytest.raises(ParameterError):
        writer.write("b", offset, raw)


def test_nothing_is_visible_before_the_file_is_published(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(b"the earlier one")
    with TensorFileWriter(path, LAYOUT) as writer:
        writer.write("b", 0, b"xyz")
        assert path.read_bytes() == b"the earlier one"
    assert [entry.name for entry in tmp_path.iterdir()] == ["m.safetensors"]
    write(path)
    assert path.read_bytes() != b"the earlier one"
    assert [entry.name for entry in tmp_path.iterdir()] == ["m.safetensors"]


def test_a_file_with_a_byte_not_written_is_not_published(tmp_path: Path) -> None:
    with TensorFileWriter(tmp_path / "m.safetensors", LAYOUT) as writer:
        writer.write("a", 0, CONTENT["a"])
        writer.write("β", 0, CONTENT["β"])
        writer.write("b", 0, b"xy")
        with pytest.raises(UsageError, match="of b, 1 bytes"):
            writer.publish()
    assert list(tmp_path.iterdir()) == []


def test_a_disk_without_the_room_is_noticed_before_anything_is_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int, offset: int, length: int) -> None:
        raise OSError(errno.ENOSPC, "no room")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OutOfSpaceError):
        TensorFileWriter(tmp_path / "m.safetensors", LAYOUT)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("layout", "error"),
    [
        ([("a", DType.U8, (1,)), ("a", DType.U8, (1,))], MalformedError),
        ([("__metadata__", DType.U8, (1,))], MalformedError),
        ([("\ud800", DType.U8, (1,))], MalformedError),
        ([("", DType.U8, (1,))], LimitError),
        ([("a", DType.U8, (-1,))], MalformedError),
        ([("n" * 500 + str(i), DType.U8, ()) for i in range(40_000)], LimitError),
    ],
    ids=["twice", "metadata", "no text", "no name", "negative", "header too long"],
)
def test_a_layout_that_no_reader_would_accept_is_not_written(
    tmp_path: Path, layout: list[tuple[str, DType, tuple[int, ...]]], error: type[Exception]
) -> None:
    assert len(layout) < TENSORS_MAX
    with pytest.raises(error):
        TensorFileWriter(tmp_path / "m.safetensors", layout)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_file_is_taken_up_again(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    with TensorFileWriter(path, LAYOUT, resume=True) as writer:
        writer.write("a", 0, CONTENT["a"])
        writer.sync()
    assert [entry.name for entry in tmp_path.iterdir()] == ["m.safetensors.part"]
    with TensorFile(path.with_name("m.safetensors.part")) as file:
        assert file.read("a", 0, 8) == CONTENT["a"]
    with TensorFileWriter(path, LAYOUT, resume=True) as writer:
        writer.written("a")
        writer.write("b", 0, CONTENT["b"])
        writer.write("β", 0, CONTENT["β"])
        writer.publish()
    assert [entry.name for entry in tmp_path.iterdir()] == ["m.safetensors"]
    assert path.read_bytes() == write(tmp_path / "other")


def test_an_interrupted_file_of_another_layout_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    with TensorFileWriter(path, LAYOUT, resume=True) as writer:
        writer.write("a", 0, CONTENT["a"])
    with TensorFileWriter(path, [("a", DType.I64, (1,))], resume=True) as writer:
        assert writer.partial.read_bytes()[-8:] == bytes(8)


def test_two_writers_never_resume_the_same_file(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    with TensorFileWriter(path, LAYOUT, resume=True), pytest.raises(LockedError):
        TensorFileWriter(path, LAYOUT, resume=True)
    TensorFileWriter(path, LAYOUT, resume=True).abort()
    assert list(tmp_path.iterdir()) == []
