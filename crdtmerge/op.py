"""Operations: the signed statements that a federation consists of.

    [version, federation, kind, author, created_ms, prev[], body]  + signature
     └──────────────── id = H(these, canonical) ──────────────┘

Always true here: an id covers everything but the signature, so a signature never changes an id. Every
operation but the genesis names its federation, so it is worth nothing in another one. `Operation.sign`
reads back what it made: what this software signs, every peer's decoder accepts.

Left to others: whether an author may say what it says (`authority`), and what follows (`view`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from crdtmerge import canon, keys
from crdtmerge.body import (
    NONCE_BYTES,
    Add,
    Admit,
    Ban,
    Block,
    Body,
    Coefficients,
    Genesis,
    Policy,
    Retract,
    Role,
    SetRecipe,
    Unban,
    decode,
    encode,
    read_digest,
    read_digests,
    read_key,
)
from crdtmerge.digest import Digest, Domain, digest
from crdtmerge.errors import MalformedError
from crdtmerge.keys import SIGNATURE_BYTES, NodeId, SigningKey
from crdtmerge.limits import OPERATION_BYTES_MAX, PREV_MAX

__all__ = [
    "NONCE_BYTES",
    "Add",
    "Admit",
    "Ban",
    "Block",
    "Body",
    "Coefficients",
    "Genesis",
    "Operation",
    "Policy",
    "Retract",
    "Role",
    "SetRecipe",
    "Unban",
]

VERSION: Final = 1
MILLISECONDS_MAX: Final = (1 << 63) - 1

_PURPOSE: Final = "operation"


@dataclass(frozen=True)
class Operation:
    """One signed statement of one author; made by `sign` or `decode`, which check its form.

    Attributes:
        federation: id of the genesis; None exactly in the genesis itself.
        author: who says it.
        created_ms: the author's clock in milliseconds since 1970: a claim that nothing depends on.
        prev: ids of operations of the same author that came before, ascending.
        body: what it says.
        signature: by the author, over all of the above.
    """

    federation: Digest | None
    author: NodeId
    created_ms: int
    prev: tuple[Digest, ...]
    body: Body
    signature: bytes

    @classmethod
    def sign(
        cls,
        key: SigningKey,
        body: Body,
        *,
        federation: Digest | None,
        created_ms: int,
        prev: Sequence[Digest] = (),
    ) -> Operation:
        """Make an operation of ``key``'s owner.

        Raises:
            MalformedError, LimitError: if a peer would refuse it: lists that do not ascend, too many
                targets, a genesis that its author does not found, ...
        """
        draft = cls(federation, key.id, created_ms, tuple(prev), body, bytes(SIGNATURE_BYTES))
        signature = key.sign(_PURPOSE, draft.unsigned)
        signed = cls(federation, key.id, created_ms, tuple(prev), body, signature)
        return cls.decode(signed.encoded)

    @classmethod
    def decode(cls, data: bytes) -> Operation:
        """Parse an operation from outside: its form, not its signature and not its author's rights.

        Raises:
            MalformedError: if it is not the canonical encoding of an operation.
            LimitError: if it is longer than OPERATION_BYTES_MAX, or names too many operations.
        """
        row = canon.array(canon.decode(data, bytes_max=OPERATION_BYTES_MAX), 8)
        version, federation, kind, author, created_ms, prev, body, signature = row
        if canon.integer(version) != VERSION:
            raise MalformedError(f"an operation of version {version!r}, this software reads {VERSION}")
        operation = cls(
            federation=None if federation is None else read_digest(federation),
            author=read_key(author),
            created_ms=canon.integer(created_ms, 0, MILLISECONDS_MAX),
            prev=read_digests("predecessors", prev, most=PREV_MAX),
            body=decode(canon.text(kind), body),
            signature=canon.octets(signature, SIGNATURE_BYTES),
        )
        if (operation.federation is None) != isinstance(operation.body, Genesis):
            raise MalformedError("a genesis belongs to no federation, everything else to one")
        if isinstance(operation.body, Genesis) and (
            operation.author not in operation.body.founders or operation.prev
        ):
            raise MalformedError("a genesis is the first operation of one of its founders")
        if operation.encoded != data:
            raise MalformedError("an operation that re-encodes to other bytes")
        return operation

    @property
    def kind(self) -> str:
        """The kind of the body, such as ``add``."""
        return self.body.kind

    @cached_property
    def unsigned(self) -> bytes:
        """The canonical bytes that are signed and hashed."""
        return canon.encode(self._fields)

    @cached_property
    def id(self) -> Digest:
        """The digest of everything but the signature."""
        return digest(Domain.OPERATION, self.unsigned)

    @cached_property
    def encoded(self) -> bytes:
        """The canonical bytes with the signature, as stored and sent."""
        return canon.encode([*self._fields, self.signature])

    def verify(self) -> None:
        """Check the signature.

        Raises:
            SignatureError: if the author did not sign this.
        """
        keys.verify(self.author, _PURPOSE, self.unsigned, self.signature)

    @property
    def _fields(self) -> list[canon.Value]:
        head: list[canon.Value] = [VERSION, self.federation, self.kind, self.author, self.created_ms]
        return [*head, list(self.prev), encode(self.body)]
