"""The registry: what a declared strategy is, and how it is found by name and version."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from typing import Any, Final, TypeAlias, TypeVar

from crdtmerge.arith import Elements
from crdtmerge.errors import ParameterError, UnknownStrategyError
from crdtmerge.evidence import KINDS
from crdtmerge.gradient import ends
from crdtmerge.parameters import ParameterSpec
from crdtmerge.recipe import Parameter, Recipe

from .inner import Bound, Inner
from .needs import SCOPES, Needs
from .tile import Survey

ENTRY_POINTS: Final = "crdtmerge.strategies"

Function: TypeAlias = Callable[..., Elements]


@dataclass(frozen=True)
class Strategy:
    """A registered strategy.

    Attributes:
        name, version: what a recipe names; the version rises when any output bit can change.
        source: authors, year and identifier of the publication, and where we deviate.
        declared: what it needs whatever its parameters are.
        alone_is_itself: whether a single contribution merges to itself, to the bit.
        symmetric: whether it treats contributions alike: which of them has which digest has no influence
            beyond rounding.
        weighted: whether the members' weights count; if not, weights that differ are refused.
        parameters: what it takes.
        function: ``(tile[, survey], *, parameters…) -> merged``.
        survey: ``(group, *, parameters…) -> Survey | None``, or None; the function gets what it returns.
        suits: ``(coefficients, *, parameters…)`` raises MalformedError if well-formed coefficients are none
            that it can apply: every replica then passes over them.
    """

    name: str
    version: int
    source: str
    declared: Needs
    alone_is_itself: bool
    symmetric: bool
    weighted: bool
    parameters: tuple[ParameterSpec, ...]
    function: Function
    survey: Callable[..., Survey | None] | None
    suits: Callable[..., None] | None

    @property
    def summary(self) -> str:
        """The first line of the function's docstring."""
        return (inspect.getdoc(self.function) or "").partition("\n")[0]

    def needs(self, arguments: Mapping[str, Any]) -> Needs:
        """Return what it needs with these arguments, those of inner strategies included."""
        needs = self.declared
        for value in arguments.values():
            if isinstance(value, Bound):
                needs = needs.join(value.needs)
        return needs

    def read(self, parameters: Sequence[tuple[str, Any]]) -> dict[str, Any]:
        """Return the keyword arguments for the function, defaults filled in.

        Raises:
            ParameterError: naming the parameter that is unknown or out of range.
        """
        given = dict(parameters)
        specs = {spec.name: spec for spec in self.parameters}
        for name in given:
            owner = specs.get(name.partition(".")[0])
            if name not in specs and not ("." in name and isinstance(owner, Inner)):
                takes = ", ".join(sorted(specs)) or "no parameters"
                raise ParameterError(f"{self.name} has no parameter {name!r}; it takes {takes}")
        return {name: _read(spec, given) for name, spec in specs.items()}


def _read(spec: ParameterSpec, given: Mapping[str, Any]) -> Any:
    if not isinstance(spec, Inner):
        return spec.read(given.get(spec.name))
    prefix = f"{spec.name}."
    own = {name.removeprefix(prefix): value for name, value in given.items() if name.startswith(prefix)}
    return spec.bind(given.get(spec.name), own)


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
    evidence: Sequence[str] = (),
    evidence_of: str | None = None,
    optional_evidence: Sequence[str] = (),
    roles: Sequence[str] = (),
    coefficients: bool = False,
    members_min: int = 1,
    members_max: int | None = None,
    alone_is_itself: bool = False,
    symmetric: bool = True,
    weighted: bool = True,
    survey: Callable[..., Survey | None] | None = None,
    suits: Callable[..., None] | None = None,
) -> Callable[[_F], _F]:
    """Register the decorated function as a strategy; it stays a plain function.

    See `Needs` for what can be declared.

    Raises:
        ParameterError: at import, if the declaration and the function disagree.
    """

    def register(function: _F) -> _F:
        names = {spec.name for spec in parameters}
        for callee in (function, survey, suits):
            if callee is None:
                continue
            taken = {
                p.name for p in inspect.signature(callee).parameters.values() if p.kind is p.KEYWORD_ONLY
            }
            if taken != names:
                raise ParameterError(
                    f"{name} declares {sorted(names)}, {callee.__name__} takes {sorted(taken)}"
                )
        if scope not in SCOPES:
            raise ParameterError(f"{name}: scope {scope!r}")
        if (name, version) in _REGISTRY:
            raise ParameterError(f"two strategies are called {name} version {version}")
        needs = Needs(
            base=needs_base,
            draws=draws,
            scope=scope,
            evidence=tuple(evidence),
            evidence_of=evidence_of,
            optional_evidence=tuple(optional_evidence),
            roles=tuple(roles),
            coefficients=coefficients,
            members_min=members_min,
            members_max=members_max,
        )
        for kind in needs.kinds_read:
            if kind not in KINDS:
                raise ParameterError(f"{name}: evidence of unknown kind {kind!r}")
        _REGISTRY[name, version] = Strategy(
            name=name,
            version=version,
            source=source,
            declared=needs,
            alone_is_itself=alone_is_itself,
            symmetric=symmetric,
            weighted=weighted,
            parameters=tuple(parameters),
            function=function,
            survey=survey,
            suits=suits,
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
    _check(main, recipe.parameters)
    rules = []
    for rule in recipe.rules:
        found = find(rule.strategy, rule.version)
        _check(found, rule.parameters)
        rules.append(type(rule)(rule.glob, rule.strategy, found.version, rule.parameters))
    return recipe.replace(version=main.version, rules=tuple(rules))


def _check(found: Strategy, parameters: Sequence[tuple[str, Parameter]]) -> None:
    for end in ends(parameters):
        found.read(end)
