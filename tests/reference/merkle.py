"""Merkle sets from their definition: sort the keys, part them where they first differ, hash.

Slow and plain, to compare `crdtmerge.merkle` with. Keys are strings of 256 characters "0" and "1" here, so
nothing of the fast one's arithmetic on bits is repeated.
"""

from __future__ import annotations

from collections.abc import Collection

from blake3 import blake3


def root(keys: Collection[bytes]) -> bytes:
    """Return the root of the set of ``keys``."""
    rows = sorted({"".join(f"{byte:08b}" for byte in key) for key in keys})
    top = node(rows) if rows else b""
    return blake3(len(rows).to_bytes(8, "big") + top, derive_key_context="crdtmerge 2026 v1 set").digest()


def node(rows: list[str]) -> bytes:
    """Return the hash of the node over ``rows``, which are different and ascend."""
    if len(rows) == 1:
        key = int(rows[0], 2).to_bytes(32, "big")
        return blake3(key, derive_key_context="crdtmerge 2026 v1 set leaf").digest()
    bit = 0
    while len({row[bit] for row in rows}) == 1:
        bit += 1
    left = node([row for row in rows if row[bit] == "0"])
    right = node([row for row in rows if row[bit] == "1"])
    context = "crdtmerge 2026 v1 set branch"
    return blake3(bit.to_bytes(2, "big") + left + right, derive_key_context=context).digest()


def path(keys: Collection[bytes], wanted: bytes) -> list[int]:
    """Return the bits of the branches on the way to ``wanted``, whether it is there or not."""
    rows = sorted({"".join(f"{byte:08b}" for byte in key) for key in keys})
    way = "".join(f"{byte:08b}" for byte in wanted)
    bits = []
    for bit in range(256):
        if len({row[bit] for row in rows}) == 2:
            bits.append(bit)
            rows = [row for row in rows if row[bit] == way[bit]]
    return bits
