"""Node records say where their own node is, and nothing else; the address book agrees in any order."""

from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sync_harness import NOW_MS, record_of

from crdtmerge import canon, testing
from crdtmerge.errors import LimitError, MalformedError, RejectedError, SignatureError
from crdtmerge.keys import NodeId
from crdtmerge.sync.book import AddressBook
from crdtmerge.sync.records import NodeRecord

ANN = record_of("ann")


def everybody(node: NodeId) -> bool:
    return True


def test_a_record_is_read_back_as_it_was_signed() -> None:
    assert NodeRecord.decode(ANN.encoded) == ANN
    assert ANN.node == testing.Story.id("ann")


@given(st.data())
def test_a_mutated_record_is_refused(data: st.DataObject) -> None:
    mutated = bytearray(ANN.encoded)
    position = data.draw(st.integers(0, len(mutated) - 1))
    mutated[position] ^= data.draw(st.integers(1, 255))
    with pytest.raises(RejectedError):
        NodeRecord.decode(bytes(mutated))


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_no_record(data: bytes) -> None:
    with pytest.raises(RejectedError):
        NodeRecord.decode(data)


def test_nobody_signs_for_somebody_else() -> None:
    fields = canon.array(canon.decode(ANN.encoded, bytes_max=4096), 7)
    stolen = [fields[0], testing.Story.id("bob"), *fields[2:]]
    with pytest.raises(SignatureError):
        NodeRecord.decode(canon.encode(stolen))


@pytest.mark.parametrize(
    "address", ["", "a" * 265, "host\n:1", "h\N{LATIN SMALL LETTER O WITH DIAERESIS}st:1"]
)
def test_an_address_is_a_short_printable_text(address: str) -> None:
    with pytest.raises(MalformedError, match="wanted an address"):
        NodeRecord.sign(testing.key("ann"), addresses=[address], leaf=b"", sequence=1, expires_ms=1)


def test_more_addresses_than_anybody_needs_are_refused() -> None:
    with pytest.raises(LimitError, match="9 addresses"):
        NodeRecord.sign(testing.key("ann"), addresses=["a.b:1"] * 9, leaf=b"", sequence=1, expires_ms=1)


def test_an_oversized_certificate_is_refused() -> None:
    with pytest.raises(LimitError):
        NodeRecord.sign(testing.key("ann"), addresses=[], leaf=bytes(5000), sequence=1, expires_ms=1)


def test_the_highest_sequence_wins_in_any_order() -> None:
    records = [record_of("ann", sequence=n) for n in (1, 2, 3)] + [
        NodeRecord.sign(
            testing.key("ann"), addresses=["twin.example:1"], leaf=b"", sequence=3, expires_ms=10 * NOW_MS
        )
    ]
    roots = set()
    for order in permutations(records):
        book = AddressBook(everybody)
        for record in order:
            book.offer(record, NOW_MS)
        found = book.get(ANN.node)
        assert found is not None
        assert found.sequence == 3
        assert len(book.index) == 1
        roots.add(book.root)
    assert len(roots) == 1


def test_an_older_record_does_not_come_back() -> None:
    book = AddressBook(everybody)
    assert book.offer(record_of("ann", sequence=2), NOW_MS)
    assert not book.offer(record_of("ann", sequence=1), NOW_MS)
    assert not book.offer(record_of("ann", sequence=2), NOW_MS)


def test_only_members_are_in_the_book_and_a_ban_takes_the_record_along() -> None:
    members = {ANN.node}
    book = AddressBook(members.__contains__)
    assert book.offer(ANN, NOW_MS)
    assert not book.offer(record_of("bob"), NOW_MS)
    empty = AddressBook(everybody).root
    assert book.root != empty
    members.clear()
    book.prune(NOW_MS)
    assert (book.get(ANN.node), book.by_id(ANN.id), list(book.nodes)) == (None, None, [])
    assert book.root == empty


def test_an_expired_record_is_neither_kept_nor_taken() -> None:
    book = AddressBook(everybody)
    record = record_of("ann", expires_ms=NOW_MS + 5)
    assert book.offer(record, NOW_MS + 4)
    book.prune(NOW_MS + 4)
    assert book.get(ANN.node) == record
    book.prune(NOW_MS + 5)
    assert book.get(ANN.node) is None
    assert not book.offer(record, NOW_MS + 5)
