"""The simulated driver: the machine's outputs become writes and calls, calls of others become its events.

    event ── machine ── outputs, stored one by one ── then the calls and the reply leave

As in the real node, what an event leads to is stored, in order, before any of it leaves; events wait while
the disk works; a disk that fails stops the node, which begins again later from what is stored. The power
may fail between any two outputs, and before any call leaves.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from functools import partial

from crdtmerge.digest import Digest
from crdtmerge.errors import CorruptBlockError, NotYetError, OutOfSpaceError, RejectedError, StoreError
from crdtmerge.keys import NodeId, SigningKey
from crdtmerge.op import Role
from crdtmerge.simulations.clock import Alarm, Clock, LocalClock
from crdtmerge.simulations.disk import Disk
from crdtmerge.simulations.network import Answer, Network
from crdtmerge.simulations.watch import Watch
from crdtmerge.sync import events
from crdtmerge.sync.chance import Chance
from crdtmerge.sync.events import Call, Failure, Output, StoreBlock, StoreManifest, StoreTensor
from crdtmerge.sync.messages import Reply, Request
from crdtmerge.sync.peer import Peer

FLUSH_MS = 5000
REVIVE_MS = MEASURE_MS = 5000
ROOM_BYTES = 1 << 50


class Driver:
    """Runs a machine on a disk; see the top of the file.

    Attributes:
        honest: whether it is to keep what the protocol promises.
        key, disk: identity, and what is kept.
        local: what is taken for the time.
        peer: the machine, while it runs.
        ready: contributions that were reported complete.
        accused, diverged: nodes that were reported to misbehave, to attest another model, in order.
        stored_blocks: digests of blocks that were written, in order.
        acknowledged: ids of what was said here and confirmed to whoever said it.
        steps_left: outputs until the power fails; None while it does not.
        torn_percent: of the blocks that a power cut catches, how many are torn rather than lost.
        sync_ms: shortest and longest time that one output takes to be stored.
    """

    honest = True

    def __init__(self, key: SigningKey, clock: Clock, network: Network, chance: Chance, watch: Watch) -> None:
        self.key, self.disk, self.local = key, Disk(), LocalClock(clock)
        self.peer: Peer | None = None
        self.ready: set[Digest] = set()
        self.accused: list[NodeId] = []
        self.diverged: list[NodeId] = []
        self.stored_blocks: list[Digest] = []
        self.acknowledged: list[Digest] = []
        self.steps_left: int | None = None
        self.torn_percent = 0
        self.sync_ms = (0, 0)
        self.watch = watch
        self._clock, self._network, self._chance = clock, network, chance
        self._life = 0
        self._alarm = Alarm(clock)
        self._busy = self._draining = False
        self._inbox: deque[Callable[[], None]] = deque()

    @property
    def id(self) -> NodeId:
        """Its node id."""
        return self.key.id

    @property
    def running(self) -> Peer:
        """The machine, which runs."""
        if self.peer is None:
            raise RuntimeError(f"host {self.id.hex()[:12]} is down")
        return self.peer

    def run(self, peer: Peer) -> None:
        """Begin with a machine."""
        self._life += 1
        self._busy, self.peer = False, peer
        self._inbox.clear()
        self.watch.started(self)
        self._network.attach(self.id, self._serve)
        self.turn(lambda peer: peer.on_start(self.local.now_ms))

    def crash(self) -> None:
        """Lose everything that is not on the disk."""
        self._network.detach(self.id)
        self._alarm.put_out()
        self._life += 1
        self.peer = self.steps_left = None

    def cut_power(self) -> None:
        """Crash, and lose what the disk has not made durable."""
        self.crash()
        for _ in range(self.disk.blocks.cut(self._chance, self.torn_percent)):
            self.watch.noticed("torn block")

    def revive(self) -> None:
        """Start again after a crash, if it can."""

    def scrub(self) -> None:
        """Read everything, and have what is damaged fetched again."""
        damaged = self.disk.damaged()
        for name in damaged:
            self.disk.discard(name)
            self.watch.noticed("damage found by a scrub")
        if damaged:
            self.soon(lambda: self.turn(lambda peer: peer.on_stored(self.local.now_ms, lost=True)))

    # --- turns: one event with all that follows -----------------------------------------------------

    def soon(self, turn: Callable[[], None]) -> None:
        """Take a turn when those before it have ended."""
        if self._busy:
            self._inbox.append(turn)
        else:
            turn()

    def turn(
        self, event: Callable[[Peer], Iterable[Output]], leave: Callable[[], None] = lambda: None
    ) -> None:
        """Tell the machine that something happened, carry out what it says, and then let ``leave`` happen."""
        if self.peer is None:
            return
        try:
            outputs = event(self.peer)
        except StoreError as error:
            self.broken(error)
        else:
            self._do(outputs, leave)

    def broken(self, error: StoreError) -> None:
        """Stop, since machine and disk may disagree; somebody mends the disk and starts the node again."""
        self.watch.noticed(f"node stopped: {type(error).__name__}")
        self.crash()
        if isinstance(error, CorruptBlockError):
            self.scrub()
        self._clock.after(REVIVE_MS, self.revive)

    def _do(self, outputs: Iterable[Output], leave: Callable[[], None]) -> None:
        calls: list[Call] = []
        waiting, took_ms = deque(outputs), 0
        while waiting:
            output = waiting.popleft()
            if self.power_fails():
                return
            if isinstance(output, Call):
                calls.append(output)
                continue
            self.watch.storing(self, output)
            try:
                waiting.extendleft(reversed(self._carry_out(output)))
            except StoreError as error:
                self.broken(error)
                return
            took_ms += self._chance.between(*self.sync_ms) if self.sync_ms[1] else 0
        if took_ms:
            self._pause(took_ms, lambda: self._leave(calls, leave))
        else:
            self._leave(calls, leave)

    def _leave(self, calls: Iterable[Call], leave: Callable[[], None]) -> None:
        for call in calls:
            if self.power_fails():
                return
            self._call(call)
        leave()
        self._resume()

    def _pause(self, wait_ms: int, then: Callable[[], None]) -> None:
        life, self._busy = self._life, True
        self._clock.after(wait_ms, lambda: then() if life == self._life else None)

    def _resume(self) -> None:
        self._busy = False
        if self._draining:
            return  # whoever takes turns from the inbox goes on to the next
        self._draining = True
        while self._inbox and not self._busy and self.peer is not None:
            self._inbox.popleft()()
        self._draining = False
        self._plan()

    def power_fails(self) -> bool:
        """Whether the power is off now; a step nearer to where it is to fail."""
        if self.steps_left is not None:
            self.steps_left -= 1
            if self.steps_left < 0:
                self.watch.noticed("power cut between outputs")
                self.cut_power()
        return self.peer is None

    # --- what the machine is told ---------------------------------------------------------------------

    def _serve(self, sender: NodeId, request: Request, answer: Answer) -> None:
        self.soon(lambda: self._answer(sender, request, answer))

    def _answer(self, sender: NodeId, request: Request, answer: Answer) -> None:
        now_ms = self.local.now_ms
        try:
            reply, outputs = self.running.on_request(now_ms, sender, request)
        except CorruptBlockError as error:
            refusal = error
            self.watch.noticed("damage found by a reader")
            self.disk.discard(Digest(error.wanted))
            self.turn(lambda peer: peer.on_stored(now_ms, lost=True), lambda: answer(refusal))
        except (RejectedError, NotYetError, StoreError) as error:
            answer(error)
        else:
            self.watch.answering(self, sender, request, reply)
            self._do(outputs, lambda: answer(reply))

    def _plan(self) -> None:
        """See that the machine is woken when it wants to be."""
        due_ms = None if self.peer is None else self.peer.next_tick_ms
        if due_ms is not None:
            self._alarm.set(self.local.true_ms(due_ms), lambda: self.soon(self._tick))

    def _tick(self) -> None:
        due_ms = self.running.next_tick_ms
        if due_ms is not None and due_ms <= self.local.now_ms:
            self.turn(lambda peer: peer.on_tick(self.local.now_ms))
        else:
            self._plan()

    # --- what the machine wants -----------------------------------------------------------------------

    def _carry_out(self, output: Output) -> list[Output]:
        """Do what an output says; return what follows from it at once."""
        match output:
            case StoreManifest() | StoreTensor() | StoreBlock():
                return self._keep(output)
            case events.AdmissionWanted(node, role, invite):
                return self.admit(node, role, invite)
            case events.Ready(contribution):
                self.disk.blocks.flush()
                self.ready.add(contribution)
            case events.Misbehaved(node, _):
                self.accused.append(node)
            case events.Diverged(_, theirs):
                self.diverged.append(theirs.node)
            case _:
                self.disk.store(output)
        return []

    def _keep(self, content: StoreManifest | StoreTensor | StoreBlock) -> list[Output]:
        """Store content; where there is no room for it, it waits until there is."""
        if isinstance(content, StoreBlock) and not self.disk.blocks.unsynced:
            self._clock.after(FLUSH_MS, partial(self._flush, self._life))
        try:
            self.disk.store(content)
        except OutOfSpaceError:
            self.watch.noticed("content waits for room")
            self._clock.after(MEASURE_MS, partial(self._measure, self._life))
            full = self.running.on_space(self.local.now_ms, 0)
            return full + self.running.on_stored(self.local.now_ms, lost=True)
        if isinstance(content, StoreBlock):
            self.stored_blocks.append(content.block.digest)
        return []

    def _flush(self, life: int) -> None:
        if life == self._life:
            self.disk.blocks.flush()

    def _measure(self, life: int) -> None:
        if life == self._life and self.disk.full:
            self._clock.after(MEASURE_MS, partial(self._measure, life))
        elif life == self._life:
            self.soon(lambda: self.turn(lambda peer: peer.on_space(self.local.now_ms, ROOM_BYTES)))

    def admit(self, node: NodeId, role: Role, invite: NodeId) -> list[Output]:
        """Sign an admission for a used invitation; return what follows."""
        return []

    def _call(self, call: Call) -> None:
        life = self._life

        def ended(end: Reply | Failure) -> None:
            if life != self._life:
                return
            if isinstance(end, Failure):
                self.soon(lambda: self.turn(lambda p: p.on_failed(self.local.now_ms, call.call_id, end)))
            else:
                self.soon(lambda: self.turn(lambda p: p.on_reply(self.local.now_ms, call.call_id, end)))

        self._network.call(self.id, call.to, call.request, ended)
