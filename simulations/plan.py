"""One course of events: what happens in one simulation, drawn from a scenario by a seed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from crdtmerge.simulations.network import Conditions
from crdtmerge.sync.chance import Chance

WORK: Final = (
    "contribute",
    "add_again",
    "retract",
    "invite",
    "promote",
    "ban",
    "unban",
    "block",
    "recipe",
    "coefficients",
)
"""What honest nodes do."""

FAULTS: Final = (
    "crash",
    "power_cut",
    "partition",
    "one_way",
    "flapping",
    "storm",
    "disk_full",
    "disk_slow",
    "rot",
    "clock",
    "sleep",
)
"""What befalls nodes and network."""


@dataclass(frozen=True, slots=True)
class Span:
    """A number that a seed draws: between ``low`` and ``high``, both included."""

    low: int
    high: int

    def draw(self, chance: Chance) -> int:
        """Return one of the numbers."""
        return chance.between(self.low, self.high)


@dataclass(frozen=True, slots=True)
class Incident:
    """Something that happens to, or is done by, somebody.

    Attributes:
        at_ms: when, from the beginning.
        what: one of WORK or FAULTS.
        for_ms: how long it lasts.
        number: tells it from the others: its choices are drawn by it.
        sides: into how many a partition splits the nodes.
    """

    at_ms: int
    what: str
    for_ms: int = 0
    number: int = 0
    sides: int = 2


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One course of events.

    Attributes:
        nodes, admins, enemies: honest nodes at the beginning; how many of them are admins beside the
            founder; nodes that lie.
        duration_ms: of work and faults; ``settle_ms`` is within which everybody must agree afterwards.
        period_ms: mean time between two exchanges that a node begins.
        merge: whether merged models are computed and compared.
        tensors, bytes: of one contribution.
        skew_ms: how far clocks are wrong at most.
        quota: contributions of one author that count, if there is a bound.
        behaviours: what every enemy may do.
        conditions, bad: the network as it mostly is, and in a storm.
        incidents: in order.
    """

    nodes: int
    admins: int
    enemies: int
    duration_ms: int
    settle_ms: int
    period_ms: int
    merge: bool
    tensors: Span
    bytes: Span
    skew_ms: int
    quota: int | None
    behaviours: tuple[str, ...]
    conditions: Conditions
    bad: Conditions
    incidents: tuple[Incident, ...]
