"""What agreeing costs: one more operation in sets of 100 to 100 000, beside exchanging whole sets.

    python benchmarks/crdt.py [--sizes 100,1000,10000,100000]

Half of the operations are adds of as many contributions by 50 members; the rest retract, add again and
publish coefficients. Signatures are left out but for the column `verify`, which every new operation costs
once. Times are medians of single calls on this machine.

    apply, view, roots    one operation, the view after it, and both of its roots
    join one, join all    a set with one new operation, or the whole set into an empty one
    scratch, first view   a view by the definition, and the first of a live view
    RFC 6962              the root after an insertion in the middle, were the set a Merkle tree over a list
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator

from crdtmerge.digest import Digest, Domain, digest
from crdtmerge.keys import NodeId
from crdtmerge.op import Add, Admit, Body, Coefficients, Genesis, Operation, Retract, Role
from crdtmerge.opset import OpSet
from crdtmerge.proof import branch_hash
from crdtmerge.recipe import Recipe
from crdtmerge.testing import key
from crdtmerge.visible import LiveView, view

MEMBERS = [key(f"member {number}").id for number in range(50)]
SINGLE = 200
"""Calls of which the median is taken."""


def content(number: int) -> Digest:
    """Return the digest of some contribution."""
    return digest(Domain.MANIFEST, number.to_bytes(8, "big"))


def founded() -> OpSet:
    """Return a federation with 50 members."""
    founder = key("founder")
    body = Genesis((founder.id,), None, None, Recipe("linear", version=1), bytes(16))
    ops = OpSet(Operation.sign(founder, body, federation=None, created_ms=0))
    for member in MEMBERS:
        say(ops, founder.id, Admit(member, Role.MEMBER))
    return ops


def say(ops: OpSet, author: NodeId, body: Body) -> Operation:
    """Add an operation with an empty signature, since signing 100 000 would take most of the time."""
    operation = Operation(ops.federation, author, len(ops), ops.heads(author), body, bytes(64))
    ops.add(operation, verify=False)
    return operation


def history(ops: OpSet) -> Iterator[tuple[NodeId, Body]]:
    """Yield what the members say, for ever."""
    number, last = 0, dict[NodeId, Digest]()
    while True:
        author = MEMBERS[number % len(MEMBERS)]
        if number % 4 < 2:
            yield author, Add(content(number))
            last[author] = ops.heads(author)[0]
        elif number % 4 == 2 and author in last:
            yield author, Retract((last[author],))
        elif number % 400 == 3:
            yield author, Coefficients(content(number), (content(number),))
        else:
            yield author, Add(content(number // 2))
        number += 1


def timed(call: Callable[[], object]) -> float:
    """Return the seconds that one call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def micro(seconds: list[float]) -> str:
    """Return the median in microseconds."""
    return f"{statistics.median(seconds) * 1e6:,.1f}"


def sorted_list(leaves: list[Digest]) -> None:
    """Hash what an insertion in the middle of a sorted list changes: the right half of its Merkle tree."""
    level = leaves[len(leaves) // 2 :]
    while len(level) > 1:
        pairs = zip(level[::2], level[1::2], strict=False)
        level = [branch_hash(0, left, right) for left, right in pairs] + level[len(level) // 2 * 2 :]


def row(size: int) -> list[str]:
    """Measure at one size of the set."""
    ops = founded()
    words = history(ops)
    while len(ops) < size:
        say(ops, *next(words))
    live = LiveView(ops)
    first = timed(lambda: (live.current.root, live.current.state_root))

    apply, fold, roots, delta = [], [], [], []
    for _ in range(SINGLE):
        operation = say(ops, *next(words))
        apply.append(timed(lambda: live.apply(operation)))  # noqa: B023 - called at once
        fold.append(timed(lambda: live.current))
        roots.append(timed(lambda: (live.current.root, live.current.state_root)))
    replica = ops.copy()
    for _ in range(SINGLE):
        sent = OpSet(ops.genesis)
        operation = say(ops, *next(words))
        sent.add(operation, verify=False)
        delta.append(timed(lambda: replica.join(sent)))  # noqa: B023
        live.apply(operation)

    whole = statistics.median(timed(lambda: OpSet(ops.genesis).join(ops)) for _ in range(3))
    scratch = min(timed(lambda: view(ops).state_root) for _ in range(2))
    assert live.current.state_root == view(ops).state_root
    listed = statistics.median(timed(lambda: sorted_list(list(live.current.state))) for _ in range(3))
    verify = [timed(ops.genesis.verify) for _ in range(SINGLE)]
    weight = [len(operation.encoded) for operation in ops]
    return [
        f"{size:,}",
        micro(verify),
        micro(apply),
        micro(fold),
        micro(roots),
        micro(delta),
        f"{statistics.median(weight):,.0f}",
        f"{whole * 1e3:,.1f}",
        f"{sum(weight):,}",
        f"{scratch * 1e3:,.1f}",
        f"{first * 1e3:,.1f}",
        f"{listed * 1e3:,.1f}",
    ]


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", default="100,1000,10000,100000")
    sizes = [int(size) for size in parser.parse_args().sizes.split(",")]
    heads = [
        ("operations", ""),
        ("verify", "µs"),
        ("apply", "µs"),
        ("view", "µs"),
        ("roots", "µs"),
        ("join one", "µs"),
        ("one op", "B"),
        ("join all", "ms"),
        ("all ops", "B"),
        ("scratch", "ms"),
        ("first view", "ms"),
        ("RFC 6962", "ms"),
    ]
    table = [[name for name, _ in heads], [unit for _, unit in heads], *map(row, sizes)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for line in table:
        print("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)))


if __name__ == "__main__":
    main()
