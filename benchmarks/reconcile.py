"""What finding a difference costs, beside sending the list of everything.

    python benchmarks/reconcile.py [--sizes 100 1000 10000 100000]

Two replicas hold n operations, and each lacks some that the other has: the newest ones ("recent": what
gossip has not carried yet), or some anywhere ("scattered": after a long separation). Bytes are all
payloads of the reconciliation in both directions, round trips those after the first message, which
travels in the reply to Hello; fetching the operations themselves comes on top, the same for both ways.
CPU is both sides together, the index given; an index is built when a set has changed. Where nothing
differs, Hello and its reply are all that is sent, and their size is what is printed.

The full list is one message with every id of one side, 32 bytes each, and a set difference.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

from crdtmerge.digest import Digest, Domain, digest
from crdtmerge.simulations.network import written
from crdtmerge.sync.chance import Chance
from crdtmerge.sync.index import Index
from crdtmerge.sync.messages import NONCE_BYTES, Hello, HelloReply
from crdtmerge.sync.reconcile import Session, answer, opening, session_key

P = ParamSpec("P")
T = TypeVar("T")
Item = tuple[int, Digest]

START_MS = 1_790_000_000_000
ROUNDS = 3


@dataclass(frozen=True)
class Cost:
    """What one reconciliation took."""

    bytes: int
    round_trips: int
    found: int


def items(count: int, *, label: str, first_ms: int, span_ms: int) -> list[Item]:
    """Return operations spread evenly over a time."""
    names = (f"{label} {number}".encode() for number in range(count))
    return [
        (first_ms + number * span_ms // max(count, 1), digest(Domain.OPERATION, name))
        for number, name in enumerate(names)
    ]


def talk(ours: Index, theirs: Index) -> Cost:
    """Reconcile two sets."""
    key = session_key(digest(Domain.OPERATION), bytes(16), bytes(16))
    payload = opening(theirs, key)
    session, sent, round_trips = Session(ours, key, payload), len(payload), 0
    while steps := session.next_steps():
        round_trips += 1
        for step in steps:
            reply = answer(theirs, key, step.payload)
            sent += len(step.payload) + len(reply)
            session.receive(step, reply)
    return Cost(sent, round_trips, len(session.missing) + len(session.surplus))


def greet(root: Digest) -> Cost:
    """Exchange roots that turn out to be equal."""
    said = Hello(bytes(NONCE_BYTES), root, root, root), HelloReply(bytes(NONCE_BYTES), root, root)
    return Cost(sum(len(written(message)) for message in said), 1, 0)


def send_list(ours: Iterable[Item], theirs: Iterable[Item]) -> Cost:
    """Send every id, and compare."""
    message = b"".join(one for _, one in theirs)
    held = {one for _, one in ours}
    offered = {message[start : start + 32] for start in range(0, len(message), 32)}
    return Cost(len(message), 1, len(held ^ offered))


def best_ms(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> tuple[T, float]:
    """Return the result and the least CPU time of a few runs."""
    times = []
    for _ in range(ROUNDS):
        start = time.process_time()
        result = work(*args, **kwargs)
        times.append(1000 * (time.process_time() - start))
    return result, min(times)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 1_000, 10_000, 100_000])
    print(
        f"{'n':>7}  {'differences':<16} {'bytes':>8} {'trips':>5} {'CPU ms':>7}"
        f" | {'full list':>9} {'CPU ms':>7} | {'index ms':>8}"
    )
    for size in parser.parse_args().sizes:
        day_ms = 86_400_000
        common = items(size, label="common", first_ms=START_MS, span_ms=30 * day_ms)
        chance = Chance(b"benchmark")
        cases: list[tuple[str, list[Item], list[Item]]] = [("none", common, common)]
        for count in (1, 10, 1000):
            new = items(count, label="new", first_ms=START_MS + 30 * day_ms, span_ms=60_000)
            cases.append((f"{count} recent", common + new[::2], common + new[1::2]))
        lost = chance.sample(range(size), 1000)
        one, other = set(lost[::2]), set(lost[1::2])
        ours = [item for number, item in enumerate(common) if number not in one]
        theirs = [item for number, item in enumerate(common) if number not in other]
        cases.append(("1000 scattered", ours, theirs))
        for name, ours, theirs in cases:
            index, index_ms = best_ms(Index, ours)
            if ours is theirs:
                cost, cpu_ms = best_ms(greet, common[0][1])
            else:
                cost, cpu_ms = best_ms(talk, index, Index(theirs))
            full, full_ms = best_ms(send_list, ours, theirs)
            assert cost.found == full.found
            print(
                f"{size:>7}  {name:<16} {cost.bytes:>8} {cost.round_trips:>5} {cpu_ms:>7.1f}"
                f" | {full.bytes:>9} {full_ms:>7.1f} | {index_ms:>8.1f}"
            )


if __name__ == "__main__":
    main()
