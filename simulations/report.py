"""What a simulation or a campaign leaves behind: JSON for programs, plots for people.

outcome.json   everything        convergence.svg  agreement over time, with what went wrong behind it
campaign.json  all the counts    bytes.svg        what each host sent
settled.svg      how long agreement took, over all seeds
faults.svg       what went wrong, and how often
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from crdtmerge.simulations import chart
from crdtmerge.simulations.campaign import Totals
from crdtmerge.simulations.run import Outcome


def of_one(outcome: Outcome) -> dict[str, str]:
    """Return the files of one simulation, by name."""
    samples = outcome.samples
    seconds = [sample.at_ms / 1000 for sample in samples]
    title = f"{outcome.scenario}, seed {outcome.seed}"
    return {
        "outcome.json": json.dumps(asdict(outcome), indent=1) + "\n",
        "convergence.svg": chart.lines(
            f"{title}: agreement of {outcome.hosts - outcome.enemies} hosts over time",
            {
                "running": list(zip(seconds, [s.running for s in samples], strict=True)),
                "agree": list(zip(seconds, [s.largest for s in samples], strict=True)),
                "complete": list(zip(seconds, [s.complete for s in samples], strict=True)),
                "different states": list(zip(seconds, [s.roots for s in samples], strict=True)),
            },
            x="virtual time, s",
            y="hosts",
            shades=shades(outcome),
            steps=True,
        ),
        "traffic.svg": chart.lines(
            f"{title}: bytes sent by all",
            {"kB": [(s.at_ms / 1000, s.bytes / 1000) for s in samples]},
            x="virtual time, s",
            y="kB",
            shades=shades(outcome),
        ),
        "bytes.svg": chart.bars(
            f"{title}: bytes sent by each honest host",
            {f"{number}": sent / 1000 for number, sent in enumerate(outcome.bytes_per_host)},
            y="kB",
        ),
    }


def shades(outcome: Outcome) -> list[tuple[float, float, str]]:
    """Return what lasted, from when to when."""
    found = []
    for at_ms, text in outcome.timeline:
        what, lasts, rest = text.partition(" for ")
        if lasts:
            found.append((at_ms / 1000, at_ms / 1000 + int(rest.removesuffix(" s")), what))
    return found


def of_many(totals: Totals) -> dict[str, str]:
    """Return the files of a campaign, by name."""
    took = Counter(settled_ms // 10_000 for settled_ms in totals.settled_ms)
    spread = {f"{10 * ten} s": float(took[ten]) for ten in range(max(took, default=0) + 1)}
    faults = dict(sorted(totals.faults.items(), key=lambda item: -item[1]))
    messages = ("message lost", "message doubled")
    return {
        "campaign.json": json.dumps(totals.data(), indent=1) + "\n",
        "settled.svg": chart.bars(
            f"{totals.scenario}: from the last fault to agreement, {totals.seeds} seeds", spread, y="seeds"
        ),
        "faults.svg": chart.bars(
            f"{totals.scenario}: what went wrong in {totals.seeds} seeds, beside lost and doubled messages",
            {name: float(count) for name, count in faults.items() if name not in messages},
            y="times",
        ),
    }


def write(folder: Path, files: Mapping[str, str]) -> None:
    """Write a report into a folder, which is made if it is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)
