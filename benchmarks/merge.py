"""How fast strategies merge, beside copying the same bytes, in one run.

    python benchmarks/merge.py [STRATEGY ...] [--mib 64] [--models 4] [--dtype F32] [--threads 1] [--torch]

With compiled loops where numba is installed, unless ``--torch`` is given.
Rates count the bytes of all contributions, the base where it is declared, and the result. With one thread
they are of processor time, which a busy machine disturbs least, otherwise of time that passed. *Verify* is
what hashing all that a merge reads costs by itself: none can do without, and the last column leaves it out.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch

from crdtmerge.arith import compiled
from crdtmerge.manifest import Kind, Manifest
from crdtmerge.merkle import MerkleSet
from crdtmerge.recipe import Recipe
from crdtmerge.resolve import MemorySink, Plan, execute, plan, take
from crdtmerge.store import Store
from crdtmerge.strategy import find

NAMES = ("weight_average", "linear", "task_arithmetic", "slerp", "dare", "ties", "dare_ties")
TORCH = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


ROUNDS = 7


def best(work: Callable[[], object], clock: Callable[[], float], times: int = 3) -> float:
    """Return the seconds of the fastest of a few runs."""
    taken = []
    for _ in range(times):
        begun = clock()
        work()
        taken.append(clock() - begun)
    return min(taken)


def main() -> None:
    """Print one row for each strategy."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("strategies", nargs="*", default=NAMES)
    parser.add_argument("--mib", type=int, default=64, help="of one model")
    parser.add_argument("--models", type=int, default=4)
    parser.add_argument("--dtype", choices=TORCH, default="F32")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--torch", action="store_true", help="without compiled loops")
    chosen = parser.parse_args()
    if chosen.torch:
        compiled.available = lambda: False  # type: ignore[assignment]
    print("compiled loops" if compiled.load() else "torch alone")
    clock = time.process_time if chosen.threads == 1 else time.perf_counter
    one: int = chosen.mib << 20
    kind = TORCH[chosen.dtype]
    source = torch.ones(one, dtype=torch.uint8)
    target = torch.ones_like(source)

    def copy() -> float:
        return best(lambda: target.copy_(source), clock, 1)

    with Store.memory() as store:
        draw = torch.Generator().manual_seed(0)
        shape = (one // kind.itemsize // 1024, 1024)
        weights = torch.randn(shape, generator=draw)
        base = take(store, {"w": weights.to(kind)}, kind=Kind.BASE, base=None)
        tuned = [
            take(
                store,
                {"w": (weights + 0.01 * torch.randn(shape, generator=draw)).to(kind)},
                kind=Kind.FULL,
                base=base.digest,
            )
            for _ in range(chosen.models)
        ]
        digests = [manifest.digest for manifest in tuned]

        def verify(*read: Manifest) -> None:
            blocks = [name for manifest in read for name in store.block_list(manifest.tensors[0].root)]
            with ThreadPoolExecutor(chosen.threads) as pool:
                list(pool.map(lambda name: len(store.blocks.get(name)), blocks))

        hashing = best(lambda: verify(*tuned), clock)
        print(f"{'copy':16s}{2 * one / min(copy() for _ in range(9)) / 1e9:7.2f} GB/s")
        print(f"{'verify':16s}{one * chosen.models / hashing / 1e9:7.2f} GB/s")
        for name in chosen.strategies:
            made = plan(
                store, digests, base=base.digest, recipe=Recipe(name), root=MerkleSet.of(digests).root
            )

            read = (base, *tuned) if find(name).declared.base else tuned
            moved = one * (len(read) + 1)

            def verify_it(read: Sequence[Manifest] = read) -> None:
                verify(*read)

            def merge(made: Plan = made) -> None:
                execute(made, store.reader(16 * one), MemorySink(made.layout), threads=chosen.threads)

            # By turns, so that both meet the same neighbours; the best of each.
            turns = [
                (copy(), best(merge, clock, 1), copy(), best(verify_it, clock, 1)) for _ in range(ROUNDS)
            ]
            copying, taken, again, hashing = (min(column) for column in zip(*turns, strict=True))
            beside = 2 * one / min(copying, again)
            rate, arithmetic = moved / taken, moved / (taken - hashing)
            print(
                f"{name:16s}{rate / 1e9:7.2f} GB/s {rate / beside:7.3f} of copy,"
                f" {arithmetic / beside:6.3f} without verification"
            )


if __name__ == "__main__":
    main()
