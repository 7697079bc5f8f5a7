"""Two sides find exactly what one of them lacks, whatever they hold, for the cost of the difference."""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce
from operator import xor

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sync_harness import id_of

from crdtmerge.digest import Digest
from crdtmerge.errors import MalformedError, RejectedError
from crdtmerge.limits import RECONCILE_BYTES_MAX, RECONCILE_ROUNDS_MAX
from crdtmerge.sync import index as index_module
from crdtmerge.sync import ranges, reconcile
from crdtmerge.sync.chance import Chance
from crdtmerge.sync.index import Index
from crdtmerge.sync.ranges import Answer, Ask, Fingerprint, Listing, Said, read, write
from crdtmerge.sync.reconcile import Session, answer, opening, session_key

KEY = session_key(id_of(0), b"i" * 16, b"r" * 16)
OTHER_KEY = session_key(id_of(0), b"i" * 16, b"s" * 16)
EVERYTHING = b"", None


def index_of(numbers: Iterable[int]) -> Index:
    """An index of items whose times repeat now and then."""
    return Index((number // 3, id_of(number)) for number in numbers)


class Talk:
    """One reconciliation, and what it cost."""

    def __init__(self, ours: Index, theirs: Index, key: bytes = KEY) -> None:
        payload = opening(theirs, key)
        self.payloads = [payload]
        self.round_trips = 0
        self.session = Session(ours, key, payload)
        while steps := self.session.next_steps():
            self.round_trips += 1
            for step in steps:
                reply = answer(theirs, key, step.payload)
                self.payloads += [step.payload, reply]
                self.session.receive(step, reply)

    @property
    def found(self) -> tuple[set[Digest], set[Digest]]:
        """What is missing, and what is surplus."""
        return set(self.session.missing), set(self.session.surplus)

    @property
    def bytes(self) -> int:
        """The sum of all messages."""
        return sum(map(len, self.payloads))


def expected(ours: Iterable[int], theirs: Iterable[int]) -> tuple[set[Digest], set[Digest]]:
    """What plain sets say."""
    return set(map(id_of, set(theirs) - set(ours))), set(map(id_of, set(ours) - set(theirs)))


@given(st.sets(st.integers(0, 400)), st.sets(st.integers(0, 400)))
def test_a_session_finds_what_plain_sets_say(ours: set[int], theirs: set[int]) -> None:
    assert Talk(index_of(ours), index_of(theirs)).found == expected(ours, theirs)


@pytest.mark.parametrize("size", [0, 1, 31, 32, 33, 512, 513, 2047, 2049])
def test_sizes_around_every_threshold_are_reconciled(size: int) -> None:
    everything = range(size)
    for lacking in ({0}, {size - 1}, {size // 2}, set(range(0, size, 7)), set(everything)):
        some = set(everything) - lacking
        assert Talk(index_of(some), index_of(everything)).found == expected(some, everything)
        assert Talk(index_of(everything), index_of(some)).found == expected(everything, some)


def test_a_few_recent_differences_among_many_cost_two_kilobytes_and_two_round_trips() -> None:
    ours, theirs = range(20_000), [*range(19_995), *range(20_000, 20_005)]
    talk = Talk(index_of(ours), index_of(theirs))
    assert talk.found == expected(ours, theirs)
    assert talk.bytes < 2048
    assert talk.round_trips == 2


def test_no_message_is_longer_than_its_limit_however_much_differs() -> None:
    ours, theirs = range(0, 12_000, 2), range(1, 12_000, 2)
    for talk in (Talk(index_of(ours), index_of(theirs)), Talk(index_of([]), index_of(theirs))):
        assert max(map(len, talk.payloads)) <= RECONCILE_BYTES_MAX
        assert talk.found[0] == set(map(id_of, theirs))


def test_what_one_session_leaves_over_the_next_one_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconcile, "FOUND_MAX", 3000)
    numbers = {id_of(number): number for number in range(9000)}
    held, sessions, cut_short = set[int](), 0, True
    while cut_short and sessions < 10:
        talk = Talk(index_of(held), index_of(range(9000)))
        held |= {numbers[found] for found in talk.session.missing}
        sessions, cut_short = sessions + 1, talk.session.cut_short
    assert held == set(range(9000))
    assert 2 <= sessions <= 5


# --- the index ------------------------------------------------------------------------------------


@given(st.sets(st.integers(0, 300), min_size=1), st.data())
def test_a_fingerprint_depends_on_the_ids_in_the_range_alone(numbers: set[int], data: st.DataObject) -> None:
    index = index_of(numbers)
    start = data.draw(st.integers(0, len(index)))
    stop = data.draw(st.integers(start, len(index)))
    inside = [number for number in numbers if id_of(number) in set(index.ids(start, stop))]
    alone = index_of(inside)
    assert index.fingerprint(KEY, start, stop) == alone.fingerprint(KEY, 0, len(alone))


@given(st.sets(st.integers(0, 300), min_size=2))
def test_a_bound_separates_its_neighbours_and_no_shorter_one_does(numbers: set[int]) -> None:
    index = index_of(numbers)
    for position in range(1, len(index)):
        bound = index.bound(position)
        assert index.position(bound) == position
        assert index.position(bound[:-1]) < position


def test_another_session_has_other_fingerprints_and_other_short_ids() -> None:
    index = index_of(range(100))
    assert index.fingerprint(KEY, 0, 100) != index.fingerprint(OTHER_KEY, 0, 100)
    assert not set(index.short_ids(KEY, 0, 100)) & set(index.short_ids(OTHER_KEY, 0, 100))


# --- attacks --------------------------------------------------------------------------------------


def ids_that_cancel_out(more_than: int) -> list[Digest]:
    """Return ids whose XOR is zero: a linear dependency over GF(2), found by Gaussian elimination."""
    candidates = [int.from_bytes(id_of(number)) for number in range(1000, 1600)]
    basis: dict[int, tuple[int, int]] = {}  # leading bit -> (vector, the set of candidates it is made of)
    for position, vector in enumerate(candidates):
        made_of = 1 << position
        while vector:
            lead = vector.bit_length()
            if lead not in basis:
                basis[lead] = vector, made_of
                break
            vector, made_of = vector ^ basis[lead][0], made_of ^ basis[lead][1]
        if not vector and made_of.bit_count() > more_than:
            chosen = [c for i, c in enumerate(candidates) if made_of >> i & 1]
            return [Digest(c.to_bytes(32)) for c in chosen]
    raise AssertionError("more than 256 vectors of 256 bits are dependent")


def test_ids_made_to_cancel_out_fool_a_xor_and_are_found_here() -> None:
    forged = ids_that_cancel_out(more_than=130)
    honest = [(number, id_of(number)) for number in range(200)]
    attacked = honest + [(100, forged_id) for forged_id in forged]

    def xor_of(items: list[tuple[int, Digest]]) -> int:
        return reduce(xor, (int.from_bytes(one) for _, one in items))

    assert len(forged) > 130
    assert xor_of(attacked) == xor_of(honest)
    without, with_them = Index(honest), Index(attacked)
    assert without.fingerprint(KEY, 0, 200) != with_them.fingerprint(KEY, 0, len(attacked))
    assert Talk(without, with_them).found == (set(forged), set())


def test_ids_whose_runs_are_never_cut_are_reconciled_all_the_same() -> None:
    uncut = [Digest(id_of(number)[:-1] + b"\xff") for number in range(5000)]
    ours, theirs = Index((7, one) for one in uncut[:-1]), Index((7, one) for one in uncut)
    assert Talk(ours, theirs).found == ({uncut[-1]}, set())


def test_short_ids_that_collide_hide_an_id_in_one_session_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_module, "SHORT_ID_BYTES", 1)
    monkeypatch.setattr(ranges, "SHORT_ID_BYTES", 1)
    ours, theirs = range(0, 60, 2), range(1, 60, 2)
    chance, found, complete = Chance(b"keys"), set[Digest](), 0
    for _ in range(8):
        session = Talk(index_of(ours), index_of(theirs), chance.draw(32)).session
        complete += len(session.missing) == len(theirs)
        found |= set(session.missing)
    assert complete < 8, "this test is about collisions, and there were none"
    assert found == set(map(id_of, theirs))


def liar(pretend: Said) -> bytes:
    return write([pretend])


@pytest.mark.parametrize(
    ("lie", "complaint"),
    [
        (Said(*EVERYTHING, Ask.AGAIN), "everything unanswered"),
        (Said(*EVERYTHING, Answer(b"", ())), "wrong kind"),
        (Said(*EVERYTHING, Listing(())), "wrong kind"),
    ],
)
def test_a_reply_that_answers_nothing_is_refused(lie: Said, complaint: str) -> None:
    with pytest.raises(MalformedError, match=complaint):
        Session(index_of(range(100)), KEY, liar(lie))


def test_an_answer_about_keys_that_were_not_asked_about_is_refused() -> None:
    session = Session(index_of(range(99)), KEY, opening(index_of(range(100)), KEY))
    (step,) = session.next_steps()
    (asked,) = step.asked
    for lie in (
        Said(b"", asked.lower, Fingerprint(bytes(16))),
        Said(b"", None, Answer(b"", (id_of(5),))),
        Said(asked.lower + b"\0", None, Answer(b"", (id_of(5),))),
    ):
        with pytest.raises(MalformedError):
            session.receive(step, write([lie]))
    assert not session.missing


def test_an_initiator_that_sends_a_responders_words_is_refused() -> None:
    with pytest.raises(MalformedError, match="fingerprints and listings only"):
        answer(index_of(range(5)), KEY, liar(Said(*EVERYTHING, Ask.LIST)))


def test_a_responder_that_always_pretends_to_differ_is_listed_to_and_left() -> None:
    def pretend(payload: bytes) -> bytes:
        said = []
        for one in read(payload):
            if isinstance(one.body, Fingerprint):
                said.append(Said(one.lower, one.upper, Fingerprint(b"never the same!!")))
            elif isinstance(one.body, Listing):
                said.append(Said(one.lower, one.upper, Answer(bytes(-(-len(one.body.short_ids) // 8)), ())))
        return write(said)

    session = Session(index_of(range(3000)), KEY, liar(Said(*EVERYTHING, Fingerprint(bytes(16)))))
    waves = 0
    while steps := session.next_steps():
        waves += 1
        for step in steps:
            session.receive(step, pretend(step.payload))
    assert waves <= RECONCILE_ROUNDS_MAX + 2
    assert not session.missing
    assert not session.surplus


bounds = st.binary(min_size=1, max_size=40)
bodies = st.one_of(
    st.builds(Fingerprint, st.binary(min_size=16, max_size=16)),
    st.builds(Listing, st.lists(st.binary(min_size=8, max_size=8), max_size=40).map(tuple)),
    st.builds(Answer, st.binary(max_size=8), st.lists(st.integers(0, 50).map(id_of), max_size=40).map(tuple)),
    st.just(Ask.LIST),
)


@st.composite
def payloads(draw: st.DrawFn) -> bytes:
    """Well-formed payloads that say anything at all."""
    cuts: list[bytes | None] = [*sorted(draw(st.sets(bounds, max_size=6))), None]
    said, lower = [], b""
    for upper in cuts:
        if draw(st.booleans()):
            said.append(Said(lower, upper, draw(bodies)))
        lower = upper or b""
    return write(said)


@given(payloads())
def test_what_is_written_is_read_back(payload: bytes) -> None:
    assert write(read(payload)) == payload


@given(payloads(), st.lists(payloads(), max_size=6))
def test_any_well_formed_lies_end_a_session_or_are_refused(first: bytes, replies: list[bytes]) -> None:
    ours = index_of(range(120))
    try:
        session = Session(ours, KEY, first)
        for reply in replies:
            for step in session.next_steps():
                session.receive(step, reply)
    except RejectedError:
        return
    assert set(session.surplus) <= set(ours.ids(0, len(ours)))


@given(payloads(), st.data())
def test_mutated_payloads_are_read_or_refused_and_nothing_else(payload: bytes, data: st.DataObject) -> None:
    mutated = bytearray(payload)
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(mutated)))
        match data.draw(st.integers(0, 2)):
            case 0:
                mutated[position : position + 1] = data.draw(st.binary(max_size=2))
            case 1:
                del mutated[position:]
            case _:
                mutated[position:position] = data.draw(st.binary(max_size=12))
    try:
        reply = answer(index_of(range(90)), KEY, bytes(mutated))
    except RejectedError:
        return
    assert len(reply) <= RECONCILE_BYTES_MAX


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_refused_or_answered(payload: bytes) -> None:
    try:
        reply = answer(index_of(range(90)), KEY, payload)
    except RejectedError:
        return
    assert write(read(reply)) == reply
