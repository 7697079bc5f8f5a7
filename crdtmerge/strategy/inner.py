"""A strategy as another strategy's parameter: ``inner=ties, inner.density=0.5``.

Methods that select, clip or rotate contributions and leave the merging itself to any other method name it by
a parameter. The inner strategy's own parameters are written with the parameter's name and a dot before them,
so that a recipe stays a flat list of names and values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from crdtmerge.arith import Tensor, decoded
from crdtmerge.errors import ParameterError
from crdtmerge.recipe import Parameter

from .needs import Needs
from .tile import Group, Survey, Tile

if TYPE_CHECKING:
    from .registry import Strategy


@dataclass(frozen=True)
class Bound:
    """A strategy with its arguments.

    Its text is canonical: it takes part in what random draws are bound to.
    """

    strategy: Strategy
    arguments: tuple[tuple[str, Any], ...]

    @property
    def needs(self) -> Needs:
        """What it needs."""
        return self.strategy.needs(dict(self.arguments))

    def survey(self, group: Group) -> Survey | None:
        """Return what it must see first, or None."""
        survey = self.strategy.survey
        return None if survey is None else survey(group, **dict(self.arguments))

    def merge(self, tile: Tile, survey: Survey | None) -> Tensor:
        """Return the merged tile, [n] float64."""
        extra = () if self.strategy.survey is None else (survey,)
        return decoded(self.strategy.function(tile, *extra, **dict(self.arguments)))

    def __str__(self) -> str:
        written = ", ".join(f"{key}={value}" for key, value in self.arguments)
        return f"{self.strategy.name} {self.strategy.version} ({written})"


@dataclass(frozen=True)
class Inner:
    """A parameter that is a strategy; ``name.parameter`` are its parameters.

    ``parameters`` has (name, value) pairs in place of its own defaults, for the strategies that have them.
    """

    name: str
    default: str
    doc: str
    choices: tuple[str, ...] | None = None
    parameters: tuple[tuple[str, Parameter], ...] = ()

    @property
    def default_text(self) -> str:
        """The default, for people."""
        return self.default

    def read(self, value: Any) -> Bound:
        """Return the strategy bound to its default parameters."""
        return self.bind(value, {})

    def bind(self, value: Parameter | None, parameters: Mapping[str, Parameter]) -> Bound:
        """Return the strategy bound to ``parameters``, which are named without prefix.

        Raises:
            ParameterError: if it is no strategy's name, none of the choices, or a parameter is not its own.
        """
        from .registry import find

        chosen = self.default if value is None else value
        if not isinstance(chosen, str) or (self.choices is not None and chosen not in self.choices):
            among = "a strategy's name" if self.choices is None else f"one of {', '.join(self.choices)}"
            raise ParameterError(f"{self.name} is {among}; got {chosen!r}")
        strategy = find(chosen)
        known = {spec.name for spec in strategy.parameters}
        given = {name: value for name, value in self.parameters if name in known} | dict(parameters)
        return Bound(strategy, tuple(strategy.read(tuple(given.items())).items()))
