"""Which merge a federation computes: data in the operation set, so replicas cannot disagree about it.

A recipe names strategies by (name, version) and holds their parameters as text, integers and booleans;
it knows nothing of what they compute. `crdtmerge.strategy` validates the parameters before work starts.

Tensors go to the first rule whose glob matches their name, the rest to the recipe's own strategy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from functools import cached_property
from typing import Final, TypeAlias

from crdtmerge import canon
from crdtmerge.digest import DIGEST_BYTES, Digest, Domain, digest
from crdtmerge.dtypes import DType
from crdtmerge.errors import MalformedError, ParameterError
from crdtmerge.limits import OPERATION_BYTES_MAX
from crdtmerge.rational import decimal, is_decimal

VERSION: Final = 1

NUMERICS: Final = 1
"""Version of the constants of arithmetic that decide bits (docs/spec/arith.md)."""

Parameter: TypeAlias = "bool | int | str | tuple[str, ...]"
"""A parameter's canonical value; numbers with a fraction are decimal text, gradients are several of them."""

Number: TypeAlias = "int | float | str | Fraction"
Given: TypeAlias = "bool | Number | Sequence[Number]"
"""What a caller may write for a parameter; a sequence is a gradient over the layers."""


class Weighting(Enum):
    """Where the weights of contributions come from."""

    UNIFORM = "uniform"
    """Every contribution weighs 1: a peer cannot declare itself important."""
    DECLARED = "declared"
    """What each manifest declares."""
    EXAMPLES = "examples"
    """The metric ``num_examples`` of each manifest, which must be there."""
    EXPLICIT = "explicit"
    """What the recipe lists by contribution digest; others weigh 1."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A strategy for the tensors whose names match a shell-style glob."""

    glob: str
    strategy: str
    version: int | None = None
    parameters: tuple[tuple[str, Parameter], ...] = ()

    @classmethod
    def of(cls, glob: str, strategy: str, *, version: int | None = None, **parameters: Given) -> Rule:
        """Make a rule from parameters as people write them."""
        return cls(glob, strategy, version, parameters_of(parameters))


@dataclass(frozen=True, slots=True)
class Selection:
    """Which of the visible contributions are merged; the empty selection takes all.

    Attributes:
        labels: keep contributions whose metadata ``label`` is one of these.
        authors: keep contributions that one of these node ids added.
        metric, at_least: keep contributions whose metric is there and not below a decimal.
    """

    labels: tuple[str, ...] = ()
    authors: tuple[bytes, ...] = ()
    metric: str | None = None
    at_least: str | None = None


@dataclass(frozen=True, init=False)
class Recipe:
    """A merge, described.

    ``Recipe("ties", density="0.2")`` is the whole of it for most uses.

    Attributes:
        strategy: name of the strategy.
        version: its version; None until `crdtmerge.strategy.pin` fills in the newest installed one.
        parameters: (name, canonical value) pairs, ascending by name; what is absent has its default.
        rules: strategies for some of the tensors, first match wins.
        selection: which contributions are merged.
        weighting, weights: see `Weighting`; pairs of (contribution digest, decimal), ascending.
        output_dtype: of all floating tensors of the result; None keeps the base's (without a base: the
            first canonical contribution's).
        seed_scope: "root": random draws change with every change of the visible set, as the paper has it;
            "contribution": they depend on the contribution alone, so its mask is stable.
        numerics: version of the arithmetic.
    """

    strategy: str
    version: int | None
    parameters: tuple[tuple[str, Parameter], ...]
    rules: tuple[Rule, ...]
    selection: Selection
    weighting: Weighting
    weights: tuple[tuple[Digest, str], ...]
    output_dtype: DType | None
    seed_scope: str
    numerics: int

    def __init__(
        self,
        strategy: str,
        *,
        version: int | None = None,
        rules: Sequence[Rule] = (),
        selection: Selection | None = None,
        weighting: Weighting | str = Weighting.UNIFORM,
        weights: Mapping[Digest, Number] | None = None,
        output_dtype: DType | str | None = None,
        seed_scope: str = "root",
        numerics: int = NUMERICS,
        **parameters: Given,
    ) -> None:
        """Make a recipe; everything that is no field is a parameter of the strategy.

        Raises:
            ParameterError: if a value is out of range.
        """
        if seed_scope not in ("root", "contribution"):
            raise ParameterError(f"seed_scope is 'root' or 'contribution', got {seed_scope!r}")
        try:
            if weights and Weighting(weighting) is Weighting.UNIFORM:
                weighting = Weighting.EXPLICIT
            dtype = DType.of(output_dtype) if isinstance(output_dtype, str) else output_dtype
            fields: dict[str, object] = {
                "strategy": strategy,
                "version": version,
                "parameters": parameters_of(parameters),
                "rules": tuple(rules),
                "selection": selection or Selection(),
                "weighting": Weighting(weighting),
                "weights": tuple(sorted((key, decimal(value)) for key, value in (weights or {}).items())),
                "output_dtype": dtype,
                "seed_scope": seed_scope,
                "numerics": numerics,
            }
        except (KeyError, ValueError) as error:
            raise ParameterError(f"not a recipe: {error}") from error
        if dtype is not None and not dtype.floating:
            raise ParameterError(f"output_dtype is a floating type, got {dtype.code}")
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    def replace(self, **changes: object) -> Recipe:
        """Return a copy with other fields."""
        copy = object.__new__(Recipe)
        for name in Recipe.__dataclass_fields__:
            object.__setattr__(copy, name, changes.pop(name, getattr(self, name)))
        if changes:
            raise TypeError(f"a recipe has no field {', '.join(changes)}")
        return copy

    @property
    def value(self) -> canon.Value:
        """The recipe as a canonical value.

        Raises:
            ParameterError: if a version is not pinned yet.
        """
        if self.version is None or any(rule.version is None for rule in self.rules):
            raise ParameterError("a recipe is shared with the versions of its strategies pinned")
        chosen = self.selection
        return [
            VERSION,
            self.strategy,
            self.version,
            [list(pair) for pair in self.parameters],
            [[r.glob, r.strategy, r.version, [list(pair) for pair in r.parameters]] for r in self.rules],
            [list(chosen.labels), list(chosen.authors), chosen.metric, chosen.at_least],
            self.weighting.value,
            [list(pair) for pair in self.weights],
            None if self.output_dtype is None else self.output_dtype.code,
            self.seed_scope,
            self.numerics,
        ]

    @cached_property
    def encoded(self) -> bytes:
        """The canonical bytes."""
        return canon.encode(self.value)

    @cached_property
    def digest(self) -> Digest:
        """The digest of the canonical bytes."""
        return digest(Domain.RECIPE, self.encoded)

    @classmethod
    def decode(cls, data: bytes) -> Recipe:
        """Parse a recipe from outside.

        Raises:
            MalformedError: if it is not canonical or a field is out of range.
        """
        return cls.from_value(canon.decode(data, bytes_max=OPERATION_BYTES_MAX))

    @classmethod
    def from_value(cls, value: canon.Value) -> Recipe:
        """Read a canonical value, as `value` gives it."""
        row = canon.array(value, 11)
        version, strategy, number, parameters, rules, chosen, weighting, weights, dtype, scope, numerics = row
        if canon.integer(version) != VERSION:
            raise MalformedError(f"a recipe of version {version!r}, this software reads {VERSION}")
        labels, authors, metric, at_least = canon.array(chosen, 4)
        try:
            recipe = cls(
                canon.text(strategy),
                version=canon.integer(number, 1),
                rules=[_rule(row) for row in canon.array(rules)],
                selection=Selection(
                    labels=tuple(canon.text(label) for label in canon.array(labels)),
                    authors=tuple(canon.octets(author, DIGEST_BYTES) for author in canon.array(authors)),
                    metric=None if metric is None else canon.text(metric),
                    at_least=None if at_least is None else canon.text(at_least),
                ),
                weighting=canon.text(weighting),
                weights={
                    Digest(canon.octets(key, DIGEST_BYTES)): canon.text(weight)
                    for key, weight in (canon.array(pair, 2) for pair in canon.array(weights))
                },
                output_dtype=None if dtype is None else canon.text(dtype),
                seed_scope=canon.text(scope),
                numerics=canon.integer(numerics, 1),
            ).replace(parameters=_parameters(parameters))
        except ParameterError as error:
            raise MalformedError(str(error)) from error
        if recipe.selection.at_least is not None and not is_decimal(recipe.selection.at_least):
            raise MalformedError(f"selection threshold {recipe.selection.at_least!r} is no decimal")
        if canon.encode(recipe.value) != canon.encode(value):
            raise MalformedError("a recipe that re-encodes to other bytes")
        return recipe


def parameters_of(given: Mapping[str, Given]) -> tuple[tuple[str, Parameter], ...]:
    """Return parameters in canonical form, ascending by name: floats and fractions become decimal text.

    Raises:
        ParameterError: if a value is none of a recipe's, or a gradient has less than two numbers.
    """
    return tuple((name, _canonical(name, given[name])) for name in sorted(given))


def _canonical(name: str, value: Given) -> Parameter:
    if isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, Sequence):
        if len(value) < 2:
            raise ParameterError(f"{name}: a gradient has at least two numbers, got {list(value)}")
        return tuple(decimal(stop) for stop in value)
    return decimal(value)


def _rule(value: canon.Value) -> Rule:
    glob, strategy, version, parameters = canon.array(value, 4)
    return Rule(canon.text(glob), canon.text(strategy), canon.integer(version, 1), _parameters(parameters))


def _parameters(value: canon.Value) -> tuple[tuple[str, Parameter], ...]:
    pairs = [canon.array(pair, 2) for pair in canon.array(value)]
    names = [canon.text(name) for name, _ in pairs]
    if names != sorted(set(names)):
        raise MalformedError("parameters are not in ascending order, or twice")
    return tuple((name, _parameter(content)) for name, (_, content) in zip(names, pairs, strict=True))


def _parameter(value: canon.Value) -> Parameter:
    if isinstance(value, (bool, int, str)):
        return value
    if not isinstance(value, (list, tuple)):
        raise MalformedError(f"a parameter of type {type(value).__name__}")
    stops = tuple(canon.text(stop) for stop in value)
    if len(stops) < 2 or not all(map(is_decimal, stops)):
        raise MalformedError(f"a gradient of {list(stops)}: wanted two decimal numbers or more")
    return stops
