"""Virtual time: what happens next, happens now; and what single computers take it for.

Events at the same millisecond happen in the order in which they were planned, so a run has one history.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush

START_MS = 1_767_225_600_000
"""2026-01-01: virtual time begins where operations could have been signed."""

SECOND_MS = 1000
MINUTE_MS = 60 * SECOND_MS
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS


class Clock:
    """A clock that stands still until told to run.

    Attributes:
        now_ms: the time.
    """

    def __init__(self) -> None:
        self.now_ms = START_MS
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._planned = 0

    @property
    def elapsed_ms(self) -> int:
        """Time since the beginning."""
        return self.now_ms - START_MS

    def at(self, when_ms: int, action: Callable[[], None]) -> None:
        """Plan an event; one that is due already happens next."""
        heappush(self._events, (max(when_ms, self.now_ms), self._planned, action))
        self._planned += 1

    def after(self, wait_ms: int, action: Callable[[], None]) -> None:
        """Plan an event in ``wait_ms``."""
        self.at(self.now_ms + wait_ms, action)

    def step(self, until_ms: int) -> bool:
        """Let the next event happen; False, and the time ``until_ms``, if there is none before then."""
        if not self._events or self._events[0][0] > until_ms:
            self.now_ms = max(self.now_ms, until_ms)
            return False
        self.now_ms, _, action = heappop(self._events)
        action()
        return True

    def run(self, duration_ms: int) -> None:
        """Let everything happen that happens in ``duration_ms``."""
        until_ms = self.now_ms + duration_ms
        while self.step(until_ms):
            pass


class LocalClock:
    """What one computer takes for the time: it may be wrong, and be set while it runs.

    A process that runs sees it jump forward, as after a suspension, but never back: it counts on from where
    it was. Only the next process sees a clock that was set back.

    Args:
        clock: the true time.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ahead_ms = self._set_ms = 0

    @property
    def now_ms(self) -> int:
        """The time here."""
        return self._clock.now_ms + self._ahead_ms

    def true_ms(self, local_ms: int) -> int:
        """Return when it will be ``local_ms`` here."""
        return local_ms - self._ahead_ms

    def set(self, ahead_ms: int) -> None:
        """Set the clock."""
        self._set_ms = ahead_ms
        self._ahead_ms = max(self._ahead_ms, ahead_ms)

    def restart(self) -> None:
        """Another process asks from now on."""
        self._ahead_ms = self._set_ms


class Alarm:
    """Rings once, at the earliest time that it was set to since it last rang or was put out."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._due_ms: int | None = None

    def set(self, when_ms: int, ring: Callable[[], None]) -> None:
        """Ring at a (true) time, unless it rings before that anyway."""
        if self._due_ms is not None and self._due_ms <= when_ms:
            return
        self._due_ms = when_ms

        def due() -> None:
            if self._due_ms == when_ms:
                self._due_ms = None
                ring()

        self._clock.at(when_ms, due)

    def put_out(self) -> None:
        """Do not ring before it is set again."""
        self._due_ms = None
