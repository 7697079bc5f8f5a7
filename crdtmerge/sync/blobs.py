"""What nodes say to each other about content: who holds what, and pieces of it.

The second half of `crdtmerge.sync.messages`, under the same rule: a value of these classes is well formed,
because constructing one checks every length and count.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from crdtmerge.digest import DIGEST_BYTES, Digest
from crdtmerge.errors import MalformedError
from crdtmerge.limits import BLOCK_BYTES, HAVE_DIGESTS_MAX, MANIFEST_BYTES_MAX, MIB
from crdtmerge.sync.bounds import at_most, digests, exactly, size

META_CHUNK_BYTES_MAX: Final = MIB
"""One piece of a manifest or of a block list."""

META_BYTES_MAX: Final = MANIFEST_BYTES_MAX
"""A whole manifest or block list: as digests, the blocks of a tensor of 2 TiB."""

WIDTH_MAX: Final = 16
"""Bytes of the widest element there is."""


class Meta(Enum):
    """What `GetMeta` fetches: canonical bytes of a manifest, or the joined block digests of a tensor."""

    MANIFEST = "manifest"
    TENSOR = "tensor"


@dataclass(frozen=True, slots=True)
class Have:
    """Which of these blocks do you hold?"""

    digests: tuple[Digest, ...]

    def __post_init__(self) -> None:
        digests("digests", self.digests, HAVE_DIGESTS_MAX)


@dataclass(frozen=True, slots=True)
class HaveReply:
    """The answer to `Have`: bit ``i`` (of byte ``i // 8``, lowest first) belongs to digest ``i``."""

    bitmap: bytes

    def __post_init__(self) -> None:
        at_most("bitmap", self.bitmap, HAVE_DIGESTS_MAX // 8)


class Coding(Enum):
    """How a block travels; drivers pack and unpack, machines see raw blocks only."""

    RAW = "raw"
    PACKED = "packed"


@dataclass(frozen=True, slots=True)
class GetBlock:
    """Send me this block.

    Attributes:
        digest: of its raw bytes.
        coding: PACKED if the answer may be packed.
        against: digest of the block at the same place of the base, which I hold; empty if there is none.
        width: bytes of an element; together with ``against`` a hint for packing, nothing else.
    """

    digest: Digest
    coding: Coding = Coding.RAW
    against: bytes = b""
    width: int = 1

    def __post_init__(self) -> None:
        exactly("digest", self.digest, DIGEST_BYTES)
        if self.against:
            exactly("digest of the base's block", self.against, DIGEST_BYTES)
        size("width of an element", self.width, WIDTH_MAX)
        if not self.width:
            raise MalformedError("an element without a byte")


@dataclass(frozen=True, slots=True)
class GetBlockReply:
    """The answer to `GetBlock`: the block, raw or packed, or None where it is not held."""

    data: bytes | None
    coding: Coding = Coding.RAW

    def __post_init__(self) -> None:
        at_most("block", self.data or b"", BLOCK_BYTES)


@dataclass(frozen=True, slots=True)
class GetMeta:
    """Send me a piece of a manifest (by its digest) or of a block list (by the tensor's root)."""

    kind: Meta
    digest: Digest
    offset: int = 0

    def __post_init__(self) -> None:
        exactly("digest", self.digest, DIGEST_BYTES)
        size("offset", self.offset, META_BYTES_MAX)


@dataclass(frozen=True, slots=True)
class GetMetaReply:
    """The answer to `GetMeta`: the size of the whole (0 where it is not held) and the piece."""

    total: int
    chunk: bytes = b""

    def __post_init__(self) -> None:
        size("total", self.total, META_BYTES_MAX)
        at_most("chunk", self.chunk, META_CHUNK_BYTES_MAX)
