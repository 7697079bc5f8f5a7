"""What lying nodes make of the replies that an honest machine would give.

A lie is a function of the request and the honest reply. Some are well formed, and only the bytes or the
bits are wrong; some are no answer to the question at all. None of them may spoil anything but the liar's
own usefulness.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final, TypeAlias

from crdtmerge.digest import DIGEST_BYTES, Digest
from crdtmerge.sync import ranges
from crdtmerge.sync.blobs import META_BYTES_MAX, GetBlockReply, GetMetaReply, Have, HaveReply
from crdtmerge.sync.chance import Chance
from crdtmerge.sync.index import FINGERPRINT_BYTES
from crdtmerge.sync.messages import (
    GetOps,
    GetOpsReply,
    Hello,
    HelloReply,
    PushOpsReply,
    Reconcile,
    ReconcileReply,
    RecordsReply,
    Reply,
    Request,
)
from crdtmerge.sync.ranges import Answer, Ask, Fingerprint, Said

Lie: TypeAlias = Callable[[Chance, Request, Reply], "Reply | None"]
"""What is sent instead of an honest reply; None: nothing, for ever."""


def wrong_blocks(request: Request, reply: Reply) -> Reply:
    """Flip a bit in every block."""
    if isinstance(reply, GetBlockReply) and reply.data:
        return GetBlockReply(_flipped(reply.data))
    return reply


def wrong_metas(request: Request, reply: Reply) -> Reply:
    """Flip a bit in every manifest and block list."""
    if isinstance(reply, GetMetaReply) and reply.chunk:
        return GetMetaReply(reply.total, _flipped(reply.chunk))
    return reply


def _flipped(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


def wrong_bytes(chance: Chance, request: Request, reply: Reply) -> Reply:
    """Flip a bit in all content."""
    return wrong_blocks(request, wrong_metas(request, reply))


def withhold(chance: Chance, request: Request, reply: Reply) -> Reply:
    """Give nothing that is asked for."""
    match reply:
        case GetBlockReply():
            return GetBlockReply(None)
        case GetMetaReply():
            return GetMetaReply(0)
        case GetOpsReply():
            return GetOpsReply(reply.operations[: chance.below(len(reply.operations) + 1)])
        case RecordsReply():
            return RecordsReply(())
    return reply


def boast(chance: Chance, request: Request, reply: Reply) -> Reply:
    """Claim to hold every block, and give none."""
    if isinstance(reply, HaveReply):
        return HaveReply(b"\xff" * len(reply.bitmap))
    return GetBlockReply(None) if isinstance(reply, GetBlockReply) else reply


def wrong_bitmaps(chance: Chance, request: Request, reply: Reply) -> Reply:
    """Say something else about what is held: nothing, or anything, or more than was asked about."""
    if isinstance(reply, HaveReply) and isinstance(request, Have):
        return HaveReply(chance.draw(len(reply.bitmap) + chance.below(2)))
    return reply


def seem_equal(chance: Chance, request: Request, reply: Reply) -> Reply:
    """Claim to hold exactly what the other holds, so that nothing is exchanged."""
    if isinstance(reply, HelloReply) and isinstance(request, Hello):
        roots = replace(reply, state_root=request.state_root, book_root=request.book_root)
        return replace(roots, operations=b"", records=b"", attestations=b"")
    return reply


def wrong_fingerprints(chance: Chance, request: Request, reply: Reply) -> Reply:
    """Differ everywhere, with fingerprints of nothing, lists of nothing, and ids of nothing."""
    if isinstance(reply, HelloReply):
        opening = ranges.write([Said(b"", None, Fingerprint(chance.draw(FINGERPRINT_BYTES)))])
        lie = replace(reply, state_root=Digest(chance.draw(DIGEST_BYTES)), attestations=opening)
        return replace(lie, operations=opening, records=opening)
    if isinstance(reply, ReconcileReply) and isinstance(request, Reconcile):
        return ReconcileReply(ranges.write(_nonsense(chance, said) for said in ranges.read(request.payload)))
    return reply


def _nonsense(chance: Chance, said: Said) -> Said:
    if isinstance(said.body, Fingerprint):
        other: ranges.Body = Ask.LIST if chance.below(4) == 0 else Fingerprint(chance.draw(FINGERPRINT_BYTES))
        return replace(said, body=other)
    if isinstance(said.body, ranges.Listing):
        bits = chance.draw(-(-len(said.body.short_ids) // 8))
        return replace(said, body=Answer(bits, tuple(chance.draw(DIGEST_BYTES) for _ in range(3))))
    return said


def garbage(chance: Chance, request: Request, reply: Reply) -> Reply:
    """Send bytes that mean nothing, or an answer to another question."""
    if chance.below(4) == 0:
        return PushOpsReply(chance.below(64))
    noise = chance.draw(1 + chance.below(300))
    match reply:
        case HelloReply():
            return replace(reply, operations=noise, records=noise, record=noise)
        case ReconcileReply():
            return ReconcileReply(noise)
        case GetOpsReply():
            return GetOpsReply((*reply.operations, noise))
        case RecordsReply():
            return RecordsReply((noise,))
        case GetMetaReply():
            return GetMetaReply(len(noise), noise)
    return reply


def other_operations(chance: Chance, request: Request, reply: Reply) -> Reply:
    """Answer with operations whose signatures, or bodies, were changed on the way."""
    if isinstance(request, GetOps) and isinstance(reply, GetOpsReply):
        return GetOpsReply(tuple(map(_flipped, reply.operations)))
    return reply


def drip(chance: Chance, request: Request, reply: Reply) -> Reply:
    """Announce a manifest of the greatest size, and send it byte by byte."""
    return GetMetaReply(META_BYTES_MAX, chance.draw(1)) if isinstance(reply, GetMetaReply) else reply


def be_silent(chance: Chance, request: Request, reply: Reply) -> Reply | None:
    """Take requests, and leave most of them unanswered."""
    return reply if chance.below(4) == 0 else None


LIES: Final[dict[str, Lie]] = {
    "wrong_bytes": wrong_bytes,
    "withhold": withhold,
    "boast": boast,
    "wrong_bitmaps": wrong_bitmaps,
    "seem_equal": seem_equal,
    "wrong_fingerprints": wrong_fingerprints,
    "garbage": garbage,
    "other_operations": other_operations,
    "drip": drip,
    "be_silent": be_silent,
}
