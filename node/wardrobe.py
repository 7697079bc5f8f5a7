"""The leaves of one home: the one that it presents now, the one before it, and when a new one is made.

    tls.key, tls.pem            what this node presents and what its record pins
    tls.old.key, tls.old.pem    presented beside it to those who ask for it, for OVERLAP_MS

Rotating is a matter of files: a node that runs sees the new ones within seconds (`state`). Always true here:
a leaf that cannot be read, has expired, or belongs to another key or federation is not presented; a missing
file is made again, so a crash at any point costs at most the overlap.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from crdtmerge.digest import Digest
from crdtmerge.errors import RejectedError, StoreError
from crdtmerge.keys import SigningKey
from crdtmerge.node import certificate, identity
from crdtmerge.node.certificate import LIFE_MS, OVERLAP_MS, Authority, Leaf
from crdtmerge.store.secrets import publish, read_secret

State: TypeAlias = "tuple[tuple[str, int, int], ...]"
"""Of the files with keys and leaves: name, inode and modification time of those that are there."""

_LEAF, _OLD_LEAF = "tls.pem", "tls.old.pem"


@dataclass(frozen=True, slots=True)
class Dress:
    """A leaf (DER) with its secret: what one handshake shows."""

    leaf: bytes
    secret: bytes


def current(home: Path, key: SigningKey, ca_secret: bytes, federation: Digest, *, now_ms: int) -> Dress:
    """Return what the home presents, making what is missing or worn out."""
    secret = identity.create_tls_secret(home)
    found = _read(home / _LEAF, secret, key, federation)
    if found is None or found[1].expires_ms <= now_ms:
        with contextlib.suppress(FileNotFoundError):
            (home / _LEAF).unlink()
        tls = identity.p256(secret).public_key()
        issued = Authority(federation, ca_secret).issue(key, tls, issued_ms=now_ms)
        publish(home / _LEAF, certificate.leaf_pem(issued))
        found = _read(home / _LEAF, secret, key, federation)
        if found is None:
            raise StoreError(f"{home / _LEAF} is not what was written a moment ago")
    return Dress(found[0], secret)


def old(home: Path, key: SigningKey, federation: Digest, *, now_ms: int) -> Dress | None:
    """Return what the home presented before, while that is still of use."""
    new = _described(home / _LEAF, federation)
    if not (home / identity.TLS_OLD).exists():
        return None
    secret = read_secret(home / identity.TLS_OLD)
    found = _read(home / _OLD_LEAF, secret, key, federation)
    over = new is not None and now_ms - new.issued_ms >= OVERLAP_MS
    if found is None or over or found[1].expires_ms <= now_ms:
        for name in (identity.TLS_OLD, _OLD_LEAF):
            (home / name).unlink(missing_ok=True)
        return None
    return Dress(found[0], secret)


def rotate(home: Path, *, at_once: bool = False) -> None:
    """Put the present key aside, so that the next `current` makes another.

    Args:
        home: the folder.
        at_once: forget the old key instead of presenting it for a while; it was stolen, perhaps.
    """
    for name, aside in ((identity.TLS, identity.TLS_OLD), (_LEAF, _OLD_LEAF)):
        with contextlib.suppress(FileNotFoundError):
            if at_once:
                (home / name).unlink()
                (home / aside).unlink(missing_ok=True)
            else:
                (home / name).replace(home / aside)


def worn(leaf: bytes, federation: Digest, *, now_ms: int) -> bool:
    """Whether it is time for a new key: half of the leaf's life is over."""
    return certificate.read(leaf, federation).expires_ms - now_ms <= LIFE_MS // 2


def state(home: Path) -> State:
    """Return what changes when the keys or leaves of a home do."""
    found: list[tuple[str, int, int]] = []
    for name in (identity.TLS, identity.TLS_OLD, _LEAF, _OLD_LEAF):
        with contextlib.suppress(FileNotFoundError):
            status = (home / name).stat()
            found.append((name, status.st_ino, status.st_mtime_ns))
    return tuple(found)


def _read(path: Path, secret: bytes, key: SigningKey, federation: Digest) -> tuple[bytes, Leaf] | None:
    """Return a leaf and what it says, if it binds this secret to this node."""
    try:
        der = certificate.leaf_der(path.read_bytes())
        said = certificate.read(der, federation)
    except (FileNotFoundError, RejectedError):
        return None
    public = identity.p256(secret).public_key()
    same = said.key == public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return (der, said) if same and said.node == key.id else None


def _described(path: Path, federation: Digest) -> Leaf | None:
    try:
        return certificate.read(certificate.leaf_der(path.read_bytes()), federation)
    except (FileNotFoundError, RejectedError):
        return None
