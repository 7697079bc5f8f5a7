"""How fast each strategy merges, beside copying the same bytes, in one run.

    python benchmarks/merge.py [--mib 64] [--models 4] [--threads 1]

Rates count the bytes of all contributions, the base where it is read, and the result. Ratios are good to
about a factor of 1.3 on a quiet machine; on a busy one only their order means something.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch

from crdtmerge.manifest import Kind
from crdtmerge.merkle import MerkleSet
from crdtmerge.recipe import Recipe
from crdtmerge.resolve import MemorySink, execute, plan, take
from crdtmerge.store import Store
from crdtmerge.strategy import strategies


def best(work: Callable[[], object], times: int = 3) -> float:
    """Return the seconds of the fastest of a few runs."""
    taken = []
    for _ in range(times):
        begun = time.perf_counter()
        work()
        taken.append(time.perf_counter() - begun)
    return min(taken)


def main() -> None:
    """Print one row for each installed strategy."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=64)
    parser.add_argument("--models", type=int, default=4)
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args()
    elements = chosen.mib * (1 << 20) // 4
    source = torch.arange(elements, dtype=torch.float32)
    target = torch.empty_like(source)
    copy = 2 * 4 * elements / best(lambda: target.copy_(source))
    print(f"copy           {copy / 1e9:7.2f} GB/s")
    with Store.memory() as store:
        draw = torch.Generator().manual_seed(0)
        weights = torch.randn(elements // 1024, 1024, generator=draw)
        base = take(store, {"w": weights}, kind=Kind.BASE, base=None)
        tuned = [
            take(
                store,
                {"w": weights + 0.01 * torch.randn(weights.shape, generator=draw)},
                kind=Kind.FULL,
                base=base.digest,
            )
            for _ in range(chosen.models)
        ]
        digests = [manifest.digest for manifest in tuned]
        for (name, _), strategy in strategies().items():
            made = plan(
                store, digests, base=base.digest, recipe=Recipe(name), root=MerkleSet.of(digests).root
            )

            def merge(made=made) -> None:  # type: ignore[no-untyped-def]
                execute(made, store.reader(1 << 28), MemorySink(made.layout), threads=chosen.threads)

            moved = 4 * elements * (chosen.models + 1 + strategy.declared.base)
            rate = moved / best(merge, 2)
            print(f"{name:14s} {rate / 1e9:7.2f} GB/s   {rate / copy:6.3f} of copy")


if __name__ == "__main__":
    main()
