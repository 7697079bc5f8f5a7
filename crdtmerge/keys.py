"""Ed25519 identities: who a node is, and what it has signed.

A node id is the public key itself. Secret keys are made from 32 bytes that the caller brings, since
the core draws no randomness. Signatures are made over a context string and a message, so that a
signature for one purpose is worth nothing for another.
"""

from __future__ import annotations

from typing import Final, NewType

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from crdtmerge.errors import MalformedError, SignatureError

NodeId = NewType("NodeId", bytes)
"""An Ed25519 public key: 32 bytes."""

KEY_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64


class SigningKey:
    """A secret key and the node id that belongs to it."""

    __slots__ = ("_private", "id")

    def __init__(self, seed: bytes) -> None:
        """Make the key from 32 secret bytes."""
        if len(seed) != KEY_BYTES:
            raise MalformedError(f"a secret key has {KEY_BYTES} bytes, got {len(seed)}")
        self._private = Ed25519PrivateKey.from_private_bytes(seed)
        self.id = NodeId(self._private.public_key().public_bytes_raw())

    def sign(self, context: str, message: bytes) -> bytes:
        """Return the 64-byte signature of ``message`` for the purpose ``context``."""
        return self._private.sign(_framed(context, message))

    @property
    def seed(self) -> bytes:
        """The 32 secret bytes."""
        return self._private.private_bytes_raw()

    def __repr__(self) -> str:
        return f"SigningKey({self.id.hex()[:12]}…)"


def verify(signer: NodeId, context: str, message: bytes, signature: bytes) -> None:
    """Check that ``signer`` signed ``message`` for the purpose ``context``.

    Raises:
        SignatureError: if it did not, or if ``signer`` is no public key.
    """
    try:
        Ed25519PublicKey.from_public_bytes(signer).verify(signature, _framed(context, message))
    except (InvalidSignature, ValueError) as error:
        raise SignatureError(f"no valid signature of {signer.hex()[:12]}… for {context}") from error


def _framed(context: str, message: bytes) -> bytes:
    return b"crdtmerge 2026 v1 " + context.encode() + b"\0" + message
