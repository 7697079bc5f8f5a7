"""The keeper's promises, with a machine that does what the test says: nothing leaves before it is stored."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock, call

import node_harness as harness
import pytest
from node_harness import signing_key

from crdtmerge.block import Block
from crdtmerge.digest import Digest
from crdtmerge.dtypes import DType
from crdtmerge.errors import CorruptBlockError, OutOfSpaceError, PolicyError, SignatureError
from crdtmerge.keys import NodeId
from crdtmerge.ledger import Ledger
from crdtmerge.limits import GARBAGE_GRACE_MS, SPARE_BYTES
from crdtmerge.manifest import Kind, tensor_root
from crdtmerge.node import content, identity, invites, keeper, shortage
from crdtmerge.node.invites import Invite
from crdtmerge.node.keeper import Keeper
from crdtmerge.node.shortage import Shortage
from crdtmerge.op import Admit, Operation, Role
from crdtmerge.opset import OpSet
from crdtmerge.store import Store, block_digest, ingest_tensors
from crdtmerge.sync import messages as m
from crdtmerge.sync.attestation import Attestation, Claim
from crdtmerge.sync.events import (
    AdmissionWanted,
    Call,
    Diverged,
    ForgetAttestations,
    NoRoom,
    Output,
    Ready,
    RoomAgain,
    StoreAttestation,
    StoreBlock,
    StoreOperations,
    StoreRecord,
    StoreTensor,
)
from crdtmerge.visible import view

ME, NODE, OTHER = signing_key(1), signing_key(2).id, signing_key(3).id
INVITE = signing_key(9).id
INVITE_DIGEST = Digest(bytes(INVITE))
CALL = Call(1, NODE, m.GetOps(()))


class Machine:
    """Says what it was told to say, and learns operations."""

    def __init__(self, ops: OpSet) -> None:
        self.ops = ops
        self.next_tick_ms = 7
        self.says: list[Output] = []
        self.refuses: Exception | None = None
        self.open: list[NodeId] = []
        self.looked: list[bool] = []
        self.attested: list[bytes] = []
        self.free: list[int] = []
        self.bad: set[Any] = set()
        self.replies: dict[int, list[Output]] = {}

    @property
    def view(self) -> Any:
        return view(self.ops)

    def record_of(self, node: NodeId) -> None:
        return None

    def on_tick(self, now_ms: int) -> list[Output]:
        return self.says

    def on_reply(self, now_ms: int, call_id: int, reply: m.Reply) -> list[Output]:
        return self.replies[call_id]

    def on_request(self, now_ms: int, sender: NodeId, request: m.Request) -> tuple[m.Reply, list[Output]]:
        if self.refuses is not None:
            raise self.refuses
        return m.GetOpsReply(()), self.says

    def on_local(self, now_ms: int, operations: Iterable[Operation]) -> list[Output]:
        for operation in operations:
            if operation.id in self.bad:
                raise SignatureError("bad")
            self.ops.add(operation)
        return [CALL]

    def on_stored(self, now_ms: int, *, lost: bool = False) -> list[Output]:
        self.looked.append(lost)
        return []

    def on_space(self, now_ms: int, free_bytes: int) -> list[Output]:
        self.free.append(free_bytes)
        return []

    def on_attested(self, data: bytes) -> list[Output]:
        self.attested.append(data)
        return []

    def on_invite(self, invite: NodeId, role: Role, *, expires_ms: int) -> None:
        self.open.append(invite)


class Bench:
    """A keeper with its machine, its store and its clock in the test's hands."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.real = harness.founded(home)
        ledger = Ledger(self.real, identity.signing_key(home))
        self.machine = Machine(ledger.operations)
        self.now_ms = 1000
        self.store = Mock(wraps=self.real)
        self.store.blocks = Mock(wraps=self.real.blocks)
        self.store.references = self.real.references
        self.key = ledger.key
        machine: Any = self.machine
        self.keeper = Keeper(self.store, self.key, machine, seeds={}, position=0, now_ms=lambda: self.now_ms)
        self.store.reset_mock()

    def says(self, *outputs: Output) -> keeper.Turn:
        self.machine.says = list(outputs)
        return self.keeper.tick()

    def admissions(self) -> list[tuple[NodeId, Role]]:
        bodies = [operation.body for operation in self.real.operations()]
        return [(body.key, body.role) for body in bodies if isinstance(body, Admit)]


@pytest.fixture
def bench(tmp_home: Path) -> Iterator[Bench]:
    made = Bench(tmp_home)
    yield made
    made.real.close()


def say(bench: Bench, number: int) -> Operation:
    """An operation of the founder, not known to the store or the machine."""
    node = signing_key(100 + number).id
    federation = bench.machine.ops.federation
    return Operation.sign(bench.key, Admit(node, Role.MEMBER), federation=federation, created_ms=number)


def test_everything_of_a_turn_is_stored_in_order_before_anything_leaves(bench: Bench) -> None:
    operation = say(bench, 1)
    bench.machine.says = [StoreOperations((operation,)), CALL, StoreRecord(NODE, b"record")]
    turn = bench.keeper.request(NODE, m.GetOps(()))
    assert bench.store.mock_calls == [
        call.add_operations([operation.encoded]),
        call.put_record(NODE, b"record"),
    ]
    assert turn.calls == ((CALL, None),)
    assert (turn.reply, turn.next_tick_ms) == (m.GetOpsReply(()), 7)


def test_when_the_disk_fails_nothing_leaves(bench: Bench) -> None:
    bench.store.put_record.side_effect = OutOfSpaceError("full")
    with pytest.raises(OutOfSpaceError):
        bench.says(CALL, StoreRecord(NODE, b"record"), CALL)


def test_a_refusal_is_an_answer_and_changes_nothing(bench: Bench) -> None:
    bench.machine.refuses = PolicyError("no")
    turn = bench.keeper.request(NODE, m.GetOps(()))
    assert (turn.refusal, turn.reply, turn.calls) == (bench.machine.refuses, None, ())
    assert bench.store.mock_calls == []


def test_a_corrupt_block_is_refused_and_forgotten_so_that_a_sync_brings_it_again(bench: Bench) -> None:
    wanted = bench.real.blocks.put(b"block")
    bench.machine.refuses = CorruptBlockError("block", wanted=wanted, got=bytes(32))
    turn = bench.keeper.request(NODE, m.GetBlock(wanted))
    assert turn.refusal is bench.machine.refuses
    assert not bench.real.blocks.has(wanted)
    assert bench.machine.looked == [True]


def test_blocks_are_flushed_when_something_is_complete(bench: Bench) -> None:
    block = StoreBlock(Block(b"block"))
    bench.says(block, block)
    assert bench.store.blocks.mock_calls == [call.put(Block(b"block")), call.put(Block(b"block"))]
    bench.says(Ready(block.block.digest))
    assert bench.store.blocks.mock_calls[-1] == call.flush()


def test_blocks_are_flushed_after_so_many_bytes(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content, "FLUSH_BYTES", 10)
    block = StoreBlock(Block(b"block"))
    bench.says(block)
    assert call.flush() not in bench.store.blocks.mock_calls
    bench.says(block, block)
    assert bench.store.blocks.mock_calls[2] == call.flush()


def test_blocks_are_flushed_after_so_many_seconds_and_at_the_end(bench: Bench) -> None:
    block = StoreBlock(Block(b"block"))
    bench.says(block)
    bench.now_ms += content.FLUSH_MS
    bench.keeper.poll()
    assert call.flush() not in bench.store.blocks.mock_calls
    bench.now_ms += 1
    bench.keeper.poll()
    assert bench.store.blocks.mock_calls.count(call.flush()) == 1
    bench.keeper.poll()
    assert bench.store.blocks.mock_calls.count(call.flush()) == 1
    bench.keeper.close()
    assert bench.store.blocks.mock_calls.count(call.flush()) == 2


def arrived(number: int) -> StoreTensor:
    blocks = (block_digest(bytes([number])),)
    return StoreTensor(tensor_root(DType.U8, (1,), blocks), DType.U8, (1,), blocks)


def test_block_lists_that_arrive_together_are_stored_together_before_anything_leaves(bench: Bench) -> None:
    lists = [arrived(number) for number in range(3)]
    bench.machine.replies = {1: [lists[0], CALL], 2: [lists[1]], 3: [lists[2]]}
    turn = bench.keeper.replied((call_id, m.GetMetaReply(1, b"x")) for call_id in (1, 2, 3))
    assert turn.calls == ((CALL, None),)
    assert [one[0] for one in bench.store.mock_calls] == ["put_tensors"]
    assert all(bench.real.block_list(one.root) == one.blocks for one in lists)


def test_a_block_list_is_durable_before_what_follows_it_is_looked_at(bench: Bench) -> None:
    bench.machine.replies = {1: [arrived(1)], 2: [StoreRecord(NODE, b"record"), arrived(2)]}
    bench.keeper.replied((call_id, m.GetMetaReply(1, b"x")) for call_id in (1, 2))
    assert [one[0] for one in bench.store.mock_calls] == ["put_tensors", "put_record", "put_tensors"]


def test_the_machine_is_told_when_there_was_no_room_for_block_lists(bench: Bench) -> None:
    bench.store.put_tensors.side_effect = OutOfSpaceError("full")
    assert bench.says(arrived(1), arrived(2), CALL).calls == ((CALL, None),)
    assert (bench.machine.free, bench.machine.looked) == ([0], [True])
    assert not bench.real.has_tensor(arrived(1).root)


def test_a_full_disk_stops_no_node_and_the_machine_is_told(bench: Bench) -> None:
    bench.store.blocks.put.side_effect = OutOfSpaceError("full")
    block = StoreBlock(Block(b"block"))
    assert bench.says(block, CALL).calls == ((CALL, None),)
    assert (bench.machine.free, bench.machine.looked) == ([0], [True])
    bench.store.blocks.put.side_effect = None
    bench.says(block)
    assert bench.machine.free == [0]


def test_operations_are_promises_so_a_disk_too_full_for_them_stops_the_node(bench: Bench) -> None:
    bench.store.add_operations.side_effect = OutOfSpaceError("full")
    with pytest.raises(OutOfSpaceError):
        bench.says(StoreOperations((say(bench, 1),)))


def test_free_space_is_measured_now_and_then_less_what_downloads_must_leave(bench: Bench) -> None:
    bench.store.blocks.free_bytes = lambda: SPARE_BYTES + 7
    bench.keeper.poll()
    bench.keeper.poll()
    assert bench.machine.free == [7]
    bench.store.blocks.free_bytes = lambda: SPARE_BYTES - 7
    bench.now_ms += content.MEASURE_MS
    bench.keeper.poll()
    assert bench.machine.free == [7, 0]


def test_people_are_told_what_waits_for_room_until_there_is(bench: Bench) -> None:
    bench.says(NoRoom(INVITE_DIGEST, 5000, 70))
    assert shortage.load(bench.real) == Shortage(INVITE_DIGEST, 5000, 70)
    bench.says(RoomAgain())
    assert shortage.load(bench.real) is None


def test_a_flush_that_finds_the_disk_full_is_tried_again(bench: Bench) -> None:
    bench.says(StoreBlock(Block(b"block")))
    bench.store.blocks.flush.side_effect = OutOfSpaceError("full")
    bench.now_ms += content.FLUSH_MS + 1
    bench.keeper.poll()
    bench.store.blocks.flush.side_effect = None
    bench.now_ms += content.FLUSH_MS + 1
    bench.keeper.poll()
    bench.keeper.poll()
    assert bench.store.blocks.mock_calls.count(call.flush()) == 2


def test_operations_of_another_process_reach_the_machine_once(bench: Bench) -> None:
    bench.keeper.poll()
    operation = say(bench, 1)
    with Store.open(bench.home) as other:
        other.add_operations([operation.encoded])
    assert bench.keeper.poll().calls == ((CALL, None),)
    assert operation.id in bench.machine.ops
    assert bench.keeper.poll().calls == ()


def test_garbage_that_another_process_collected_is_looked_for_again(bench: Bench) -> None:
    bench.keeper.poll()
    with Store.open(bench.home) as other:
        other.set_setting("anything", b"")
    bench.keeper.poll()
    with Store.open(bench.home) as other:
        other.note_collection()
    bench.keeper.poll()
    assert bench.machine.looked[-2:] == [False, True]


def test_the_keeper_collects_what_its_view_does_not_need(bench: Bench) -> None:
    empty = ingest_tensors(bench.real, {"w": (DType.U8, (1,), b"w")}, kind=Kind.FULL)
    bench.keeper.collect(bench.keeper.needed())
    bench.now_ms += GARBAGE_GRACE_MS
    found = bench.keeper.collect(bench.keeper.needed())
    assert found.manifests == (empty.digest,)
    bench.keeper.collected()
    assert bench.machine.looked[-1]


def test_a_users_file_that_changed_is_named_and_what_was_in_it_is_looked_for(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.keeper.poll()
    bench.store.references = Mock()
    bench.store.references.changed.return_value = [Path("mine.safetensors")]
    bench.keeper.poll()
    assert bench.machine.looked[-1]
    assert "mine.safetensors" in caplog.text
    bench.store.references.changed.return_value = []
    looked = len(bench.machine.looked)
    bench.keeper.poll()
    assert len(bench.machine.looked) == looked


def test_a_stored_operation_that_is_refused_does_not_hide_the_others(bench: Bench) -> None:
    bench.keeper.poll()
    bad, good = say(bench, 1), say(bench, 2)
    bench.machine.bad = {bad.id}
    with Store.open(bench.home) as other:
        other.add_operations([bad.encoded, good.encoded])
    bench.keeper.poll()
    assert good.id in bench.machine.ops
    assert bad.id not in bench.machine.ops


def attestation(number: int, federation: Digest) -> Attestation:
    """What somebody attests of some result."""
    digest = Digest(bytes(32))
    claim = Claim(recipe=digest, root=digest, inputs=digest, model=digest, result=digest)
    return Attestation.sign(
        signing_key(number), claim, federation=federation, environment="", created_ms=number
    )


def test_what_another_process_attested_for_this_node_reaches_the_machine(bench: Bench) -> None:
    bench.keeper.poll()
    federation = bench.machine.ops.federation
    mine = Attestation.sign(
        bench.key,
        attestation(1, federation).claim,
        federation=federation,
        environment="",
        created_ms=1,
    )
    others = attestation(2, federation)
    with Store.open(bench.home) as other:
        for one in (mine, others):
            other.put_attestation(one.node, one.id, one.encoded)
    bench.keeper.poll()
    assert bench.machine.attested == [mine.encoded]


def test_attestations_are_stored_and_forgotten_and_a_divergence_is_logged_aloud(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    one, other = (attestation(number, bench.machine.ops.federation) for number in (2, 3))
    bench.says(StoreAttestation(one), StoreAttestation(other), ForgetAttestations((one,)))
    assert [data for _, _, data in bench.real.attestations()] == [other.encoded]
    bench.says(Diverged(one, other))
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "DIVERGED" in caplog.text
    assert other.node.hex() in caplog.text


def test_an_invitation_made_by_another_process_is_known_to_the_machine(bench: Bench) -> None:
    bench.keeper.poll()
    with Store.open(bench.home) as other:
        invites.save(other, Invite(INVITE, Role.MEMBER, bench.now_ms + 1))
        invites.save(other, Invite(OTHER, Role.MEMBER, bench.now_ms))
    bench.keeper.poll()
    assert bench.machine.open == [INVITE]
    assert invites.find(bench.real, OTHER) is None


def test_an_invite_admits_one_node_and_is_gone(bench: Bench) -> None:
    invites.save(bench.real, Invite(INVITE, Role.ADMIN, 5000))
    assert bench.says(AdmissionWanted(NODE, Role.ADMIN, INVITE)).calls == ((CALL, None),)
    assert bench.admissions() == [(NODE, Role.ADMIN)]
    assert bench.keeper.authority.is_admin(NODE)
    bench.says(AdmissionWanted(OTHER, Role.ADMIN, INVITE))
    assert bench.admissions() == [(NODE, Role.ADMIN)]
    assert list(invites.outstanding(bench.real)) == []


@pytest.mark.parametrize("step", ["claim", "add", "forget"])
def test_an_admission_that_was_interrupted_is_finished_for_the_same_node(bench: Bench, step: str) -> None:
    invites.save(bench.real, Invite(INVITE, Role.MEMBER, 5000))
    failing = {"claim": "set_setting", "add": "add_operations", "forget": "pop_setting"}[step]
    getattr(bench.store, failing).side_effect = OutOfSpaceError("full")
    with pytest.raises(OutOfSpaceError):
        bench.says(AdmissionWanted(NODE, Role.MEMBER, INVITE))
    bench.real.close()

    restarted = Bench(bench.home)
    restarted.keeper.poll()
    if step == "claim":
        assert restarted.machine.open == [INVITE]
        restarted.says(AdmissionWanted(NODE, Role.MEMBER, INVITE))
    assert restarted.admissions() == [(NODE, Role.MEMBER)]
    assert list(invites.outstanding(restarted.real)) == []
    restarted.says(AdmissionWanted(OTHER, Role.MEMBER, INVITE))
    assert restarted.admissions() == [(NODE, Role.MEMBER)]
    restarted.real.close()
