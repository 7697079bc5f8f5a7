"""Every limit, with its unit and its reason, in one place.

A limit here bounds what somebody else can make us allocate, store or compute. Raising one is a change
of behaviour towards peers, so it goes into the changelog.
"""

from __future__ import annotations

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB

# --- what is signed and hashed ---------------------------------------------------------------
OPERATION_BYTES_MAX: Final = 16 * KIB
"""An operation travels in every gossip message; anything larger is a blob."""

CANON_DEPTH_MAX: Final = 8
"""Nesting of canonical values. Ours need 4; deeper input is an attack on a parser's stack."""

MANIFEST_BYTES_MAX: Final = 64 * MIB
"""A manifest of 250 000 tensors. Fetched in pages of MESSAGE_BYTES_MAX."""

TENSORS_MAX: Final = 262_144
"""Tensors in one model: ten times what the largest public mixture-of-experts checkpoint has."""

TENSOR_NAME_BYTES_MAX: Final = 512
DIMENSIONS_MAX: Final = 8
TENSOR_BYTES_MAX: Final = 1 << 44
"""16 TiB: products of shapes are compared with this before anything is allocated."""

METADATA_ENTRIES_MAX: Final = 64
METADATA_BYTES_MAX: Final = 4 * KIB
"""Of one key or value in a manifest."""

PREV_MAX: Final = 16
"""Operations of its own that an author may name as predecessors of one operation."""

TARGETS_MAX: Final = 256
"""Operations that one retract, ban or unban may name: 256 · 32 bytes fit into an operation."""

PLAN_BYTES_MAX: Final = 4 * MIB
"""A published plan of layers: 16 000 tensors of 256 bytes each."""

COEFFICIENTS_BYTES_MAX: Final = 256 * MIB
"""Content of one payload of coefficients: a number for every column of twenty models of 8 billion
parameters. A larger one is neither published nor applied."""

PATTERNS_MAX: Final = 1024
"""Names with wildcards in one payload: each is held against every tensor."""

PROOF_BYTES_MAX: Final = 16 * KIB
"""A proof of presence or absence: at most 256 branches of 37 bytes and two keys."""

# --- blocks and files ------------------------------------------------------------------------
BLOCK_BYTES: Final = MIB
"""Size of a block: part of the definition of a tensor's root, so not a tunable."""

SPARE_BYTES: Final = 256 * MIB
"""Of the disk, left free by downloads: for the database, whose promises must not fail for want of room."""

GARBAGE_GRACE_MS: Final = 24 * 3600 * 1000
"""How long content that nothing points to rests before it is forgotten: a day to undo a mistake, and longer
than any ingest or transfer that is about to point to it."""

SAFETENSORS_HEADER_BYTES_MAX: Final = 16 * MIB
"""Header of a safetensors file; the format's own library allows 100 MB."""

# --- the wire --------------------------------------------------------------------------------
MESSAGE_BYTES_MAX: Final = 2 * MIB
"""One RPC message: a block and its framing."""

RECONCILE_BYTES_MAX: Final = 64 * KIB
"""One reconciliation message."""

RECONCILE_ROUNDS_MAX: Final = 8
"""Rounds of range reconciliation before falling back to a paged list."""

OPERATIONS_PER_MESSAGE_MAX: Final = 64
"""Operations in one PushOps or GetOps reply: 64 · 16 KiB stay below MESSAGE_BYTES_MAX."""

PENDING_OPERATIONS_MAX: Final = 4096
"""Operations kept of authors who are not admitted yet; reconciliation brings back what is dropped."""

METADATA_HEADER_BYTES_MAX: Final = 4 * KIB
"""gRPC metadata of one call."""

TICKET_BYTES_MAX: Final = 8 * KIB
NODE_RECORD_BYTES_MAX: Final = 4 * KIB
ADDRESSES_MAX: Final = 8
"""Addresses in one node record."""

ATTESTATION_BYTES_MAX: Final = KIB
"""What a member attests of one result: seven digests, a signature and a line about its machine."""

ATTESTATIONS_PER_MEMBER_MAX: Final = 32
"""Results that one member attests; older ones are dropped. A federation of 1000 keeps 32 MB at most."""

HAVE_DIGESTS_MAX: Final = 16_384
"""Digests in one Have request: 512 KiB."""
