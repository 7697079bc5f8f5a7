"""The canonical encoding: one value, one string of bytes.

What is signed or hashed is MessagePack restricted to nil, booleans, integers of 64 bits, strings of
bytes, UTF-8 text and arrays. There are no maps (key order) and no floating-point numbers (several
encodings of one value): numbers with a fraction travel as decimal text, see `crdtmerge.rational`.

`decode` accepts exactly the bytes that `encode` produces. It bounds size and nesting before it
allocates, then re-encodes and compares, so integers in long form, padding and duplicates of every
kind are refused without a rule for each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

import msgpack

from crdtmerge.errors import LimitError, MalformedError
from crdtmerge.limits import CANON_DEPTH_MAX

Value: TypeAlias = "bool | int | bytes | str | Sequence[Value] | None"
"""What can be encoded. Decoding gives tuples for arrays."""

_INT_MIN: Final = -(1 << 63)
_INT_MAX: Final = (1 << 64) - 1


def encode(value: Value) -> bytes:
    """Return the canonical bytes of ``value``.

    Raises:
        TypeError: if the value is, or holds, something outside `Value`.
        OverflowError: if an integer needs more than 64 bits.
    """
    _check(value, 0)
    packed = msgpack.packb(value, use_bin_type=True)
    assert isinstance(packed, bytes)  # noqa: S101 - narrows the stub's optional result
    return packed


def _check(value: Value, depth: int) -> None:
    if value is None or isinstance(value, (bool, bytes)):
        return
    if isinstance(value, int):
        if not _INT_MIN <= value <= _INT_MAX:
            raise OverflowError(f"{value} needs more than 64 bits")
    elif isinstance(value, str):
        value.encode("utf-8")  # lone surrogates have no encoding: UnicodeEncodeError is a ValueError
    elif isinstance(value, (list, tuple)):
        if depth >= CANON_DEPTH_MAX:
            raise TypeError(f"values nest deeper than {CANON_DEPTH_MAX}")
        for item in value:
            _check(item, depth + 1)
    else:
        raise TypeError(f"{type(value).__name__} has no canonical encoding")


def decode(data: bytes, *, bytes_max: int) -> Value:
    """Parse the canonical bytes of one value; arrays come back as tuples.

    Args:
        data: untrusted bytes.
        bytes_max: refuse anything longer before parsing it.

    Raises:
        LimitError: if ``data`` is longer than ``bytes_max``.
        MalformedError: if ``data`` is not what `encode` gives for some value.
    """
    if len(data) > bytes_max:
        raise LimitError(f"encoded value of {len(data)} bytes, at most {bytes_max} are accepted")
    _check_shape(data)
    try:
        value = msgpack.unpackb(
            data,
            raw=False,
            use_list=False,
            strict_map_key=True,
            max_map_len=0,
            max_ext_len=0,
            max_array_len=len(data),
            max_str_len=len(data),
            max_bin_len=len(data),
        )
        again = encode(value)
    except (ValueError, TypeError, OverflowError, msgpack.UnpackException, RecursionError) as error:
        raise MalformedError(f"not a canonical value: {error or type(error).__name__}") from error
    if again != data:
        raise MalformedError("not canonical: the value re-encodes to other bytes")
    decoded: Value = value
    return decoded


_FIXED: Final = {0xC0: 0, 0xC2: 0, 0xC3: 0} | {base + i: 1 << i for base in (0xCC, 0xD0) for i in range(4)}
_BYTES: Final = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4}
_ARRAY: Final = {0xDC: 2, 0xDD: 4}


def _check_shape(data: bytes) -> None:
    """Refuse nesting beyond the limit and lengths that the data does not hold.

    The unpacker allocates an array when it reads the array's head; without this walk a few bytes can
    make it allocate gigabytes for elements that never come.
    """
    position, end = 0, len(data)
    open_arrays: list[int] = []  # elements still to come, per array around the current position
    while position < end:
        head = data[position]
        position += 1
        elements = -1
        if head <= 0x7F or head >= 0xE0 or head in _FIXED:
            position += _FIXED.get(head, 0)
        elif 0xA0 <= head <= 0xBF:
            position += head & 0x1F
        elif 0x90 <= head <= 0x9F:
            elements = head & 0x0F
        elif head in _BYTES:
            width = _BYTES[head]
            position += width + int.from_bytes(data[position : position + width], "big")
        elif head in _ARRAY:
            width = _ARRAY[head]
            elements = int.from_bytes(data[position : position + width], "big")
            position += width
        else:
            raise MalformedError(f"not a canonical value: type byte {head:#04x} is not allowed")
        if elements > end - position:
            raise MalformedError(f"an array claims {elements} elements, {end - position} bytes are left")
        if open_arrays:
            open_arrays[-1] -= 1
        if elements > 0:
            open_arrays.append(elements)
            if len(open_arrays) > CANON_DEPTH_MAX:
                raise MalformedError(f"values nest deeper than {CANON_DEPTH_MAX}")
        while open_arrays and not open_arrays[-1]:
            open_arrays.pop()
        if not open_arrays:
            break
    if position != end or open_arrays:
        raise MalformedError("not a canonical value: truncated, or followed by other bytes")


def array(value: Value, length: int | None = None) -> tuple[Value, ...]:
    """Return ``value`` if it is an array (of ``length`` elements); else raise MalformedError."""
    if not isinstance(value, tuple) or (length is not None and len(value) != length):
        wanted = "an array" if length is None else f"an array of {length}"
        raise MalformedError(f"wanted {wanted}, got {_kind(value)}")
    return value


def text(value: Value) -> str:
    """Return ``value`` if it is text; else raise MalformedError."""
    if not isinstance(value, str):
        raise MalformedError(f"wanted text, got {_kind(value)}")
    return value


def integer(value: Value, minimum: int = _INT_MIN, maximum: int = _INT_MAX) -> int:
    """Return ``value`` if it is an integer in ``[minimum, maximum]``; else raise MalformedError."""
    if not isinstance(value, int) or isinstance(value, bool) or not minimum <= value <= maximum:
        raise MalformedError(f"wanted an integer from {minimum} to {maximum}, got {_kind(value)}")
    return value


def flag(value: Value) -> bool:
    """Return ``value`` if it is a boolean; else raise MalformedError."""
    if not isinstance(value, bool):
        raise MalformedError(f"wanted a boolean, got {_kind(value)}")
    return value


def octets(value: Value, length: int | None = None) -> bytes:
    """Return ``value`` if it is a string of (``length``) bytes; else raise MalformedError."""
    if not isinstance(value, bytes) or (length is not None and len(value) != length):
        wanted = "bytes" if length is None else f"{length} bytes"
        raise MalformedError(f"wanted {wanted}, got {_kind(value)}")
    return value


def _kind(value: Value) -> str:
    if isinstance(value, (tuple, bytes)):
        return f"{type(value).__name__} of {len(value)}"
    return repr(value)[:80]
