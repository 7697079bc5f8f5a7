"""Secret keys of one home: who this node is, and what lets it issue certificates.

    identity.key   the Ed25519 secret of the node id
    tls.key        the P-256 secret of this node's TLS connections; tls.pem, its leaf, is no secret
    tls.old.key    the one before it, presented for a while to those who still expect it; tls.old.pem
    ca.key         the P-256 secret of the federation's certificate authority

Each file holds 64 hexadecimal digits (see `crdtmerge.store.secrets`). Losing identity.key loses the node's
name for ever; tls.key may be deleted while the node is down and is made anew, after which the others need
the node's new record. ca.key is known to every member who was ever invited: it only keeps strangers off the
socket and proves nothing about who somebody is (see `crdtmerge.node.certificate`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from crdtmerge import ambient
from crdtmerge.errors import MalformedError
from crdtmerge.keys import KEY_BYTES, SigningKey
from crdtmerge.store.secrets import IDENTITY, create_secret, read_secret

TLS: Final = "tls.key"
TLS_OLD: Final = "tls.old.key"
CA: Final = "ca.key"


def signing_key(home: Path) -> SigningKey:
    """Return the identity of ``home``.

    Raises:
        UsageError: if the home has none, or if others can read it.
        StoreError: if the file is damaged.
    """
    return SigningKey(read_secret(home / IDENTITY))


def create_signing_key(home: Path) -> SigningKey:
    """Return the identity of ``home``, making it if there is none."""
    return SigningKey(create_secret(home / IDENTITY, None, lambda: ambient.entropy(KEY_BYTES)))


def create_tls_secret(home: Path) -> bytes:
    """Return the 32 secret bytes of this node's TLS key, making it if there is none."""
    return create_secret(home / TLS, None, new_p256_secret)


def ca_secret(home: Path) -> bytes:
    """Return the 32 secret bytes of the federation's certificate authority.

    Raises:
        UsageError: if the home has none: it belongs to no federation yet.
    """
    return read_secret(home / CA)


def create_ca_secret(home: Path, *, secret: bytes | None = None) -> bytes:
    """Return the authority's secret, storing ``secret`` (by default a new one) if there is none.

    Raises:
        UsageError: if the home already holds another one: it belongs to another federation.
    """
    return create_secret(home / CA, secret, new_p256_secret)


def new_p256_secret() -> bytes:
    """Draw the 32 bytes of a P-256 secret key."""
    return ec.generate_private_key(ec.SECP256R1()).private_numbers().private_value.to_bytes(KEY_BYTES, "big")


def p256(secret: bytes) -> ec.EllipticCurvePrivateKey:
    """Return the P-256 key whose secret number is ``secret``, big-endian.

    Raises:
        MalformedError: if no key has this number.
    """
    try:
        if len(secret) != KEY_BYTES:
            raise ValueError("wrong length")
        return ec.derive_private_key(int.from_bytes(secret, "big"), ec.SECP256R1())
    except ValueError as error:
        raise MalformedError("these bytes are no P-256 secret key") from error


def pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return ``key`` in the form that TLS libraries read."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
