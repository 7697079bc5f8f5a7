"""What a merge strategy is, and the one door by which strategies come in.

A strategy is a pure function from a *tile* to the merged tile:

    base   [n] ─┐
    models [n] ─┤  k contributions, ascending by digest      ──►  merged [n], float64
    deltas [n] ─┘  (the engine decodes, tiles and rounds)

A tile is the same run of elements of one tensor in the base and in every contribution. The function sees
float64 and returns float64; decoding before it and the one rounding after it belong to the engine, and so
do order, tiling, threads and memory. A strategy that must know something about the whole tensor or the
whole model first (a norm, a k-th magnitude) declares a *survey*, which is fed every tile beforehand.

Strategies are found through the entry-point group ``crdtmerge.strategies``; those that ship with the
package come in by the same door as anybody else's.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, cached_property
from importlib.metadata import entry_points
from typing import Any, Final, Protocol, TypeAlias, TypeVar

from crdtmerge.arith import Tensor
from crdtmerge.errors import ParameterError, UnknownStrategyError
from crdtmerge.parameters import Choice, Flag, Integer, Number, ParameterSpec
from crdtmerge.recipe import Parameter, Recipe

ENTRY_POINTS: Final = "crdtmerge.strategies"


@dataclass(frozen=True)
class Group:
    """The tensors that one strategy merges, and how many contributions there are.

    Attributes:
        tensors: (name, shape) of the floating tensors, ascending by name.
        count: number of contributions, at least 1.
        weights: of the contributions, in canonical order.
    """

    tensors: tuple[tuple[str, tuple[int, ...]], ...]
    count: int
    weights: tuple[Fraction, ...]


@dataclass(frozen=True)
class Tile:
    """The same run of elements of one tensor, in the base and in every contribution.

    Attributes:
        tensor: its name.
        shape: of the whole tensor.
        start: flat row-major index of the run's first element within the tensor.
        base: [n] float64, or None without a base.
        given: k times [n] float64, as contributed: values, or differences where ``is_delta`` says so.
        is_delta: k flags.
        weights: k exact weights.
        keys: k keys of random draws, each bound to seed, strategy, parameters, contribution and tensor.
    """

    tensor: str
    shape: tuple[int, ...]
    start: int
    base: Tensor | None
    given: tuple[Tensor, ...]
    is_delta: tuple[bool, ...]
    weights: tuple[Fraction, ...]
    keys: tuple[bytes, ...]

    @property
    def count(self) -> int:
        """Number of contributions."""
        return len(self.given)

    @property
    def stop(self) -> int:
        """Flat index behind the run's last element."""
        return self.start + self.given[0].numel()

    @cached_property
    def models(self) -> tuple[Tensor, ...]:
        """The contributions' values, k times [n]."""
        return tuple(
            self._base + given if delta else given
            for given, delta in zip(self.given, self.is_delta, strict=True)
        )

    @cached_property
    def deltas(self) -> tuple[Tensor, ...]:
        """The contributions' differences from the base, k times [n]."""
        return tuple(
            given if delta else given - self._base
            for given, delta in zip(self.given, self.is_delta, strict=True)
        )

    @property
    def _base(self) -> Tensor:
        if self.base is None:
            raise ParameterError("this strategy reads differences from a base: declare needs_base=True")
        return self.base


class Survey(Protocol):
    """Something to be known about all of a group's tiles before any of them is merged.

    The engine feeds every tile of every tensor, tensors ascending by name and tiles by position, and
    calls `finish` after the last; as long as it answers False, all tiles are fed once more. What was
    learnt must not depend on how the tensors were cut into tiles.
    """

    def feed(self, tile: Tile) -> None:
        """Take one tile into account."""

    def finish(self) -> bool:
        """End a pass; True when nothing more needs to be seen."""


Function: TypeAlias = Callable[..., Tensor]


@dataclass(frozen=True)
class Strategy:
    """A registered strategy.

    Attributes:
        name, version: what a recipe names; the version rises when any output bit can change.
        source: authors, year and identifier of the publication, and where we deviate.
        needs_base: whether it reads differences from a base.
        draws: whether it uses randomness, so that the seed is part of what its output depends on.
        scope: "element": a tile is any run of elements; "row": whole rows along the last dimension;
            "tensor": the whole tensor.
        alone_is_itself: whether a single contribution merges to itself, to the bit.
        parameters: what it takes.
        function: ``(tile[, survey], *, parameters…) -> merged``.
        survey: ``(group, *, parameters…) -> Survey``, or None.
    """

    name: str
    version: int
    source: str
    needs_base: bool
    draws: bool
    scope: str
    alone_is_itself: bool
    parameters: tuple[ParameterSpec, ...]
    function: Function
    survey: Callable[..., Survey] | None

    @property
    def summary(self) -> str:
        """The first line of the function's docstring."""
        return (inspect.getdoc(self.function) or "").partition("\n")[0]

    def read(self, parameters: Sequence[tuple[str, Parameter]]) -> dict[str, Any]:
        """Return the keyword arguments for the function, defaults filled in.

        Raises:
            ParameterError: naming the parameter that is unknown or out of range.
        """
        given = dict(parameters)
        known = {spec.name for spec in self.parameters}
        for name in given:
            if name not in known:
                takes = ", ".join(sorted(known)) or "no parameters"
                raise ParameterError(f"{self.name} has no parameter {name!r}; it takes {takes}")
        return {spec.name: spec.read(given.get(spec.name)) for spec in self.parameters}


_REGISTRY: Final[dict[tuple[str, int], Strategy]] = {}

_F = TypeVar("_F", bound=Function)


def strategy(
    name: str,
    *,
    version: int,
    source: str,
    parameters: Sequence[ParameterSpec] = (),
    needs_base: bool = False,
    draws: bool = False,
    scope: str = "element",
    alone_is_itself: bool = False,
    survey: Callable[..., Survey] | None = None,
) -> Callable[[_F], _F]:
    """Register the decorated function as a strategy; it stays a plain function.

    Raises:
        ParameterError: at import, if the declaration and the function disagree.
    """

    def register(function: _F) -> _F:
        declared = {spec.name for spec in parameters}
        for callee in (function, survey):
            if callee is None:
                continue
            taken = {
                p.name for p in inspect.signature(callee).parameters.values() if p.kind is p.KEYWORD_ONLY
            }
            if taken != declared:
                raise ParameterError(
                    f"{name} declares {sorted(declared)}, {callee.__name__} takes {sorted(taken)}"
                )
        if scope not in ("element", "row", "tensor"):
            raise ParameterError(f"{name}: scope {scope!r}")
        if (name, version) in _REGISTRY:
            raise ParameterError(f"two strategies are called {name} version {version}")
        _REGISTRY[name, version] = Strategy(
            name,
            version,
            source,
            needs_base,
            draws,
            scope,
            alone_is_itself,
            tuple(parameters),
            function,
            survey,
        )
        return function

    return register


@cache
def _load() -> None:
    for entry in sorted(entry_points(group=ENTRY_POINTS), key=lambda e: e.name):
        entry.load()


def strategies() -> Mapping[tuple[str, int], Strategy]:
    """Return all installed strategies by (name, version), ascending."""
    _load()
    return dict(sorted(_REGISTRY.items()))


def find(name: str, version: int | None = None) -> Strategy:
    """Return a strategy; without a version the newest.

    Raises:
        UnknownStrategyError: if it is not installed.
    """
    known = strategies()
    versions = [number for found, number in known if found == name]
    wanted = max(versions, default=0) if version is None else version
    if (name, wanted) not in known:
        raise UnknownStrategyError(name, version, {found for found, _ in known})
    return known[name, wanted]


def pin(recipe: Recipe) -> Recipe:
    """Return ``recipe`` with versions filled in, after checking every strategy and parameter in it.

    Raises:
        UnknownStrategyError: if a strategy is not installed.
        ParameterError: if a parameter is unknown or out of range.
    """
    main = find(recipe.strategy, recipe.version)
    main.read(recipe.parameters)
    rules = []
    for rule in recipe.rules:
        found = find(rule.strategy, rule.version)
        found.read(rule.parameters)
        rules.append(type(rule)(rule.glob, rule.strategy, found.version, rule.parameters))
    return recipe.replace(version=main.version, rules=tuple(rules))


__all__ = [
    "Choice",
    "Flag",
    "Group",
    "Integer",
    "Number",
    "ParameterSpec",
    "Strategy",
    "Survey",
    "Tile",
    "find",
    "pin",
    "strategies",
    "strategy",
]
