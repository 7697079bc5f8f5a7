"""A mergekit configuration as a recipe: the same method, said in our parameters.

What a configuration says and a recipe cannot say is refused by name, never dropped: slices and modules, other
tokenizers, a density of its own for a model where ours is one for all. Models are named by the labels of
visible contributions (or the last part of a path, or the first digits of a digest), and the recipe selects by
these labels; what mergekit does in the storage dtype, ours does in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Final

from crdtmerge.digest import Digest
from crdtmerge.errors import ParameterError
from crdtmerge.ledger import Ledger
from crdtmerge.rational import decimal
from crdtmerge.recipe import Given, Recipe, Rule, Selection, parameters_of

from .screen import choose

_FIELDS: Final = {"merge_method", "models", "base_model", "parameters", "dtype", "out_dtype"}
_DTYPES: Final = {"float16": "F16", "bfloat16": "BF16", "float32": "F32"}
_MEMORY_ONLY: Final = {"int8_mask"}
"""Parameters that save memory and change no result."""

Identify = Callable[[str], tuple[Digest, str]]
"""From a model's name to the contribution's digest and label."""


@dataclass(frozen=True)
class _Method:
    """Our strategy for one of theirs.

    Attributes:
        strategy: ours.
        takes: (their parameter, ours, their default or None) for each.
        fixed: parameters of ours that make it theirs.
        normalize: their default of ``normalize``; None if they have no such parameter.
        elects: whether ``normalize`` is our ``merge_func``.
        of: whether a base model makes it work on differences.
    """

    strategy: str
    takes: tuple[tuple[str, str, Given | None], ...] = ()
    fixed: Mapping[str, Given] = field(default_factory=dict)
    normalize: bool | None = None
    elects: bool = False
    of: bool = False


_SCALE: Final = ("lambda", "scale", 1)
_DENSITY: Final = ("density", "density", 1)
_BREADCRUMBS: Final = (_DENSITY, ("gamma", "gamma", "0.01"), _SCALE)
_DELLA: Final = (("density", "density", 1), ("epsilon", "epsilon", "0.15"), _SCALE)
_PER_TENSOR: Final[Mapping[str, Given]] = {"scope": "tensor", "zero": "plus"}
_METHODS: Final = {
    "linear": _Method("linear", normalize=True),
    "task_arithmetic": _Method("task_arithmetic", (_SCALE,), normalize=False),
    "ties": _Method("ties", (_DENSITY, _SCALE), _PER_TENSOR, normalize=True, elects=True),
    "dare_ties": _Method(
        "dare_ties", (("density", "p", 1), _SCALE), _PER_TENSOR, normalize=False, elects=True
    ),
    "dare_linear": _Method("dare_linear", (_DENSITY, _SCALE), normalize=False),
    "breadcrumbs": _Method("breadcrumbs", _BREADCRUMBS, normalize=False),
    "breadcrumbs_ties": _Method("breadcrumbs_ties", _BREADCRUMBS, normalize=False),
    "della": _Method("della", _DELLA, {"rescale": "l1"}, normalize=False),
    "della_linear": _Method("della_linear", _DELLA, {"rescale": "l1"}, normalize=False),
    "slerp": _Method("slerp", (("t", "t", None),)),
    "nuslerp": _Method("nuslerp", of=True),
    "multislerp": _Method("multislerp", of=True),
    "karcher": _Method("karcher"),
    "model_stock": _Method("model_stock", (("filter_wise", "filter_wise", False),)),
    "sce": _Method("sce", (("select_topk", "density", 1),)),
    "arcee_fusion": _Method("arcee_fusion"),
    "nearswap": _Method("nearswap", (("t", "t", None),)),
    "ram": _Method("ram", (("epsilon", "epsilon", "0.00001"),)),
    "ramplus_tl": _Method(
        "ramplus_tl",
        (("epsilon", "epsilon", "0.00001"), ("r", "rate", "0.1"), ("alpha", "limit", "0.2")),
    ),
}


def from_mergekit(document: Any, identify: Identify) -> Recipe:
    """Return the recipe that a parsed mergekit configuration describes.

    Args:
        document: the parsed YAML.
        identify: finds the contribution that a model's name means.

    Raises:
        ParameterError: naming what has no counterpart here.
        UsageError: if a model is none of the visible contributions.
    """
    config = _mapping(document, _FIELDS, "a mergekit configuration")
    name = str(config.get("merge_method"))
    method = _METHODS.get(name)
    if method is None:
        raise ParameterError(f"merge_method {name} has no counterpart; these have: {', '.join(_METHODS)}")
    base, settings = config.get("base_model"), dict(config.get("parameters") or {})
    models: dict[tuple[Digest, str], dict[str, Any]] = {}
    for row in config.get("models") or ():
        entry = _mapping(row, {"model", "parameters"}, "a model")
        if entry.get("model") != base or name == "slerp":
            model = identify(str(entry.get("model")))
            if model in models:
                raise ParameterError(f"model {entry.get('model')} is one that was named already")
            models[model] = dict(entry.get("parameters") or {})
    if not models:
        raise ParameterError("the configuration names no models")
    for key in {key for own in models.values() for key in own} - {"weight"}:
        settings[key] = _common(key, [own.get(key, settings.get(key)) for own in models.values()])
    weights = {
        digest: _weight(own.get("weight", settings.get("weight", 1))) for (digest, _), own in models.items()
    }
    settings.pop("weight", None)
    if name == "slerp":
        settings["t"] = _oriented(settings.get("t"), [digest for digest, _ in models], base, identify)
    labels = tuple(sorted(label for _, label in models))
    if "" in labels:
        raise ParameterError("a contribution without a label cannot be selected: contribute it with --label")
    recipes = _conditional(method, settings, base)
    uniform = len(set(weights.values())) == 1
    dtype = config.get("out_dtype") or config.get("dtype")
    if dtype is not None and dtype not in _DTYPES:
        raise ParameterError(f"dtype {dtype} has no counterpart; these have: {', '.join(_DTYPES)}")
    return Recipe(
        method.strategy,
        rules=[Rule(f"*{part}*", method.strategy, None, parameters_of(p)) for part, p in recipes if part],
        selection=Selection(labels=labels),
        weights=None if uniform else weights,
        output_dtype=None if dtype is None else _DTYPES[dtype],
    ).replace(parameters=parameters_of(next(p for part, p in recipes if not part)))


def _conditional(
    method: _Method, settings: dict[str, Any], base: object
) -> list[tuple[str, dict[str, Given]]]:
    """Return our parameters for each filter on tensors' names, the last for all the rest."""
    filters: list[str] = []
    for key, value in settings.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            own = [str(_mapping(row, {"filter", "value"}, key).get("filter", "")) for row in value]
            if filters and own != filters:
                raise ParameterError(f"{key} has other filters than another parameter: give all the same")
            if own[-1] != "" or "" in own[:-1]:
                raise ParameterError(f"{key}: the last of its values, and only it, has no filter")
            filters = own
    return [
        (part, _parameters(method, {key: _value(value, i) for key, value in settings.items()}, base))
        for i, part in enumerate(filters or [""])
    ]


def _value(value: Any, index: int) -> Any:
    conditional = isinstance(value, list) and value and isinstance(value[0], dict)
    return value[index].get("value") if conditional else value


def _parameters(method: _Method, settings: dict[str, Any], base: object) -> dict[str, Given]:
    made: dict[str, Given] = dict(method.fixed)
    left = {key: value for key, value in settings.items() if key not in _MEMORY_ONLY}
    if method.normalize is not None:
        normalize = bool(left.pop("normalize", method.normalize))
        made |= {"merge_func": "mean" if normalize else "sum"} if method.elects else {"normalize": normalize}
    for theirs, ours, default in method.takes:
        value = left.pop(theirs, default)
        if value is None:
            raise ParameterError(f"{method.strategy} needs the parameter {theirs}")
        made[ours] = _without(value) if ours == "p" else value
    if method.of:
        made["of"] = "models" if base is None else "deltas"
    if left:
        raise ParameterError(f"the parameter {sorted(left)[0]} has no counterpart in {method.strategy}")
    return made


def _without(value: Any) -> Given:
    """Return 1 minus a number, or minus every stop of a gradient."""
    if isinstance(value, list):
        return [1 - Fraction(decimal(stop)) for stop in value]
    return 1 - Fraction(decimal(value))


def _oriented(t: Any, digests: list[Digest], base: object, identify: Identify) -> Any:
    """Return t for ours, which begins at the lower digest, while theirs begins at the base model."""
    if len(digests) != 2 or base is None or t is None:
        raise ParameterError(
            "slerp merges two models, of which base_model names one, and needs the parameter t"
        )
    if identify(str(base))[0] == min(digests):
        return t
    if isinstance(t, list) and t and isinstance(t[0], dict):
        return [row | {"value": _without(row.get("value"))} for row in t]
    return _without(t)


def _common(name: str, values: list[Any]) -> Any:
    if any(value != values[0] for value in values):
        raise ParameterError(f"models with a {name} of their own have no counterpart: give all the same")
    return values[0]


def _weight(value: Any) -> str:
    if isinstance(value, list):
        raise ParameterError("a model's weight that changes along the layers has no counterpart")
    return decimal(value)


def _mapping(value: Any, known: set[str], what: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ParameterError(f"{what} is a mapping, got {type(value).__name__}")
    if unknown := sorted(set(value) - known):
        raise ParameterError(f"{what} with {unknown[0]!r} has no counterpart here")
    return value


def named(ledger: Ledger) -> Identify:
    """Return what finds visible contributions by label, last part of a path, or first digits of a digest."""
    labels = {
        digest: dict(ledger.store.manifest(digest).metadata).get("label", "")
        for digest in ledger.visible
        if ledger.store.has_manifest(digest)
    }

    def identify(name: str) -> tuple[Digest, str]:
        found = [d for d, label in labels.items() if label and label in (name, name.rpartition("/")[2])]
        digest = found[0] if len(found) == 1 else choose(name, ledger.visible, "visible contribution")
        return digest, labels.get(digest, "")

    return identify
