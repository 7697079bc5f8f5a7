"""What a simulation is about: a TOML file that says what may happen, and how much of it.

    nodes = [5, 8]              a number, or the lowest and highest that a seed may draw
    [network]                   delay, loss, duplicates, slow messages
    [work]                      what honest nodes do, and how often in all
    [faults]                    what befalls them, and how often in all
    [enemies]                   nodes that lie, and how
    [[event]]                   something that happens at a certain time, whatever the seed

`Scenario.plan` draws one course of events from a seed. Everything is checked when it is read: a key that
nobody knows is an error, never ignored.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from crdtmerge.errors import UsageError
from crdtmerge.simulations.byzantine import BEHAVIOURS
from crdtmerge.simulations.network import Conditions
from crdtmerge.simulations.plan import FAULTS, WORK, Incident, Plan, Span
from crdtmerge.sync.chance import Chance

_FOLDER: Final = "scenarios"


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """A scenario; numbers are spans that each seed draws from, times are in seconds.

    Attributes:
        name, about: what it is called, and one sentence.
        lasting_s: how long a fault lasts.
        merge_percent, quota_percent: in how many seeds merged models are compared; in how many an author's
            contributions are limited.
        network: one span for each field of `Conditions`.
        work, faults: how often each happens.
        events: what happens whatever the seed.
        the others: as in `Plan`.
    """

    name: str
    about: str = ""
    nodes: Span = field(default=Span(5, 5))
    admins: Span = field(default=Span(0, 0))
    enemies: Span = field(default=Span(0, 0))
    duration_s: Span = field(default=Span(300, 300))
    settle_s: int = 1800
    period_s: Span = field(default=Span(10, 10))
    lasting_s: Span = field(default=Span(5, 120))
    skew_s: Span = field(default=Span(0, 0))
    merge_percent: int = 0
    quota_percent: int = 0
    tensors: Span = field(default=Span(1, 3))
    bytes: Span = field(default=Span(1, 600))
    behaviours: tuple[str, ...] = ()
    network: Mapping[str, Span] = field(default_factory=dict)
    work: Mapping[str, Span] = field(default_factory=dict)
    faults: Mapping[str, Span] = field(default_factory=dict)
    events: tuple[Incident, ...] = ()

    def plan(self, seed: int, *, without: Iterable[str] = ()) -> Plan:
        """Draw a course of events.

        Args:
            seed: decides.
            without: kinds of incidents that are left out (and ``enemies``); the others stay as they were.
        """
        chance = Chance(f"plan {self.name} {seed}".encode())
        left_out = set(without)
        duration_ms = 1000 * self.duration_s.draw(chance.fork("duration"))
        low, high = self._net("delay_low_ms", 10, chance), self._net("delay_high_ms", 150, chance)
        conditions = Conditions(
            delay_ms=(min(low, high), high),
            loss_percent=self._net("loss_percent", 0, chance),
            duplicate_percent=self._net("duplicate_percent", 0, chance),
            slow_percent=self._net("slow_percent", 0, chance),
        )
        return Plan(
            nodes=self.nodes.draw(chance.fork("nodes")),
            admins=self.admins.draw(chance.fork("admins")),
            enemies=0 if "enemies" in left_out else self.enemies.draw(chance.fork("enemies")),
            duration_ms=duration_ms,
            settle_ms=1000 * self.settle_s,
            period_ms=1000 * self.period_s.draw(chance.fork("period")),
            merge=chance.fork("merge").below(100) < self.merge_percent,
            tensors=self.tensors,
            bytes=self.bytes,
            skew_ms=1000 * self.skew_s.draw(chance.fork("skew")),
            quota=2 if chance.fork("quota").below(100) < self.quota_percent else None,
            behaviours=self.behaviours,
            conditions=conditions,
            bad=Conditions(delay_ms=(50, 2500), loss_percent=40, duplicate_percent=40, slow_percent=5),
            incidents=tuple(self._incidents(chance, duration_ms, left_out)),
        )

    def check_left_out(self, without: Iterable[str]) -> None:
        """Raise UsageError if there is no such kind of incident."""
        _known(self.name, "what is left out", dict.fromkeys(without), [*WORK, *FAULTS, "enemies"])

    def _net(self, name: str, default: int, chance: Chance) -> int:
        return self.network.get(name, Span(default, default)).draw(chance.fork(name))

    def _incidents(self, chance: Chance, duration_ms: int, left_out: set[str]) -> list[Incident]:
        drawn = list(self.events)
        for what, count in {**self.work, **self.faults}.items():
            own = chance.fork(what)
            for number in range(count.draw(own)):
                at_ms, for_ms = own.below(duration_ms), 1000 * self.lasting_s.draw(own)
                drawn.append(Incident(at_ms, what, for_ms, number, 2 + own.below(2)))
        return sorted((one for one in drawn if one.what not in left_out), key=lambda one: one.at_ms)


def shipped() -> dict[str, str]:
    """Return the scenarios that come with the package: their text, by name."""
    folder = files("crdtmerge.simulations") / _FOLDER
    found = sorted(folder.iterdir(), key=lambda file: file.name)
    return {f.name.removesuffix(".toml"): f.read_text() for f in found if f.name.endswith(".toml")}


def load(name: str) -> Scenario:
    """Return a scenario by its file, or by the name of one that comes with the package.

    Raises:
        UsageError: if there is none, or it is not well formed.
    """
    path = Path(name)
    if path.suffix == ".toml" and path.exists():
        return read(path.read_text(), name)
    known = shipped()
    if name not in known:
        raise UsageError(f"no scenario {name!r}: give a .toml file, or one of {', '.join(known)}")
    return read(known[name], name)


def read(text: str, name: str) -> Scenario:
    """Parse the text of a scenario.

    Raises:
        UsageError: naming the key that is unknown or has a wrong value.
    """
    try:
        given = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"scenario {name}: {error}") from error
    values: dict[str, Any] = {"name": name}
    events = given.pop("event", [])
    values["events"] = tuple(_event(name, number, row) for number, row in enumerate(events))
    for table, keys in (("work", WORK), ("faults", FAULTS), ("network", None)):
        rows = given.pop(table, {})
        allowed = keys or [
            "delay_low_ms",
            "delay_high_ms",
            "loss_percent",
            "duplicate_percent",
            "slow_percent",
        ]
        _known(name, table, rows, allowed)
        values[table] = {key: _span(name, key, value) for key, value in rows.items()}
    enemies = given.pop("enemies", {})
    _known(name, "enemies", enemies, ["count", "behaviours"])
    if enemies:
        values["enemies"] = _span(name, "count", enemies.get("count", 1))
        values["behaviours"] = tuple(enemies.get("behaviours", BEHAVIOURS))
        _known(name, "behaviours", dict.fromkeys(values["behaviours"]), BEHAVIOURS)
    plain = {"about": str, "settle_s": int, "merge_percent": int, "quota_percent": int}
    spans = ["nodes", "admins", "duration_s", "period_s", "lasting_s", "skew_s", "tensors", "bytes"]
    _known(name, "scenario", given, [*plain, *spans])
    for key, value in given.items():
        if key in spans:
            values[key] = _span(name, key, value)
        elif isinstance(value, plain[key]) and not isinstance(value, bool):
            values[key] = value
        else:
            raise UsageError(f"scenario {name}: {key} = {value!r}, wanted {plain[key].__name__}")
    return Scenario(**values)


def _event(name: str, number: int, row: Mapping[str, Any]) -> Incident:
    _known(name, "event", row, ["at_s", "do", "for_s", "sides"])
    if row.get("do") not in (*WORK, *FAULTS):
        raise UsageError(f"scenario {name}: an event does {row.get('do')!r}, wanted one of {WORK + FAULTS}")
    numbers = {key: row.get(key, default) for key, default in (("at_s", 0), ("for_s", 60), ("sides", 2))}
    for key, value in numbers.items():
        _span(name, key, value)
    return Incident(
        1000 * numbers["at_s"], row["do"], 1000 * numbers["for_s"], 1_000_000 + number, numbers["sides"]
    )


def _span(name: str, key: str, value: Any) -> Span:
    low, high = value if isinstance(value, list) and len(value) == 2 else (value, value)
    for number in (low, high):
        if not isinstance(number, int) or isinstance(number, bool) or number < 0:
            raise UsageError(f"scenario {name}: {key} = {value!r}, wanted a number or [lowest, highest]")
    if low > high:
        raise UsageError(f"scenario {name}: {key} = {value!r}, the lowest comes first")
    return Span(low, high)


def _known(name: str, table: str, rows: Mapping[str, Any], allowed: Iterable[str]) -> None:
    for key in rows:
        if key not in (allowed := list(allowed)):
            raise UsageError(
                f"scenario {name}: {key!r} in {table} is unknown; known are {', '.join(allowed)}"
            )
