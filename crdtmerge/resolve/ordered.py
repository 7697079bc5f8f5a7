"""Work on a few threads whose results come in order: the only parallelism of a merge.

Within a tile torch works on one thread, since on a busy machine its own threads wait for each other longer
than they compute.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, TypeVar

import torch

from crdtmerge import arith
from crdtmerge.limits import MIB

_KEPT_BYTES: Final = 31 * MIB
"""Just below what glibc never keeps."""

_In = TypeVar("_In")
_Out = TypeVar("_Out")


def in_order(
    function: Callable[[_In], _Out], items: Iterable[_In], threads: int
) -> Iterator[tuple[_In, _Out]]:
    """Yield (item, function(item)) in order, computing at most ``threads`` + 1 ahead; on this thread if 0."""
    waiting: deque[tuple[_In, Future[_Out]]] = deque()
    within = torch.get_num_threads()
    if not threads:
        _worker()
        try:
            for item in items:
                yield item, function(item)
        finally:
            torch.set_num_threads(within)
        return
    with ThreadPoolExecutor(max(threads, 1), "crdtmerge-merge", initializer=_worker) as pool:
        try:
            for item in items:
                waiting.append((item, pool.submit(function, item)))
                if len(waiting) > threads:
                    first, future = waiting.popleft()
                    yield first, future.result()
            while waiting:
                first, future = waiting.popleft()
                yield first, future.result()
        finally:
            for _, future in waiting:
                future.cancel()
            torch.set_num_threads(within)  # threads that others start later take this over


def _worker() -> None:
    torch.set_num_threads(1)
    # The C library learns from this that arrays of such a size come and go. Without it, it hands the memory
    # of every tile back to the kernel, which clears it page by page when the next tile asks for it.
    torch.empty(_KEPT_BYTES, dtype=torch.uint8)
    arith.environment.check()
