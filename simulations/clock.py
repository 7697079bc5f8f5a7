"""Virtual time: what happens next, happens now.

Events at the same millisecond happen in the order in which they were planned, so a run has one history.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush

START_MS = 1_767_225_600_000
"""2026-01-01: virtual time begins where operations could have been signed."""


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
