"""The header of a safetensors file: parsed with suspicion, built in one way."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from crdtmerge.dtypes import DType
from crdtmerge.errors import LimitError, MalformedError, RejectedError
from crdtmerge.limits import SAFETENSORS_HEADER_BYTES_MAX, TENSOR_NAME_BYTES_MAX, TENSORS_MAX
from crdtmerge.manifest import element_count

LENGTH_BYTES: Final = 8
"""The length of the header comes first, little-endian."""

_METADATA: Final = "__metadata__"
_ALIGNMENT: Final = 8  # of the data, as the format's own library does it
_BRACKETS_MAX: Final = 4 * TENSORS_MAX  # two lists and an object per tensor, and some in names


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor of a file; its content is the bytes ``[begin, end)`` of the file, header included."""

    name: str
    dtype: DType
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def bytes(self) -> int:
        """Size of the content in bytes."""
        return self.end - self.begin


def parse(raw: bytes, *, file_bytes: int) -> tuple[dict[str, Entry], dict[str, str]]:
    """Return the tensors, in the order of their content, and the metadata of a header from outside.

    Args:
        raw: the header without its length.
        file_bytes: size of the whole file.

    Raises:
        MalformedError: if it breaks a rule of the format, or would mean two things to two readers.
        LimitError: if it exceeds a limit.
        RejectedError: if a tensor has a dtype that is not supported.
    """
    values = _object(raw)
    metadata = values.pop(_METADATA, {})
    _check(values, metadata)
    data_begin = LENGTH_BYTES + len(raw)
    entries = [_entry(name, value, data_begin) for name, value in values.items()]
    entries.sort(key=lambda entry: (entry.begin, entry.end))
    position = data_begin
    for entry in entries:
        if entry.begin != position:
            what = "overlaps the tensor before it" if entry.begin < position else "leaves a gap before it"
            raise MalformedError(f"tensor {entry.name!r} {what}")
        position = entry.end
    if position != file_bytes:
        raise MalformedError(f"the tensors end at byte {position}, the file at {file_bytes}")
    return {entry.name: entry for entry in entries}, metadata


def build(
    tensors: Iterable[tuple[str, DType, Sequence[int]]], metadata: Mapping[str, str]
) -> tuple[bytes, dict[str, Entry]]:
    """Return the canonical header, length included, and the tensors in the order of their content.

    One list of tensors has one layout: names ascend by their UTF-8 bytes in the header and in the data;
    the JSON is compact, and padded with spaces until the data is aligned to 8 bytes.

    Raises:
        MalformedError, LimitError: as `parse` does, if names, shapes or the header break a rule.
    """
    rows: dict[str, Any] = {}
    position = 0
    entries = []
    for name, dtype, shape in sorted(tensors, key=lambda row: row[0]):  # code points order as UTF-8 does
        if name in rows:
            raise MalformedError(f"tensor {name!r} is there twice")
        end = position + element_count(shape) * dtype.itemsize
        rows[name] = {"data_offsets": [position, end], "dtype": dtype.code, "shape": list(shape)}
        entries.append(Entry(name, dtype, tuple(shape), position, end))
        position = end
    _check(rows, metadata)
    if metadata:
        rows = {_METADATA: dict(sorted(metadata.items())), **rows}
    raw = json.dumps(rows, ensure_ascii=False, separators=(",", ":")).encode()
    raw += b" " * (-(LENGTH_BYTES + len(raw)) % _ALIGNMENT)
    if len(raw) > SAFETENSORS_HEADER_BYTES_MAX:
        raise LimitError(f"a header of {len(raw)} bytes, at most {SAFETENSORS_HEADER_BYTES_MAX} are accepted")
    head = len(raw).to_bytes(LENGTH_BYTES, "little") + raw
    moved = (Entry(e.name, e.dtype, e.shape, len(head) + e.begin, len(head) + e.end) for e in entries)
    return head, {entry.name: entry for entry in moved}


def _object(raw: bytes) -> dict[str, Any]:
    """Parse a JSON object that has one meaning."""
    if raw.count(b"[") + raw.count(b"{") > _BRACKETS_MAX:
        raise LimitError(f"more than {_BRACKETS_MAX} objects and lists")  # each costs fifty times its bytes
    try:
        value = json.loads(raw.decode(), object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise MalformedError(f"the header is no JSON object: {error}") from error
    if not isinstance(value, dict) or not raw.startswith(b"{"):
        raise MalformedError("the header is no JSON object")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Readers differ in which of two equal keys they believe."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise MalformedError("a key is there twice")
    return found


def _no_constant(text: str) -> None:
    raise MalformedError(f"{text} is no JSON")


def _check(names: Collection[str], metadata: Any) -> None:
    if len(names) > TENSORS_MAX:
        raise LimitError(f"{len(names)} tensors, at most {TENSORS_MAX} are accepted")
    for name in names:
        if not _is_text(name) or name == _METADATA:
            raise MalformedError(f"{name[:TENSOR_NAME_BYTES_MAX]!r} is no name for a tensor")
        if not 0 < len(name.encode()) <= TENSOR_NAME_BYTES_MAX:
            raise LimitError(f"a tensor name that has not between 1 and {TENSOR_NAME_BYTES_MAX} bytes")
    if not isinstance(metadata, Mapping) or not all(map(_is_text, [*metadata, *metadata.values()])):
        raise MalformedError(f"{_METADATA} is not an object of texts")


def _entry(name: str, value: Any, data_begin: int) -> Entry:
    if not isinstance(value, dict) or value.keys() != {"dtype", "shape", "data_offsets"}:
        raise MalformedError(f"tensor {name!r} is not an object of dtype, shape and data_offsets")
    shape, offsets = _integers(name, value["shape"]), _integers(name, value["data_offsets"])
    try:
        dtype = DType.of(code := str(value["dtype"])[:16])
    except KeyError as error:
        known = ", ".join(dtype.code for dtype in DType)
        raise RejectedError(f"tensor {name!r} has dtype {code!r}; supported are {known}") from error
    if len(offsets) != 2:
        raise MalformedError(f"tensor {name!r} has {len(offsets)} data_offsets")
    begin, end = offsets
    if end - begin != element_count(shape) * dtype.itemsize:
        raise MalformedError(f"tensor {name!r} of shape {shape} and dtype {code} has {end - begin} bytes")
    return Entry(name, dtype, tuple(shape), data_begin + begin, data_begin + end)


def _integers(name: str, value: Any) -> list[int]:
    if not isinstance(value, list) or not all(type(item) is int and item >= 0 for item in value):
        raise MalformedError(f"tensor {name!r} has a shape or offsets that are no list of natural numbers")
    return value


def _is_text(value: Any) -> bool:
    """JSON can escape half a surrogate pair, which no encoding can hold."""
    try:
        return isinstance(value, str) and bool(value.encode() or True)
    except UnicodeEncodeError:
        return False
