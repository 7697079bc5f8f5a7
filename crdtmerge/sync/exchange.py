"""The periodic exchange: compare roots with one other node, and level whatever differs.

    Hello ─ equal roots ─────────────────────────────────────────────────────► done, two small messages
      └──── different ─ Reconcile … ─ GetOps, PushOps, Records ─ Hello again ─► done, or once more

Operations, node records and attestations are three spaces of one procedure. Only the caller fetches and
pushes; the called side answers from what it holds and remembers nothing. Saying Hello again finds what two
ids that collided hid, and what the bounds of one session left over: its fingerprints have another key.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import zip_longest
from typing import Final, TypeAlias, TypeVar

from crdtmerge.errors import PolicyError
from crdtmerge.keys import NodeId
from crdtmerge.limits import OPERATIONS_PER_MESSAGE_MAX
from crdtmerge.op import Operation
from crdtmerge.sync import messages, reconcile
from crdtmerge.sync.chance import Chance
from crdtmerge.sync.config import Config
from crdtmerge.sync.contacts import Contacts
from crdtmerge.sync.events import Failure
from crdtmerge.sync.index import Index
from crdtmerge.sync.intake import Intake
from crdtmerge.sync.messages import NONCE_BYTES, RECORDS_PER_MESSAGE_MAX, Reply, Request, Space
from crdtmerge.sync.port import Port
from crdtmerge.sync.reconcile import Session, Step
from crdtmerge.sync.records import NodeRecord
from crdtmerge.sync.shelves import Shelves

R = TypeVar("R", bound=Reply)
T = TypeVar("T")

CALLS_MAX: Final = 8
"""Calls of one exchange under way at once."""

HELLOS_MAX: Final = 3
"""Hellos of one exchange, unless each finds more than a session holds."""

TRIES: Final = 3
"""How often a call is made until an exchange is given up; all requests may be carried out twice."""

NEWS_MAX: Final = 1024
"""Operations in one exchange that are passed on as news; more is somebody catching up."""


Keep: TypeAlias = "Callable[[int, list[Operation], NodeId, bool], int]"
"""Keeps verified operations, given the time, who sent them and whether they are news; returns how many."""


@dataclass
class _Run:
    """One exchange under way."""

    partner: NodeId
    hellos: int
    nonces: bytes
    sessions: dict[Space, Session] = field(default_factory=dict)
    ready: deque[Callable[[], None]] = field(default_factory=deque)
    in_flight: int = 0
    progress: int = 0
    differs: bool = False
    cut_short: bool = False


class Exchange:
    """Both sides of exchanges: begins one each period, answers those of others.

    Attributes:
        due_ms: when to call `tick`; None while an exchange is under way.
    """

    due_ms: int | None

    def __init__(
        self,
        port: Port,
        contacts: Contacts,
        intake: Intake,
        shelves: Shelves,
        keep: Keep,
        *,
        me: NodeId,
        chance: Chance,
        config: Config,
    ) -> None:
        self._port, self._contacts, self._intake, self._shelves = port, contacts, intake, shelves
        self._keep = keep
        self._me, self._chance, self._config = me, chance, config
        self._introduced: set[NodeId] = set()
        self._run: _Run | None = None
        self.due_ms = None

    # --- the called side ------------------------------------------------------------------------

    def greet(self, hello: messages.Hello, *, genesis: bytes = b"") -> messages.HelloReply:
        """Answer a Hello, to a newcomer along with the genesis.

        Raises:
            PolicyError: if it is meant for another federation.
        """
        if hello.federation != self._intake.ops.federation:
            raise PolicyError(f"not of federation {hello.federation.hex()}")
        nonce = self._chance.draw(NONCE_BYTES)
        key = reconcile.session_key(hello.federation, hello.nonce, nonce)
        state_root, book, attested = self._intake.view.state_root, self._shelves.book, self._shelves.attested
        attests = hello.attested_root not in (b"", attested.root)
        return messages.HelloReply(
            nonce=nonce,
            state_root=state_root,
            book_root=book.root,
            operations=b"" if hello.state_root == state_root else reconcile.opening(self._intake.index, key),
            records=b"" if hello.book_root == book.root else reconcile.opening(book.index, key),
            record=self._record() if hello.record else b"",
            genesis=genesis,
            attestations=reconcile.opening(attested.index, key) if attests else b"",
        )

    def answer(self, request: messages.Reconcile) -> messages.ReconcileReply:
        """Answer one step of a reconciliation; raises as `crdtmerge.sync.reconcile.answer`."""
        key = self._key(request.session)
        return messages.ReconcileReply(reconcile.answer(self._index(request.space), key, request.payload))

    # --- the calling side -----------------------------------------------------------------------

    def schedule(self, now_ms: int, *, soon: bool = False) -> None:
        """Set when the next exchange begins: after one period, give or take, or in a tenth of it."""
        members = max(1, len(self._shelves.book.nodes))
        period = self._config.period_ms * (1 + ((members - 1) // 32).bit_length())
        jitter = period * self._config.jitter_percent // 100
        wait = self._chance.between(period - jitter, period + jitter)
        self.due_ms = now_ms + (wait // 10 if soon else wait)

    def tick(self, now_ms: int) -> None:
        """Begin an exchange if it is time."""
        if self.due_ms is None or now_ms < self.due_ms:
            return
        self._shelves.prune(now_ms)
        partner = self._contacts.partner(now_ms)
        if partner is None:
            self.schedule(now_ms)
        else:
            self.due_ms = None
            self._hello(partner, hellos=1)

    def _hello(self, partner: NodeId, *, hellos: int) -> None:
        nonce = self._chance.draw(NONCE_BYTES)
        hello = messages.Hello(
            nonce=nonce,
            federation=self._intake.ops.federation,
            state_root=self._intake.view.state_root,
            book_root=self._shelves.book.root,
            record=b"" if partner in self._introduced else self._record(),
            attested_root=self._shelves.attested.root,
        )
        self._run = _Run(partner, hellos, nonce)
        self._send(self._run, hello, messages.HelloReply, self._greeted)

    def _send(
        self,
        run: _Run,
        request: Request,
        wanted: type[R],
        handler: Callable[[int, _Run, R], None],
        tries: int = TRIES,
    ) -> None:
        run.in_flight += 1

        def ended(now_ms: int, end: R | Failure) -> None:
            if run is not self._run:
                return
            if end is Failure.TIMEOUT and tries > 1:
                run.in_flight -= 1
                self._send(run, request, wanted, handler, tries - 1)
                return
            if isinstance(end, Failure):
                self._stop(now_ms)
                return
            handler(now_ms, run, end)
            run.in_flight -= 1
            self._advance(now_ms, run)

        self._port.call(run.partner, request, wanted, ended)

    def _advance(self, now_ms: int, run: _Run) -> None:
        """Make the calls that wait for room; when all has ended, turn to what comes next."""
        if not run.ready and not run.in_flight:
            self._level(run)
        while run.ready and run.in_flight < CALLS_MAX:
            run.ready.popleft()()
        if run.in_flight:
            return
        if run.differs and (run.hellos < HELLOS_MAX or (run.cut_short and run.progress)):
            self._hello(run.partner, hellos=run.hellos + 1)
        else:
            self._stop(now_ms)

    def _stop(self, now_ms: int) -> None:
        self._run = None
        self.schedule(now_ms)

    def _greeted(self, now_ms: int, run: _Run, reply: messages.HelloReply) -> None:
        records = [NodeRecord.decode(reply.record)] if reply.record else []
        run.nonces += reply.nonce
        openings = {
            Space.OPERATIONS: reply.operations,
            Space.RECORDS: reply.records,
            Space.ATTESTATIONS: reply.attestations,
        }
        for space, opening in openings.items():
            if opening:
                run.sessions[space] = Session(self._index(space), self._key(run.nonces), opening)
                run.differs = True
        self._introduced.add(run.partner)
        self._shelves.keep_records(now_ms, records)
        for space in run.sessions:
            self._ask(run, space)

    def _ask(self, run: _Run, space: Space) -> None:
        for step in run.sessions[space].next_steps():
            request = messages.Reconcile(space, run.nonces, step.payload)
            answered = partial(self._answered, space, step)
            run.ready.append(partial(self._send, run, request, messages.ReconcileReply, answered))

    def _answered(
        self, space: Space, step: Step, now_ms: int, run: _Run, reply: messages.ReconcileReply
    ) -> None:
        run.sessions[space].receive(step, reply.payload)
        self._ask(run, space)

    def _level(self, run: _Run) -> None:
        """Queue the calls that fetch what is missing and push what is surplus."""
        sessions, run.sessions = run.sessions, {}
        run.cut_short = any(session.cut_short for session in sessions.values())
        session = sessions.pop(Space.OPERATIONS, None)
        if session is not None:
            missing = [op_id for op_id in session.missing if not self._intake.knows(op_id)]
            held = [op for op in map(self._intake.ops.get, session.surplus) if op is not None]
            got = partial(self._got, len(missing) <= NEWS_MAX)
            for ids in _pages(missing, OPERATIONS_PER_MESSAGE_MAX):
                request: Request = messages.GetOps(tuple(ids))
                run.ready.append(partial(self._send, run, request, messages.GetOpsReply, got))
            for page in _pages(held, OPERATIONS_PER_MESSAGE_MAX):
                request = messages.PushOps(tuple(op.encoded for op in page), news=len(held) <= NEWS_MAX)
                run.ready.append(partial(self._send, run, request, messages.PushOpsReply, self._pushed))
        for space, session in sessions.items():
            wanted = _pages(list(session.missing), RECORDS_PER_MESSAGE_MAX)
            given = _pages(self._shelves.held(space, session.surplus), RECORDS_PER_MESSAGE_MAX)
            taken = partial(self._got_records, space)
            for ids, records in zip_longest(wanted, given, fillvalue=()):
                request = messages.Records(tuple(records), tuple(ids), space)
                run.ready.append(partial(self._send, run, request, messages.RecordsReply, taken))

    def _got(self, news: bool, now_ms: int, run: _Run, reply: messages.GetOpsReply) -> None:
        operations = self._intake.read(reply.operations)
        run.progress += self._keep(now_ms, operations, run.partner, news)

    def _pushed(self, now_ms: int, run: _Run, reply: messages.PushOpsReply) -> None:
        run.progress += reply.accepted

    def _got_records(self, space: Space, now_ms: int, run: _Run, reply: messages.RecordsReply) -> None:
        run.progress += self._shelves.keep(now_ms, space, reply.records)

    def _index(self, space: Space) -> Index:
        return self._intake.index if space is Space.OPERATIONS else self._shelves.index(space)

    def _key(self, nonces: bytes) -> bytes:
        federation = self._intake.ops.federation
        return reconcile.session_key(federation, nonces[:NONCE_BYTES], nonces[NONCE_BYTES:])

    def _record(self) -> bytes:
        record = self._shelves.book.get(self._me)
        return b"" if record is None else record.encoded


def _pages(items: Sequence[T], size: int) -> list[Sequence[T]]:
    return [items[start : start + size] for start in range(0, len(items), size)]
