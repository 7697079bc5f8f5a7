"""BLAKE3-256 digests, each bound to what it is a digest of.

No digest here is a bare hash of somebody's bytes: every one is made under a *domain* (BLAKE3's
``derive_key`` context), so that bytes of one kind can never pass for another kind. The contexts are
part of the format: changing one changes every digest of its kind.

Keyed hashes and the extendable output that random draws come from live here too: this is the only
module that knows the hash function.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, NewType

from blake3 import blake3

Digest = NewType("Digest", bytes)
"""32 bytes."""

DIGEST_BYTES: Final = 32

Readable = bytes | bytearray | memoryview


class Domain(Enum):
    """What a digest can be a digest of."""

    OPERATION = "operation"
    BLOCK = "block"
    TENSOR = "tensor"
    SCHEMA = "schema"
    MANIFEST = "manifest"
    MODEL = "model"
    RESULT = "result"
    RECIPE = "recipe"
    PAYLOAD = "payload"
    SET = "set"
    SET_LEAF = "set leaf"
    SET_BRANCH = "set branch"
    DRAW = "draw"
    FINGERPRINT_KEY = "fingerprint key"
    ID_RUN = "run of ids"
    NODE_RECORD = "node record"
    ATTESTATION = "attestation"
    INPUTS = "inputs"
    INVITE = "invite"
    TLS_KEY = "tls key"
    CHANCE = "chance"

    @property
    def context(self) -> str:
        """The derive_key context string, as in docs/spec/formats.md."""
        return f"crdtmerge 2026 v1 {self.value}"


_EMPTY: Final = {domain: blake3(derive_key_context=domain.context) for domain in Domain}


def digest(domain: Domain, *parts: Readable) -> Digest:
    """Return the digest of the concatenation of ``parts`` under ``domain``.

    Concatenation is not injective: pass several parts only where their lengths are fixed by the format.
    """
    state = _EMPTY[domain].copy()
    for part in parts:
        state.update(part)
    return Digest(state.digest())


def keyed(key: bytes, data: Readable, *, length: int = DIGEST_BYTES) -> bytes:
    """Return ``length`` bytes of BLAKE3 of ``data`` under a 32-byte ``key``."""
    return blake3(data, key=key).digest(length=length)


def stream(key: bytes, *, length: int, offset: int = 0) -> bytes:
    """Return bytes ``[offset, offset + length)`` of the endless stream that belongs to ``key``.

    Args:
        key: 32 bytes, normally a digest of domain DRAW or CHANCE.
        length: bytes wanted.
        offset: where in the stream to begin; seeking costs nothing.
    """
    return blake3(b"", key=key).digest(length=length, seek=offset)


def from_hex(text: str) -> Digest:
    """Parse 64 hexadecimal characters.

    Raises:
        ValueError: if ``text`` is anything else.
    """
    raw = bytes.fromhex(text)
    if len(raw) != DIGEST_BYTES:
        raise ValueError(f"a digest has {2 * DIGEST_BYTES} hexadecimal characters, got {len(text)}")
    return Digest(raw)
