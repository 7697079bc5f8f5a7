"""Node records: where a member can be reached, signed by itself.

    [version, node, [address, …], TLS leaf, sequence, expires_ms]  + signature

Of two records of one node the one with the higher (sequence, id) is in force, wherever they come from
and in whatever order. A record is believed about its own node only, and carries the exact certificate
that a caller has to see: another member can neither redirect a node's callers nor pose as it.

An address is a claim. Which claims are dialled is each caller's own decision and no part of which records
are accepted (a book that refused what others keep would differ from theirs for ever): here an address is
a short printable text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from crdtmerge import canon, keys
from crdtmerge.digest import Digest, Domain, digest
from crdtmerge.errors import LimitError, MalformedError
from crdtmerge.keys import KEY_BYTES, SIGNATURE_BYTES, NodeId, SigningKey
from crdtmerge.limits import ADDRESSES_MAX, NODE_RECORD_BYTES_MAX

VERSION: Final = 1

_PURPOSE: Final = "node record"
_TIME_MAX: Final = (1 << 63) - 1
_ADDRESS_CHARACTERS_MAX: Final = 264
"""A host name of 253 characters, brackets, colon and port."""


@dataclass(frozen=True)
class NodeRecord:
    """Where a member can be reached; made by `sign` or `decode`, which check it.

    Attributes:
        node: whose record it is.
        addresses: ``host:port``, ``[IPv6]:port``, best first; none for a node that only dials out.
        leaf: DER of the TLS certificate that the node presents.
        sequence: rises with every change.
        expires_ms: from when on the record is worth nothing.
        signature: by the node, over all of the above.
    """

    node: NodeId
    addresses: tuple[str, ...]
    leaf: bytes
    sequence: int
    expires_ms: int
    signature: bytes

    @classmethod
    def sign(
        cls, key: SigningKey, *, addresses: Sequence[str], leaf: bytes, sequence: int, expires_ms: int
    ) -> NodeRecord:
        """Make the record of ``key``'s owner.

        Raises:
            MalformedError, LimitError: if others would refuse it.
        """
        draft = cls(key.id, tuple(addresses), leaf, sequence, expires_ms, bytes(SIGNATURE_BYTES))
        signature = key.sign(_PURPOSE, draft.unsigned)
        return cls.decode(cls(key.id, tuple(addresses), leaf, sequence, expires_ms, signature).encoded)

    @classmethod
    def decode(cls, data: bytes) -> NodeRecord:
        """Parse and verify a record from outside.

        Raises:
            MalformedError: if it is not the canonical encoding of a record, or an address is none.
            LimitError: if it is too long, or has too many addresses.
            SignatureError: if the node did not sign it.
        """
        row = canon.array(canon.decode(data, bytes_max=NODE_RECORD_BYTES_MAX), 7)
        version, node, addresses, leaf, sequence, expires_ms, signature = row
        if canon.integer(version) != VERSION:
            raise MalformedError(f"a node record of version {version!r}, this software reads {VERSION}")
        record = cls(
            node=NodeId(canon.octets(node, KEY_BYTES)),
            addresses=tuple(canon.text(address) for address in canon.array(addresses)),
            leaf=canon.octets(leaf),
            sequence=canon.integer(sequence, 0, _TIME_MAX),
            expires_ms=canon.integer(expires_ms, 0, _TIME_MAX),
            signature=canon.octets(signature, SIGNATURE_BYTES),
        )
        if len(record.addresses) > ADDRESSES_MAX:
            raise LimitError(f"{len(record.addresses)} addresses, at most {ADDRESSES_MAX} are accepted")
        for address in record.addresses:
            if not (
                0 < len(address) <= _ADDRESS_CHARACTERS_MAX and address.isascii() and address.isprintable()
            ):
                raise MalformedError(f"wanted an address such as example.org:7946, got {address[:80]!r}")
        keys.verify(record.node, _PURPOSE, record.unsigned, record.signature)
        return record

    @cached_property
    def unsigned(self) -> bytes:
        """The canonical bytes that are signed and hashed."""
        return canon.encode(self._fields)

    @cached_property
    def id(self) -> Digest:
        """The digest of everything but the signature."""
        return digest(Domain.NODE_RECORD, self.unsigned)

    @cached_property
    def encoded(self) -> bytes:
        """The canonical bytes with the signature."""
        return canon.encode([*self._fields, self.signature])

    def supersedes(self, other: NodeRecord) -> bool:
        """Whether this record is in force rather than ``other``, of the same node."""
        return (self.sequence, self.id) > (other.sequence, other.id)

    @property
    def _fields(self) -> list[canon.Value]:
        return [VERSION, self.node, list(self.addresses), self.leaf, self.sequence, self.expires_ms]
