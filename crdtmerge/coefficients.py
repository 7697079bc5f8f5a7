"""What a search published for one exact set of contributions: numbers that a strategy applies.

A search (evolutionary, gradients on unlabelled data, a Pareto front …) runs at one peer, with an evaluator;
what it found is a payload of arrays, addressed by content like a model and bound to the contributions that
it was found for. Every replica applies it by the same pure strategy. A payload is a manifest of kind
COEFFICIENTS:

    metadata   strategy   which strategy applies it
               payload    coeffs | masks | hyper | plan | delta
               and what that payload asks for (granularity, mode …); claims of the search, for people
    tensors    applies_to [k, 32] U8: the contribution digests, ascending; then the arrays, whose rows stand
               in that order

Rules: a payload applies to exactly its contributions or not at all; numbers are binary floating point, as
found; claimed metrics never decide. Which of several payloads is taken is `choose`'s business.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from typing import Final, NamedTuple

from crdtmerge import canon
from crdtmerge.arith import Tensor
from crdtmerge.digest import Digest
from crdtmerge.errors import MalformedError
from crdtmerge.limits import PLAN_BYTES_MAX
from crdtmerge.rational import rational

APPLIES_TO: Final = "applies_to"
PAYLOADS: Final = ("coeffs", "masks", "hyper", "plan", "delta")


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
        read: from a name to the array's elements, flat float64.
    """

    digest: Digest
    strategy: str
    payload: str
    settings: Mapping[str, str]
    shapes: Mapping[str, tuple[int, ...]]
    read: Callable[[str], Tensor] = field(repr=False, compare=False)

    def __contains__(self, name: str) -> bool:
        return name in self.shapes

    def array(self, name: str) -> Tensor:
        """Return an array in its shape, float64.

        Raises:
            MalformedError: if the payload has none of this name.
        """
        if name not in self.shapes:
            raise MalformedError(f"the coefficients {self.digest.hex()[:12]}… have no array {name!r}")
        return self.read(name).reshape(self.shapes[name])

    @cached_property
    def rows(self) -> tuple[Row, ...]:
        """The rows of a payload "plan", ascending by output, which array ``plan`` holds as canonical bytes.

        Raises:
            MalformedError: if they are not canonical, or an output is there twice.
        """
        raw = bytes(int(byte) for byte in self.array("plan").flatten().tolist())
        rows = [canon.array(row, 4) for row in canon.array(canon.decode(raw, bytes_max=PLAN_BYTES_MAX))]
        made = [
            Row(canon.text(output), canon.integer(member, 0), canon.text(source), rational(canon.text(scale)))
            for output, member, source, scale in rows
        ]
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
