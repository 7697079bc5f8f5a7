"""A merge without store, files or threads: what the engine does with a strategy, in thirty lines.

Contributions are ordered by digest, draws are keyed as the engine keys them, surveys see all tiles as
often as they ask, and the results are put together again. Tensors are cut wherever a test wants.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import cycle

import torch

from crdtmerge import arith, canon
from crdtmerge.arith import Tensor
from crdtmerge.coefficients import Coefficients, check
from crdtmerge.digest import Digest, Domain, digest
from crdtmerge.evidence import KINDS, Layout
from crdtmerge.recipe import Given, parameters_of
from crdtmerge.selftest import testimony
from crdtmerge.strategy import Factors, Group, Member, Strategy, Tile, find

Model = Mapping[str, Sequence[float] | Tensor]

SEED = digest(Domain.SET, b"seed")


@dataclass(frozen=True)
class Contribution:
    """What a peer gives: tensors by name, the digest that orders it, its weight."""

    name: str
    tensors: Model
    weight: Fraction = Fraction(1)
    is_delta: bool = False
    digest: Digest = field(default=Digest(b""))
    evidence: Mapping[str, Tensor] = field(default_factory=dict)
    role: str | None = None
    topic: str | None = None
    factors: Mapping[str, Factors] = field(default_factory=dict)

    @property
    def key(self) -> Digest:
        return self.digest or Digest(self.name.encode().ljust(32, b"\0"))


def tensor(values: Sequence[float] | Tensor) -> Tensor:
    return torch.as_tensor(values, dtype=torch.float64).flatten()


def merge(
    strategy: str | Strategy,
    contributions: Iterable[Contribution],
    base: Model | None = None,
    *,
    widths: Sequence[int] = (1 << 16,),
    seed: Digest = SEED,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    parameters: Mapping[str, Given] | None = None,
    coefficients: Coefficients | None = None,
) -> dict[str, Tensor]:
    """Return the merged tensors; tiles take the ``widths`` in turn, or what the strategy's scope allows."""
    found = find(strategy) if isinstance(strategy, str) else strategy
    ordered = list({c.key: c for c in sorted(contributions, key=lambda c: c.key)}.values())
    arguments = found.read(parameters_of(parameters or {}))
    names = sorted(ordered[0].tensors, key=str.encode)
    sizes = {name: len(tensor(ordered[0].tensors[name])) for name in names}
    full = {name: (shapes or {}).get(name, (sizes[name],)) for name in names}
    members = tuple(Member(c.key, c.weight, c.name, c.role, c.topic) for c in ordered)
    group = Group(tuple(full.items()), members, coefficients)
    needs = found.needs(arguments)
    written = canon.encode([[key, str(value)] for key, value in sorted(arguments.items())])

    def tiles() -> Iterator[Tile]:
        for name in names:
            keys = tuple(
                arith.draw.key(seed, found.name, found.version, written, c.key, name) for c in ordered
            )
            start = 0
            columns = max(full[name][-1] if full[name] else 1, 1)
            for width in cycle(widths):
                if needs.scope == "row":
                    width = max(width // columns, 1) * columns
                elif needs.scope == "tensor":
                    width = max(sizes[name], 1)
                stop = min(start + width, sizes[name])
                if start == stop:
                    break
                yield Tile(
                    tensor=name,
                    shape=full[name],
                    start=start,
                    stored_base=None if base is None else tensor(base[name])[start:stop],
                    stored=tuple(tensor(c.tensors[name])[start:stop] for c in ordered),
                    is_delta=tuple(c.is_delta for c in ordered),
                    group=group,
                    keys=keys if needs.draws else (),
                    evidence={
                        kind: tuple(_said(c, kind, name, start, stop) for c in ordered)
                        for kind in needs.kinds_read
                    },
                    factors=tuple(c.factors.get(name) for c in ordered) if needs.scope == "tensor" else (),
                )
                start = stop

    extra = []
    if found.survey is not None:
        survey = found.survey(group, **arguments)
        complete = survey is None
        while survey is not None and not complete:
            for tile in tiles():
                survey.feed(tile)
            complete = survey.finish()
        extra.append(survey)
    merged: dict[str, list[Tensor]] = {name: [] for name in names}
    for tile in tiles():
        merged[tile.tensor].append(arith.decoded(found.function(tile, *extra, **arguments)))
    return {name: torch.cat(parts) if parts else tensor([]) for name, parts in merged.items()}


def equipped(
    strategy: Strategy, contributions: Sequence[Contribution], shapes: Mapping[str, tuple[int, ...]]
) -> list[Contribution]:
    """Return the contributions with the evidence and the roles that a strategy needs by default.

    What is added follows from a contribution's numbers alone; where there are too few, zeros are added.
    """
    needs = strategy.needs(strategy.read(()))
    zeros = {name: [0.0] * len(tensor(values)) for name, values in contributions[0].tensors.items()}
    distinct = {c.key for c in contributions}
    spare = [Contribution(f"z{i}", zeros) for i in range(8)]
    wanted = max(needs.members_min, len(needs.roles)) - len(distinct)
    contributions = [*contributions, *spare[: max(wanted, 0)]]
    kept = sorted({c.key for c in contributions})[: needs.members_max]
    contributions = [c for c in contributions if c.key in kept]
    ranks = sorted({tuple(_numbers(c)) for c in contributions})
    return [
        replace(
            c,
            role=needs.roles[ranks.index(tuple(_numbers(c))) % len(needs.roles)] if needs.roles else None,
            evidence={
                f"{kind}/{name}": _unpacked(kind, said)
                for kind in needs.kinds_read
                for name, values in c.tensors.items()
                if (said := testimony(kind, tensor(values).reshape(shapes.get(name, (-1,))))) is not None
            },
        )
        for c in contributions
    ]


def published(
    strategy: str,
    arrays: Mapping[str, Tensor],
    shapes: Mapping[str, tuple[int, ...]],
    count: int,
    payload: str = "coeffs",
    **settings: str,
) -> Coefficients:
    """Return a payload as the engine would after it checked its form, for a model of these shapes."""
    found = Coefficients(
        digest=digest(Domain.PAYLOAD, strategy.encode()),
        strategy=strategy,
        payload=payload,
        settings=settings,
        shapes={name: tuple(array.shape) for name, array in arrays.items()},
        octets=frozenset(name for name, array in arrays.items() if array.dtype is torch.uint8),
        count=count,
        tensors=tuple(sorted(shapes.items())),
        read=lambda name, start, stop: arrays[name].flatten()[start:stop].double(),
    )
    check(found)
    return found


def _numbers(c: Contribution) -> list[float]:
    return [x for values in c.tensors.values() for x in tensor(values).tolist()]


def _unpacked(kind: str, said: Tensor) -> Tensor:
    if KINDS[kind].layout is not Layout.BITS:
        return said.double()
    return ((said.reshape(-1, 1) >> torch.arange(8)) & 1).flatten().double()


def _said(c: Contribution, kind: str, name: str, start: int, stop: int) -> Tensor | None:
    """Return a contribution's evidence as the engine would: a run of elements, or the whole of it."""
    said = c.evidence.get(f"{kind}/{name}")
    if said is None or KINDS[kind].layout not in (Layout.ELEMENT, Layout.BITS):
        return said
    return tensor(said)[start:stop]


def merged(
    strategy: str,
    rows: Sequence[Sequence[float]],
    base: Sequence[float] | None = None,
    weights: Sequence[int | str | Fraction] | None = None,
    **parameters: Given,
) -> list[float]:
    """Merge rows as contributions A, B, C, … of a single tensor; for examples of hand size."""
    contributions = [
        Contribution(chr(ord("A") + i), {"w": row}, Fraction(weights[i] if weights else 1))
        for i, row in enumerate(rows)
    ]
    model = None if base is None else {"w": base}
    return merge(strategy, contributions, model, parameters=parameters)["w"].tolist()


BASE = [1.0, 2.0, 3.0, 4.0]
F4 = ([1.5, 2.0, 2.0, 4.25], [2.0, 1.0, 3.5, 3.5], [0.75, 2.5, 1.0, 4.0])
"""The catalogue's fixture: every number is dyadic, so most of its examples are exact."""
