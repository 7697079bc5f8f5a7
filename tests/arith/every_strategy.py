"""Merges small models with every registered strategy, through the real engine.

Three recipes for each: as it comes, on two models, and with every parameter that has another value given
one, weights that differ, and another dtype; and what `SPECIAL` adds. SHIFT chooses what must not show: order
of the contributions, memory budget (so tiles), threads, and where the numbers begin in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final

import torch

from crdtmerge.parameters import Choice, Flag, Integer, ParameterSpec
from crdtmerge.recipe import Given, Recipe, parameters_of
from crdtmerge.resolve import merge
from crdtmerge.resolve.statedict import to_raw
from crdtmerge.selftest import equipped
from crdtmerge.strategy import Strategy, find, strategies

SHAPES: Final = {"bias": (33,), "half": (9, 31), "matrix": (24, 20), "rows": (10_007, 3), "scalar": ()}
"""``rows`` takes one tile, two or eight."""
BUDGETS: Final = (1 << 30, 1 << 18, 6 << 20)
SPECIAL: Final[dict[str, dict[str, dict[str, Given]]]] = {
    "linear": {"of two, t": {"t": "0.3"}},
    "ties": {
        "by tensor": {"scope": "tensor", "zero": "plus"},
        "sum": {"merge_func": "sum", "zero": "drop"},
        "official": {"compat": "official"},
    },
    "dare": {"scaled": {"p": "0.25", "scale": "0.5"}},
    "dare_ties": {"trimmed": {"p": "0.3", "trim": "0.2", "scope": "tensor"}},
    "slerp": {"of two, t": {"t": "0.3"}, "of two, arc": {"dot_threshold": "0.999999999"}},
}
"""Parameters whose default is none, and branches that one other value does not reach."""
WEIGHTS: Final = ("0.7", "2", "1.1")


@dataclass(frozen=True)
class Case:
    """A recipe, and how many models it is for."""

    recipe: Recipe
    count: int = 3
    weights: tuple[str, ...] | None = None


def cases() -> Iterator[tuple[str, Case]]:
    """Every recipe, with a name."""
    for (name, version), strategy in strategies().items():
        of = partial(Recipe, name, version=version)
        yield f"{name} {version}", Case(of())
        yield f"{name} {version} of two, F16", Case(of(output_dtype="F16"), 2)
        recipe = of(output_dtype="BF16").replace(parameters=parameters_of(other(strategy)))
        yield f"{name} {version} otherwise, BF16", Case(recipe, weights=WEIGHTS)
        for label, parameters in SPECIAL.get(name, {}).items():
            count = 2 if label.startswith("of two") else 3
            yield f"{name} {version} {label}", Case(of().replace(parameters=parameters_of(parameters)), count)


def other(strategy: Strategy) -> dict[str, Given]:
    """Another value for every parameter that has a default to depart from."""
    return {spec.name: value for spec in strategy.parameters if (value := _other(spec)) is not None}


def _other(spec: ParameterSpec) -> Given | None:
    default = spec.read(None)
    if isinstance(spec, Flag):
        return not default
    if isinstance(spec, Choice):
        return spec.choices[1]
    if default is None:
        return None
    return int(default) + 1 if isinstance(spec, Integer) else default / 2


def results(shift: int) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Every recipe's name and what merges it."""
    models = [model(which, shift) for which in range(4)]
    for name, case in cases():
        yield f"strategy {name}", partial(_merged, case, models, shift)


def _merged(case: Case, models: list[dict[str, torch.Tensor]], shift: int) -> bytes:
    order = [1 + (i + shift) % case.count for i in range(case.count)]
    found = find(case.recipe.strategy, case.recipe.version)
    needs = found.needs(found.read(case.recipe.parameters))
    merged = merge(
        [equipped(models[i], i, needs) for i in order],
        base=models[0],
        recipe=case.recipe,
        weights=case.weights and [case.weights[i - 1] for i in order],
        budget_bytes=BUDGETS[shift % len(BUDGETS)],
        threads=1 + shift % 2,
    )
    return b"".join(raw for _, _, raw in to_raw(merged).values())


def model(which: int, shift: int) -> dict[str, torch.Tensor]:
    """A base (0) or a model near it, made of integers: ties, both zeros, subnormal and large values."""
    model = {}
    for position, (name, shape) in enumerate(SHAPES.items()):
        count = torch.Size(shape).numel()
        steps = torch.arange(count, dtype=torch.int64)
        base = (steps * 2654435761 + position * 40503) % 65521 - 32760
        change = (steps * (40503 + 2 * which) + which * 2654435761) % 257 - 128
        change = change * (change.abs() % 3 > 0)
        values = (base + change * which).double() / 4096.0
        values[:: max(count // 7, 1)] *= 2.0**-130  # subnormal in float32
        dtype = torch.bfloat16 if name == "half" else torch.float32
        moved = torch.empty(count + shift, dtype=dtype)[shift:].copy_(values)
        model[name] = moved.view(shape)
    return model
