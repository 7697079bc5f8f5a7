"""What is missing is fetched from whoever has it, every byte is checked, and nothing is fetched twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import pytest
from sync_harness import NOW_MS, Disk, calls, store

from crdtmerge.digest import Digest, Domain, digest
from crdtmerge.dtypes import DType
from crdtmerge.errors import DigestMismatchError, LimitError
from crdtmerge.keys import NodeId
from crdtmerge.limits import BLOCK_BYTES
from crdtmerge.manifest import Kind, Manifest, Tensor
from crdtmerge.simulations.lies import wrong_blocks, wrong_metas
from crdtmerge.sync import messages, meta, server, wants
from crdtmerge.sync.config import Config
from crdtmerge.sync.events import (
    Call,
    Failure,
    Misbehaved,
    NoRoom,
    Output,
    Ready,
    RoomAgain,
    StoreBlock,
    StoreTensor,
)
from crdtmerge.sync.jobs import JOBS_MAX, STALLED_MS
from crdtmerge.sync.messages import GetBlock, GetMeta, Have, Reply, Request
from crdtmerge.sync.port import Port
from crdtmerge.sync.transfer import LOOK_MS, Transfer
from crdtmerge.sync.wants import Kind as PieceKind
from crdtmerge.sync.wants import Piece

ANN, BOB, CID = (NodeId(name * 32) for name in (b"a", b"b", b"c"))


def serve(disk: Disk, request: Request) -> Reply:
    """Answer as an honest peer with this disk does."""
    match request:
        case Have():
            return server.Server(disk).have(request)
        case GetBlock():
            return server.Server(disk).block(request)
        case GetMeta():
            return server.Server(disk).meta(request)
    raise AssertionError(f"a transfer does not send {request}")


class Home:
    """A node that fetches, from sources whose disks are given."""

    def __init__(
        self,
        sources: dict[NodeId, Disk],
        *,
        disk: Disk | None = None,
        authors: Sequence[NodeId] = (),
        bytes_max: int | None = None,
    ) -> None:
        self.now_ms = NOW_MS
        self.sources, self.disk = sources, disk or Disk()
        self.log: list[Call] = []
        self.outputs: list[Output] = []
        self.under_way: list[Call] = []
        self.port = Port(lambda now_ms, node, answered: None)
        self.transfer = Transfer(
            self.disk,
            self.port,
            authors=lambda contribution: authors,
            candidates=lambda: sorted(self.sources),
            config=Config(),
            bytes_max=bytes_max,
        )

    def want(self, *contributions: Digest) -> None:
        self.transfer.want(self.now_ms, contributions)
        self.take()

    def take(self) -> None:
        outputs = self.port.take()
        self.transfer.flushed()
        store(self.disk, outputs)
        self.outputs += outputs
        self.log += calls(outputs)
        self.under_way += calls(outputs)

    def end(self, call: Call, end: Reply | Failure | None = None) -> None:
        """Let a call end, as an honest source ends it unless said otherwise."""
        self.under_way.remove(call)
        self.port.finish(self.now_ms, call.call_id, end or serve(self.sources[call.to], call.request))
        self.take()

    def wait(self, duration_ms: int = LOOK_MS) -> None:
        self.now_ms += duration_ms
        self.transfer.tick(self.now_ms)
        self.take()

    def finish(
        self, tamper: Callable[[Call, Reply], Reply | Failure] = lambda call, reply: reply, *, looks: int = 3
    ) -> None:
        """Let everything under way end, oldest first, and look around a few times."""
        for _ in range(looks):
            while self.under_way:
                call = self.under_way[0]
                self.end(call, tamper(call, serve(self.sources[call.to], call.request)))
            self.wait()

    def asked(self, kind: type[Request]) -> list[Call]:
        return [call for call in self.log if isinstance(call.request, kind)]

    def blocks_under_way(self) -> Counter[NodeId]:
        return Counter(call.to for call in self.under_way if isinstance(call.request, GetBlock))

    @property
    def ready(self) -> list[Digest]:
        return [output.contribution for output in self.outputs if isinstance(output, Ready)]

    @property
    def accused(self) -> list[NodeId]:
        return [output.node for output in self.outputs if isinstance(output, Misbehaved)]


def model(blocks: int, *, name: str = "") -> dict[str, bytes]:
    """A model of as many tensors, each one small block."""
    return {f"t{number:04}": f"{name} {number}".encode() for number in range(blocks)}


def copies(tensors: dict[str, bytes], count: int) -> tuple[Manifest, list[Disk]]:
    disks = [Disk() for _ in range(count)]
    (manifest, *_) = [disk.put_model(tensors) for disk in disks]
    return manifest, disks


def blocks_asked(home: Home) -> Counter[Digest]:
    return Counter(call.request.digest for call in home.asked(GetBlock) if isinstance(call.request, GetBlock))


def test_a_contribution_becomes_complete_and_is_reported_once() -> None:
    manifest, (disk,) = copies(model(40), 1)
    home = Home({ANN: disk})
    home.want(manifest.digest)
    assert home.transfer.missing > 0
    home.finish()
    home.want(manifest.digest)
    assert home.ready == [manifest.digest]
    assert home.disk.blocks == disk.blocks
    assert home.transfer.missing == 0
    assert home.transfer.due_ms is None
    assert isinstance(home.outputs[-1], Ready), "it is reported after everything is stored"


def test_each_block_is_asked_for_once_where_nothing_fails() -> None:
    manifest, (disk,) = copies(model(300), 1)
    home = Home({ANN: disk})
    home.want(manifest.digest)
    home.finish()
    assert home.ready
    assert set(blocks_asked(home).values()) == {1}


def test_a_tensor_of_many_blocks_with_a_short_last_one_arrives() -> None:
    manifest, (disk,) = copies({"w": b"x" * BLOCK_BYTES + b"y" * BLOCK_BYTES + b"z"}, 1)
    home = Home({ANN: disk})
    home.want(manifest.digest)
    home.finish()
    assert home.ready == [manifest.digest]
    assert len(home.disk.blocks) == 3


def test_what_is_stored_is_not_asked_for_again_after_a_restart() -> None:
    manifest, (disk,) = copies(model(200), 1)
    first = Home({ANN: disk})
    first.want(manifest.digest)
    while len(first.disk.blocks) < 77:
        first.end(first.under_way[0])
    stored = set(first.disk.blocks)
    second = Home({ANN: disk}, disk=first.disk)
    second.want(manifest.digest)
    second.finish()
    assert second.ready == [manifest.digest]
    assert not stored & set(blocks_asked(second))
    assert not [c for c in second.asked(GetMeta) if c.request.digest == manifest.digest]  # type: ignore[union-attr]


def test_what_another_contribution_brought_is_not_asked_for_again() -> None:
    disk = Disk()
    frozen = model(50, name="frozen")
    one, other = disk.put_model(frozen | {"x": b"1"}), disk.put_model(frozen | {"x": b"2"})
    home = Home({ANN: disk})
    home.want(one.digest)
    home.finish()
    before = len(home.asked(GetBlock))
    home.want(one.digest, other.digest)
    home.finish()
    assert home.ready == [one.digest, other.digest]
    assert len(home.asked(GetBlock)) == before + 1


def test_the_same_block_twice_in_a_model_is_asked_for_once() -> None:
    manifest, (disk,) = copies({f"t{n}": b"same" for n in range(20)} | {"w": b"o" * 2 * BLOCK_BYTES}, 1)
    home = Home({ANN: disk})
    home.want(manifest.digest)
    home.finish()
    assert home.ready
    assert sorted(blocks_asked(home).values()) == [1, 1]


def test_a_block_that_comes_again_right_after_it_arrived_is_not_asked_for_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(wants, "WINDOW", 1)
    manifest, (disk,) = copies({"w": b"o" * 3 * BLOCK_BYTES}, 1)
    home = Home({ANN: disk})
    home.want(manifest.digest)
    home.finish()
    assert home.ready
    assert list(blocks_asked(home).values()) == [1]


def test_eight_calls_are_under_way_with_one_source_and_thirty_two_in_all() -> None:
    for sources, expected in ((1, 8), (2, 16), (6, 32)):
        manifest, disks = copies(model(300), sources)
        home = Home({NodeId(bytes([n]) * 32): disk for n, disk in enumerate(disks)})
        home.want(manifest.digest)
        most, most_of_one = 0, 0
        while home.under_way:
            under_way = home.blocks_under_way()
            most = max(most, under_way.total())
            most_of_one = max(most_of_one, *under_way.values(), 0)
            home.end(home.under_way[0])
        assert home.ready
        assert most == expected
        assert most_of_one <= 8


def test_the_window_halves_with_every_time_out_and_grows_with_every_success() -> None:
    manifest, (disk,) = copies(model(400), 1)
    home = Home({ANN: disk})

    def pieces() -> list[Call]:
        return [call for call in home.under_way if not isinstance(call.request, Have)]

    home.want(manifest.digest)
    while len(pieces()) < 8:
        home.end(home.under_way[0])
    windows = []
    for call in pieces():
        home.end(call, Failure.TIMEOUT)
        windows.append(len(pieces()))
    assert windows == [7, 6, 5, 4, 3, 2, 1, 1], "what is under way ends, and no more than the window begins"
    grown = []
    for _ in range(8):
        home.end(pieces()[0])
        grown.append(len(pieces()))
    assert grown == [2, 3, 4, 5, 6, 7, 8, 8]


def test_a_source_that_serves_wrong_blocks_is_caught_banned_for_an_hour_and_replaced() -> None:
    manifest, (bad, good) = copies(model(60), 2)
    home = Home({ANN: bad, BOB: good})
    home.want(manifest.digest)
    home.finish(lambda call, reply: wrong_blocks(call.request, reply) if call.to == ANN else reply)
    assert home.ready == [manifest.digest]
    assert home.disk.blocks == good.blocks
    assert all(digest(Domain.BLOCK, data) == block for block, data in home.disk.blocks.items())
    assert set(home.accused) == {ANN}
    caught = len([call for call in home.asked(GetBlock) if call.to == ANN])
    assert caught <= 8
    other = bad.put_model(model(5, name="other"))
    home.want(manifest.digest, other.digest)
    home.finish()
    assert home.transfer.missing, "the only source is banned"
    home.wait(3_600_000)
    home.finish()
    assert home.ready == [manifest.digest, other.digest]


def test_blocks_under_way_are_counted_right_when_wrong_ones_came() -> None:
    manifest, (bad, good) = copies(model(60), 2)
    home = Home({ANN: bad, BOB: good})
    home.want(manifest.digest)
    while home.under_way:
        call = home.under_way[0]
        reply = serve(home.sources[call.to], call.request)
        home.end(call, wrong_blocks(call.request, reply) if call.to == ANN else reply)
        assert home.transfer._sources.blocks_under_way == home.blocks_under_way().total()
    assert home.accused
    assert home.ready


def test_a_wrong_manifest_bans_its_source_and_another_serves_it() -> None:
    manifest, (bad, good) = copies(model(3), 2)
    home = Home({ANN: bad, BOB: good})
    home.want(manifest.digest)
    home.finish(lambda call, reply: wrong_metas(call.request, reply) if call.to == ANN else reply)
    assert home.ready == [manifest.digest]
    assert set(home.accused) == {ANN}


def test_a_manifest_travels_in_pieces_from_whoever_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (server, meta):
        monkeypatch.setattr(module, "META_CHUNK_BYTES_MAX", 100)
    manifest, disks = copies(model(30), 2)
    home = Home(dict(zip((ANN, BOB), disks, strict=True)))
    home.want(manifest.digest)

    def flaky(call: Call, reply: Reply) -> Reply | Failure:
        asked_before = len([c for c in home.asked(GetMeta) if c.to == call.to])
        return Failure.UNREACHABLE if isinstance(call.request, GetMeta) and asked_before % 3 == 2 else reply

    home.finish(flaky, looks=40)
    assert home.ready == [manifest.digest]
    assert {call.to for call in home.asked(GetMeta)} == {ANN, BOB}


def test_pieces_of_a_liar_spoil_a_manifest_but_accuse_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (server, meta):
        monkeypatch.setattr(module, "META_CHUNK_BYTES_MAX", 100)
    manifest, disks = copies(model(30), 2)
    home = Home(dict(zip((ANN, BOB), disks, strict=True)))
    home.want(manifest.digest)

    def takes_turns(call: Call, reply: Reply) -> Reply | Failure:
        """Ann lies in her pieces; after one piece each, the other has to help out."""
        if not isinstance(call.request, GetMeta) or call.request.digest != manifest.digest:
            return reply
        if len(home.asked(GetMeta)) < 4 and call.request.offset:
            return Failure.UNREACHABLE if call.to == ANN else reply
        return wrong_metas(call.request, reply) if call.to == ANN else reply

    home.finish(takes_turns, looks=20)
    assert home.ready == [manifest.digest]
    assert set(home.accused) <= {ANN}


def lying_about(tensor: Tensor, disk: Disk) -> Manifest:
    """Publish a manifest that claims another shape for a tensor that somebody else contributed."""
    lie = Manifest(kind=Kind.FULL, base=None, tensors=(Tensor("t", DType.U8, (5, 7), tensor.root),))
    disk.manifests[lie.digest] = lie
    return lie


def test_a_manifest_that_lies_about_a_tensor_spoils_neither_the_honest_one_nor_its_source() -> None:
    manifest, (disk,) = copies(model(4), 1)
    lie = lying_about(manifest.tensors[0], disk)
    home = Home({ANN: disk})
    home.want(lie.digest, manifest.digest)
    home.finish()
    assert home.ready == [manifest.digest]
    assert home.accused == []
    assert home.transfer.missing > 0


def test_a_contribution_beyond_the_quota_is_not_fetched_and_its_author_is_named() -> None:
    manifest, (disk,) = copies(model(4), 1)
    home = Home({ANN: disk}, authors=[CID], bytes_max=manifest.content_bytes - 1)
    home.want(manifest.digest)
    home.finish()
    assert (home.ready, home.asked(GetBlock), home.accused) == ([], [], [CID])
    assert [type(o.error) for o in home.outputs if isinstance(o, Misbehaved)] == [LimitError]
    assert home.transfer.missing == 0
    allowed = Home({ANN: disk}, bytes_max=manifest.content_bytes)
    allowed.want(manifest.digest)
    allowed.finish()
    assert allowed.ready == [manifest.digest]


def test_a_manifest_that_is_none_is_given_up_and_its_source_is_not_blamed() -> None:
    garbage = b"not a manifest"
    contribution = digest(Domain.MANIFEST, garbage)
    home = Home({ANN: Disk()}, authors=[CID])
    home.want(contribution)
    for call in home.asked(GetMeta):
        home.end(call, messages.GetMetaReply(len(garbage), garbage))
    assert home.accused == [CID]
    assert home.transfer.missing == 0


def test_what_is_no_longer_visible_is_no_longer_fetched() -> None:
    manifest, (disk,) = copies(model(300), 1)
    home = Home({ANN: disk})
    home.want(manifest.digest)
    while len(home.disk.blocks) < 10:
        home.end(home.under_way[0])
    home.want()
    asked = len(home.log)
    home.finish()
    assert len(home.log) == asked
    assert (home.ready, home.transfer.missing) == ([], 0)


def test_a_block_of_a_contribution_that_was_given_up_is_still_fetched_for_another() -> None:
    disk = Disk()
    one, other = disk.put_model({"x": b"shared"}), disk.put_model({"x": b"shared", "y": b"own"})
    home = Home({ANN: disk})
    home.want(one.digest)
    while not home.blocks_under_way():
        home.end(home.under_way[0])
    home.want(other.digest)
    home.finish()
    assert home.ready == [other.digest]
    assert set(home.disk.blocks) == set(disk.blocks)


def test_the_last_blocks_are_asked_of_two_sources() -> None:
    manifest, disks = copies(model(4), 2)
    home = Home(dict(zip((ANN, BOB), disks, strict=True)))
    home.want(manifest.digest)
    while len(home.asked(GetBlock)) < 8:
        home.end(next(call for call in home.under_way if not isinstance(call.request, GetBlock)))
    assert set(blocks_asked(home).values()) == {2}
    slow = [call for call in home.under_way if call.to == ANN]
    for call in [call for call in home.under_way if call.to == BOB]:
        home.end(call)
    assert home.ready == [manifest.digest]
    stored = [output for output in home.outputs if isinstance(output, StoreBlock)]
    for call in slow:
        home.end(call)
    assert [output for output in home.outputs if isinstance(output, StoreBlock)] == stored


def test_the_rarest_blocks_are_asked_for_first() -> None:
    manifest, (full, partial) = copies(model(40), 2)
    common = sorted(partial.blocks)[:30]
    for block in set(partial.blocks) - set(common):
        del partial.blocks[block]
    home = Home({ANN: full, BOB: partial})
    home.want(manifest.digest)
    while any(not isinstance(call.request, GetBlock) for call in home.under_way):
        home.end(next(call for call in home.under_way if not isinstance(call.request, GetBlock)))
    for _ in range(12):
        home.end(next(call for call in home.under_way if call.to == ANN))
    rare = set(full.blocks) - set(common)
    assert rare <= set(blocks_asked(home))
    assert len(blocks_asked(home)) < 40


def test_a_source_that_gets_a_block_later_is_found_by_looking_around_again() -> None:
    manifest, (late, full) = copies(model(5), 2)
    late.blocks.clear()
    home = Home({ANN: late})
    home.want(manifest.digest)
    home.finish(looks=1)
    assert not home.ready
    late.blocks.update(full.blocks)
    home.finish(looks=1)
    assert home.ready == [manifest.digest]


def test_a_source_that_refuses_is_not_asked_again_before_the_next_look_around() -> None:
    manifest, (disk,) = copies(model(5), 1)
    home = Home({ANN: disk})
    home.want(manifest.digest)
    home.finish(lambda call, reply: Failure.REFUSED, looks=1)
    assert len(home.log) == 2, "once at first, once after the look around"


def test_contributions_that_nobody_has_do_not_keep_others_waiting_for_ever() -> None:
    lost = [digest(Domain.MANIFEST, bytes([n])) for n in range(JOBS_MAX)]
    manifest, (disk,) = copies(model(3), 1)
    home = Home({ANN: disk})
    home.want(*lost, manifest.digest)
    home.finish(looks=2)
    assert not home.ready
    home.wait(STALLED_MS)
    home.finish(looks=2)
    assert home.ready == [manifest.digest]
    assert home.transfer.missing >= JOBS_MAX


def test_what_nobody_has_is_asked_for_ever_more_rarely_until_something_arrives() -> None:
    lost = digest(Domain.MANIFEST, b"lost")
    manifest, (disk,) = copies(model(3), 1)
    home = Home({ANN: disk})
    home.want(lost)

    def pause() -> int:
        while home.under_way:
            home.end(home.under_way[0], messages.GetMetaReply(0))
        assert home.transfer.due_ms is not None
        wait_ms = home.transfer.due_ms - home.now_ms
        home.wait(wait_ms)
        return wait_ms

    assert [pause() for _ in range(6)] == [LOOK_MS, 2 * LOOK_MS, 4 * LOOK_MS, 8 * LOOK_MS, 60_000, 60_000]
    home.want(lost, manifest.digest)
    home.finish(looks=1)
    assert home.ready == [manifest.digest]
    assert pause() <= 2 * LOOK_MS


def test_tensors_without_a_byte_need_nobody() -> None:
    manifest, (disk,) = copies({"empty": b"", "full": b"x"}, 1)
    home = Home({ANN: disk})
    home.want(manifest.digest)
    home.finish()
    assert home.ready == [manifest.digest]
    assert home.disk.tensors == disk.tensors
    assert len(home.asked(GetMeta)) == 2


def test_evidence_is_fetched_along_with_the_model() -> None:
    disk = Disk()
    tensors = disk.put_model({"w": b"weights"}).tensors
    fisher = disk.put_model({"w": b"fisher"}).tensors
    manifest = Manifest(kind=Kind.FULL, base=None, tensors=tensors, evidence=fisher)
    disk.manifests[manifest.digest] = manifest
    home = Home({ANN: disk})
    home.want(manifest.digest)
    home.finish()
    assert home.ready == [manifest.digest]
    assert sorted(home.disk.blocks.values()) == [b"fisher", b"weights"]


def test_content_that_was_lost_is_fetched_again() -> None:
    manifest, (disk,) = copies(model(3), 1)
    home = Home({ANN: disk})
    home.want(manifest.digest)
    home.finish()
    del home.disk.blocks[min(home.disk.blocks)]
    home.transfer.look_again(home.now_ms, lost=True)
    home.take()
    home.finish()
    assert home.disk.blocks == disk.blocks
    assert home.ready == [manifest.digest] * 2


def test_a_bitmap_of_the_wrong_length_is_reported() -> None:
    manifest, (disk,) = copies(model(3), 1)
    home = Home({ANN: disk})
    home.want(manifest.digest)
    while not home.asked(Have):
        home.end(home.under_way[0])
    home.end(next(c for c in home.under_way if isinstance(c.request, Have)), messages.HaveReply(b"\xff" * 9))
    assert home.accused == [ANN]


def assembled(pieces: Sequence[bytes], wanted: Digest) -> bytes | None:
    """Put pieces together that one source sends one after the other."""
    assembly = meta.Assembly(Piece(PieceKind.MANIFEST, wanted))
    data, total = None, sum(map(len, pieces))
    for piece in pieces:
        data = assembly.add(ANN, assembly.request.offset, messages.GetMetaReply(total, piece))
    return data


def test_a_manifest_is_whole_only_with_its_digest() -> None:
    first, rest = bytes(BLOCK_BYTES), b"rest"
    wanted = digest(Domain.MANIFEST, first + rest)
    assert assembled([first, rest], wanted) == first + rest
    with pytest.raises(DigestMismatchError):
        assembled([first, b"nest"], wanted)


def test_a_manifest_that_drips_in_crumb_by_crumb_is_refused_at_the_first() -> None:
    manifest, (disk,) = copies(model(3), 1)
    home = Home({ANN: disk, BOB: disk}, authors=[ANN])
    home.want(manifest.digest)

    def drip(call: Call, reply: Reply) -> Reply:
        if call.to == ANN and isinstance(reply, messages.GetMetaReply):
            return messages.GetMetaReply(messages.META_BYTES_MAX, reply.chunk[:1])
        return reply

    home.finish(drip)
    assert home.ready == [manifest.digest]
    assert home.accused == [ANN]


def test_an_answer_to_a_question_from_before_a_restart_blames_nobody() -> None:
    first, rest = bytes(BLOCK_BYTES), b"rest"
    total = len(first) + len(rest)
    assembly = meta.Assembly(Piece(PieceKind.MANIFEST, digest(Domain.MANIFEST, first + rest)))
    liar, honest = ANN, BOB
    assert assembly.add(liar, 0, messages.GetMetaReply(total, b"x" * BLOCK_BYTES)) is None
    with pytest.raises(DigestMismatchError):
        assembly.add(honest, BLOCK_BYTES, messages.GetMetaReply(total, rest))
    assert assembly.alone
    assert assembly.add(liar, 0, messages.GetMetaReply(total, b"x" * BLOCK_BYTES)) is None
    assert assembly.add(honest, BLOCK_BYTES, messages.GetMetaReply(total, rest)) is None, (
        "begun anew, not mixed"
    )
    assert assembly.add(honest, 0, messages.GetMetaReply(total, first)) is None
    assert assembly.add(honest, BLOCK_BYTES, messages.GetMetaReply(total, rest)) == first + rest


# --- room on the disk ------------------------------------------------------------------------------


def measured(home: Home, free_bytes: int) -> None:
    home.transfer.space(home.now_ms, free_bytes)
    home.take()


def test_what_does_not_fit_is_not_begun_and_goes_on_when_there_is_room() -> None:
    manifest, (disk,) = copies({f"t{n}": bytes([n]) * 1000 for n in range(20)}, 1)
    home = Home({ANN: disk})
    measured(home, 19_999)
    home.want(manifest.digest)
    home.finish()
    assert not home.asked(GetBlock)
    told = [output for output in home.outputs if isinstance(output, (NoRoom, RoomAgain))]
    assert told == [NoRoom(manifest.digest, 20_000, 19_999)]
    measured(home, 30 * BLOCK_BYTES)
    home.finish()
    assert home.ready == [manifest.digest]
    assert isinstance([o for o in home.outputs if isinstance(o, (NoRoom, RoomAgain))][-1], RoomAgain)


def test_a_full_disk_is_not_offered_tensors_without_a_byte_again_and_again() -> None:
    manifest, (disk, here) = copies({"empty": b"", "full": b"x"}, 2)
    empty = next(tensor for tensor in manifest.tensors if not tensor.bytes)
    here.discard(empty.root)
    home = Home({ANN: disk}, disk=here)
    measured(home, 0)
    home.want(manifest.digest)
    for _ in range(3):  # what the driver does with a list that found no room
        home.transfer.space(home.now_ms, 0)
        home.transfer.look_again(home.now_ms, lost=True)
        home.take()
    assert not [output for output in home.outputs if isinstance(output, StoreTensor | Ready)]
    measured(home, BLOCK_BYTES)
    home.finish()
    assert home.ready == [manifest.digest]
    assert home.disk.tensors == disk.tensors


def test_only_what_is_missing_needs_room() -> None:
    disk = Disk()
    frozen = {f"f{n}": bytes([n]) * 1000 for n in range(50)}
    base, tuned = disk.put_model(frozen), disk.put_model(frozen | {"head": b"h" * 1000})
    home = Home({ANN: disk})
    home.want(base.digest)
    home.finish()
    measured(home, BLOCK_BYTES)
    home.want(base.digest, tuned.digest)
    home.finish()
    assert home.ready == [base.digest, tuned.digest]


def test_a_download_that_was_interrupted_needs_room_for_the_rest_only() -> None:
    manifest, (disk,) = copies({"w": b"".join(bytes([n]) * BLOCK_BYTES for n in range(9))}, 1)
    first = Home({ANN: disk})
    first.want(manifest.digest)
    while len(first.disk.blocks) < 7:
        first.end(first.under_way[0])
    second = Home({ANN: disk}, disk=first.disk)
    measured(second, 2 * BLOCK_BYTES)
    second.want(manifest.digest)
    second.finish(looks=6)
    assert second.ready == [manifest.digest]


def test_room_is_promised_once_and_a_smaller_one_goes_ahead() -> None:
    disk = Disk()
    models = [disk.put_model({"w": bytes([n]) * (3 * BLOCK_BYTES)}) for n in (1, 2)]
    small = disk.put_model({"w": b"small"})
    home = Home({ANN: disk})
    measured(home, 4 * BLOCK_BYTES)
    home.want(*(model.digest for model in models), small.digest)
    home.finish()
    assert small.digest in home.ready
    assert len(home.ready) == 2
    stored = sum(map(len, home.disk.blocks.values()))
    assert stored <= 4 * BLOCK_BYTES
    measured(home, 4 * BLOCK_BYTES)
    home.finish(looks=6)
    assert len(home.ready) == 3


def test_a_disk_that_somebody_else_fills_meanwhile_pauses_the_download() -> None:
    manifest, (disk,) = copies({f"t{n:02}": bytes([n]) * BLOCK_BYTES for n in range(40)}, 1)
    home = Home({ANN: disk})
    measured(home, 100 * BLOCK_BYTES)
    home.want(manifest.digest)
    while len(home.disk.blocks) < 5:
        home.end(home.under_way[0])
    measured(home, 0)
    home.finish()
    assert not home.ready
    assert len(home.disk.blocks) <= 5 + 8, "what was under way arrives, nothing else is asked for"
    assert [o for o in home.outputs if isinstance(o, NoRoom)]
    measured(home, 100 * BLOCK_BYTES)
    home.finish(looks=6)
    assert home.ready == [manifest.digest]


def test_what_is_retracted_waits_for_room_no_more() -> None:
    manifest, (disk,) = copies({"w": b"x" * 1000}, 1)
    home = Home({ANN: disk})
    measured(home, 10)
    home.want(manifest.digest)
    home.finish()
    home.want()
    assert isinstance(home.outputs[-1], RoomAgain)


def test_counting_what_is_missing_takes_no_more_lookups_at_a_time_than_walking(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    manifest, (disk,) = copies(model(100), 1)
    home = Home({ANN: disk})
    home.want(manifest.digest)
    home.finish()
    monkeypatch.setattr(wants, "LOOKUPS_MAX", 10)
    again = Home({ANN: disk}, disk=home.disk)
    measured(again, 0)
    again.want(manifest.digest)
    assert not again.ready
    for _ in range(40):
        again.wait(0)
    assert again.ready == [manifest.digest]


# --- busy sources ----------------------------------------------------------------------------------


def test_a_busy_source_is_asked_again_when_it_said_and_never_banned() -> None:
    manifest, (disk,) = copies(model(60), 1)
    home = Home({ANN: disk})
    rests: dict[NodeId, int] = {}
    home.transfer._rests_until = lambda node: rests.get(node, 0)
    home.want(manifest.digest)
    while not home.blocks_under_way():
        home.end(home.under_way[0])
    rests[ANN] = home.now_ms + 700
    while home.under_way:
        home.end(home.under_way[0], Failure.BUSY)
    assert home.transfer.due_ms == home.now_ms + 700
    home.wait(699)
    assert not home.under_way
    home.wait(1)
    assert home.under_way
    home.finish()
    assert home.ready == [manifest.digest]
    assert home.accused == []


def test_while_one_source_is_busy_another_is_asked() -> None:
    manifest, (one, other) = copies(model(60), 2)
    home = Home({ANN: one, BOB: other})
    home.transfer._rests_until = lambda node: home.now_ms + 60_000 if node == ANN else 0
    home.want(manifest.digest)
    home.finish()
    assert home.ready == [manifest.digest]
    assert {call.to for call in home.log} == {BOB}


# --- what helps to pack a block --------------------------------------------------------------------


def packed_home(disk: Disk, held: Disk) -> Home:
    home = Home({ANN: disk}, disk=held)
    home.transfer._packed = True
    return home


def test_a_block_is_asked_for_against_the_base_block_at_its_place() -> None:
    disk, held = Disk(), Disk()
    blocks = [bytes([n]) * BLOCK_BYTES for n in (1, 2)]
    base = held.put_model({"w": b"".join(blocks)}, kind=Kind.BASE)
    disk.put_model({"w": b"".join(blocks)}, kind=Kind.BASE)
    changed = disk.put_model({"w": b"".join([blocks[0], b"x" * BLOCK_BYTES])}).tensors
    tuned = Manifest(kind=Kind.FULL, base=base.digest, tensors=changed)
    disk.manifests[tuned.digest] = tuned
    home = packed_home(disk, held)
    home.want(tuned.digest)
    home.finish()
    (call,) = home.asked(GetBlock)
    assert call.request == GetBlock(
        digest(Domain.BLOCK, b"x" * BLOCK_BYTES),
        messages.Coding.PACKED,
        digest(Domain.BLOCK, blocks[1]),
        1,
    )
    assert home.ready == [tuned.digest]


def test_a_block_without_a_twin_in_the_base_is_asked_for_by_itself() -> None:
    manifest, (disk,) = copies({"new": b"content"}, 1)
    home = packed_home(disk, Disk())
    home.want(manifest.digest)
    home.finish()
    (call,) = home.asked(GetBlock)
    assert call.request == GetBlock(digest(Domain.BLOCK, b"content"), messages.Coding.PACKED, b"", 1)
    assert home.ready == [manifest.digest]


def test_a_driver_that_cannot_unpack_is_given_no_packed_block() -> None:
    manifest, (disk,) = copies({"w": b"content"}, 1)
    home = Home({ANN: disk})
    home.want(manifest.digest)
    home.finish()
    (call,) = home.asked(GetBlock)
    assert call.request == GetBlock(digest(Domain.BLOCK, b"content"))
