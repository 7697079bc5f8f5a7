"""The algebra of 26 merge strategies, raw and through the two layers, beside the published table.

    python benchmarks/paper_tier1.py [--json]

Gillespie 2026 (arXiv:2605.19373, Tier 1) tests whether a strategy, used as a pairwise operation on 4 x 4
float64 tensors (seed 42, tolerance 1e-5), is commutative, associative and idempotent, and finds that none of
26 is all three. The same is done here with the published methods themselves: ``f(x, y)`` is the strategy on
two contributions in the order given, ``f(f(a, b), c)`` feeds its result on as a contribution. A merged model
brings the mean of its parents' evidence; where a method asks for roles, the first argument has the first.
Letters: p holds, f fails; the second of each pair is the paper's. Then the same 26 through the two layers:
replicas that contribute and join in every order, and twice. docs/paper-tier1.md explains the differences.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Final

import torch

from crdtmerge import Recipe, Replica
from crdtmerge.arith import decoded, draw
from crdtmerge.digest import Digest
from crdtmerge.errors import UnrelatedBaseWarning
from crdtmerge.resolve.statedict import to_raw
from crdtmerge.selftest import testimony
from crdtmerge.strategy import Group, Member, Needs, Strategy, Tile, find

PAPER: Final = {
    "ada_merging": "pfp",
    "adarank": "pff",
    "dam": "pfp",
    "dare": "fff",
    "dare_ties": "fff",
    "della": "fff",
    "dual_projection": "pfp",
    "emr": "pff",
    "evolutionary_merge": "fff",
    "fisher_merge": "pfp",
    "genetic_merge": "pfp",
    "led_merge": "pfp",
    "linear": "pfp",
    "model_breadcrumbs": "pff",
    "negative_merge": "pff",
    "regression_mean": "pfp",
    "representation_surgery": "pfp",
    "safe_merge": "pfp",
    "slerp": "pfp",
    "split_unlearn_merge": "pff",
    "star": "pff",
    "svd_knot_tying": "ffp",
    "task_arithmetic": "ppf",
    "ties": "pff",
    "weight_average": "pfp",
    "weight_scope_alignment": "pfp",
}
"""Commutative, associative, idempotent: the paper's table of raw operations."""

SHAPE: Final = (4, 4)
TOLERANCE: Final = 1e-5


@dataclass(frozen=True)
class Model:
    """A tensor, and what is said about it."""

    values: torch.Tensor
    evidence: dict[str, torch.Tensor]


def make(values: torch.Tensor, needs: Needs) -> Model:
    """Return a contribution with the evidence that a strategy needs."""
    said = {kind: testimony(kind, values.reshape(SHAPE)) for kind in needs.kinds_read}
    return Model(values, {kind: e.double() for kind, e in said.items() if e is not None})


def role(needs: Needs, place: int) -> str | None:
    """Return the role of the contribution at a place."""
    return needs.roles[place % len(needs.roles)] if needs.roles else None


def pairwise(strategy: Strategy, base: torch.Tensor) -> Callable[[Model, Model], Model]:
    """Return the strategy as a raw operation on two models."""
    arguments = strategy.read(())
    needs = strategy.needs(arguments)

    def merge(x: Model, y: Model) -> Model:
        pair = (x, y)
        members = tuple(Member(Digest(bytes([i]) * 32), role=role(needs, i)) for i in range(2))
        group = Group((("w", SHAPE),), members)
        keys = tuple(
            draw.key(Digest(bytes(32)), strategy.name, strategy.version, b"", member.digest, "w")
            for member in members
        )
        tile = Tile(
            tensor="w",
            shape=SHAPE,
            start=0,
            stored_base=base,
            stored=tuple(model.values for model in pair),
            is_delta=(False, False),
            group=group,
            keys=keys if needs.draws else (),
            evidence={kind: tuple(said(model, kind) for model in pair) for kind in needs.kinds_read},
            factors=(None, None) if needs.scope == "tensor" else (),
        )
        extra = []
        if strategy.survey is not None:
            survey = strategy.survey(group, **arguments)
            while survey is not None:
                survey.feed(tile)
                if survey.finish():
                    break
            extra.append(survey)
        merged = decoded(strategy.function(tile, *extra, **arguments))
        evidence = {kind: (x.evidence[kind] + y.evidence[kind]) / 2 for kind in x.evidence}
        return Model(merged, evidence)

    return merge


def said(model: Model, kind: str) -> torch.Tensor | None:
    """Return a model's evidence as a tile has it: bits apart, elements flat."""
    found = model.evidence.get(kind)
    if found is None or kind != "mask":
        return found if found is None or found.shape != SHAPE else found.flatten()
    bits = (found.to(torch.uint8).reshape(-1, 1) >> torch.arange(8, dtype=torch.uint8)) & 1
    return bits.flatten()[: SHAPE[0] * SHAPE[1]].double()


def laws(strategy: Strategy, base: torch.Tensor, tensors: Sequence[torch.Tensor]) -> str:
    """Return three letters: commutative, associative, idempotent."""
    needs = strategy.needs(strategy.read(()))
    a, b, c = (make(values, needs) for values in tensors)
    f = pairwise(strategy, base)
    pairs = ((f(a, b), f(b, a)), (f(f(a, b), c), f(a, f(b, c))), (f(a, a), a))
    return "".join("p" if close(x.values, y.values) else "f" for x, y in pairs)


def close(x: torch.Tensor, y: torch.Tensor) -> bool:
    """Whether two tensors agree within the paper's tolerance."""
    return bool((x - y).abs().max() <= TOLERANCE)


def two_layers(name: str, base: torch.Tensor, tensors: Sequence[torch.Tensor]) -> bool:
    """Whether replicas agree on root and bytes, in whatever order they join, and however often."""
    recipe = Recipe(name)
    strategy = find(name)
    needs = strategy.needs(strategy.read(()))
    seen = set()
    for order in permutations(range(3)):
        with Replica.create(base={"w": base.reshape(SHAPE)}, recipe=recipe, key=None) as home:
            replicas = [home]
            for place in order:
                values = tensors[place].reshape(SHAPE)
                told = make(tensors[place], needs)
                home.contribute(
                    {"w": values},
                    evidence={f"{kind}/w": testimony_of(kind, values) for kind in told.evidence} or None,
                    role=role(needs, place),
                )
                copy = Replica.follow(federation=home)
                copy.join(home)
                copy.join(home)
                replicas.append(copy)
            for first, second in permutations(replicas, 2):
                first.join(second)
            for replica in replicas:
                merged = to_raw(replica.merged())
                seen.add((replica.root, b"".join(raw for _, _, raw in merged.values())))
            for replica in replicas[1:]:
                replica.close()
    return len(seen) == 1


def testimony_of(kind: str, values: torch.Tensor) -> torch.Tensor:
    """Return evidence in its stored form."""
    found = testimony(kind, values)
    assert found is not None
    return found


def main() -> None:
    """Print both tables side by side."""
    parser = argparse.ArgumentParser(description="The algebra of 26 strategies, raw and through two layers.")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    warnings.simplefilter("ignore", UnrelatedBaseWarning)  # random tensors descend from nothing
    generator = torch.Generator().manual_seed(42)
    base, *tensors = (torch.randn(16, dtype=torch.float64, generator=generator) for _ in range(4))
    raw = {name: laws(find(name), base, tensors) for name in PAPER}
    lawful = {name: two_layers(name, base, tensors) for name in PAPER}
    if chosen.json:
        table = [
            {"strategy": name, "raw": raw[name], "paper": PAPER[name], "two_layers": lawful[name]}
            for name in PAPER
        ]
        print(json.dumps(table, indent=1))
        return
    print(f"{'strategy':24} comm.  assoc.  idemp.  two layers")
    for name, paper in PAPER.items():
        letters = "    ".join(f"{mine} {theirs}" for mine, theirs in zip(raw[name], paper, strict=True))
        print(f"{name:24} {letters}     {'lawful' if lawful[name] else 'BROKEN'}")
    totals = [sum(letters[i] == "p" for letters in t.values()) for i in range(3) for t in (raw, PAPER)]
    print("of 26 (ours, paper's)   ", *totals, sum(lawful.values()))


if __name__ == "__main__":
    main()
