"""A network that loses, delays, repeats and reorders, and falls apart on command.

A call is a request, then a reply, each on its own way: either may be lost or come late. The caller learns
of exactly one end, as from a real network: a reply, a refusal, no route, or silence until its deadline, after
which the request may have been carried out all the same. All that is uncertain is drawn from a seed, and
all that travels is folded into `Network.trace`, so two runs can be compared by one digest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from enum import Enum
from typing import Final

from crdtmerge.digest import Digest, Domain, digest
from crdtmerge.errors import CrdtMergeError
from crdtmerge.keys import NodeId
from crdtmerge.simulations.clock import Clock
from crdtmerge.sync.chance import Chance
from crdtmerge.sync.events import Failure
from crdtmerge.sync.messages import Reply, Request

Answer = Callable[["Reply | CrdtMergeError"], None]
"""Takes the reply, or the error that it is refused with, now or later or never."""

Serve = Callable[[NodeId, Request, Answer], None]
"""Answers a request of a sender."""

Tamper = Callable[[Request, Reply], Reply]
"""What a liar makes of its replies."""

Ended = Callable[["Reply | Failure"], None]

SLOW: Final = 20
"""How many times longer a slow message takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What the network is like.

    Attributes:
        delay_ms: shortest and longest time one way.
        loss_percent: messages, requests and replies alike, that are lost.
        duplicate_percent: requests that arrive twice.
        slow_percent: messages that take SLOW times longer, so that others overtake them.
        deadline_ms: how long a caller waits.
    """

    delay_ms: tuple[int, int] = (10, 150)
    loss_percent: int = 0
    duplicate_percent: int = 0
    slow_percent: int = 0
    deadline_ms: int = 2000


@dataclass(frozen=True, slots=True, eq=False)
class Wall:
    """What lets nothing through between sides.

    Attributes:
        side: of each node; who is not in it is on side 0.
        one_way: whether only messages to a higher side are stopped.
        silent: whether callers hear nothing, rather than that there is no route.
    """

    side: Mapping[NodeId, int]
    one_way: bool = False
    silent: bool = False

    def stops(self, sender: NodeId, to: NodeId) -> bool:
        """Whether a message does not come through."""
        here, there = self.side.get(sender, 0), self.side.get(to, 0)
        return here < there if self.one_way else here != there


class Network:
    """Carries calls between the hosts that are attached.

    Attributes:
        conditions: what it is like; may be replaced at any time.
        walls: what stands at the moment; may be changed at any time.
        trace: stands for all that was sent and what became of it.
        sent, bytes_sent: messages and their bytes, by the name of the message.
        bytes_of: what each node sent, in bytes.
        lost: messages that did not arrive.
    """

    def __init__(self, clock: Clock, chance: Chance, conditions: Conditions) -> None:
        self.conditions = conditions
        self.walls: list[Wall] = []
        self.trace = Digest(bytes(32))
        self.sent: Counter[str] = Counter()
        self.bytes_sent: Counter[str] = Counter()
        self.bytes_of: Counter[NodeId] = Counter()
        self.lost = 0
        self.duplicated = 0
        self._clock, self._chance = clock, chance
        self._hosts: dict[NodeId, Serve] = {}
        self._tampers: dict[NodeId, Tamper] = {}

    def attach(self, node: NodeId, serve: Serve) -> None:
        """Have ``serve`` answer for a node from now on."""
        self._hosts[node] = serve

    def detach(self, node: NodeId) -> None:
        """Let nothing through to a node: it is down."""
        self._hosts.pop(node, None)

    def corrupt(self, node: NodeId, tamper: Tamper) -> None:
        """Have a node send something else than its replies."""
        self._tampers[node] = tamper

    def split(self, *sides: Iterable[NodeId], one_way: bool = False, silent: bool = False) -> Wall:
        """Let nothing through between sides; who is on none of them is on one more."""
        side = {node: number for number, members in enumerate(sides, 1) for node in members}
        self.walls.append(Wall(side, one_way, silent))
        return self.walls[-1]

    def heal(self) -> None:
        """Let everything through again."""
        self.walls.clear()

    def call(self, sender: NodeId, to: NodeId, request: Request, ended: Ended) -> None:
        """Send a request; ``ended`` is called once."""
        over = False

        def end(result: Reply | Failure) -> None:
            nonlocal over
            if not over:
                over = True
                ended(result)

        def answer(reply: Reply | CrdtMergeError) -> None:
            if isinstance(reply, CrdtMergeError):
                self._note(type(reply).__name__, to, sender, b"")
                if not self._stopped(to, sender):
                    self._clock.after(self._delay(), lambda: end(Failure.REFUSED))
                return
            if to in self._tampers:
                reply = self._tampers[to](request, reply)
            if self._passes(to, sender, reply):
                self._clock.after(self._delay(), lambda: end(reply))

        def serve() -> None:
            if to in self._hosts and not self._stopped(sender, to):
                self._hosts[to](sender, request, answer)

        if to not in self._hosts or any(w.stops(sender, to) and not w.silent for w in self.walls):
            self._clock.after(self._delay(), lambda: end(Failure.UNREACHABLE))
            return
        self._clock.after(self.conditions.deadline_ms, lambda: end(Failure.TIMEOUT))
        twice = self._chance.below(100) < self.conditions.duplicate_percent
        self.duplicated += twice
        for _ in range(1 + twice):
            if self._passes(sender, to, request):
                self._clock.after(self._delay(), serve)

    def _stopped(self, sender: NodeId, to: NodeId) -> bool:
        return any(wall.stops(sender, to) for wall in self.walls)

    def _delay(self) -> int:
        slow = self.conditions.slow_percent and self._chance.below(100) < self.conditions.slow_percent
        return self._chance.between(*self.conditions.delay_ms) * (SLOW if slow else 1)

    def _passes(self, sender: NodeId, to: NodeId, message: Request | Reply) -> bool:
        """Count a message, and decide whether it arrives."""
        name, data = type(message).__name__, written(message)
        self.sent[name] += 1
        self.bytes_sent[name] += len(data)
        self.bytes_of[sender] += len(data)
        lost = self._chance.below(100) < self.conditions.loss_percent or self._stopped(sender, to)
        self.lost += lost
        self._note(f"{name} lost" if lost else name, sender, to, data)
        return not lost

    def _note(self, what: str, sender: NodeId, to: NodeId, data: bytes) -> None:
        head = b"%d %s " % (self._clock.elapsed_ms, what.encode())
        self.trace = digest(Domain.PAYLOAD, self.trace, head, sender, to, data)


def written(message: Request | Reply) -> bytes:
    """Return a message as bytes: about what it takes on a wire, and all that it says."""
    parts: list[bytes] = []
    kind = type(message)
    if kind not in _NAMES:
        _NAMES[kind] = tuple(field.name for field in fields(message))
    for name in _NAMES[kind]:
        _write(getattr(message, name), parts)
    return b"".join(parts)


_NAMES: Final[dict[type, tuple[str, ...]]] = {}


def _write(value: object, parts: list[bytes]) -> None:
    """Append a length, or a count, and what follows."""
    match value:
        case bytes():
            parts += [len(value).to_bytes(3, "big"), value]
        case tuple():
            parts.append(len(value).to_bytes(2, "big"))
            for item in value:
                _write(item, parts)
        case Enum():
            parts.append(str(value.value).encode())
        case _:
            parts.append(f"{value} ".encode())
