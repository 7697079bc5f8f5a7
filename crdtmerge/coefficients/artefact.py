"""The artefact of a search as it is read: arrays, settings, and which array speaks of which tensor."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from fractions import Fraction
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING, Final, NamedTuple

from crdtmerge import canon
from crdtmerge.digest import Digest
from crdtmerge.errors import MalformedError, ParameterError
from crdtmerge.limits import PLAN_BYTES_MAX
from crdtmerge.rational import rational

if TYPE_CHECKING:  # looking at what was published loads no tensor library
    from crdtmerge.arith import Tensor

APPLIES_TO: Final = "applies_to"
PAYLOADS: Final = ("coeffs", "masks", "hyper", "plan", "delta")
MODES: Final = ("task_vector", "convex", "linear")
GRANULARITIES: Final = ("model", "group", "tensor", "chunk", "column", "interval")

Shapes = tuple[tuple[str, tuple[int, ...]], ...]
"""(name, shape) of a model's floating tensors, ascending by name."""


class Published(NamedTuple):
    """An operation that published coefficients, as far as choosing one needs it.

    Attributes:
        level: authority of its author; 0 is the highest.
        payload: digest of the payload's manifest.
        bound_to: contribution digests, ascending.
    """

    level: int
    payload: Digest
    bound_to: tuple[Digest, ...]


def candidates(published: Iterable[Published], members: tuple[Digest, ...]) -> list[Published]:
    """Return what is bound to exactly ``members``: highest authority first, then lowest payload digest.

    What a payload claims to have achieved has no influence: a hostile peer can lie.
    """
    return sorted({p for p in published if p.bound_to == members}, key=lambda p: (p.level, p.payload))


class Row(NamedTuple):
    """One tensor of a plan of layers: ``scale`` times tensor ``source`` of the member at index ``member``."""

    output: str
    member: int
    source: str
    scale: Fraction


@dataclass(frozen=True)
class Coefficients:
    """A payload, read.

    Attributes:
        digest: of its manifest.
        strategy: that applies it.
        payload: one of `PAYLOADS`.
        settings: the manifest's metadata.
        shapes: of the arrays by name, without ``applies_to``.
        octets: names of those arrays that hold bytes; all others hold floating point.
        count: number of contributions, k.
        tensors: of the model that it is applied to.
        read: from (name, start, stop) to elements ``[start, stop)`` of an array, flat float64.
    """

    digest: Digest
    strategy: str
    payload: str
    settings: Mapping[str, str]
    shapes: Mapping[str, tuple[int, ...]]
    octets: frozenset[str]
    count: int
    tensors: Shapes
    read: Callable[[str, int, int], Tensor] = field(repr=False, compare=False)

    def __contains__(self, name: str) -> bool:
        return name in self.shapes

    def array(self, name: str) -> Tensor:
        """Return an array in its shape, float64.

        Raises:
            MalformedError: if the payload has none of this name.
        """
        if name not in self.shapes:
            raise MalformedError(f"the coefficients {self.digest.hex()[:12]}… have no array {name!r}")
        shape = self.shapes[name]
        return self.read(name, 0, prod(shape)).reshape(shape)

    def about(self, what: str, tensor: str) -> str | None:
        """Return the name of the array ``what/…`` that speaks of a tensor, or None.

        ``what/`` and the tensor's own name; else of the patterns that match it the longest, among equally
        long ones the lowest in the order of its bytes.
        """
        exact = f"{what}/{tensor}"
        if exact in self.shapes:
            return exact
        begin = len(what) + 1
        return next((name for name in self._patterns(what) if fnmatchcase(tensor, name[begin:])), None)

    def _patterns(self, what: str) -> list[str]:
        if what not in self._sorted:
            found = [n for n in self.shapes if n.startswith(f"{what}/") and not set("*?[").isdisjoint(n)]
            self._sorted[what] = sorted(found, key=lambda name: (-len(name), name.encode()))
        return self._sorted[what]

    @cached_property
    def _sorted(self) -> dict[str, list[str]]:
        return {}

    @cached_property
    def places(self) -> Mapping[str, tuple[int, int]]:
        """Of every floating tensor of the model its position, and the flat index of its first element.

        The flat index runs through all floating tensors, ascending by name.
        """
        places, offset = {}, 0
        for position, (name, shape) in enumerate(self.tensors):
            places[name] = position, offset
            offset += prod(shape)
        return places

    @cached_property
    def rows(self) -> tuple[Row, ...]:
        """The rows of a payload "plan", ascending by output, which array ``plan`` holds as canonical bytes.

        Raises:
            MalformedError, LimitError: if they are not canonical, or an output is there twice.
        """
        raw = bytes(int(byte) for byte in self.array("plan").flatten().tolist())
        rows = [canon.array(row, 4) for row in canon.array(canon.decode(raw, bytes_max=PLAN_BYTES_MAX))]
        try:
            made = [
                Row(
                    canon.text(output), canon.integer(member, 0), canon.text(source), rational(canon.text(by))
                )
                for output, member, source, by in rows
            ]
        except ParameterError as error:
            raise MalformedError(f"the scale of a row of a plan of layers: {error}") from error
        if [row.output for row in made] != sorted({row.output for row in made}, key=str.encode):
            raise MalformedError("the rows of a plan of layers are not in ascending order, or twice")
        return tuple(made)

    def setting(self, name: str, *choices: str) -> str:
        """Return a setting that must be one of ``choices``; absent, it is the first.

        Raises:
            MalformedError: if it is something else.
        """
        value = self.settings.get(name, choices[0])
        if value not in choices:
            raise MalformedError(f"coefficients with {name} = {value!r}, wanted one of {', '.join(choices)}")
        return value

    @property
    def granularity(self) -> str:
        """To what the weights of a payload belong: one of `GRANULARITIES`."""
        return self.setting("granularity", *GRANULARITIES)

    @property
    def mode(self) -> str:
        """What weights multiply, one of `MODES`: differences from the base, or models."""
        return self.setting("mode", *MODES)


def columns(shape: tuple[int, ...]) -> int:
    """Return the number of columns of a tensor: all dimensions but the first; all elements of a vector."""
    return prod(shape[1:]) if len(shape) > 1 else prod(shape)
