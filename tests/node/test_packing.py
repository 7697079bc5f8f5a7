"""Blocks come off the wire as they went on, whatever a packed one claims about itself."""

from __future__ import annotations

import contextlib
import os
import tracemalloc
from typing import Any

import node_harness as harness
import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from crdtmerge.digest import Digest
from crdtmerge.errors import LimitError, MalformedError, RejectedError
from crdtmerge.limits import BLOCK_BYTES, MIB
from crdtmerge.node import packing
from crdtmerge.node.client import CallError
from crdtmerge.node.packing import pack, unpack
from crdtmerge.node.porter import PACKERS_MAX, Porter
from crdtmerge.store import block_digest
from crdtmerge.sync.messages import Coding, GetBlock, GetBlockReply, GetOps, GetOpsReply

WIDTHS = [1, 2, 4, 8, 3]
NODE = harness.signing_key(2).id


def bf16(values: Any) -> bytes:
    return bytes((np.asarray(values, np.float32).view(np.uint32) >> 16).astype(np.uint16).tobytes())


def tuned(change: float) -> tuple[bytes, bytes]:
    """A block of a base in bfloat16, and of a fine-tune that changes it by so much."""
    rng = np.random.default_rng(0)
    base = 0.02 * rng.standard_normal(BLOCK_BYTES // 2)
    return bf16(base), bf16(base + change * 0.02 * rng.standard_normal(BLOCK_BYTES // 2))


@given(st.binary(min_size=1, max_size=300), st.sampled_from(WIDTHS), st.integers(1, 5), st.booleans())
def test_a_packed_block_unpacks_to_itself(part: bytes, width: int, times: int, mixed: bool) -> None:
    data = part * (8 * times)
    against = bytes(reversed(data)) if mixed else None
    packed = pack(data, against, width=width)
    if packed is not None:
        assert len(packed) < len(data)
        assert packing.is_mixed(packed) == mixed
        assert unpack(packed, against, width=width, bytes_max=len(data)) == data


@pytest.mark.parametrize(("change", "saved"), [(1e-3, 0.75), (1e-2, 0.55), (1e-1, 0.35)])
def test_a_fine_tune_costs_what_it_changed(change: float, saved: float) -> None:
    base, block = tuned(change)
    packed = pack(block, base, width=2)
    assert packed is not None
    assert len(packed) < (1 - saved) * len(block)
    assert unpack(packed, base, width=2, bytes_max=BLOCK_BYTES) == block


def test_what_is_not_smaller_is_not_packed() -> None:
    assert pack(os.urandom(4096), None, width=2) is None
    assert pack(b"", None, width=2) is None


def test_of_a_block_that_hardly_shrinks_only_the_beginning_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []
    framed = packing._framed

    def noted(data: bytes, against: bytes | None, width: int) -> bytes:
        tried.append(len(data))
        return framed(data, against, width)

    monkeypatch.setattr(packing, "_framed", noted)
    assert pack(os.urandom(BLOCK_BYTES), None, width=2) is None
    base, block = tuned(1e-2)
    assert pack(block, os.urandom(BLOCK_BYTES), width=2) is None
    assert tried == [packing.SAMPLE_BYTES] * 2
    assert pack(block, base, width=2) is not None
    assert tried[2:] == [packing.SAMPLE_BYTES, BLOCK_BYTES]


def test_a_base_block_of_another_length_is_not_mixed_in() -> None:
    packed = pack(bytes(1000), bytes(999), width=2)
    assert packed is not None
    assert unpack(packed, None, width=2, bytes_max=1000) == bytes(1000)


@given(st.binary(max_size=200), st.sampled_from(WIDTHS))
def test_arbitrary_bytes_are_refused_or_harmless(data: bytes, width: int) -> None:
    with contextlib.suppress(RejectedError):
        assert len(unpack(data, bytes(50), width=width, bytes_max=1000)) <= 1000


@given(st.data())
def test_a_damaged_packed_block_is_refused_or_has_another_digest(data: st.DataObject) -> None:
    block = bytes(range(256)) * 20
    packed = bytearray(pack(block, None, width=2) or b"")
    packed[data.draw(st.integers(0, len(packed) - 1))] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(RejectedError):
        unpack(bytes(packed), block, width=2, bytes_max=len(block))


# --- decompression bombs --------------------------------------------------------------------------

BOMB_BYTES = 64 * MIB


def bomb(*, says_its_size: bool) -> bytes:
    """A frame of a few kilobytes that holds 64 MiB."""
    made = zstandard.ZstdCompressor(level=1, write_content_size=says_its_size)
    if says_its_size:
        return made.compress(bytes(BOMB_BYTES))
    streamed = made.compressobj()
    parts = [streamed.compress(bytes(MIB)) for _ in range(BOMB_BYTES // MIB)]
    return b"".join([*parts, streamed.flush()])


def test_the_limit_that_the_library_offers_is_none() -> None:
    frame = bomb(says_its_size=True)
    assert len(frame) < 16_384
    burst = zstandard.ZstdDecompressor().decompress(frame, max_output_size=BLOCK_BYTES)
    assert len(burst) == BOMB_BYTES, "the frame's own word wins: whoever relies on this argument is hit"


@pytest.mark.parametrize("says_its_size", [True, False])
@pytest.mark.parametrize("head", [b"\0", b"\1"])
def test_a_decompression_bomb_costs_a_block_and_is_refused(says_its_size: bool, head: bytes) -> None:
    packed = head + bomb(says_its_size=says_its_size)
    tracemalloc.start()
    try:
        with pytest.raises(LimitError, match="more than"):
            unpack(packed, bytes(BLOCK_BYTES), width=2, bytes_max=BLOCK_BYTES)
        assert tracemalloc.get_traced_memory()[1] < 8 * MIB
    finally:
        tracemalloc.stop()


def test_a_frame_that_asks_for_a_huge_window_is_refused() -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=27, write_content_size=0)
    streamed = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    frame = streamed.compress(bytes(1000)) + streamed.flush()
    with pytest.raises(MalformedError, match="not a packed block"):
        unpack(b"\0" + frame, None, width=1, bytes_max=BLOCK_BYTES)


def test_a_bomb_behind_a_harmless_frame_is_refused_as_well() -> None:
    one = zstandard.ZstdCompressor().compress(b"one")
    with pytest.raises(LimitError):
        unpack(b"\0" + one + bomb(says_its_size=True), None, width=1, bytes_max=BLOCK_BYTES)


# --- beside the machine ---------------------------------------------------------------------------


def porter(*held: bytes) -> Porter:
    blocks = {block_digest(data): data for data in held}

    async def block(digest: Digest) -> bytes | None:
        return blocks.get(digest)

    return Porter(block)


def asking(data: bytes, against: bytes = b"") -> GetBlock:
    return GetBlock(block_digest(data), Coding.PACKED, block_digest(against) if against else b"", 2)


def test_a_block_travels_packed_against_the_base_that_both_have() -> None:
    base, block = tuned(1e-3)

    async def story() -> None:
        server, client = porter(base, block), porter(base)
        request = asking(block, base)
        reply = await server.packed(request, GetBlockReply(block))
        assert isinstance(reply, GetBlockReply)
        assert reply.coding is Coding.PACKED
        assert reply.data is not None
        assert len(reply.data) < len(block) // 4
        assert await client.unpacked(NODE, request, reply) == GetBlockReply(block)

    harness.run(story())


def test_a_server_without_the_base_packs_without_it() -> None:
    base, block = tuned(1e-3)

    async def story() -> None:
        reply = await porter(block).packed(asking(block, base), GetBlockReply(block))
        assert await porter(base).unpacked(NODE, asking(block, base), reply) == GetBlockReply(block)

    harness.run(story())


def test_only_who_asks_for_packed_blocks_gets_them_and_only_blocks_are_packed() -> None:
    block = bytes(1000)

    async def story() -> None:
        server = porter(block)
        raw = GetBlock(block_digest(block))
        assert await server.packed(raw, GetBlockReply(block)) == GetBlockReply(block)
        assert await server.packed(asking(block), GetBlockReply(None)) == GetBlockReply(None)
        assert await server.packed(GetOps(()), GetOpsReply(())) == GetOpsReply(())

    harness.run(story())


def test_nobody_can_have_this_machine_pack_without_end() -> None:
    import asyncio

    block = bytes(BLOCK_BYTES)

    async def story() -> None:
        server = porter(block)
        ends = await asyncio.gather(*(server.packed(asking(block), GetBlockReply(block)) for _ in range(20)))
        assert [end for end in ends if isinstance(end, GetBlockReply) and end.coding is Coding.PACKED]
        assert len([end for end in ends if end == GetBlockReply(block)]) >= 20 - 2 * PACKERS_MAX

    harness.run(story())


@pytest.mark.parametrize("data", [b"", b"\0", b"\2abc", b"\1" + zstandard.ZstdCompressor().compress(b"abc")])
def test_a_node_whose_packed_blocks_are_of_no_use_is_asked_for_raw_ones(data: bytes) -> None:
    block = bytes(1000)

    async def story() -> None:
        client = porter()
        assert client.asked(NODE, asking(block)) == asking(block)
        with pytest.raises(CallError):
            await client.unpacked(NODE, asking(block), GetBlockReply(data, Coding.PACKED))
        asked = client.asked(NODE, asking(block))
        assert isinstance(asked, GetBlock)
        assert asked.coding is Coding.RAW

    harness.run(story())


def test_a_packed_block_that_nobody_asked_for_is_refused() -> None:
    async def story() -> None:
        with pytest.raises(CallError, match="nobody asked"):
            await porter().unpacked(NODE, GetBlock(Digest(bytes(32))), GetBlockReply(b"\0", Coding.PACKED))

    harness.run(story())
