"""The demonstration, told while it happens; every sentence in it is checked.

    learn     a base model on a little public data, and fine-tunes of it on shards that are far from alike
    gather    nodes, real processes, find each other by tickets and exchange the first fine-tunes
    split     the network is cut in two; both sides go on contributing, and merge different models
    heal      the cut ends; every node merges the same model, byte for byte
    repeat    a stranger, with other threads and other CPU instructions, merges the same files too
    retract   one team withdraws its fine-tune; all agree again, on the model of the others

A check that fails ends the story with a `DemoError` that says which promise did not hold.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Final

from rich.console import Console
from safetensors.torch import load_file

from crdtmerge.demo import data, train
from crdtmerge.demo.faults import FaultProxy
from crdtmerge.demo.federation import Federation, answer
from crdtmerge.demo.report import Report, Stage
from crdtmerge.digest import Digest
from crdtmerge.errors import DemoError, DivergenceError, UsageError
from crdtmerge.ledger import Status
from crdtmerge.limits import MIB
from crdtmerge.resolve import MODEL, RECORD

BASE: Final = "base.safetensors"
RECIPE: Final = "weight_average"
TOGETHER_ONE_IN: Final = 4
"""Of the peers, that contribute before the network is cut."""


def main(directory: Path, *, seed: int, nodes: int, peers: int, json_: bool) -> None:
    """Tell the story on standard error and print the report: tables, or one JSON object.

    Raises:
        UsageError: if an earlier story stands in the directory.
        DemoError, DivergenceError: if a promise did not hold.
    """
    report = run(
        directory, seed=seed, nodes=nodes, peers=peers, console=Console(stderr=True, highlight=False)
    )
    if json_:
        sys.stdout.write(json.dumps(asdict(report)) + "\n")
    else:
        for table in report.tables():
            Console(highlight=False).print(table)
    report.check()


def run(directory: Path, *, seed: int, nodes: int = 4, peers: int = 8, console: Console) -> Report:
    """Tell the story.

    Args:
        directory: receives models, homes, logs and merged models.
        seed: of the data's deal and of all training; keys and ports are new each time.
        nodes: processes, at least 4.
        peers: teams that fine-tune, at least 8; they share the nodes.
        console: receives a line for everything that was shown.

    Returns:
        What happened; whether merging paid is `Report.check`'s to say.

    Raises:
        UsageError: if an earlier story stands in the directory.
        DemoError: if something that was promised did not happen.
        DivergenceError: if two nodes merged the same contributions to different models.
    """
    begun = time.monotonic()
    if (directory / BASE).exists():
        raise UsageError(f"{directory} holds an earlier demonstration: name a new folder, or remove it")
    report = Report(seed, nodes, peers)
    with FaultProxy() as faults, Federation(directory, faults=faults) as federation:
        story = _Story(directory, report, federation, faults, console)
        for chapter in (story.learn, story.gather, story.split, story.heal, story.repeat, story.retract):
            with console.status(chapter.__name__):
                chapter()
    report.seconds = time.monotonic() - begun
    return report


class _Story:
    """The chapters, in order, and what they hand on."""

    def __init__(
        self, directory: Path, report: Report, federation: Federation, faults: FaultProxy, console: Console
    ) -> None:
        self.directory, self.report = directory, report
        self.federation, self.faults, self.console = federation, faults, console
        self.names = [f"node-{number + 1}" for number in range(report.nodes)]
        self.begun = time.monotonic()
        self.contributed: dict[int, Digest] = {}

    def learn(self) -> None:
        parts = data.deal(self.report.peers, seed=self.report.seed)
        base = train.train_base(parts.base, seed=self.report.seed)
        self.test, self.report.tested = parts.test, len(parts.test)
        self.base = train.save(base, self.directory / BASE)
        self.report.base = train.accuracy(base, parts.test)
        self.files = []
        for peer, shard in enumerate(parts.shards):
            tuned = train.fine_tune(base, shard, seed=peer)
            self.files.append(train.save(tuned, self.directory / f"peer-{peer + 1}.safetensors"))
            self.report.alone.append(train.accuracy(tuned, parts.test))
        self._say(
            f"{len(self.files)} teams fine-tuned one base model, each on its own "
            f"{min(map(len, parts.shards))} to {max(map(len, parts.shards))} of 1,797 real digits"
        )

    def gather(self) -> None:
        founder, *others = self.names
        self.federation.found(founder, base=self.base, recipe=RECIPE)
        self.federation.join(*others)
        together = range(max(2, self.report.peers // TOGETHER_ONE_IN))
        self._contribute(together)
        self.federation.settle(contributions=self.contributed.values())
        self._say(
            f"{len(self.names)} node processes joined over mTLS and exchanged {len(together)} fine-tunes"
        )

    def split(self) -> None:
        half = len(self.names) // 2
        sides = self.names[:half], self.names[half:]
        before = dict(self.contributed)
        self.faults.partition(*sides)
        self._contribute(range(len(before), self.report.peers))
        stage = Stage("split")
        for side in sides:
            theirs = [d for p, d in self.contributed.items() if p in before or self._node(p) in side]
            self._merge(stage, self.federation.settle(*side, contributions=theirs))
        if len(set(stage.models.values())) != len(sides) or len(set(stage.roots.values())) != len(sides):
            raise DemoError("the two sides of the split should have merged different models, and did not")
        self.report.refused = sum(
            self.faults.traffic(a, b).refused + self.faults.traffic(b, a).refused
            for a in sides[0]
            for b in sides[1]
        )
        if self.report.refused == 0:
            raise DemoError("no node tried to cross the cut, so nothing shows that the network was split")
        self.report.stages.append(stage)
        self._say(
            f"cut in two: {self.report.refused} connections refused; each side merged what it sees, "
            f"{' and '.join(sorted({model[:12] for model in stage.models.values()}))}"
        )

    def heal(self) -> None:
        self.faults.heal()
        stage = self._agree("healed")
        self._say(f"healed: all nodes merged {next(iter(stage.models.values()))[:12]}, equal byte for byte")

    def repeat(self) -> None:
        out = self.directory / "repeated"
        files = [f"{self._label(peer)}={file}" for peer, file in enumerate(self.files)]
        again = [sys.executable, "-m", "crdtmerge.demo.again", str(self.base), str(out), *files]
        plain = os.environ | {"ATEN_CPU_CAPABILITY": "default"}
        repeated = answer(
            [*again, "--recipe", RECIPE, "--threads", "3"], "the same merge by a stranger", plain
        )
        stage = self.report.stages[-1]
        _require_equal({**stage.models, "a stranger": repeated["model"]})
        self._require_equal_files([self._out("healed", self.names[0]), out])
        self._say("a stranger with 3 threads and the plainest CPU kernels merged the same bytes")

    def retract(self) -> None:
        peer = self.report.peers - 1
        withdrawn = self.contributed.pop(peer)
        self.report.retracted = withdrawn.hex()
        with self.federation.replica(self._node(peer)) as replica:
            replica.retract(withdrawn)
        self._agree("retracted")
        links = ((a, b) for a in self.names for b in self.names if a != b)
        counted = [self.faults.traffic(*link) for link in links]
        self.report.exchanged_bytes = sum(traffic.sent + traffic.received for traffic in counted)
        self._say(
            f"{self._label(peer)} withdrew its fine-tune: all nodes agree on the model of the others; "
            f"{self.report.exchanged_bytes / MIB:.1f} MiB passed between them in all"
        )

    def _contribute(self, peers: Iterable[int]) -> None:
        for peer in peers:
            with self.federation.replica(self._node(peer)) as replica:
                self.contributed[peer] = replica.contribute(self.files[peer], label=self._label(peer))

    def _agree(self, title: str) -> Stage:
        """Wait for all nodes to agree, let each merge, and require equal files."""
        stage = Stage(title)
        self._merge(stage, self.federation.settle(contributions=self.contributed.values()))
        _require_equal(stage.models)
        self._require_equal_files([self._out(title, name) for name in self.names])
        self.report.stages.append(stage)
        return stage

    def _merge(self, stage: Stage, stand: Mapping[str, Status]) -> None:
        """Let nodes merge, each what its own home holds, with a number of threads of its own."""
        for name, status in stand.items():
            out = self._out(stage.title, name)
            with self.federation.replica(name) as replica:
                resolved = replica.resolve(out, threads=1 + self.names.index(name))
            stage.models[name] = resolved.model.hex()
            stage.roots[name] = status.root.hex()
            stage.accuracy[name] = train.accuracy(load_file(out / MODEL), self.test)

    def _require_equal_files(self, folders: list[Path]) -> None:
        for file in (MODEL, RECORD):
            if len({(folder / file).read_bytes() for folder in folders}) != 1:
                raise DemoError(f"{file} differs between {', '.join(map(str, folders))}")

    def _out(self, title: str, name: str) -> Path:
        return self.directory / "merged" / title / name

    def _node(self, peer: int) -> str:
        return self.names[peer % len(self.names)]

    def _label(self, peer: int) -> str:
        return f"peer-{peer + 1}"

    def _say(self, sentence: str) -> None:
        self.console.print(f"[dim]{time.monotonic() - self.begun:5.1f} s[/]  {sentence}", soft_wrap=True)


def _require_equal(models: Mapping[str, str]) -> None:
    (first, ours), *others = models.items()
    for name, theirs in others:
        if theirs != ours:
            raise DivergenceError(
                f"{first} and {name} merged the same contributions to different models",
                ours=bytes.fromhex(ours),
                theirs=bytes.fromhex(theirs),
            )
