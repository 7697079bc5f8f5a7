"""Accuracy of the demo's digits: base, peers alone, and the plain average of them, over many seeds.

    python benchmarks/digits_accuracy.py --seeds 0 1 2 3 4 --peers 8

The average is taken in float64 by torch, not by crdtmerge: this measures the task, not the engine.
"""

from __future__ import annotations

import argparse
import time
from statistics import mean

import torch

from crdtmerge.demo.data import deal
from crdtmerge.demo.train import State, accuracy, fine_tune, train_base


def average(states: list[State]) -> State:
    """Return the plain average of some states."""
    return {name: torch.stack([s[name] for s in states]).double().mean(0).float() for name in states[0]}


def main() -> None:
    """Print one row for each seed, and the mean and the worst case of all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(5)))
    parser.add_argument("--peers", type=int, default=8)
    given = parser.parse_args()
    rows = []
    print("seed   base  mean peer  best peer  average   over base  over mean   CPU s")
    for seed in given.seeds:
        begun = time.process_time()
        parts = deal(given.peers, seed=seed)
        base = train_base(parts.base, seed=seed)
        tuned = [fine_tune(base, shard, seed=peer) for peer, shard in enumerate(parts.shards)]
        spent = time.process_time() - begun
        alone = [accuracy(state, parts.test) for state in tuned]
        before, merged = accuracy(base, parts.test), accuracy(average(tuned), parts.test)
        rows.append((before, mean(alone), max(alone), merged, merged - before, merged - mean(alone), spent))
        _print(f"{seed:4}", rows[-1])
    columns = list(zip(*rows, strict=True))
    _print("mean", [mean(column) for column in columns])
    _print(" min", [min(column) for column in columns])


def _print(name: str, row: tuple[float, ...] | list[float]) -> None:
    print(
        "{}  {:5.1f}      {:5.1f}      {:5.1f}    {:5.1f}       {:5.1f}      {:5.1f}   {:5.2f}".format(
            name, *row
        )
    )


if __name__ == "__main__":
    main()
