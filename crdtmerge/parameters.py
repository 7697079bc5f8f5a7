"""The types of a strategy's parameters: how a value given in a recipe is read, and refused.

A recipe holds booleans, integers and text. A parameter's declaration says what a strategy's function gets
for them: exact rationals for numbers, one of a few words, a flag. What is absent has a documented default.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from operator import ge, gt, le, lt
from typing import Any, Protocol

from crdtmerge.errors import ParameterError
from crdtmerge.rational import decimal
from crdtmerge.recipe import Parameter


class ParameterSpec(Protocol):
    """A declared parameter: its name, default and meaning, and how a given value is read."""

    @property
    def name(self) -> str:
        """What recipes call it."""

    @property
    def doc(self) -> str:
        """What it means, in a few words."""

    @property
    def default_text(self) -> str:
        """The default, for people."""

    def read(self, value: Parameter | None) -> Any:
        """Return what the strategy's function receives; None stands for an absent value.

        Raises:
            ParameterError: if the value is of another type or out of range.
        """


@dataclass(frozen=True)
class Number:
    """An exact rational; ``default=None`` means that the strategy's own text says what absence means."""

    name: str
    default: str | None
    doc: str
    minimum: str | None = None
    above: str | None = None
    maximum: str | None = None
    below: str | None = None

    @property
    def default_text(self) -> str:
        """The default, for people."""
        return "none" if self.default is None else self.default

    def read(self, value: Parameter | Fraction | None) -> Fraction | None:
        """Return the number as a fraction; one between the stops of a gradient comes as such."""
        if value is None:
            if self.default is None:
                return None
            value = self.default
        if isinstance(value, (bool, tuple)):
            raise ParameterError(f"{self.name}: wanted a number, got {value!r}")
        number = value if isinstance(value, Fraction) else Fraction(decimal(value))
        for bound, text, holds in (
            (self.minimum, "at least", ge),
            (self.above, "more than", gt),
            (self.maximum, "at most", le),
            (self.below, "less than", lt),
        ):
            if bound is not None and not holds(number, Fraction(bound)):
                raise ParameterError(f"{self.name} must be {text} {bound}, got {value}")
        return number


@dataclass(frozen=True)
class Integer:
    """A whole number; ``default=None`` means that the strategy's own text says what absence means."""

    name: str
    default: int | None
    doc: str
    minimum: int | None = None
    maximum: int | None = None

    @property
    def default_text(self) -> str:
        """The default, for people."""
        return "none" if self.default is None else str(self.default)

    def read(self, value: Parameter | None) -> int | None:
        """Return the integer."""
        value = self.default if value is None else value
        if value is None:
            return None
        if isinstance(value, str) and value.lstrip("-").isdecimal():
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool):
            raise ParameterError(f"{self.name}: wanted a whole number, got {value!r}")
        if self.minimum is not None and value < self.minimum:
            raise ParameterError(f"{self.name} must be at least {self.minimum}, got {value}")
        if self.maximum is not None and value > self.maximum:
            raise ParameterError(f"{self.name} must be at most {self.maximum}, got {value}")
        return value


@dataclass(frozen=True)
class Choice:
    """One word of a few; the first is the default."""

    name: str
    choices: tuple[str, ...]
    doc: str

    @property
    def default_text(self) -> str:
        """The default, for people."""
        return self.choices[0]

    def read(self, value: Parameter | None) -> str:
        """Return the word."""
        if value is None:
            return self.choices[0]
        if value not in self.choices:
            raise ParameterError(f"{self.name} is one of {', '.join(self.choices)}; got {value!r}")
        return str(value)


@dataclass(frozen=True)
class Text:
    """A word of the caller's: a label, or the first digits of a digest."""

    name: str
    default: str
    doc: str

    @property
    def default_text(self) -> str:
        """The default, for people."""
        return self.default

    def read(self, value: Parameter | None) -> str:
        """Return the text."""
        value = self.default if value is None else value
        if not isinstance(value, str):
            raise ParameterError(f"{self.name}: wanted text, got {value!r}")
        return value


@dataclass(frozen=True)
class Flag:
    """Yes or no."""

    name: str
    default: bool
    doc: str

    @property
    def default_text(self) -> str:
        """The default, for people."""
        return str(self.default).lower()

    def read(self, value: Parameter | None) -> bool:
        """Return the flag."""
        value = self.default if value is None else value
        if isinstance(value, str) and value in ("true", "false"):
            value = value == "true"
        if not isinstance(value, bool):
            raise ParameterError(f"{self.name} is true or false, got {value!r}")
        return value
