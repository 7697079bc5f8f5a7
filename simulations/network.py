"""A network that loses, delays, repeats and reorders, and falls apart on command.

A call is a request, then a reply, each on its own way: either may be lost or come late. The caller learns
of exactly one end, as from a real network: a reply, a refusal, no route, or silence until its deadline, after
which the request may have been carried out all the same. All that is uncertain is drawn from a seed, and
all that travels is folded into `Network.trace`, so two runs can be compared by one digest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from enum import Enum

from crdtmerge import canon
from crdtmerge.digest import Digest, Domain, digest
from crdtmerge.errors import NotYetError, RejectedError
from crdtmerge.keys import NodeId
from crdtmerge.simulations.clock import Clock
from crdtmerge.sync.chance import Chance
from crdtmerge.sync.events import Failure
from crdtmerge.sync.messages import Reply, Request

Serve = Callable[[NodeId, Request], Reply]
"""Answers a request of a sender, or raises what it is refused with."""

Tamper = Callable[[Request, Reply], Reply]
"""What a liar makes of its replies."""

Ended = Callable[["Reply | Failure"], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What the network is like.

    Attributes:
        delay_ms: shortest and longest time one way.
        loss_percent: messages, requests and replies alike, that are lost.
        duplicate_percent: requests that arrive twice.
        deadline_ms: how long a caller waits.
    """

    delay_ms: tuple[int, int] = (10, 150)
    loss_percent: int = 0
    duplicate_percent: int = 0
    deadline_ms: int = 2000


class Network:
    """Carries calls between the hosts that are attached.

    Attributes:
        conditions: what it is like; may be replaced at any time.
        trace: stands for all that was sent and what became of it.
        bytes_sent: by the name of the message.
        sent: number of messages, by name.
    """

    def __init__(self, clock: Clock, chance: Chance, conditions: Conditions) -> None:
        self.conditions = conditions
        self.trace = Digest(bytes(32))
        self.sent: Counter[str] = Counter()
        self.bytes_sent: Counter[str] = Counter()
        self._clock, self._chance = clock, chance
        self._hosts: dict[NodeId, Serve] = {}
        self._tampers: dict[NodeId, Tamper] = {}
        self._side: dict[NodeId, int] = {}

    def attach(self, node: NodeId, serve: Serve) -> None:
        """Have ``serve`` answer for a node from now on."""
        self._hosts[node] = serve

    def detach(self, node: NodeId) -> None:
        """Let nothing through to a node: it is down."""
        self._hosts.pop(node, None)

    def corrupt(self, node: NodeId, tamper: Tamper) -> None:
        """Have a node send something else than its replies."""
        self._tampers[node] = tamper

    def split(self, *sides: Iterable[NodeId]) -> None:
        """Let nothing through between sides; who is on none of them is on one more."""
        self._side = {node: number for number, side in enumerate(sides, 1) for node in side}

    def heal(self) -> None:
        """Undo `split`."""
        self._side.clear()

    def call(self, sender: NodeId, to: NodeId, request: Request, ended: Ended) -> None:
        """Send a request; ``ended`` is called once."""
        over = False

        def end(result: Reply | Failure) -> None:
            nonlocal over
            if not over:
                over = True
                ended(result)

        def serve() -> None:
            if not self._connected(sender, to):
                return
            try:
                reply = self._hosts[to](sender, request)
            except (RejectedError, NotYetError) as error:
                self._note(f"{type(error).__name__}", to, sender, b"")
                self._clock.after(self._delay(), lambda: end(Failure.REFUSED))
                return
            if to in self._tampers:
                reply = self._tampers[to](request, reply)
            if self._passes(to, sender, reply):
                self._clock.after(self._delay(), lambda: end(reply))

        if not self._connected(sender, to):
            self._clock.after(self._delay(), lambda: end(Failure.UNREACHABLE))
            return
        self._clock.after(self.conditions.deadline_ms, lambda: end(Failure.TIMEOUT))
        copies = 1 + (self._chance.below(100) < self.conditions.duplicate_percent)
        for _ in range(copies):
            if self._passes(sender, to, request):
                self._clock.after(self._delay(), serve)

    def _connected(self, one: NodeId, other: NodeId) -> bool:
        return other in self._hosts and self._side.get(one) == self._side.get(other)

    def _delay(self) -> int:
        return self._chance.between(*self.conditions.delay_ms)

    def _passes(self, sender: NodeId, to: NodeId, message: Request | Reply) -> bool:
        """Count a message, and decide whether it arrives."""
        name, data = type(message).__name__, written(message)
        self.sent[name] += 1
        self.bytes_sent[name] += len(data)
        lost = self._chance.below(100) < self.conditions.loss_percent
        self._note(f"{name} lost" if lost else name, sender, to, data)
        return not lost and self._side.get(sender) == self._side.get(to)

    def _note(self, what: str, sender: NodeId, to: NodeId, data: bytes) -> None:
        entry = canon.encode([self._clock.elapsed_ms, what, sender, to, data])
        self.trace = digest(Domain.PAYLOAD, self.trace, entry)


def written(message: Request | Reply) -> bytes:
    """Return a message as bytes: about what it takes on a wire, and all that it says."""
    values = [getattr(message, field.name) for field in fields(message)]
    return canon.encode([value.value if isinstance(value, Enum) else value for value in values])
