"""What a lying node does to its replies."""

from __future__ import annotations

from crdtmerge.sync.messages import GetBlockReply, GetMetaReply, Reply, Request


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
