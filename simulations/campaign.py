"""Thousands of seeds from one command: on several processes, counted, and resumable.

Every seed is a simulation of its own, so they run in any order. What is finished is one line of the results
file; a campaign that was interrupted reads it and goes on with the seeds that are not in it.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

from crdtmerge.digest import Domain, digest
from crdtmerge.errors import UsageError
from crdtmerge.simulations.run import Outcome, simulate
from crdtmerge.simulations.scenario import Scenario

YEAR_MS: Final = 365.25 * 24 * 3600 * 1000
_LONG: Final = ("timeline", "samples", "bytes_per_host")

Row = dict[str, Any]
"""An outcome without its course: what the results file has of it."""


@dataclass
class Totals:
    """What a campaign has found so far.

    Attributes:
        scenario: which.
        seeds: how many are finished.
        failures: of seeds where a promise was broken.
        elapsed_ms, node_ms: virtual time, and the same times the hosts.
        faults: what happened, and how often.
        sent, bytes: messages.
        hosts, enemies, operations, merges: in all.
        settled_ms: of every seed, from the last fault to agreement, ascending.
        traces: digest of the history of each seed.
    """

    scenario: str
    seeds: int = 0
    failures: dict[int, str] = field(default_factory=dict)
    elapsed_ms: int = 0
    node_ms: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    sent: int = 0
    bytes: int = 0
    hosts: int = 0
    enemies: int = 0
    operations: int = 0
    merges: int = 0
    settled_ms: list[int] = field(default_factory=list)
    traces: dict[int, str] = field(default_factory=dict)

    def add(self, row: Row) -> None:
        """Count one outcome."""
        self.seeds += 1
        if row["failure"]:
            self.failures[row["seed"]] = row["failure"]
        for name in ("elapsed_ms", "node_ms", "sent", "bytes", "hosts", "enemies", "operations"):
            setattr(self, name, getattr(self, name) + row[name])
        self.faults.update(row["faults"])
        self.merges += bool(row["merged"])
        if row["settled_ms"] is not None:
            self.settled_ms.append(row["settled_ms"])
        self.traces[row["seed"]] = row["trace"]

    @property
    def fingerprint(self) -> str:
        """One digest for the histories of all seeds: equal where a campaign was repeated."""
        text = "".join(f"{seed} {trace}\n" for seed, trace in sorted(self.traces.items()))
        return digest(Domain.PAYLOAD, text.encode()).hex()

    def data(self) -> dict[str, Any]:
        """Return everything as plain values."""
        settled = sorted(self.settled_ms) or [0]
        return {
            "scenario": self.scenario,
            "seeds": self.seeds,
            "failures": {str(seed): self.failures[seed] for seed in sorted(self.failures)},
            "replay": [replay(self.scenario, seed) for seed in sorted(self.failures)],
            "simulated_years": round(self.elapsed_ms / YEAR_MS, 4),
            "simulated_node_years": round(self.node_ms / YEAR_MS, 4),
            "faults_total": self.faults.total(),
            "faults": dict(sorted(self.faults.items())),
            "messages": self.sent,
            "bytes": self.bytes,
            "hosts": self.hosts,
            "enemies": self.enemies,
            "operations": self.operations,
            "merges_compared": self.merges,
            "settled_s": {
                name: settled[min(len(settled) - 1, len(settled) * percent // 100)] / 1000
                for name, percent in (("median", 50), ("p99", 99), ("longest", 100))
            },
            "fingerprint": self.fingerprint,
        }


def replay(scenario: str, seed: int) -> str:
    """Return the line that replays one seed."""
    return f"crdtmerge simulate {scenario} --seed {seed}"


def row_of(outcome: Outcome) -> Row:
    """Return what the results file has of an outcome."""
    return {name: value for name, value in asdict(outcome).items() if name not in _LONG}


def campaign(
    scenario: Scenario,
    seeds: Iterable[int],
    *,
    jobs: int = 1,
    results: Path | None = None,
    without: Sequence[str] = (),
    progress: Callable[[Totals], None] = lambda totals: None,
) -> Totals:
    """Run a scenario with many seeds.

    Args:
        scenario: what to run.
        seeds: which.
        jobs: processes at once.
        results: file of finished seeds; those of ``seeds`` that are in it are counted and not run again.
        without: kinds of incidents to leave out.
        progress: called after every seed.

    Raises:
        UsageError: if the file holds the results of something else.
    """
    totals = Totals(scenario.name)
    wanted = list(seeds)
    title = {"scenario": scenario.name, "digest": _digest(scenario, without)}
    done = {} if results is None else _read(results, title)
    for seed in wanted:
        if seed in done:
            totals.add(done[seed])
    rows = _rows(scenario, [seed for seed in wanted if seed not in done], jobs, without)
    if results is None:
        for row in rows:
            totals.add(row)
            progress(totals)
        return totals
    with results.open("a") as file:
        if not done and not results.stat().st_size:
            file.write(json.dumps(title) + "\n")
        for row in rows:
            file.write(json.dumps(row) + "\n")
            file.flush()
            totals.add(row)
            progress(totals)
    return totals


def _rows(scenario: Scenario, seeds: Sequence[int], jobs: int, without: Sequence[str]) -> Iterator[Row]:
    one = partial(_one, scenario, tuple(without))
    if jobs <= 1:
        yield from map(one, seeds)
        return
    # forked before torch is loaded: a child that merges loads it for itself
    with multiprocessing.get_context("fork").Pool(jobs, initializer=_begin) as pool:
        yield from pool.imap_unordered(one, seeds)


def _begin() -> None:
    """Leave interruptions to the parent, and cores to the other children."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def _one(scenario: Scenario, without: Sequence[str], seed: int) -> Row:
    return row_of(simulate(scenario, seed, without=without))


def _digest(scenario: Scenario, without: Sequence[str]) -> str:
    return digest(Domain.PAYLOAD, repr((scenario, sorted(without))).encode()).hex()


def _read(path: Path, title: dict[str, str]) -> dict[int, Row]:
    """Return the finished seeds of a results file; a line that was cut short ends it."""
    if not path.exists():
        return {}
    lines = path.read_bytes().splitlines(keepends=True)
    whole = [line for line in lines if line.endswith(b"\n")]
    if len(whole) < len(lines):
        path.write_bytes(b"".join(whole))
    if not whole:
        return {}
    if json.loads(whole[0]) != title:
        raise UsageError(f"{path} holds the results of another scenario, or of another version of this one")
    return {row["seed"]: row for row in map(json.loads, whole[1:])}
