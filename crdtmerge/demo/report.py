"""What happened in the demonstration: data for programs, tables for people, and whether merging paid."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import mean
from typing import Final

from rich.table import Table

from crdtmerge.errors import DemoError

MARGIN_POINTS: Final = 10.0
"""By how much the model merged from all must beat the mean peer."""
DIGITS_SHOWN: Final = 12
"""Of a digest in a table; the JSON report has them whole."""


@dataclass(frozen=True)
class Stage:
    """Where every node stood at one point of the story, by its name; digests in hexadecimal.

    Attributes:
        title: of the stage.
        roots: of the contributions that each node sees.
        models: of what each node merged.
        accuracy: of that, in percent.
    """

    title: str
    roots: dict[str, str] = field(default_factory=dict)
    models: dict[str, str] = field(default_factory=dict)
    accuracy: dict[str, float] = field(default_factory=dict)


@dataclass
class Report:
    """What happened.

    Attributes:
        seed, nodes, peers: what the story was told with.
        tested: examples on which every accuracy was measured.
        base, alone: accuracy in percent of the base model, and of each peer's fine-tune.
        stages: split, healed, retracted.
        retracted: the contribution that was withdrawn.
        refused, exchanged_bytes: connections that the cut refused, and what passed between nodes in all.
        seconds: how long it took.
    """

    seed: int
    nodes: int
    peers: int
    tested: int = 0
    base: float = 0.0
    alone: list[float] = field(default_factory=list)
    stages: list[Stage] = field(default_factory=list)
    retracted: str = ""
    refused: int = 0
    exchanged_bytes: int = 0
    seconds: float = 0.0

    def merged(self, title: str) -> dict[str, float]:
        """Return the accuracy of each different model of a stage, by the names of the nodes that have it."""
        stage = next(stage for stage in self.stages if stage.title == title)
        holders: dict[str, list[str]] = {}
        for node, model in stage.models.items():
            holders.setdefault(model, []).append(node)
        return {", ".join(nodes): stage.accuracy[nodes[0]] for nodes in holders.values()}

    def check(self) -> None:
        """Compare accuracies.

        Raises:
            DemoError: if merging everything did not pay.
        """
        (merged,) = self.merged("healed").values()
        if merged <= self.base or merged <= mean(self.alone) + MARGIN_POINTS:
            raise DemoError(
                f"with seed {self.seed} merging did not pay: the model merged from all finds {merged:.1f} % "
                f"of the digits, the base {self.base:.1f} %, the mean peer {mean(self.alone):.1f} %"
            )

    def tables(self) -> list[Table]:
        """Return what merging gained, and who agreed with whom."""
        gain = Table("model", "accuracy", title=f"Digits found, of {self.tested} that nobody trained on")
        gain.columns[1].justify = "right"
        rows = {"base": self.base, "mean peer": mean(self.alone), "best peer": max(self.alone)}
        for stage in self.stages:
            merged = self.merged(stage.title)
            for nodes, percent in merged.items():
                rows[f"merged, {stage.title}" + (f" ({nodes})" if len(merged) > 1 else "")] = percent
        for name, percent in rows.items():
            gain.add_row(name, f"{percent:.1f} %")
        agreement = Table("node", "", *(stage.title for stage in self.stages), title="Who agrees with whom")
        for node in self.stages[0].roots:
            roots = [stage.roots[node][:DIGITS_SHOWN] for stage in self.stages]
            models = [stage.models[node][:DIGITS_SHOWN] for stage in self.stages]
            agreement.add_row(f"{node}\n", "root\nmodel", *map("\n".join, zip(roots, models, strict=True)))
        return [gain, agreement]
