"""What passes between a machine and the driver that runs it.

A machine is told what happened (`crdtmerge.sync.peer.Peer`, methods ``on_…``) and returns *outputs*:
what the driver is to do. The driver carries outputs out in order; each ``Store…`` is durable before the
next output is looked at, and all of them before the reply to a request leaves. So nothing is announced,
acknowledged or built upon that a power cut could take back.

A machine reads content that is already stored through `Content`; `crdtmerge.store.Store` is one.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Protocol, TypeAlias

from crdtmerge.block import Block
from crdtmerge.digest import Digest
from crdtmerge.dtypes import DType
from crdtmerge.errors import RejectedError
from crdtmerge.keys import NodeId
from crdtmerge.manifest import Manifest
from crdtmerge.op import Operation, Role
from crdtmerge.sync.attestation import Attestation
from crdtmerge.sync.messages import Request


@dataclass(frozen=True, slots=True)
class Call:
    """Send a request; report the end with the same ``call_id`` to ``on_reply`` or ``on_failed``, once."""

    call_id: int
    to: NodeId
    request: Request


@dataclass(frozen=True, slots=True)
class StoreOperations:
    """Keep these verified operations."""

    operations: tuple[Operation, ...]


@dataclass(frozen=True, slots=True)
class StoreManifest:
    """Keep this manifest; its digest was checked."""

    manifest: Manifest


@dataclass(frozen=True, slots=True)
class StoreTensor:
    """Keep the block list of a tensor; it was checked against ``root``."""

    root: Digest
    dtype: DType
    shape: tuple[int, ...]
    blocks: tuple[Digest, ...]


@dataclass(frozen=True, slots=True)
class StoreBlock:
    """Keep this block, which was asked for under its digest."""

    block: Block


@dataclass(frozen=True, slots=True)
class StoreRecord:
    """Keep this node record in place of any other of the same node; it was verified."""

    node: NodeId
    data: bytes


@dataclass(frozen=True, slots=True)
class StoreAttestation:
    """Keep this attestation; it was verified."""

    attestation: Attestation


@dataclass(frozen=True, slots=True)
class ForgetAttestations:
    """Forget these attestations: newer ones are in force, or their nodes are members no more."""

    attestations: tuple[Attestation, ...]


@dataclass(frozen=True, slots=True)
class AdmissionWanted:
    """Somebody proved an invite: sign an admission with this node's key, and pass it to ``on_local``.

    The invite is spent: forget it for good.
    """

    node: NodeId
    role: Role
    invite: NodeId


@dataclass(frozen=True, slots=True)
class Changed:
    """What is agreed upon changed: the roots of R(S) and of the visible contributions."""

    state_root: Digest
    visible_root: Digest


@dataclass(frozen=True, slots=True)
class Ready:
    """Everything of this contribution (or of the base) is stored."""

    contribution: Digest


@dataclass(frozen=True, slots=True)
class NoRoom:
    """There is no room on the disk for what is missing of a contribution: it waits until there is."""

    contribution: Digest
    needed_bytes: int
    free_bytes: int


@dataclass(frozen=True, slots=True)
class RoomAgain:
    """Nothing waits for room any more."""


@dataclass(frozen=True, slots=True)
class Misbehaved:
    """A node sent something that an honest one cannot send: for the log and the metrics."""

    node: NodeId
    error: RejectedError


@dataclass(frozen=True, slots=True)
class Diverged:
    """Somebody attests another model than ours, made from the same: tell people, aloud.

    It may be a bug of this software, a broken machine (theirs or ours) or a lie. Only computing the result
    again, here or elsewhere, decides which; the machine goes on as before.
    """

    ours: Attestation
    theirs: Attestation


Output: TypeAlias = (
    "Call | StoreOperations | StoreManifest | StoreTensor | StoreBlock | StoreRecord | StoreAttestation"
    " | ForgetAttestations | AdmissionWanted | Changed | Ready | NoRoom | RoomAgain | Misbehaved | Diverged"
)


class Failure(Enum):
    """Why a call got no reply."""

    TIMEOUT = "timeout"
    """No answer before the deadline."""
    UNREACHABLE = "unreachable"
    """No connection, or one that broke."""
    REFUSED = "refused"
    """The other side refused the request: an error of the tree, or a shortage of its own."""
    BUSY = "busy"
    """The other side is well and wants to be called later: no fault of anybody's."""


class BlockReader(Protocol):
    """Read access to stored blocks."""

    def has(self, digest: Digest, /) -> bool:
        """Whether the block is stored."""
        ...

    def get(self, digest: Digest, /) -> bytes:
        """Return the verified bytes.

        Raises:
            NotYetError: if the block is not stored.
            StoreError: if it cannot be read, or is no longer what was stored.
        """
        ...


class Content(Protocol):
    """Read access to what is stored."""

    @property
    def blocks(self) -> BlockReader:
        """The blocks."""
        ...

    def manifest(self, digest: Digest, /) -> Manifest:
        """Return a stored manifest; NotYetError if it is not there."""
        ...

    def block_list(self, root: Digest, /) -> tuple[Digest, ...]:
        """Return the stored block list of a tensor; NotYetError if it is not there."""
        ...
