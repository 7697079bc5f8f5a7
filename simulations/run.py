"""One simulation: a plan carried out, watched, healed and judged.

    plan ── work, mishaps, enemies ──► duration ── relieve ──► settle ── check ──► outcome

The outcome is a function of (scenario, seed, what was left out): whatever went wrong once goes wrong again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from crdtmerge.errors import CrdtMergeError, OutOfSpaceError, SimulationError
from crdtmerge.op import Policy, Role
from crdtmerge.recipe import Recipe
from crdtmerge.simulations.byzantine import Enemy
from crdtmerge.simulations.checkers import Checker, broken
from crdtmerge.simulations.clock import SECOND_MS
from crdtmerge.simulations.host import Host
from crdtmerge.simulations.mishaps import MISHAPS, relieve
from crdtmerge.simulations.plan import Incident, Plan
from crdtmerge.simulations.scenario import Scenario
from crdtmerge.simulations.settled import check, correct, difference
from crdtmerge.simulations.swarm import Swarm
from crdtmerge.simulations.work import DEEDS, Scene, floats
from crdtmerge.sync.chance import Chance
from crdtmerge.sync.config import Config

LOOK_MS: Final = 5 * SECOND_MS
AFTERWARDS_MS: Final = 30 * SECOND_MS
"""How long it is watched whether agreement stays, or comes back."""

BUGS: Final = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What the protocol's code raises where it is wrong."""


@dataclass(frozen=True, slots=True)
class Sample:
    """How it stood at one moment.

    Attributes:
        at_ms: when.
        running: correct hosts that run.
        roots: different state roots among them.
        largest: hosts that have the most frequent of them.
        complete: hosts that lack no content that they know of.
        bytes: sent by everybody so far.
    """

    at_ms: int
    running: int
    roots: int
    largest: int
    complete: int
    bytes: int


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one simulation.

    Attributes:
        scenario, seed: which.
        failure: which promise was broken, and how; empty if none was.
        hosts, enemies: how many there were in the end.
        elapsed_ms, node_ms: virtual time, and the same times the hosts.
        settled_ms: from the last fault to agreement and completeness; None where it was not reached.
        operations, contributions: that count in the end.
        faults: what happened, and how often.
        sent: messages; ``bytes`` in all, ``bytes_per_host`` ascending.
        trace: digest of everything that was sent.
        merged: digest of the merged model that all have, if it was computed.
        timeline: what was done, in order.
        samples: how it stood.
    """

    scenario: str
    seed: int
    failure: str
    hosts: int
    enemies: int
    elapsed_ms: int
    node_ms: int
    settled_ms: int | None
    operations: int
    contributions: int
    faults: dict[str, int]
    sent: int
    bytes: int
    bytes_per_host: list[int]
    trace: str
    merged: str
    timeline: list[tuple[int, str]] = field(repr=False)
    samples: list[Sample] = field(repr=False)


def simulate(scenario: Scenario, seed: int, *, without: Iterable[str] = ()) -> Outcome:
    """Run a scenario with a seed; ``without`` names kinds of incidents to leave out."""
    return Run(scenario, seed, without).outcome()


class Run:
    """One simulation in the course of being run."""

    def __init__(self, scenario: Scenario, seed: int, without: Iterable[str]) -> None:
        self.plan: Plan = scenario.plan(seed, without=without)
        self.checker = Checker()
        self._scenario, self._seed = scenario, seed
        self._timeline: list[tuple[int, str]] = []
        self._samples: list[Sample] = []
        self._settled_ms: int | None = None
        self._merged = ""
        plan = self.plan
        self.swarm = Swarm(
            seed=seed,
            hosts=1,
            conditions=plan.conditions,
            config=Config(period_ms=plan.period_ms),
            watch=self.checker,
            policy=Policy(visible_per_author_max=plan.quota),
            base=floats(Chance(f"base {seed}".encode())) if plan.merge else None,
            recipe=Recipe("weight_average", version=1),
        )

    def outcome(self) -> Outcome:
        """Carry out the plan and judge it."""
        failure = ""
        try:
            self._populate()
            self._live()
            self._heal()
        except SimulationError as error:
            failure = str(error)
        except (*BUGS, CrdtMergeError) as error:
            failure = f"crash: {type(error).__name__}: {error} ({_where(error)})"
        return self._outcome(failure)

    # --- before, during, after ----------------------------------------------------------------------

    def _populate(self) -> None:
        plan, swarm = self.plan, self.swarm
        for number in range(plan.nodes - 1):
            swarm.recruit(Host, Role.ADMIN if number < plan.admins else Role.MEMBER)
        for _ in range(plan.enemies):
            enemy = swarm.recruit(Enemy)
            enemy.behaviours = tuple(swarm.chance.sample(plan.behaviours, 1 + swarm.chance.below(4)))
            self.checker.enemies.add(enemy.id)
            self._act_soon(enemy)
        for host in swarm.hosts:
            host.reset_clock(swarm.chance.between(-plan.skew_ms, plan.skew_ms))

    def _act_soon(self, enemy: Enemy) -> None:
        def act() -> None:
            if not enemy.quiet:
                enemy.act()
                self._act_soon(enemy)

        self.swarm.clock.after(self.swarm.chance.between(10 * SECOND_MS, 200 * SECOND_MS), act)

    def _live(self) -> None:
        clock = self.swarm.clock
        for incident in self.plan.incidents:
            clock.at(clock.now_ms - clock.elapsed_ms + incident.at_ms, lambda one=incident: self._happen(one))  # type: ignore[misc]
        self._look_until(clock.elapsed_ms + self.plan.duration_ms, max(LOOK_MS, self.plan.period_ms // 4))

    def _happen(self, incident: Incident) -> None:
        label = f"{incident.what} {incident.number}"
        scene = Scene(self.swarm, self.plan, self.swarm.chance.fork(label))
        what = incident.what
        try:
            done = DEEDS[what](scene) if what in DEEDS else MISHAPS[what](scene, incident)
        except OutOfSpaceError:
            self.checker.noticed("write refused by a full disk")
            what, done = f"{what} refused: the disk is full", True
        if done:
            if incident.what in MISHAPS:
                self.checker.noticed(incident.what)
            lasts = f" for {incident.for_ms // SECOND_MS} s" if incident.what in MISHAPS else ""
            self._timeline.append((self.swarm.clock.elapsed_ms, what + lasts))

    def _heal(self) -> None:
        clock = self.swarm.clock
        for host in self.swarm.hosts:
            if isinstance(host, Enemy):
                host.quiet = True
        relieve(Scene(self.swarm, self.plan, self.swarm.chance.fork("relieve")))
        healed_ms = clock.elapsed_ms
        self._timeline.append((healed_ms, "healed"))
        self._settle()
        self._settled_ms = clock.elapsed_ms - healed_ms
        self._timeline.append((clock.elapsed_ms, "agreed and complete"))
        check(self.swarm)
        self._look_until(clock.elapsed_ms + AFTERWARDS_MS)
        self._settle()  # an enemy may have held an operation back until now: nothing forbids that
        check(self.swarm)
        if self.plan.merge:
            self._merge()

    def _settle(self) -> None:
        for _ in range(0, self.plan.settle_ms, LOOK_MS):
            if not difference(self.swarm):
                return
            self._look_until(self.swarm.clock.elapsed_ms + LOOK_MS)
        if left := difference(self.swarm):
            raise broken("G3", f"{left}, {self.plan.settle_ms // SECOND_MS} s after everything healed")

    def _merge(self) -> None:
        from crdtmerge.simulations.merging import block_the_unreachable, merged_by_all  # loads torch

        while block_the_unreachable(self.swarm):  # which makes room for its author's next
            self._settle()
        self._merged = merged_by_all(self.swarm)

    # --- looking ------------------------------------------------------------------------------------

    def _look_until(self, elapsed_ms: int, every_ms: int = LOOK_MS) -> None:
        clock = self.swarm.clock
        while clock.elapsed_ms < elapsed_ms:
            clock.run(min(every_ms, elapsed_ms - clock.elapsed_ms))
            self._look()

    def _look(self) -> None:
        for host in self.swarm.up():
            self.checker.look(host)
        hosts = [host for host in correct(self.swarm) if host.peer is not None]
        roots = Counter(host.running.view.state_root for host in hosts)
        self._samples.append(
            Sample(
                at_ms=self.swarm.clock.elapsed_ms,
                running=len(hosts),
                roots=len(roots),
                largest=max(roots.values(), default=0),
                complete=sum(host.running.missing == 0 for host in hosts),
                bytes=self.swarm.network.bytes_of.total(),
            )
        )

    def _outcome(self, failure: str) -> Outcome:
        swarm, founder = self.swarm, self.swarm.founder
        network, seen = swarm.network, founder.peer and founder.peer.view
        faults = self.checker.noted + Counter(
            {"message lost": network.lost, "message doubled": network.duplicated}
        )
        return Outcome(
            scenario=self._scenario.name,
            seed=self._seed,
            failure=failure,
            hosts=len(swarm.hosts),
            enemies=len(self.checker.enemies),
            elapsed_ms=swarm.clock.elapsed_ms,
            node_ms=swarm.clock.elapsed_ms * len(swarm.hosts),
            settled_ms=self._settled_ms,
            operations=len(seen.state) if seen else 0,
            contributions=len(seen.contributions) if seen else 0,
            faults=dict(sorted(faults.items())),
            sent=network.sent.total(),
            bytes=network.bytes_of.total(),
            bytes_per_host=sorted(network.bytes_of[host.id] for host in swarm.hosts if host.honest),
            trace=swarm.trace.hex(),
            merged=self._merged,
            timeline=self._timeline,
            samples=self._samples,
        )


def _where(error: BaseException) -> str:
    """Return file and line of where an error was raised."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return (
        "?" if trace is None else f"{trace.tb_frame.f_code.co_filename.rsplit('/', 1)[-1]}:{trace.tb_lineno}"
    )
