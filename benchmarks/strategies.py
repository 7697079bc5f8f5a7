"""How long each strategy takes on one synthetic model, beside the plain average, in one run.

    OMP_NUM_THREADS=1 python benchmarks/strategies.py [--width 256] [--models 4] [--only NAME …]

The model has two square matrices, one four times as wide, and the vectors that go with them; evidence and
roles are given where a strategy asks for them, and what needs published coefficients runs from its initial
point. Seconds are CPU time of the best of two runs (one for those that take more than five seconds); ratios
are to weight_average.
"""

from __future__ import annotations

import argparse
import time
import warnings

import torch

from crdtmerge import Recipe, merge
from crdtmerge.errors import UnrelatedBaseWarning
from crdtmerge.resolve import Contribution
from crdtmerge.selftest import equipped
from crdtmerge.strategy import find, strategies


def model(width: int, seed: int, base: dict[str, torch.Tensor] | None) -> dict[str, torch.Tensor]:
    """Return a base, or a model near one."""
    draw = torch.Generator().manual_seed(seed)
    shapes = {
        "attention.weight": (width, width),
        "attention.bias": (width,),
        "output.weight": (width, width),
        "wide.weight": (4 * width, width),
        "wide.bias": (4 * width,),
    }
    values = {name: torch.randn(shape, generator=draw) for name, shape in shapes.items()}
    return values if base is None else {name: base[name] + 0.01 * x for name, x in values.items()}


def seconds(name: str, base: dict[str, torch.Tensor], tuned: list[dict[str, torch.Tensor]]) -> float:
    """Return the CPU seconds of a merge, the faster of two unless it is slow."""
    found = find(name)
    needs = found.needs(found.read(()))
    given: list[Contribution] = [equipped(m, i, needs) for i, m in enumerate(tuned)]
    best = float("inf")
    for _ in range(2):
        begun = time.process_time()
        merge(given[: needs.members_max], base=base, recipe=Recipe(name))
        best = min(best, time.process_time() - begun)
        if best > 5:
            break
    return best


def main() -> None:
    """Print one row for each strategy, the fastest first."""
    parser = argparse.ArgumentParser(description="Seconds per strategy on one synthetic model.")
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--models", type=int, default=4)
    parser.add_argument("--only", nargs="+")
    chosen = parser.parse_args()
    warnings.simplefilter("ignore", UnrelatedBaseWarning)
    torch.set_num_threads(1)
    base = model(chosen.width, 0, None)
    tuned = [model(chosen.width, 1 + i, base) for i in range(chosen.models)]
    names = chosen.only or sorted({name for name, _ in strategies()})
    seconds("weight_average", base, tuned)
    average = seconds("weight_average", base, tuned)
    taken = {}
    for name in names:
        taken[name] = seconds(name, base, tuned)
        print(f"  {name}: {taken[name]:.3f} s", flush=True)
    size = sum(x.numel() for x in base.values())
    print(f"\n{chosen.models} models of {size:,} float32 parameters\n")
    print("| strategy | CPU seconds | times weight_average |\n|---|---|---|")
    for name, spent in sorted(taken.items(), key=lambda item: item[1]):
        print(f"| {name} | {spent:.3f} | {spent / average:.1f} |")


if __name__ == "__main__":
    main()
