"""The driver: the machine's outputs become calls, calls of others and the clock become its events.

    server ──► handle ─┐                          ┌──► client (one task for each call)
    clock  ──► tick ───┼──► keeper, in a thread ──┤
    disk   ──► poll ───┘    (one turn at a time)  └──► reply

The event loop never waits for the disk and the keeper's thread never waits for the network. Whatever goes
wrong inside a turn stops the node: the disk and the machine may disagree then, and only a restart, which
begins from the disk, makes them agree again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

from crdtmerge.errors import CrdtMergeError, LockedError, OutOfSpaceError
from crdtmerge.keys import NodeId
from crdtmerge.node.client import CallError, Client, Contact
from crdtmerge.node.credentials import Credentials
from crdtmerge.node.figures import Figures
from crdtmerge.node.keeper import Keeper, Turn
from crdtmerge.node.porter import Porter
from crdtmerge.sync.events import Call, Failure
from crdtmerge.sync.messages import GetMetaReply, Reply, Request

log = logging.getLogger(__name__)
T = TypeVar("T")

POLL_S: Final = 0.2
FIGURES_S: Final = 10.0
PROBE_S: Final = 1.0
PROBE_AGAIN_S: Final = 3600.0
PROBES_IN_VAIN: Final = 5
"""Failed dial-backs in a row that are worth a warning: at first others may not have our record yet."""
PROBES_IN_VAIN_MAX: Final = 12
"""More do not lengthen the pause any further."""
PROBES_MAX: Final = 4
"""Dial-backs at once, for others."""


class Clock:
    """Milliseconds since 1970 that never go back, whatever is done to the system's clock meanwhile."""

    def __init__(self) -> None:
        self._offset_ns = time.time_ns() - time.monotonic_ns()

    def now_ms(self) -> int:
        """Return the time; for any thread."""
        return (time.monotonic_ns() + self._offset_ns) // 1_000_000


class Driver:
    """Runs a keeper.

    Args:
        keeper: used by this driver's thread only, from now on.
        client: makes the calls.
        clock: the one that the keeper has.
        figures: kept up, and stored now and then.
    """

    def __init__(self, keeper: Keeper, client: Client, clock: Clock, figures: Figures) -> None:
        self._keeper = keeper
        self._client = client
        self._clock = clock
        self._figures = figures
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="keeper")
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._broken: asyncio.Future[None] = self._loop.create_future()
        self._probes = asyncio.Semaphore(PROBES_MAX)
        self._metas: deque[tuple[int, Reply]] = deque()
        self._collecting = False
        self._porter = Porter(lambda block: self._in_thread(self._keeper.content.block, block))
        self._closing = False
        self._answered: Contact | None = None

    def is_member(self, node: NodeId) -> bool:
        """Whether a node is a member at this moment."""
        return self._keeper.authority.is_member(node)

    def issued_since(self, node: NodeId) -> int:
        """Return when the leaf in a node's record was issued; 0 without a record of it."""
        return self._keeper.issued_since(node)

    async def handle(self, sender: NodeId, request: Request) -> Reply:
        """Answer a request.

        Raises:
            CrdtMergeError: the refusal.
        """
        turn = await self._take(self._keeper.request, sender, request)
        if turn.reply is None:
            raise turn.refusal or CrdtMergeError("no reply")
        return await self._porter.packed(request, turn.reply)

    async def dial_back(self, node: NodeId) -> bool:
        """Say whether a node can be reached under the addresses in its record."""
        contact = await self._in_thread(self._keeper.contact, node)
        if contact is None:
            return False
        async with self._probes:
            try:
                await self._client.check(contact)
            except CallError:
                return False
        return True

    async def watch_reachability(self) -> None:
        """Ask nodes that answered to dial back, for ever, and tell people if none can."""
        self._figures.reachable = None
        in_vain = 0
        while True:
            pause_s = PROBE_AGAIN_S if self._figures.reachable else PROBE_S * 2**in_vain
            await asyncio.sleep(min(pause_s, PROBE_AGAIN_S))
            if self._answered is None:
                continue
            try:
                self._figures.reachable = await self._client.probe(self._answered)
            except CallError:
                self._answered = None
                continue
            in_vain = 0 if self._figures.reachable else min(in_vain + 1, PROBES_IN_VAIN_MAX)
            if in_vain == PROBES_IN_VAIN:
                log.warning("unreachable: others cannot dial this node's addresses; check `advertise`")

    async def collect(self) -> None:
        """Forget the garbage in the home, unless a model is being taken in or the disk has no room for it."""
        needed = await self._in_thread(self._keeper.needed)
        try:
            found = await asyncio.to_thread(self._keeper.collect, needed)
        except (LockedError, OutOfSpaceError) as error:
            log.info("not collected reason=%s", error)
            return
        if found:
            log.info("collected contributions=%d bytes=%d", len(found.manifests), found.bytes)
            await self._carry_out(self._keeper.collected)

    async def renew(self, record: bytes, credentials: Credentials | None = None) -> None:
        """Spread a new record of this node; call with new credentials, if there are any."""
        if credentials is not None:
            await self._client.renew(credentials)
        await self._take(self._keeper.renewed, record)

    async def start(self) -> None:
        """Begin; the driver then runs by itself until `close`."""
        await self._take(self._keeper.start)
        self.spawn(self._poll())
        self.spawn(self._keep_figures())

    async def broken(self) -> None:
        """Wait until something went wrong, and raise it: the node cannot go on then."""
        await asyncio.shield(self._broken)

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run ``work`` alongside until it ends or the driver closes; if it fails, the node is broken."""
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def check(self) -> None:
        """Raise what went wrong, if something did."""
        if self._broken.done():
            self._broken.result()

    async def close(self) -> None:
        """Stop making calls and, unless the disk failed, make everything durable."""
        self._closing = True
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        try:
            if self._broken.cancel():  # so it was not broken
                await self._in_thread(self._keeper.save_figures, self._figures.encode())
                await self._in_thread(self._keeper.close)
        finally:
            self._thread.shutdown()

    # --- turns ------------------------------------------------------------------------------------

    async def _take(self, event: Callable[..., Turn], *arguments: Any) -> Turn:
        """Run one turn. It is carried out to its end even if the caller goes away meanwhile."""
        return await asyncio.shield(self.spawn(self._carry_out(event, *arguments)))

    async def _carry_out(self, event: Callable[..., Turn], *arguments: Any) -> Turn:
        turn = await self._in_thread(event, *arguments)
        if not self._closing:
            for call, contact in turn.calls:
                self.spawn(self._call(call, contact))
            self._wake_at(turn.next_tick_ms)
        return turn

    def _in_thread(self, function: Callable[..., T], *arguments: Any) -> asyncio.Future[T]:
        return self._loop.run_in_executor(self._thread, function, *arguments)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) and not self._broken.done():
            self._broken.set_exception(error)

    def _wake_at(self, tick_ms: int | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if tick_ms is not None:
            delay_s = max(0, tick_ms - self._clock.now_ms()) / 1000
            self._timer = self._loop.call_later(delay_s, self._tick)

    def _tick(self) -> None:
        self.spawn(self._carry_out(self._keeper.tick))

    # --- what goes on by itself -------------------------------------------------------------------

    async def _call(self, call: Call, contact: Contact | None) -> None:
        started_s = self._loop.time()
        try:
            if contact is None:
                raise CallError(Failure.UNREACHABLE, "no record of this node")
            request = self._porter.asked(call.to, call.request)
            reply = await self._porter.unpacked(call.to, request, await self._client.call(contact, request))
        except CallError as error:
            log.debug(
                "failed node=%s request=%s error=%s", call.to.hex()[:16], type(call.request).__name__, error
            )
            self._figures.failed(call.to, now_ms=self._clock.now_ms(), reason=str(error))
            await self._carry_out(self._keeper.failed, call.call_id, error.failure, error.retry_after_ms)
            return
        round_trip_ms = int(1000 * (self._loop.time() - started_s))
        self._figures.succeeded(call.to, now_ms=self._clock.now_ms(), round_trip_ms=round_trip_ms)
        self._answered = contact
        if not isinstance(reply, GetMetaReply):
            await self._carry_out(self._keeper.replied, [(call.call_id, reply)])
            return
        self._metas.append((call.call_id, reply))
        if not self._collecting:
            self._collecting = True
            await self._carry_out(self._replied)

    def _replied(self) -> Turn:
        """Take the manifests and block lists that came while the keeper was busy: one write for all."""
        self._collecting = False  # before the last look: what comes later finds it so, and comes back here
        replies = []
        while self._metas:
            replies.append(self._metas.popleft())
        return self._keeper.replied(replies)

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(POLL_S)
            await self._carry_out(self._keeper.poll)

    async def _keep_figures(self) -> None:
        saved = b""
        while True:
            await asyncio.sleep(FIGURES_S)
            figures = self._figures.encode()
            if figures != saved:
                await self._in_thread(self._keeper.save_figures, figures)
                saved = figures
