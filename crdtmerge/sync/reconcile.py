"""Range-based set reconciliation: two sides find what one of them lacks, for the cost of the difference.

    initiator                                              responder
       │ ◄───────────── opening: 16 fingerprints ───────────── │  opening()
       │ ── of the ranges that differ: 16 fingerprints each ─► │  answer()
       │ ◄──────────────────────────── 16 each of those ────── │
       │ ── of ranges with few ids: their short ids ─────────► │
       │ ◄────── which of them are lacked, which ids besides ─ │

The responder is a function: it keeps nothing between two messages, so they may come in any order, twice
or not at all. The initiator's `Session` holds what is still to be asked. Every range that differs is
split 16 ways until a side holds at most 32 ids of it; after 8 rounds the rest is listed, page by page,
whatever it costs, so a liar cannot keep a session busy by pretending to differ.

Fingerprints and short ids depend on a key that both sides choose together, so nobody can prepare ids that
collide. Two ids that collide by chance hide each other in this session only: the roots still differ
afterwards, and the next session has another key.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from crdtmerge.digest import Digest, Domain, digest
from crdtmerge.errors import LimitError, MalformedError
from crdtmerge.limits import RECONCILE_ROUNDS_MAX
from crdtmerge.sync.index import Index
from crdtmerge.sync.ranges import (
    LISTED_MAX,
    Answer,
    Ask,
    Bound,
    Fingerprint,
    Listing,
    Said,
    Writer,
    below,
    read,
    write,
)

WAYS: Final = 16
FEW: Final = 32
"""Ids in a range that are listed rather than split."""

SPLITS_PER_STEP: Final = 144
"""Fingerprints in one step: the answer to each may be WAYS times as long, and has to fit."""

FOUND_MAX: Final = 65_536
"""Ids that one session looks for: 2 MiB. What remains is found by the next."""

STEPS_MAX: Final = 1024
"""Steps of one session, each at most 64 KiB."""


def session_key(federation: Digest, initiator: bytes, responder: bytes) -> bytes:
    """Return the key of an exchange from the nonces of both sides (of fixed length)."""
    return digest(Domain.FINGERPRINT_KEY, federation, initiator, responder)


def opening(index: Index, key: bytes) -> bytes:
    """Return the first payload: what the responder says before it was asked anything."""
    if len(index) <= FEW:
        return write([Said(b"", None, Ask.LIST)])
    return write(_split(index, key, b"", None))


def answer(index: Index, key: bytes, payload: bytes) -> bytes:
    """Return the responder's payload to an initiator's.

    Raises:
        MalformedError, LimitError: if ``payload`` is none.
    """
    writer = Writer()
    for said in read(payload):
        start, stop = index.position(said.lower), index.position(said.upper)
        if isinstance(said.body, Listing):
            complete = _answer_listing(index, key, said, said.body, writer)
        elif not isinstance(said.body, Fingerprint):
            raise MalformedError("an initiator sends fingerprints and listings only")
        elif index.fingerprint(key, start, stop) == said.body.value:
            continue
        elif stop - start <= FEW:
            complete = writer.add(replace(said, body=Ask.LIST))
        else:
            complete = all(map(writer.add, _split(index, key, said.lower, said.upper)))
        if not complete:
            writer.ask_again()
            break
    return writer.finish()


def _answer_listing(index: Index, key: bytes, said: Said, listing: Listing, writer: Writer) -> bool:
    """Answer a listing, or as much of it as there is room for; return whether that was all."""
    start, stop = index.position(said.lower), index.position(said.upper)
    ours = index.short_ids(key, start, stop)
    known, listed = set(ours), set(listing.short_ids)
    lacks = bytearray(-(-len(listing.short_ids) // 8))
    for position, short in enumerate(listing.short_ids):
        if short not in known:
            lacks[position // 8] |= 1 << position % 8
    theirs_lack = [start + i for i, short in enumerate(ours) if short not in listed]
    room = writer.ids_room
    if not room and theirs_lack:
        return False
    upper = index.bound(theirs_lack[room]) if len(theirs_lack) > room else said.upper
    ids = tuple(index.ids(position, position + 1)[0] for position in theirs_lack[:room])
    return writer.add(Said(said.lower, upper, Answer(bytes(lacks), ids))) and upper == said.upper


def _split(index: Index, key: bytes, lower: bytes, upper: Bound) -> Iterator[Said]:
    """Say the fingerprints of WAYS parts of a range, equal in count to within one."""
    start, stop = index.position(lower), index.position(upper)
    count = stop - start  # more than FEW
    for part in range(WAYS):
        begin, end = start + count * part // WAYS, start + count * (part + 1) // WAYS
        first = lower if begin == start else index.bound(begin)
        last = upper if end == stop else index.bound(end)
        yield Said(first, last, Fingerprint(index.fingerprint(key, begin, end)))


@dataclass(frozen=True, slots=True)
class _Range:
    """Keys that differ, and how they were and will be asked about."""

    lower: bytes
    upper: Bound
    round: int = 0
    listed: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """A payload to be sent to the responder, and what `Session.receive` needs to read its answer."""

    payload: bytes
    asked: tuple[_Range, ...]


class Session:
    """The initiator's side of one reconciliation.

    Call `next_steps` until there are none and every answer was received; steps may be under way at once.
    The index is a snapshot: what changes meanwhile is for the next session.

    Args:
        index: what this side holds.
        key: see `session_key`.
        opening: the responder's first payload.

    Attributes:
        missing: ids that the responder holds and this side lacks, in the order found.
        surplus: ids that this side holds and the responder lacks.
        cut_short: whether more may be missing than one session looks for.

    Raises:
        MalformedError, LimitError: if ``opening`` is no payload.
    """

    def __init__(self, index: Index, key: bytes, opening: bytes) -> None:
        self._index, self._key = index, key
        self.missing: dict[Digest, None] = {}
        self.surplus: dict[Digest, None] = {}
        self.cut_short = False
        self._todo: list[_Range] = []
        self._steps = 0
        self.receive(Step(b"", (_Range(b"", None),)), opening)

    def next_steps(self) -> list[Step]:
        """Return everything that can be asked now."""
        if self._todo and len(self.missing) >= FOUND_MAX:
            self._todo.clear()
            self.cut_short = True
        todo, self._todo = sorted(self._todo, key=lambda r: r.lower), []
        steps: list[Step] = []
        writer, asked, splits = Writer(), list[_Range](), 0
        for said, part in ((said, part) for range_ in todo for said, part in self._say(range_)):
            full = splits >= SPLITS_PER_STEP and isinstance(said.body, Fingerprint)
            if full or not writer.add(said):
                steps.append(Step(writer.finish(), tuple(asked)))
                writer, asked, splits = Writer(), [], 0
                writer.add(said)
            asked.append(part)
            splits += isinstance(said.body, Fingerprint)
        if asked:
            steps.append(Step(writer.finish(), tuple(asked)))
        self._steps += len(steps)
        if self._steps > STEPS_MAX:
            raise LimitError(f"a reconciliation of more than {STEPS_MAX} steps")
        return steps

    def _say(self, range_: _Range) -> Iterator[tuple[Said, _Range]]:
        index = self._index
        start, stop = index.position(range_.lower), index.position(range_.upper)
        if not (range_.listed or stop - start <= FEW or range_.round >= RECONCILE_ROUNDS_MAX):
            for said in _split(index, self._key, range_.lower, range_.upper):
                yield said, replace(range_, lower=said.lower, upper=said.upper)
            return
        lower = range_.lower
        while True:
            end = min(start + LISTED_MAX, stop)
            upper = range_.upper if end == stop else index.bound(end)
            listing = Listing(tuple(index.short_ids(self._key, start, end)))
            yield Said(lower, upper, listing), _Range(lower, upper, range_.round, listed=True)
            if end == stop:
                return
            start, lower = end, upper or b""

    def receive(self, step: Step, payload: bytes) -> None:
        """Take the responder's answer to ``step``.

        Raises:
            MalformedError, LimitError: if it is no payload, or no answer to this step.
        """
        found: list[tuple[Said, _Range]] = []
        rest = list(reversed(step.asked))
        for said in read(payload):
            while rest and not below(said.lower, rest[-1].upper):
                rest.pop()
            if said.body is Ask.AGAIN:
                if said.lower <= step.asked[0].lower:
                    raise MalformedError("an answer that leaves everything unanswered")
                found += [(said, replace(r, lower=max(r.lower, said.lower))) for r in reversed(rest)]
            elif not rest or said.lower < rest[-1].lower or below(rest[-1].upper, said.upper):
                raise MalformedError("an answer about keys that were not asked about")
            else:
                found.append((said, rest[-1]))
        for said, range_ in found:
            self._take(said, range_)

    def _take(self, said: Said, range_: _Range) -> None:
        part = _Range(said.lower, said.upper, range_.round + 1)
        match said.body:
            case Fingerprint(value) if not range_.listed:
                start, stop = self._index.position(said.lower), self._index.position(said.upper)
                if self._index.fingerprint(self._key, start, stop) != value:
                    self._todo.append(part)
            case Ask.LIST if not range_.listed:
                self._todo.append(replace(part, listed=True))
            case Ask.AGAIN:
                self._todo.append(range_)
            case Answer() as found if range_.listed and said.lower == range_.lower:
                listed = self._index.position(range_.lower), self._index.position(range_.upper)
                ids = self._index.ids(*listed)
                if len(found.lacks) != -(-len(ids) // 8):
                    raise MalformedError(f"an answer of {len(found.lacks)} bytes of bits to {len(ids)} ids")
                self.surplus.update((key, None) for i, key in enumerate(ids) if found.lacks_at(i))
                self.missing.update((Digest(key), None) for key in found.ids)
            case _:
                raise MalformedError(f"an answer of the wrong kind: {type(said.body).__name__}")
