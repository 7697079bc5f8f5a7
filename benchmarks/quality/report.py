"""Tables and plots of what `run` wrote down: the tables of docs/quality.md, and two SVG files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any, Final

from crdtmerge.simulations import chart

Row = dict[str, Any]

SHOWN: Final = ("weight_average", "task_arithmetic", "ties", "dare", "trimmed_mean", "geometric_median")
"""In the plot over the number of peers."""


def score(row: Row, part: str) -> float:
    """Return the mean accuracy over the tasks of a line."""
    return mean(row[part].values())


def default(rows: Iterable[Row], seed: int) -> float | None:
    """Return the test accuracy with default parameters."""
    found = [row for row in rows if row["seed"] == seed and row["setting"] == {} and "test" in row]
    return score(found[0], "test") if found else None


def tuned(rows: Iterable[Row], seed: int) -> float | None:
    """Return the test accuracy of the setting that is best on held-out examples."""
    found = [row for row in rows if row["seed"] == seed and "test" in row]
    return score(max(found, key=lambda row: score(row, "tune")), "test") if found else None


def spread(values: Sequence[float | None]) -> str:
    """Return mean and standard deviation over the seeds."""
    known = [value for value in values if value is not None]
    if not known:
        return "–"
    return f"{mean(known):.1f}" + (f" ± {stdev(known):.1f}" if len(known) > 1 else "")


def by_strategy(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Return the lines of each strategy."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row["strategy"], []).append(row)
    return found


def text_table(rows: list[Row]) -> str:
    """Return the table of the text tasks, best tuned first."""
    seeds = sorted({row["seed"] for row in rows})
    found = by_strategy(rows)
    experts = [name for name in found if name.startswith("expert ")]
    own = [
        mean(
            row["test"][name.removeprefix("expert ")]
            for name in experts
            for row in found[name]
            if row["seed"] == seed
        )
        for seed in seeds
    ]
    lines = [
        "| strategy | default | tuned | seconds |",
        "|---|---|---|---|",
        f"| *each expert on its own task* | {spread(own)} | | |",
        f"| *base* | {spread([default(found['base'], seed) for seed in seeds])} | | |",
    ]
    merged = {name: part for name, part in found.items() if name != "base" and name not in experts}
    best = {name: [tuned(part, seed) for seed in seeds] for name, part in merged.items()}
    order = sorted(merged, key=lambda n: -mean([b for b in best[n] if b is not None] or [0.0]))
    for name in order:
        plain = [default(merged[name], seed) for seed in seeds]
        taken = [row["seconds"] for row in merged[name] if row["setting"] == {} and "seconds" in row]
        seconds = f"{mean(taken):.1f}" if taken else "–"
        lines.append(f"| {name} | {spread(plain)} | {spread(best[name])} | {seconds} |")
    return "\n".join(lines) + "\n"


def digits_table(rows: list[Row]) -> str:
    """Return the table of the digits, best tuned at the most peers first."""
    seeds = sorted({row["seed"] for row in rows})
    counts = sorted({row["peers"] for row in rows if "peers" in row})
    found = by_strategy(rows)
    alone = [
        mean(
            score(r, "test")
            for n, part in found.items()
            if n.startswith("expert ")
            for r in part
            if r["seed"] == seed
        )
        for seed in seeds
    ]
    head = " | ".join(f"k = {k}" for k in counts)
    lines = [
        f"| strategy | {head} | " + " | ".join(f"tuned {k}" for k in counts) + " |",
        "|---|" + "---|" * (2 * len(counts)),
        f"| *base* | {spread([default(found['base'], seed) for seed in seeds])} |"
        + " |" * (2 * len(counts) - 1),
        f"| *mean peer alone* | {spread(alone)} |" + " |" * (2 * len(counts) - 1),
    ]
    merged = {n: part for n, part in found.items() if n != "base" and not n.startswith("expert ")}

    def cells(part: list[Row]) -> list[list[float | None]]:
        at = [[row for row in part if row.get("peers") == k] for k in counts]
        return [[f(rows, seed) for seed in seeds] for f in (default, tuned) for rows in at]

    table = {name: cells(part) for name, part in merged.items()}
    order = sorted(table, key=lambda n: -mean([c for c in table[n][-1] if c is not None] or [0.0]))
    lines += [f"| {name} | " + " | ".join(spread(cell) for cell in table[name]) + " |" for name in order]
    return "\n".join(lines) + "\n"


def digits_plot(rows: list[Row]) -> str:
    """Return accuracy with default parameters over the number of merged peers."""
    found = by_strategy(rows)
    seeds = sorted({row["seed"] for row in rows})
    series = {}
    for name in SHOWN:
        points = []
        for k in sorted({row["peers"] for row in rows if "peers" in row}):
            known = [default([r for r in found[name] if r.get("peers") == k], seed) for seed in seeds]
            values = [value for value in known if value is not None]
            if values:
                points.append((float(k), mean(values)))
        series[name] = points
    return chart.lines("Digits: default parameters, as peers join", series, x="peers merged", y="accuracy, %")


def text_plot(rows: list[Row]) -> str:
    """Return as bars by how much tuned merges are better than the base; those that are not have none."""
    seeds = sorted({row["seed"] for row in rows})
    found = by_strategy(rows)
    bars = {}
    for name in found.keys() - {"base"}:
        pairs = [(tuned(found[name], seed), default(found["base"], seed)) for seed in seeds]
        gains = [merged - base for merged, base in pairs if merged is not None and base is not None]
        if gains and not name.startswith("expert "):
            bars[name] = max(mean(gains), 0.0)
    best = dict(sorted(bars.items(), key=lambda item: (-item[1], item[0])))
    return chart.bars("Six text tasks: tuned, mean of the seeds", best, y="points above the base")


def write(folder: Path) -> None:
    """Print both tables and write both plots."""
    for name, table, plot in (("text", text_table, text_plot), ("digits", digits_table, digits_plot)):
        path = folder / f"{name}.jsonl"
        if path.exists():
            rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
            print(f"## {name}\n\n{table(rows)}")
            (folder / f"quality-{name}.svg").write_text(plot(rows), "utf-8")
