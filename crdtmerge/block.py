"""A block: at most 1 MiB of content under the digest by which everybody knows it.

Always true here: a `Block` has the digest of its own bytes, because making one hashes them and there is no
other way to make one. So whoever is handed a `Block` need not hash it again, and whoever has bytes only
cannot pass them off as another block.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from crdtmerge.digest import Digest, Domain, Readable, digest
from crdtmerge.errors import LimitError
from crdtmerge.limits import BLOCK_BYTES


def block_digest(data: Readable) -> Digest:
    """Return the digest by which a block is known.

    Raises:
        LimitError: if ``data`` is longer than a block.
    """
    if len(data) > BLOCK_BYTES:
        raise LimitError(f"a block of {len(data)} bytes, at most {BLOCK_BYTES} are accepted")
    return digest(Domain.BLOCK, data)


@dataclass(frozen=True, slots=True)
class Block:
    """Some bytes, and the digest that was computed from them.

    Attributes:
        data: the content; what could still be changed is copied.
        digest: of ``data``; never given, always computed.

    Raises:
        LimitError: if ``data`` is longer than a block.
    """

    data: bytes
    digest: Digest = field(init=False)

    def __post_init__(self) -> None:
        data = bytes(self.data)  # no copy of bytes, which nobody can change
        object.__setattr__(self, "data", data)
        object.__setattr__(self, "digest", block_digest(data))
