"""What is new is told at once to a few, and whoever does not answer is replaced."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from sync_harness import NOW_MS, calls

from crdtmerge import testing
from crdtmerge.errors import MalformedError
from crdtmerge.keys import NodeId
from crdtmerge.limits import OPERATIONS_PER_MESSAGE_MAX
from crdtmerge.op import Operation
from crdtmerge.sync.chance import Chance
from crdtmerge.sync.config import Config
from crdtmerge.sync.contacts import Contacts
from crdtmerge.sync.events import Call, Failure, Misbehaved
from crdtmerge.sync.gossip import TRIES, Gossip
from crdtmerge.sync.messages import HaveReply, PushOps, PushOpsReply
from crdtmerge.sync.port import Port

ME = NodeId(bytes(32))
CONFIG = Config()


def others(count: int) -> list[NodeId]:
    return [NodeId(bytes([number + 1]) * 32) for number in range(count)]


class Room:
    """One node's gossip among a number of others."""

    def __init__(self, count: int, seeds: Sequence[NodeId] = ()) -> None:
        self.nodes = others(count)
        chance = Chance(b"room")
        self.contacts = Contacts(
            lambda: [ME, *self.nodes],
            lambda node: node in self.nodes,
            me=ME,
            seeds=seeds,
            chance=chance,
            config=CONFIG,
        )
        self.port = Port(self.contacts.ended)
        self.gossip = Gossip(self.port, self.contacts, chance=chance, config=CONFIG)

    def push(self, operations: Sequence[Operation], sender: NodeId | None = None) -> list[Call]:
        self.gossip.add(NOW_MS, operations, sender)
        assert self.gossip.due_ms is not None
        self.gossip.tick(self.gossip.due_ms)
        return calls(self.port.take(), PushOps)

    def fail(self, call: Call) -> list[Call]:
        self.port.finish(NOW_MS, call.call_id, Failure.UNREACHABLE)
        return calls(self.port.take(), PushOps)


def said(count: int) -> list[Operation]:
    story = testing.Story()
    return [story.add("root", f"model {number}") for number in range(count)]


def test_an_operation_goes_to_six_members_or_to_all_if_there_are_fewer() -> None:
    for count, fanout in ((0, 0), (1, 1), (5, 5), (6, 6), (40, 6)):
        room = Room(count)
        targets = [call.to for call in room.push(said(1))]
        assert len(set(targets)) == len(targets) == fanout
        assert ME not in targets


def test_operations_of_the_same_moment_travel_together() -> None:
    room, operations = Room(3), said(3)
    room.gossip.add(NOW_MS, operations[:1], None)
    due_ms = room.gossip.due_ms
    assert due_ms is not None
    assert 20 <= due_ms - NOW_MS <= 50
    room.gossip.add(NOW_MS + 10, operations[1:], None)
    room.gossip.tick(due_ms - 1)
    assert not room.port.take()
    room.gossip.tick(due_ms)
    pushes = calls(room.port.take())
    assert [call.request for call in pushes] == [PushOps(tuple(op.encoded for op in operations))] * 3
    assert room.gossip.due_ms is None


def test_a_push_does_not_go_back_to_where_it_came_from() -> None:
    room = Room(2)
    assert [call.to for call in room.push(said(1), sender=room.nodes[0])] == [room.nodes[1]]


def test_many_operations_are_spread_over_several_messages() -> None:
    pushes = Room(1).push(said(OPERATIONS_PER_MESSAGE_MAX + 1))
    sizes = [len(call.request.operations) for call in pushes if isinstance(call.request, PushOps)]
    assert sizes == [OPERATIONS_PER_MESSAGE_MAX, 1]


def test_a_push_that_fails_is_sent_to_somebody_else_at_once() -> None:
    room = Room(40)
    first = room.push(said(1))
    (second,) = room.fail(first[0])
    assert second.to not in {call.to for call in first}
    assert second.request == first[0].request


def test_a_push_that_keeps_failing_is_given_up() -> None:
    room = Room(40)
    call = room.push(said(1))[0]
    for _ in range(TRIES - 1):
        (call,) = room.fail(call)
    assert room.fail(call) == []


def test_a_reply_of_the_wrong_kind_is_reported_and_counts_as_a_failure() -> None:
    room = Room(40)
    call = room.push(said(1))[0]
    room.port.finish(NOW_MS, call.call_id, HaveReply(b""))
    outputs = room.port.take()
    assert [(o.node, type(o.error)) for o in outputs if isinstance(o, Misbehaved)] == [
        (call.to, MalformedError)
    ]
    assert len(calls(outputs, PushOps)) == 1


def test_the_end_of_a_call_counts_once() -> None:
    room = Room(40)
    call = room.push(said(1))[0]
    room.port.finish(NOW_MS, call.call_id, PushOpsReply(1))
    room.port.finish(NOW_MS, call.call_id, Failure.TIMEOUT)
    room.port.finish(NOW_MS, 10_000, Failure.TIMEOUT)
    assert room.port.take() == []


# --- whom to talk to ------------------------------------------------------------------------------


def test_three_failures_make_a_suspect_and_one_sign_of_life_a_live_member() -> None:
    room = Room(3)
    node = room.nodes[0]
    for failures in range(3):
        assert not room.contacts.seems_dead(node), failures
        room.contacts.ended(NOW_MS, node, False)
    assert room.contacts.seems_dead(node)
    assert node not in room.contacts.live()
    room.contacts.ended(NOW_MS, node, True)
    assert node in room.contacts.live()


def test_pauses_grow_up_to_five_minutes_and_calls_made_during_a_pause_do_not_prolong_it() -> None:
    room = Room(1)
    node, now_ms, pauses = room.nodes[0], NOW_MS, []
    for _ in range(12):
        for _ in range(3):
            room.contacts.ended(now_ms, node, False)
        retry_ms = room.contacts._retry_ms[node]
        pauses.append(retry_ms - now_ms)
        now_ms = retry_ms
    assert pauses[:5] == [10_000, 20_000, 40_000, 80_000, 160_000]
    assert set(pauses[5:]) == {300_000}


def test_partners_are_eighty_ten_ten_of_the_live_the_seemingly_dead_and_the_seeds() -> None:
    seed = NodeId(b"\xee" * 32)
    room = Room(10, seeds=[seed])
    dead = room.nodes[:4]
    for node in dead:
        for _ in range(3):
            room.contacts.ended(NOW_MS, node, False)
    later_ms = NOW_MS + 20_000
    kinds = Counter(
        "seed" if partner == seed else "dead" if partner in dead else "live"
        for partner in (room.contacts.partner(later_ms) for _ in range(2000))
    )
    assert 1500 < kinds["live"] < 1700
    assert 140 < kinds["dead"] < 260
    assert 140 < kinds["seed"] < 260


def test_who_seems_dead_is_left_alone_during_its_pause_unless_there_is_nobody_else() -> None:
    room = Room(2)
    for _ in range(3):
        room.contacts.ended(NOW_MS, room.nodes[0], False)
    assert {room.contacts.partner(NOW_MS + 1) for _ in range(100)} == {room.nodes[1]}
    for _ in range(3):
        room.contacts.ended(NOW_MS, room.nodes[1], False)
    assert {room.contacts.partner(NOW_MS + 1) for _ in range(100)} == set(room.nodes)
    assert Room(0).contacts.partner(NOW_MS) is None


def test_a_busy_node_is_alive_and_left_alone_until_it_said() -> None:
    room = Room(2)
    busy, other = room.nodes[:2]
    for _ in range(10):
        room.contacts.busy(NOW_MS, busy, 5000)
    assert not room.contacts.seems_dead(busy)
    assert {room.contacts.partner(NOW_MS + 4999) for _ in range(100)} == {other}
    assert {*room.contacts.some(NOW_MS + 4999, 9)} == {other}
    assert {room.contacts.partner(NOW_MS + 5000) for _ in range(100)} == {busy, other}


def test_nobody_is_called_rather_than_a_busy_node_and_its_word_counts_for_a_minute_at_most() -> None:
    room = Room(1)
    room.contacts.busy(NOW_MS, room.nodes[0], 10**9)
    assert room.contacts.partner(NOW_MS + 59_999) is None
    assert room.contacts.partner(NOW_MS + 60_000) == room.nodes[0]
