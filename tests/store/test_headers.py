"""A safetensors header is believed only after it was checked; see crdtmerge/store/header.py."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtmerge.dtypes import DType
from crdtmerge.errors import LimitError, MalformedError, RejectedError, StoreError
from crdtmerge.limits import SAFETENSORS_HEADER_BYTES_MAX, TENSOR_NAME_BYTES_MAX
from crdtmerge.store import TensorFile
from crdtmerge.store.header import build, parse


def row(begin: int, end: int, *, dtype: Any = "U8", shape: Any = None) -> dict[str, Any]:
    return {"dtype": dtype, "shape": [end - begin] if shape is None else shape, "data_offsets": [begin, end]}


def write(
    path: Path, header: Mapping[str, Any] | bytes | str, data: bytes = b"", *, length: int = -1
) -> Path:
    raw = (
        header
        if isinstance(header, bytes)
        else (header if isinstance(header, str) else json.dumps(header)).encode()
    )
    path.write_bytes((len(raw) if length < 0 else length).to_bytes(8, "little") + raw + data)
    return path


GOOD = {"a": row(0, 4, dtype="F32", shape=[1]), "b": row(4, 10)}


def test_a_good_header_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "m.safetensors", {"__metadata__": {"format": "pt"}, **GOOD}, b"0123456789")
    with TensorFile(path) as file:
        assert file.metadata == {"format": "pt"}
        assert [(t.name, t.dtype, t.shape) for t in file.tensors.values()] == [
            ("a", DType.F32, (1,)),
            ("b", DType.U8, (6,)),
        ]
        assert file.read("b", 1, 3) == b"56"


ATTACKS: dict[str, tuple[dict[str, Any] | str | bytes, bytes]] = {
    "gap": ({"a": row(0, 4), "b": row(5, 9)}, bytes(9)),
    "overlap": ({"a": row(0, 4), "b": row(3, 7)}, bytes(7)),
    "two tensors in one place": ({"a": row(0, 4), "b": row(0, 4)}, bytes(4)),
    "hidden data at the end": (GOOD, bytes(11)),
    "hidden data at the beginning": ({"a": row(1, 4)}, bytes(4)),
    "file cut short": (GOOD, bytes(9)),
    "data without a tensor": ({}, bytes(1)),
    "end before begin": ({"a": {"dtype": "U8", "shape": [0], "data_offsets": [4, 0]}}, bytes(4)),
    "shape that does not fit the offsets": ({"a": row(0, 4, shape=[5])}, bytes(4)),
    "dtype that does not fit the offsets": ({"a": row(0, 4, dtype="F64", shape=[4])}, bytes(4)),
    "product that overflows 64 bits to the right size": (
        {"a": row(0, 4, shape=[1 << 32, 1 << 32, 4])},
        bytes(4),
    ),
    "product of a huge and an empty dimension": ({"a": row(0, 0, shape=[1 << 62, 0])}, b""),
    "product of an empty and a huge dimension": ({"a": row(0, 0, shape=[0, 10**30])}, b""),
    "negative dimension": ({"a": row(0, 4, shape=[-2, -2])}, bytes(4)),
    "fractional dimension": ({"a": row(0, 4, shape=[4.0])}, bytes(4)),
    "boolean dimension": ({"a": row(0, 1, shape=[True])}, bytes(1)),
    "dimension in a text": ({"a": row(0, 4, shape=["4"])}, bytes(4)),
    "nine dimensions": ({"a": row(0, 1, shape=[1] * 9)}, bytes(1)),
    "three offsets": ({"a": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4, 4]}}, bytes(4)),
    "dtype that nobody knows": ({"a": row(0, 4, dtype="F4_E9")}, bytes(4)),
    "dtype that is a list": ({"a": row(0, 4, dtype=["U8"])}, bytes(4)),
    "field missing": ({"a": {"dtype": "U8", "shape": [0]}}, b""),
    "field too many": ({"a": {**row(0, 4), "pickle": "gASV"}}, bytes(4)),
    "tensor that is no object": ({"a": 4}, b""),
    "duplicate tensor": ('{"a":%s,"a":%s}'.replace("%s", json.dumps(row(0, 4))), bytes(4)),
    "duplicate key in a tensor": (
        '{"a":{"dtype":"U8","shape":[4],"shape":[2],"data_offsets":[0,4]}}',
        bytes(4),
    ),
    "duplicate key in the metadata": ('{"__metadata__":{"a":"1","a":"2"}}', b""),
    "metadata that is no text": ({"__metadata__": {"a": 1}}, b""),
    "metadata that is no object": ({"__metadata__": "a"}, b""),
    "name that is empty": ({"": row(0, 4)}, bytes(4)),
    "name that is too long": ({"n" * (TENSOR_NAME_BYTES_MAX + 1): row(0, 4)}, bytes(4)),
    "name that is half a surrogate pair": ('{"\\ud800":' + json.dumps(row(0, 4)) + "}", bytes(4)),
    "metadata that is half a surrogate pair": ('{"__metadata__":{"a":"\\udfff"}}', b""),
    "no JSON": ("{nope", b""),
    "NaN": ('{"a":NaN}', b""),
    "a number of a million digits": ('{"a":' + "9" * 1_000_000 + "}", b""),
    "a list": ("[]", b""),
    "nothing": ("", b""),
    "space before the object": (" {}", b""),
    "two objects": ("{}{}", b""),
    "UTF-16": ("{}".encode("utf-16-le"), b""),
    "broken UTF-8": (b'{"\xff":1}', b""),
    "nesting": ('{"a":' + "[" * 100_000 + "]" * 100_000 + "}", b""),
    "millions of empty lists": ('{"a":[' + "[]," * 2_000_000 + "[]]}", b""),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_malformed_header_is_refused(tmp_path: Path, attack: str) -> None:
    header, data = ATTACKS[attack]
    with pytest.raises(RejectedError) as caught:
        TensorFile(write(tmp_path / "m.safetensors", header, data))
    assert "m.safetensors" in str(caught.value)
    assert len(str(caught.value)) < 5000


@pytest.mark.parametrize(
    ("length", "size", "error"),
    [
        (SAFETENSORS_HEADER_BYTES_MAX + 1, 0, LimitError),
        ((1 << 64) - 1, 0, LimitError),
        (3, 2, MalformedError),
        (SAFETENSORS_HEADER_BYTES_MAX, 100, MalformedError),
    ],
)
def test_a_header_that_lies_about_its_length_is_refused_before_it_is_read(
    tmp_path: Path, length: int, size: int, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    pread = os.pread

    def traced(descriptor: int, count: int, offset: int) -> bytes:
        asked.append(count)
        return pread(descriptor, count, offset)

    monkeypatch.setattr(os, "pread", traced)
    with pytest.raises(error):
        TensorFile(write(tmp_path / "m.safetensors", b" " * size, length=length))
    assert max(asked) == 8


@pytest.mark.parametrize("size", range(8))
def test_a_file_too_short_for_a_length_is_refused(tmp_path: Path, size: int) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(bytes(size))
    with pytest.raises(MalformedError):
        TensorFile(path)


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "m.safetensors")
    with pytest.raises(RejectedError, match="regular"):
        TensorFile(tmp_path / "m.safetensors")


def test_a_file_that_is_not_there_is_an_error_of_the_disk(tmp_path: Path) -> None:
    with pytest.raises(StoreError):
        TensorFile(tmp_path / "m.safetensors")


def test_a_file_that_shrinks_after_it_was_opened_is_noticed(tmp_path: Path) -> None:
    path = write(tmp_path / "m.safetensors", GOOD, b"0123456789")
    with TensorFile(path) as file:
        os.truncate(path, path.stat().st_size - 1)
        with pytest.raises(StoreError):
            file.read("b", 0, 6)


names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6)
layouts = st.dictionaries(
    names.filter(lambda name: name != "__metadata__"),
    st.tuples(st.sampled_from(DType), st.lists(st.integers(0, 3), max_size=3)),
    max_size=4,
)


@given(layout=layouts, metadata=st.dictionaries(names, st.text(st.characters(exclude_categories=["Cs"]))))
def test_what_is_built_is_read_and_its_order_does_not_matter(
    layout: dict[str, tuple[DType, list[int]]], metadata: dict[str, str]
) -> None:
    rows = [(name, dtype, shape) for name, (dtype, shape) in layout.items()]
    head, entries = build(rows, metadata)
    assert (head, entries) == build(rows[::-1], dict(reversed(metadata.items())))
    assert len(head) % 8 == 0
    end = max((entry.end for entry in entries.values()), default=len(head))
    parsed, texts = parse(head[8:], file_bytes=end)
    assert parsed == entries
    assert list(parsed) == sorted(layout, key=str.encode) or any(0 in shape for _, shape in layout.values())
    assert texts == metadata


bits = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 1 << 70) | st.floats() | st.text(max_size=3) | st.just("U8"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["dtype", "shape", "data_offsets", "a", "__metadata__"]), inner)
    ),
    max_leaves=12,
)


@given(header=st.dictionaries(st.sampled_from(["a", "b", "__metadata__"]), bits), size=st.integers(0, 30))
def test_any_json_is_read_or_refused(header: dict[str, Any], size: int) -> None:
    raw = json.dumps(header).encode()
    try:
        entries, _ = parse(raw, file_bytes=8 + len(raw) + size)
    except RejectedError:
        return
    assert sum(entry.bytes for entry in entries.values()) == size


@given(
    edits=st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), min_size=1, max_size=4),
    cut=st.integers(0, 40),
)
def test_a_good_file_with_other_bytes_is_read_or_refused(
    edits: list[tuple[int, int]], cut: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = write(tmp_path_factory.mktemp("x") / "m.safetensors", GOOD, b"0123456789")
    raw = bytearray(path.read_bytes())
    for position, value in edits:
        raw[position % len(raw)] = value
    path.write_bytes(raw[: len(raw) - cut])
    try:
        file = TensorFile(path)
    except RejectedError:
        return
    with file:
        total = sum(len(file.read(t.name, 0, t.bytes)) for t in file.tensors.values())
    assert total == path.stat().st_size - min(t.begin for t in file.tensors.values())
