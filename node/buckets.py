"""Token buckets: how fast one caller may call, and when it may try again.

    a bucket fills at ``per_s`` up to ``burst``; a call takes one token; without one it is told to wait

Always true here: a bucket delays and never decides. Who is told to wait has done nothing wrong, gets the
same answer later, and no other caller waits for it. What all of it costs is bounded: the callers that were
heard longest ago are forgotten, which gives them a full bucket and nothing else.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Final

CALLERS_MAX: Final = 4096


@dataclass(slots=True)
class _Bucket:
    tokens: float
    filled_s: float


class Buckets:
    """One bucket for each caller.

    Args:
        per_s: calls a second that a caller may make for ever.
        burst: calls that it may make at once after a rest.
        now_s: a clock that never goes back, in seconds.
    """

    def __init__(self, per_s: float, burst: float, now_s: Callable[[], float]) -> None:
        self._per_s, self._burst, self._now_s = per_s, burst, now_s
        self._buckets: OrderedDict[Hashable, _Bucket] = OrderedDict()

    def wait_s(self, caller: Hashable) -> float:
        """Take a token of a caller's and return 0; without one, return how long until there is one."""
        now_s = self._now_s()
        bucket = self._buckets.setdefault(caller, _Bucket(self._burst, now_s))
        self._buckets.move_to_end(caller)
        if len(self._buckets) > CALLERS_MAX:
            self._buckets.popitem(last=False)
        bucket.tokens = min(self._burst, bucket.tokens + (now_s - bucket.filled_s) * self._per_s)
        bucket.filled_s = now_s
        if bucket.tokens < 1:
            return (1 - bucket.tokens) / self._per_s
        bucket.tokens -= 1
        return 0.0
