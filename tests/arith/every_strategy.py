"""Merges small models with every registered strategy, through the real engine.

Four recipes for each: as it comes, also on models that are not alike, on two, and with every parameter that
has another value given one, weights that differ, and another dtype; and what `SPECIAL` adds. SHIFT chooses
what must not show: order of the contributions, memory budget (so tiles), threads, where numbers begin.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Final

import torch

from crdtmerge.errors import UnrelatedBaseWarning
from crdtmerge.parameters import Choice, Flag, Integer, ParameterSpec
from crdtmerge.recipe import Given, Recipe, parameters_of
from crdtmerge.resolve import merge
from crdtmerge.resolve.statedict import to_raw
from crdtmerge.selftest import equipped
from crdtmerge.strategy import Strategy, find, strategies

SHAPES: Final = {"bias": (33,), "half": (9, 31), "matrix": (24, 20), "rows": (10_007, 3), "scalar": ()}
"""``rows`` takes one tile, two or eight; a method that needs it whole needs 5 MiB for it."""
BUDGETS: Final = (1 << 30, 1 << 18, 6 << 20)
SPECIAL: Final[dict[str, dict[str, dict[str, Given]]]] = {
    "bulyan": {"f": {"f": 0}},
    "centered_clipping": {"radius": {"radius": "3", "start": "base"}},
    "layer_plan": {"named": {"source": "3f4b9bd2"}},
    "krum": {"f": {"f": 0}},
    "multi_krum": {"one": {"m": 1}},
    "norm_clipped_mean": {"radius": {"radius": "3"}},
    "nuslerp": {"by columns": {"vectors": "columns"}},
    "robust": {
        "ties": {"inner": "ties", "inner.density": "0.4", "f": 0},
        "clipped": {"rule": "clip", "radius": "3", "inner": "della"},
        "bulyan": {"rule": "bulyan", "inner": "star"},
    },
    "trimmed_mean": {"b": {"b": 1}},
    "linear": {"of two, t": {"t": "0.3"}},
    "ties": {
        "by tensor": {"scope": "tensor", "zero": "plus"},
        "sum": {"merge_func": "sum", "zero": "drop"},
        "official": {"compat": "official"},
    },
    "dare": {"scaled": {"p": "0.25", "scale": "0.5"}},
    "dare_ties": {"trimmed": {"p": "0.3", "trim": "0.2", "scope": "tensor"}},
    "slerp": {
        "of two, t": {"t": "0.3"},
        "of two, arc": {"dot_threshold": "0.999999999"},
        "of two, apart": {},
        "of two, t, apart": {"t": "0.3"},
        "fold, apart": {"method": "fold"},
    },
    "dual_projection": {
        "of two, descent": {"mode": "official_fixed_alpha", "steps": 2, "compat": "official"},
        "of two, mgda, apart": {"mode": "official_mgda", "steps": 2},
    },
    "adarank": {
        "first components": {"ratio": "0.3", "scale": "1"},
        "around the mean": {"origin": "cart"},
    },
    "svd_knot_tying": {
        "drawn": {"inner": "dare_ties", "inner.p": "0.5"},
        "summed": {"inner": "task_arithmetic", "axis": "rows"},
    },
    "evolutionary_merge": {"ties": {"kernel": "ties", "kernel.density": "0.3"}, "slerp": {"kernel": "slerp"}},
    "genetic_merge": {"dare_ties": {"kernel": "dare_ties", "kernel.p": "0.5"}},
    "representation_surgery": {"of ties": {"inner": "ties"}},
    "fisher_merge": {"as it is": {"normalize": False, "floor": "0.5", "compat": "fusion_bench"}},
    "ota_merge": {
        "threshold": {"threshold": "2", "scope": "tensor", "fallback": "mean", "normalize": "none"},
        "power": {"power": "1", "density": "0.7"},
    },
    "regression_mean": {"traces, ridge": {"normalize": "trace", "ridge": "0.01", "alpha": "1"}},
    "lot_merge": {"sums": {"normalize": "none", "scale": "0.5"}},
    "safe_merge": {"mixed": {"threshold": "0.99"}},
    "della": {"as it is": {"rescale": "none", "epsilon": "0.3", "density": "0.5"}},
    "breadcrumbs": {"cut": {"density": "0.5", "gamma": "0.25"}},
    "breadcrumbs_ties": {"cut": {"density": "0.5", "gamma": "0.25"}},
    "emr": {
        "of a task": {"emit": "3f4b9bd2"},  # the digest of one of the models begins so
        "of a task, means": {"emit": "3f4b9bd2", "compat": "fusion_bench"},
    },
    "split_unlearn_merge": {"by tensor": {"scope": "tensor", "zero": "drop", "merge_func": "max"}},
    "passthrough": {"named": {"source": "3f4b9bd2"}},
}
"""Parameters whose default is none, and branches that one other value does not reach."""
PLAIN: Final = {"dual_projection": ("mode", "steps"), "safe_merge": ("compat",)}
"""Parameters that keep their default: their other values are in `SPECIAL`, or need factors of low rank."""
WEIGHTS: Final = ("0.7", "2", "1.1")


@dataclass(frozen=True)
class Case:
    """A recipe, how many models it is for, and whether these are alike."""

    recipe: Recipe
    count: int = 3
    weights: tuple[str, ...] | None = None
    apart: bool = False


def cases() -> Iterator[tuple[str, Case]]:
    """Every recipe, with a name."""
    for (name, version), strategy in strategies().items():
        of = partial(Recipe, name, version=version)
        most = max(counts(strategy))
        yield f"{name} {version}", Case(of(), most)
        if 2 in counts(strategy):
            yield f"{name} {version} of two, F16", Case(of(output_dtype="F16"), 2)
        recipe = of(output_dtype="BF16").replace(parameters=parameters_of(other(strategy)))
        yield (
            f"{name} {version} otherwise, BF16",
            Case(recipe, most, WEIGHTS if strategy.weighted else None),
        )
        for label, parameters in SPECIAL.get(name, {}).items():
            count = 2 if label.startswith("of two") else most
            recipe = of().replace(parameters=parameters_of(parameters))
            yield f"{name} {version} {label}", Case(recipe, count, apart=label.endswith("apart"))
        yield f"{name} {version} apart", Case(of(), most, apart=True)


def counts(strategy: Strategy) -> set[int]:
    """Two models and three, as far as a strategy is defined for them."""
    needs = strategy.needs(strategy.read(()))
    return {n for n in (2, 3) if needs.members_min <= n <= (needs.members_max or n)}


def other(strategy: Strategy) -> dict[str, Given]:
    """Another value for every parameter that has a default to depart from."""
    plain = PLAIN.get(strategy.name, ())
    values = {spec.name: _other(spec) for spec in strategy.parameters if spec.name not in plain}
    return {name: value for name, value in values.items() if value is not None}


def _other(spec: ParameterSpec) -> Given | None:
    default = spec.read(None)
    if isinstance(spec, Flag):
        return not default
    if isinstance(spec, Choice):
        return spec.choices[1]
    if isinstance(spec, Integer):
        return None if default is None else int(default) + 1
    return default / 2 if isinstance(default, Fraction) else None


def results(shift: int) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Every recipe's name and what merges it."""
    near, far = ([make(which, shift) for which in range(4)] for make in (model, apart))
    for name, case in cases():
        yield f"strategy {name}", partial(_merged, case, far if case.apart else near, shift)


def _merged(case: Case, models: list[dict[str, torch.Tensor]], shift: int) -> bytes:
    order = [1 + (i + shift) % case.count for i in range(case.count)]
    found = find(case.recipe.strategy, case.recipe.version)
    needs = found.needs(found.read(case.recipe.parameters))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnrelatedBaseWarning)  # that is what `apart` is for
        merged = merge(
            [equipped(models[i], i, needs) for i in order],
            base=models[0],
            recipe=case.recipe,
            weights=case.weights and [case.weights[i - 1] for i in order],
            budget_bytes=max(BUDGETS[shift % len(BUDGETS)], (6 << 20) * (needs.scope == "tensor")),
            threads=1 + shift % 2,
        )
    return b"".join(raw for _, _, raw in to_raw(merged).values())


def model(which: int, shift: int) -> dict[str, torch.Tensor]:
    """A base (0) or a model near it, made of integers: ties, both zeros, subnormal and large values."""
    made = {}
    for position, (name, shape) in enumerate(SHAPES.items()):
        steps = torch.arange(torch.Size(shape).numel(), dtype=torch.int64)
        base = (steps * 2654435761 + position * 40503) % 65521 - 32760
        change = (steps * (40503 + 2 * which) + which * 2654435761) % 257 - 128
        change = change * (change.abs() % 3 > 0)
        values = (base + change * which).double() / 4096.0
        values[:: max(len(values) // 7, 1)] *= 2.0**-130  # subnormal in float32
        made[name] = _stored(values, name, shift)
    return made


def apart(which: int, shift: int) -> dict[str, torch.Tensor]:
    """A model that has nothing to do with the others, but for what curved methods must get right.

    The bias of the second is opposite to that of the first, its rows are zeros, and the scalars have three
    signs.
    """
    made = {}
    for position, (name, shape) in enumerate(SHAPES.items()):
        steps = torch.arange(torch.Size(shape).numel(), dtype=torch.int64) + 1
        alike = 1 if name == "bias" and which == 2 else which
        values = (steps * steps * (2 * alike + 1) * 40503 + steps * (position + alike) * 7919) % 65521 - 32760
        values *= {("bias", 2): -1, ("rows", 2): 0, ("scalar", 2): 0, ("scalar", 3): -1}.get((name, which), 1)
        made[name] = _stored(values.double() / 4096.0, name, shift)
    return made


def _stored(values: torch.Tensor, name: str, shift: int) -> torch.Tensor:
    dtype = torch.bfloat16 if name == "half" else torch.float32
    moved = torch.empty(len(values) + shift, dtype=dtype)[shift:].copy_(values)
    return moved.view(SHAPES[name])
