"""What nodes say to each other: requests and their replies, as plain values.

    Hello      who I am, the roots of what I hold       -> the same of you, the first step if they differ
    Reconcile  one step of finding the difference       -> the answer to it (`crdtmerge.sync.reconcile`)
    PushOps    operations that you may not have         -> how many were new
    GetOps     ids of operations that I lack            -> those that you hold
    Records    records for you, ids that I lack         -> those that you hold
    Have       digests of blocks                        -> one bit for each
    GetBlock   one block                                -> its bytes, or None
    GetMeta    a piece of a manifest or a block list    -> its size and the piece, or size 0

Every exchange is one request and one reply, so a driver needs no streams and a machine no sessions: a
responder keeps nothing between two requests. A value of these classes is well formed: constructing one
checks every length and count, so whatever came from a wire is bounded before a machine looks at it.
What the bytes inside mean (operations, records, payloads) is checked by those who parse them.

The last three, about content, stand in `crdtmerge.sync.blobs`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final, TypeAlias

from crdtmerge.digest import DIGEST_BYTES, Digest
from crdtmerge.errors import MalformedError
from crdtmerge.limits import (
    NODE_RECORD_BYTES_MAX,
    OPERATION_BYTES_MAX,
    OPERATIONS_PER_MESSAGE_MAX,
    RECONCILE_BYTES_MAX,
)
from crdtmerge.sync.blobs import META_BYTES_MAX as META_BYTES_MAX
from crdtmerge.sync.blobs import META_CHUNK_BYTES_MAX as META_CHUNK_BYTES_MAX
from crdtmerge.sync.blobs import Coding as Coding
from crdtmerge.sync.blobs import GetBlock as GetBlock
from crdtmerge.sync.blobs import GetBlockReply as GetBlockReply
from crdtmerge.sync.blobs import GetMeta as GetMeta
from crdtmerge.sync.blobs import GetMetaReply as GetMetaReply
from crdtmerge.sync.blobs import Have as Have
from crdtmerge.sync.blobs import HaveReply as HaveReply
from crdtmerge.sync.blobs import Meta as Meta
from crdtmerge.sync.bounds import at_most, digests, exactly, few

NONCE_BYTES: Final = 16
INVITE_PROOF_BYTES: Final = 96
"""An invite's public key and its signature, see `crdtmerge.sync.invite`."""

RECORDS_PER_MESSAGE_MAX: Final = 256
"""Records in one message: 256 · 4 KiB stay below MESSAGE_BYTES_MAX."""


class Space(Enum):
    """The sets that nodes reconcile."""

    OPERATIONS = "operations"
    RECORDS = "records"
    ATTESTATIONS = "attestations"


@dataclass(frozen=True, slots=True)
class Hello:
    """The opening of every exchange; with equal roots it is also its end.

    Attributes:
        nonce: fresh; half of the key of this exchange's fingerprints.
        federation: whose member I am.
        state_root: root of my reconciled operations R(S).
        book_root: root of my address book.
        record: my node record, where the other may not have it; else empty.
        invite: proof that I was invited, while I am no member yet.
        attested_root: root of the attestations that I hold; empty to leave them out.
    """

    nonce: bytes
    federation: Digest
    state_root: Digest
    book_root: Digest
    record: bytes = b""
    invite: bytes | None = None
    attested_root: bytes = b""

    def __post_init__(self) -> None:
        exactly("nonce", self.nonce, NONCE_BYTES)
        exactly("federation", self.federation, DIGEST_BYTES)
        exactly("state root", self.state_root, DIGEST_BYTES)
        exactly("book root", self.book_root, DIGEST_BYTES)
        at_most("record", self.record, NODE_RECORD_BYTES_MAX)
        if self.invite is not None:
            exactly("invite", self.invite, INVITE_PROOF_BYTES)
        if self.attested_root:
            exactly("root of attestations", self.attested_root, DIGEST_BYTES)


@dataclass(frozen=True, slots=True)
class HelloReply:
    """The answer to `Hello`.

    Attributes:
        nonce: fresh; the other half of the key.
        state_root, book_root: the answering side's roots.
        operations, records, attestations: the answering side's first step of reconciling that space where
            the roots differ; else empty.
        record: the answering side's node record where the caller sent one; else empty.
        genesis: the encoded genesis operation, for a caller that came with an invite; else empty.
    """

    nonce: bytes
    state_root: Digest
    book_root: Digest
    operations: bytes = b""
    records: bytes = b""
    record: bytes = b""
    genesis: bytes = b""
    attestations: bytes = b""

    def __post_init__(self) -> None:
        exactly("nonce", self.nonce, NONCE_BYTES)
        exactly("state root", self.state_root, DIGEST_BYTES)
        exactly("book root", self.book_root, DIGEST_BYTES)
        at_most("reconcile payload", self.operations, RECONCILE_BYTES_MAX)
        at_most("reconcile payload", self.records, RECONCILE_BYTES_MAX)
        at_most("record", self.record, NODE_RECORD_BYTES_MAX)
        at_most("operation", self.genesis, OPERATION_BYTES_MAX)
        at_most("reconcile payload", self.attestations, RECONCILE_BYTES_MAX)


@dataclass(frozen=True, slots=True)
class Reconcile:
    """One step of reconciling a space.

    Attributes:
        space: which set.
        session: the caller's nonce and the answering side's, of the `Hello` before.
        payload: as `crdtmerge.sync.reconcile` makes and reads it.
    """

    space: Space
    session: bytes
    payload: bytes

    def __post_init__(self) -> None:
        exactly("session", self.session, 2 * NONCE_BYTES)
        at_most("reconcile payload", self.payload, RECONCILE_BYTES_MAX)


@dataclass(frozen=True, slots=True)
class ReconcileReply:
    """The answer to `Reconcile`."""

    payload: bytes

    def __post_init__(self) -> None:
        at_most("reconcile payload", self.payload, RECONCILE_BYTES_MAX)


@dataclass(frozen=True, slots=True)
class PushOps:
    """Encoded operations that the receiver may not have.

    Attributes:
        operations: the operations.
        news: whether they are new to the sender too, so worth passing on; else the receiver is being
            brought up to date with what others have long had.
    """

    operations: tuple[bytes, ...]
    news: bool = True

    def __post_init__(self) -> None:
        few("operations", self.operations, OPERATIONS_PER_MESSAGE_MAX)
        for operation in self.operations:
            at_most("operation", operation, OPERATION_BYTES_MAX)


@dataclass(frozen=True, slots=True)
class PushOpsReply:
    """The answer to `PushOps`: how many of the operations were new."""

    accepted: int

    def __post_init__(self) -> None:
        if not 0 <= self.accepted <= OPERATIONS_PER_MESSAGE_MAX:
            raise MalformedError(f"{self.accepted} operations accepted of {OPERATIONS_PER_MESSAGE_MAX}")


@dataclass(frozen=True, slots=True)
class GetOps:
    """Ids of operations that the caller lacks."""

    ids: tuple[Digest, ...]

    def __post_init__(self) -> None:
        digests("ids", self.ids, OPERATIONS_PER_MESSAGE_MAX)


@dataclass(frozen=True, slots=True)
class GetOpsReply:
    """The answer to `GetOps`: the encoded operations that were there, in the order asked for."""

    operations: tuple[bytes, ...]

    def __post_init__(self) -> None:
        PushOps(self.operations)


@dataclass(frozen=True, slots=True)
class Records:
    """Records of a space other than operations for the receiver, and ids of those that the caller lacks."""

    records: tuple[bytes, ...] = ()
    ids: tuple[Digest, ...] = ()
    space: Space = Space.RECORDS

    def __post_init__(self) -> None:
        RecordsReply(self.records)
        digests("ids", self.ids, RECORDS_PER_MESSAGE_MAX)
        if self.space is Space.OPERATIONS:
            raise MalformedError("operations travel in PushOps")


@dataclass(frozen=True, slots=True)
class RecordsReply:
    """The answer to `Records`: the records asked for that were there."""

    records: tuple[bytes, ...]

    def __post_init__(self) -> None:
        few("records", self.records, RECORDS_PER_MESSAGE_MAX)
        for record in self.records:
            at_most("record", record, NODE_RECORD_BYTES_MAX)


Request: TypeAlias = "Hello | Reconcile | PushOps | GetOps | Records | Have | GetBlock | GetMeta"
Reply: TypeAlias = (
    "HelloReply | ReconcileReply | PushOpsReply | GetOpsReply | RecordsReply | HaveReply | GetBlockReply"
    " | GetMetaReply"
)
