"""What is missing is fetched from whoever has it, every byte is checked, and nothing is fetched twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import pytest
from sync_harness import NOW_MS, Disk, calls, store

from crdtmerge.digest import Digest, Domain, digest
from crdtmerge.dtypes import DType
from crdtmerge.errors import DigestMismatchError, LimitError
from crdtmerge.keys import NodeId
from crdtmerge.limits import BLOCK_BYTES
from crdtmerge.manifest import Kind, Manifest, Tensor
from crdtmerge.simulations.faults import wrong_blocks, wrong_metas
from crdtmerge.sync import messages, meta, server, wants
from crdtmerge.sync.config import Config
from crdtmerge.sync.events import Call, Failure, Misbehaved, Output, Ready, StoreBlock
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


def test_a_wrong_manifest_bans_its_source_and_another_serves_it() -> None:
    manifest, (bad, good) = copies(model(3), 2)
    home = Home({ANN: bad, BOB: good})
    home.want(manifest.digest)
    home.finish(lambda call, reply: wrong_metas(call.request, reply) if call.to == ANN else reply)
    assert home.ready == [manifest.digest]
    assert set(home.accused) == {ANN}


def test_a_manifest_travels_in_pieces_from_whoever_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "META_CHUNK_BYTES_MAX", 100)
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
    monkeypatch.setattr(server, "META_CHUNK_BYTES_MAX", 100)
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


def assembled(piece_bytes: Iterable[bytes], total: int, wanted: Digest) -> bytes | None:
    assembly = meta.Assembly(Piece(PieceKind.MANIFEST, wanted))
    data = None
    for chunk in piece_bytes:
        data = assembly.add(ANN, messages.GetMetaReply(total, chunk))
    return data


def test_a_manifest_is_whole_only_with_its_digest() -> None:
    wanted = digest(Domain.MANIFEST, b"abcdef")
    assert assembled([b"abc", b"def"], 6, wanted) == b"abcdef"
    assert assembled([b"abc"], 6, wanted) is None
    with pytest.raises(DigestMismatchError):
        assembled([b"abc", b"deg"], 6, wanted)
