"""What nodes say to each other: requests and their replies, as plain values.

    Hello      who I am, the roots of what I hold       -> the same of you, the first step if they differ
    Reconcile  one step of finding the difference       -> the answer to it (`crdtmerge.sync.reconcile`)
    PushOps    operations that you may not have         -> how many were new
    GetOps     ids of operations that I lack            -> those that you hold
    Records    node records for you, ids that I lack    -> those that you hold
    Have       digests of blocks                        -> one bit for each
    GetBlock   one block                                -> its bytes, or None
    GetMeta    a piece of a manifest or a block list    -> its size and the piece, or size 0

Every exchange is one request and one reply, so a driver needs no streams and a machine no sessions: a
responder keeps nothing between two requests. A value of these classes is well formed: constructing one
checks every length and count, so whatever came from a wire is bounded before a machine looks at it.
What the bytes inside mean (operations, records, payloads) is checked by those who parse them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final, TypeAlias

from crdtmerge.digest import DIGEST_BYTES, Digest
from crdtmerge.errors import MalformedError
from crdtmerge.limits import (
    BLOCK_BYTES,
    HAVE_DIGESTS_MAX,
    MANIFEST_BYTES_MAX,
    MIB,
    NODE_RECORD_BYTES_MAX,
    OPERATION_BYTES_MAX,
    OPERATIONS_PER_MESSAGE_MAX,
    RECONCILE_BYTES_MAX,
)
from crdtmerge.sync.bounds import at_most, digests, exactly, few, size

NONCE_BYTES: Final = 16
INVITE_PROOF_BYTES: Final = 96
"""An invite's public key and its signature, see `crdtmerge.sync.invite`."""

META_CHUNK_BYTES_MAX: Final = MIB
"""One piece of a manifest or of a block list."""

META_BYTES_MAX: Final = MANIFEST_BYTES_MAX
"""A whole manifest or block list: as digests, the blocks of a tensor of 2 TiB."""

RECORDS_PER_MESSAGE_MAX: Final = 256
"""Records in one message: 256 · 4 KiB stay below MESSAGE_BYTES_MAX."""


class Space(Enum):
    """The two sets that nodes reconcile."""

    OPERATIONS = "operations"
    RECORDS = "records"


class Meta(Enum):
    """What `GetMeta` fetches: canonical bytes of a manifest, or the joined block digests of a tensor."""

    MANIFEST = "manifest"
    TENSOR = "tensor"


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
    """

    nonce: bytes
    federation: Digest
    state_root: Digest
    book_root: Digest
    record: bytes = b""
    invite: bytes | None = None

    def __post_init__(self) -> None:
        exactly("nonce", self.nonce, NONCE_BYTES)
        exactly("federation", self.federation, DIGEST_BYTES)
        exactly("state root", self.state_root, DIGEST_BYTES)
        exactly("book root", self.book_root, DIGEST_BYTES)
        at_most("record", self.record, NODE_RECORD_BYTES_MAX)
        if self.invite is not None:
            exactly("invite", self.invite, INVITE_PROOF_BYTES)


@dataclass(frozen=True, slots=True)
class HelloReply:
    """The answer to `Hello`.

    Attributes:
        nonce: fresh; the other half of the key.
        state_root, book_root: the answering side's roots.
        operations, records: the answering side's first step of reconciling that space where its roots
            differ; else empty.
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

    def __post_init__(self) -> None:
        exactly("nonce", self.nonce, NONCE_BYTES)
        exactly("state root", self.state_root, DIGEST_BYTES)
        exactly("book root", self.book_root, DIGEST_BYTES)
        at_most("reconcile payload", self.operations, RECONCILE_BYTES_MAX)
        at_most("reconcile payload", self.records, RECONCILE_BYTES_MAX)
        at_most("record", self.record, NODE_RECORD_BYTES_MAX)
        at_most("operation", self.genesis, OPERATION_BYTES_MAX)


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
    """Node records for the receiver, and ids of records that the caller lacks."""

    records: tuple[bytes, ...] = ()
    ids: tuple[Digest, ...] = ()

    def __post_init__(self) -> None:
        RecordsReply(self.records)
        digests("ids", self.ids, RECORDS_PER_MESSAGE_MAX)


@dataclass(frozen=True, slots=True)
class RecordsReply:
    """The answer to `Records`: the records asked for that were there."""

    records: tuple[bytes, ...]

    def __post_init__(self) -> None:
        few("records", self.records, RECORDS_PER_MESSAGE_MAX)
        for record in self.records:
            at_most("record", record, NODE_RECORD_BYTES_MAX)


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


@dataclass(frozen=True, slots=True)
class GetBlock:
    """Send me this block."""

    digest: Digest

    def __post_init__(self) -> None:
        exactly("digest", self.digest, DIGEST_BYTES)


@dataclass(frozen=True, slots=True)
class GetBlockReply:
    """The answer to `GetBlock`: the block, or None where it is not held."""

    data: bytes | None

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


Request: TypeAlias = "Hello | Reconcile | PushOps | GetOps | Records | Have | GetBlock | GetMeta"
Reply: TypeAlias = (
    "HelloReply | ReconcileReply | PushOpsReply | GetOpsReply | RecordsReply | HaveReply | GetBlockReply"
    " | GetMetaReply"
)
