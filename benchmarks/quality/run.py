"""How good merged models are: six text tasks on MiniLM, and federated digits over the number of peers.

    python benchmarks/quality/run.py text --data FOLDER --out results [--seeds 0 1 2]
    python benchmarks/quality/run.py digits --data FOLDER --out results [--seeds 0 1 2]
    python benchmarks/quality/run.py report --out results

Either takes ``--strategies`` (only these) and ``--defaults`` (tune nothing): the slowest take hours.
FOLDER holds the archives that benchmarks/quality/texts.py names. Every (seed, strategy, setting) is one
line in a file of results; a run that was interrupted goes on behind the last one. Accuracies are percent on
test examples; "tuned" is the setting that is best on held-out examples, which no model was trained on.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from grid import compared, settings

from crdtmerge import Recipe, merge
from crdtmerge.errors import CrdtMergeError

State = Mapping[str, torch.Tensor]
Score = Callable[[State, str], dict[str, float]]
"""From a merged model and a part of the examples ("tune" or "test") to accuracies by task."""


class Ledger:
    """Lines of results, each written as soon as it is known.

    Attributes:
        only: the strategies that are compared in this run; all, if it is empty.
        defaults: whether nothing is tuned.
        rows: what is known.
    """

    def __init__(self, path: Path, only: Sequence[str] = (), *, defaults: bool = False) -> None:
        self.only, self.defaults = only, defaults
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        lines = path.read_text("utf-8").splitlines() if path.exists() else []
        self.rows = [json.loads(line) for line in lines]

    def has(self, **key: object) -> bool:
        """Whether a line with these values is there."""
        return any(all(row.get(k) == v for k, v in key.items()) for row in self.rows)

    def best(self, **key: object) -> float:
        """Return the highest held-out accuracy of the lines with these values."""
        found = (r for r in self.rows if all(r.get(k) == v for k, v in key.items()))
        return max((_mean(row["tune"]) for row in found if "tune" in row), default=0.0)

    def add(self, **row: object) -> None:
        """Append a line."""
        self.rows.append(row)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def compare(ledger: Ledger, key: dict[str, object], base: State, tuned: list[State], score: Score) -> None:
    """Merge by every strategy in every setting, and write down how good the results are."""
    names = [name for name in compared() if not ledger.only or name in ledger.only]
    for i, name in enumerate(names):
        for setting in settings(name)[: 1 if ledger.defaults else None]:
            if ledger.has(**key, strategy=name, setting=setting):
                continue
            best = ledger.best(**key, strategy=name)
            begun = time.perf_counter()
            row: dict[str, Any] = {}
            try:
                merged = merge(tuned, base=base, recipe=Recipe(name, **setting))  # type: ignore[arg-type]
                seconds = time.perf_counter() - begun
                row = {"tune": score(merged, "tune"), "seconds": seconds}
                if (
                    not setting or _mean(row["tune"]) > best
                ):  # another setting's test score is never asked for
                    row["test"] = score(merged, "test")
            except CrdtMergeError as error:
                row = {"refused": str(error)}
            ledger.add(**key, strategy=name, setting=setting, **row)
            print(f"{key} {i + 1}/{len(names)} {name} {setting or 'default'} {_short(row)}", flush=True)


def _mean(scores: Any) -> float:
    return sum(scores.values()) / len(scores)


def _short(row: Mapping[str, Any]) -> str:
    if "refused" in row:
        return "refused"
    return f"held-out {_mean(row['tune']):.1f}" + (
        f", test {_mean(row['test']):.1f}" if "test" in row else ""
    )


def main() -> None:
    """Run one of the three parts."""
    parser = argparse.ArgumentParser(description="How good merged models are.")
    parser.add_argument("part", choices=("text", "digits", "report"))
    parser.add_argument("--data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--strategies", nargs="+", default=[], help="only these (default: all)")
    parser.add_argument("--defaults", action="store_true", help="tune nothing")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    if chosen.part == "report":
        import report

        report.write(chosen.out)
        return
    ledger = Ledger(chosen.out / f"{chosen.part}.jsonl", chosen.strategies, defaults=chosen.defaults)
    for seed in chosen.seeds:
        if chosen.part == "text":
            import text

            text.run(chosen.data, seed, ledger)
        else:
            import digits

            digits.run(chosen.data, seed, ledger)


if __name__ == "__main__":
    main()
