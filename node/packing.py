"""Blocks packed for the wire: what a fine-tune changed is little, and lies in few of its bytes.

    block ── XOR with the base's block at the same place ── byte planes ── zstd, level 1 ──> packed
            (if both sides have it: equal bits become 0)    (all first bytes of elements, all second bytes, …)

    packed = 1 byte: 0, or 1 if it was XORed; then one zstd frame

Never identity: a digest is of the raw bytes, and whoever unpacks hashes again. Always true here: unpacking
makes no more than was asked for, whatever a frame claims about its size or window, and what is not smaller
is not packed. Without the package zstandard (extra ``wire``) nothing is packed.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Final

import numpy as np

from crdtmerge.errors import LimitError, MalformedError

LEVEL: Final = 1
"""Of zstd: higher ones save a percent and cost the transfer its speed."""

WINDOW_BYTES_MAX: Final = 1 << 21
"""Of memory that a frame may ask the decoder for."""

SAMPLE_BYTES: Final = 1 << 16
"""Of a block, packed first: if that does not pay, the rest is not tried."""

WORTH: Final = 0.95
"""A sample that packs to more than this share of itself is not worth it."""

_PIECE: Final = 1 << 18


def available() -> bool:
    """Whether blocks can be packed and unpacked here."""
    return find_spec("zstandard") is not None


def pack(data: bytes, against: bytes | None, *, width: int) -> bytes | None:
    """Return a block packed, or None if that is not smaller, or its beginning is hardly so.

    Args:
        data: the raw block.
        against: the raw block at the same place of the base; used if it has the same length.
        width: bytes of an element.
    """
    twin = against if against is not None and len(against) == len(data) else None
    if len(data) > SAMPLE_BYTES:
        sample = _framed(data[:SAMPLE_BYTES], twin and twin[:SAMPLE_BYTES], width)
        if len(sample) > WORTH * SAMPLE_BYTES:
            return None
    packed = bytes([twin is not None]) + _framed(data, twin, width)
    return packed if len(packed) < len(data) else None


def _framed(data: bytes, against: bytes | None, width: int) -> bytes:
    """Return what follows the head of a packed block."""
    import zstandard

    raw = np.frombuffer(data, np.uint8)
    if against is not None:
        raw = raw ^ np.frombuffer(against, np.uint8)
    planes = np.ascontiguousarray(raw.reshape(-1, _width(len(data), width)).T)
    return zstandard.ZstdCompressor(level=LEVEL).compress(planes.tobytes())


def is_mixed(packed: bytes) -> bool:
    """Whether a packed block was XORed with another.

    Raises:
        MalformedError: if it does not say.
    """
    if packed[:1] not in (b"\0", b"\1"):
        raise MalformedError("a packed block without a head")
    return packed[0] == 1


def unpack(packed: bytes, against: bytes | None, *, width: int, bytes_max: int) -> bytes:
    """Return a block as it was before `pack`, perhaps: its digest tells.

    Args:
        packed: from somebody else.
        against: the block that it was XORed with, if `is_mixed`.
        width: bytes of an element.
        bytes_max: unpack no more.

    Raises:
        MalformedError: if it is no packed block, or needs another ``against``.
        LimitError: if it unpacks to more, or needs too much memory.
    """
    mixed = is_mixed(packed)
    raw = np.frombuffer(_inflated(packed[1:], bytes_max), np.uint8)
    if mixed and (against is None or len(against) != len(raw)):
        raise MalformedError("a block that was mixed with one of another length, or that is not here")
    flat = raw.reshape(_width(len(raw), width), -1).T.reshape(-1)
    return bytes((flat ^ np.frombuffer(against, np.uint8) if mixed and against else flat).tobytes())


def _inflated(frame: bytes, bytes_max: int) -> bytes:
    """Return what a frame holds; read piece by piece, since what it claims of its size binds nobody."""
    import zstandard

    parts: list[bytes] = []
    size = 0
    try:
        with zstandard.ZstdDecompressor(max_window_size=WINDOW_BYTES_MAX).stream_reader(frame) as reader:
            while piece := reader.read(min(_PIECE, bytes_max + 1 - size)):
                parts.append(piece)
                size += len(piece)
                if size > bytes_max:
                    raise LimitError(f"a block that unpacks to more than {bytes_max} bytes")
    except zstandard.ZstdError as error:
        raise MalformedError(f"not a packed block: {error}") from error
    if not size:
        raise MalformedError("a packed block with nothing in it")
    return b"".join(parts)


def _width(size: int, width: int) -> int:
    return width if size and size % width == 0 else 1
