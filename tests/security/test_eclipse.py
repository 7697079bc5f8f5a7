"""Enemies surround a node: they call it all the time, and want to be all that it ever hears.

What holds: partners are drawn by the node's own chance among the members whose records it has, however often
somebody calls; only members are in the address book, one record each; and seeds are asked whatever happens.
"""

from __future__ import annotations

from collections import Counter

from sync_harness import NOW_MS

from crdtmerge.keys import NodeId
from crdtmerge.sync.book import AddressBook
from crdtmerge.sync.chance import Chance
from crdtmerge.sync.config import Config
from crdtmerge.sync.contacts import Contacts
from crdtmerge.sync.records import NodeRecord
from crdtmerge.testing import key

ME = NodeId(bytes(32))
HONEST = [NodeId(bytes([number]) * 32) for number in range(1, 9)]
ENEMIES = [NodeId(bytes([number]) * 32) for number in range(101, 109)]
SEED = NodeId(b"\xee" * 32)
DRAWS = 2000


def contacts(*, seeds: list[NodeId]) -> Contacts:
    listed = [ME, *HONEST, *ENEMIES]
    return Contacts(
        lambda: listed, listed.__contains__, me=ME, seeds=seeds, chance=Chance(b"e"), config=Config()
    )


def test_calling_a_node_all_the_time_makes_nobody_its_partner_more_often() -> None:
    surrounded = contacts(seeds=[])
    for _ in range(1000):
        for enemy in ENEMIES:
            surrounded.ended(NOW_MS, enemy, True)
    drawn = Counter(surrounded.partner(NOW_MS) for _ in range(DRAWS))
    honest = sum(drawn[node] for node in HONEST)
    assert abs(honest - DRAWS / 2) < DRAWS / 10
    assert min(drawn[node] for node in HONEST) > DRAWS / 40


def test_when_every_honest_node_seems_dead_they_and_the_seeds_are_tried_all_the_same() -> None:
    surrounded = contacts(seeds=[SEED])
    for node in HONEST:
        for _ in range(3):
            surrounded.ended(NOW_MS, node, False)
    drawn = Counter(surrounded.partner(NOW_MS + 20_000) for _ in range(DRAWS))
    assert drawn[SEED] > DRAWS / 20
    assert sum(drawn[node] for node in HONEST) > DRAWS / 20


def test_a_thousand_invented_nodes_are_not_in_the_book_and_a_member_is_there_once() -> None:
    member = key("member")
    book = AddressBook(lambda node: node == member.id)

    def record(name: str, sequence: int) -> NodeRecord:
        return NodeRecord.sign(
            key(name), addresses=("203.0.113.1:1",), leaf=b"leaf", sequence=sequence, expires_ms=NOW_MS + 1000
        )

    assert not any(book.offer(record(f"invented {number}", 1), NOW_MS) for number in range(1000))
    for sequence in range(1, 20):
        assert book.offer(record("member", sequence), NOW_MS)
    assert list(book.nodes) == [member.id]
