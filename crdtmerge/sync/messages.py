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

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, TypeAlias

from crdtmerge.digest import DIGEST_BYTES, Digest
from crdtmerge.errors import LimitError, MalformedError
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
        _exactly("nonce", self.nonce, NONCE_BYTES)
        _exactly("federation", self.federation, DIGEST_BYTES)
        _exactly("state root", self.state_root, DIGEST_BYTES)
        _exactly("book root", self.book_root, DIGEST_BYTES)
        _at_most("record", self.record, NODE_RECORD_BYTES_MAX)
        if self.invite is not None:
            _exactly("invite", self.invite, INVITE_PROOF_BYTES)


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
        _exactly("nonce", self.nonce, NONCE_BYTES)
        _exactly("state root", self.state_root, DIGEST_BYTES)
        _exactly("book root", self.book_root, DIGEST_BYTES)
        _at_most("reconcile payload", self.operations, RECONCILE_BYTES_MAX)
        _at_most("reconcile payload", self.records, RECONCILE_BYTES_MAX)
        _at_most("record", self.record, NODE_RECORD_BYTES_MAX)
        _at_most("operation", self.genesis, OPERATION_BYTES_MAX)


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
        _exactly("session", self.session, 2 * NONCE_BYTES)
        _at_most("reconcile payload", self.payload, RECONCILE_BYTES_MAX)


@dataclass(frozen=True, slots=True)
class ReconcileReply:
    """The answer to `Reconcile`."""

    payload: bytes

    def __post_init__(self) -> None:
        _at_most("reconcile payload", self.payload, RECONCILE_BYTES_MAX)


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
        _few("operations", self.operations, OPERATIONS_PER_MESSAGE_MAX)
        for operation in self.operations:
            _at_most("operation", operation, OPERATION_BYTES_MAX)


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
        _digests("ids", self.ids, OPERATIONS_PER_MESSAGE_MAX)


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
        _digests("ids", self.ids, RECORDS_PER_MESSAGE_MAX)


@dataclass(frozen=True, slots=True)
class RecordsReply:
    """The answer to `Records`: the records asked for that were there."""

    records: tuple[bytes, ...]

    def __post_init__(self) -> None:
        _few("records", self.records, RECORDS_PER_MESSAGE_MAX)
        for record in self.records:
            _at_most("record", record, NODE_RECORD_BYTES_MAX)


@dataclass(frozen=True, slots=True)
class Have:
    """Which of these blocks do you hold?"""

    digests: tuple[Digest, ...]

    def __post_init__(self) -> None:
        _digests("digests", self.digests, HAVE_DIGESTS_MAX)


@dataclass(frozen=True, slots=True)
class HaveReply:
    """The answer to `Have`: bit ``i`` (of byte ``i // 8``, lowest first) belongs to digest ``i``."""

    bitmap: bytes

    def __post_init__(self) -> None:
        _at_most("bitmap", self.bitmap, HAVE_DIGESTS_MAX // 8)


@dataclass(frozen=True, slots=True)
class GetBlock:
    """Send me this block."""

    digest: Digest

    def __post_init__(self) -> None:
        _exactly("digest", self.digest, DIGEST_BYTES)


@dataclass(frozen=True, slots=True)
class GetBlockReply:
    """The answer to `GetBlock`: the block, or None where it is not held."""

    data: bytes | None

    def __post_init__(self) -> None:
        _at_most("block", self.data or b"", BLOCK_BYTES)


@dataclass(frozen=True, slots=True)
class GetMeta:
    """Send me a piece of a manifest (by its digest) or of a block list (by the tensor's root)."""

    kind: Meta
    digest: Digest
    offset: int = 0

    def __post_init__(self) -> None:
        _exactly("digest", self.digest, DIGEST_BYTES)
        _size("offset", self.offset, META_BYTES_MAX)


@dataclass(frozen=True, slots=True)
class GetMetaReply:
    """The answer to `GetMeta`: the size of the whole (0 where it is not held) and the piece."""

    total: int
    chunk: bytes = b""

    def __post_init__(self) -> None:
        _size("total", self.total, META_BYTES_MAX)
        _at_most("chunk", self.chunk, META_CHUNK_BYTES_MAX)


Request: TypeAlias = "Hello | Reconcile | PushOps | GetOps | Records | Have | GetBlock | GetMeta"
Reply: TypeAlias = (
    "HelloReply | ReconcileReply | PushOpsReply | GetOpsReply | RecordsReply | HaveReply | GetBlockReply"
    " | GetMetaReply"
)


def _exactly(what: str, value: bytes, length: int) -> None:
    if len(value) != length:
        raise MalformedError(f"{what} of {len(value)} bytes, wanted {length}")


def _at_most(what: str, value: bytes, bytes_max: int) -> None:
    if len(value) > bytes_max:
        raise LimitError(f"{what} of {len(value)} bytes, at most {bytes_max} are accepted")


def _few(what: str, values: Sequence[bytes], count_max: int) -> None:
    if len(values) > count_max:
        raise LimitError(f"{len(values)} {what} in one message, at most {count_max} are accepted")


def _digests(what: str, values: Sequence[bytes], count_max: int) -> None:
    _few(what, values, count_max)
    for value in values:
        _exactly(what, value, DIGEST_BYTES)


def _size(what: str, value: int, maximum: int) -> None:
    if not 0 <= value <= maximum:
        raise LimitError(f"{what} of {value}, between 0 and {maximum} are accepted")
