"""What a strategy sees: the members of a merge, and the same run of elements of all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property
from typing import NamedTuple, Protocol

from crdtmerge.arith import Change, Elements, Tensor, Values, decoded
from crdtmerge.coefficients import Coefficients
from crdtmerge.digest import Digest
from crdtmerge.errors import ParameterError


@dataclass(frozen=True)
class Member:
    """A contribution as a strategy knows it.

    Attributes:
        digest: by which members are ordered.
        weight: exact, as the recipe has it.
        label, role, topic: what its author's metadata says under these keys, or None. A role is what a
            method needs it for ("task", "safety", "forget", "retain"); members of one topic belong together
            (a forget set, an attribute).
    """

    digest: Digest
    weight: Fraction = Fraction(1)
    label: str | None = None
    role: str | None = None
    topic: str | None = None


@dataclass(frozen=True)
class Group:
    """The tensors that one strategy merges with the same parameters, and the members of the merge.

    Attributes:
        tensors: (name, shape) of the floating tensors, ascending by name.
        members: in canonical order, at least one.
        coefficients: published for exactly these members and this strategy, or None.
    """

    tensors: tuple[tuple[str, tuple[int, ...]], ...]
    members: tuple[Member, ...]
    coefficients: Coefficients | None = None

    @property
    def count(self) -> int:
        """Number of members."""
        return len(self.members)

    def unweighted(self, name: str) -> None:
        """Check that the members weigh alike, for a method that has no place for weights.

        Raises:
            ParameterError: if they do not.
        """
        if len(set(self.weights)) > 1:
            raise ParameterError(f"{name} has no place for weights, and the recipe's differ: make them equal")

    @cached_property
    def weights(self) -> tuple[Fraction, ...]:
        """The members' weights."""
        return tuple(member.weight for member in self.members)

    def having(self, role: str) -> list[int]:
        """Return the indices of the members with a role."""
        return [i for i, member in enumerate(self.members) if member.role == role]

    def select(self, indices: Sequence[int]) -> Group:
        """Return the group of some members only; coefficients do not apply to it."""
        return Group(self.tensors, tuple(self.members[i] for i in indices))


class Factors(NamedTuple):
    """Low-rank factors of a difference: ``scale · b @ a``, b [out, rank] and a [rank, in] float64."""

    a: Tensor
    b: Tensor
    scale: Fraction


@dataclass(frozen=True)
class Tile:
    """The same run of elements of one tensor, in the base and in every contribution.

    Attributes:
        tensor: its name.
        shape: of the whole tensor.
        start: flat row-major index of the run's first element within the tensor.
        stored_base: [n] elements of the base, or None without one.
        stored: k times [n] elements, as contributed: values, or differences where ``is_delta`` says so.
        is_delta: k flags.
        group: what the tile is part of.
        keys: k keys of random draws, each bound to seed, strategy, parameters, contribution and tensor.
        evidence: by declared kind, k times what the contribution's evidence says about this tensor, or None
            where it says nothing. Kinds that describe elements come as the same run [n]; others whole.
        factors: k times the low-rank factors of the whole tensor; None for members that gave values, and
            for all of them unless the strategy's scope is "tensor".
    """

    tensor: str
    shape: tuple[int, ...]
    start: int
    stored_base: Values | None
    stored: tuple[Values, ...]
    is_delta: tuple[bool, ...]
    group: Group
    keys: tuple[bytes, ...] = ()
    evidence: Mapping[str, tuple[Tensor | None, ...]] = field(default_factory=dict)
    factors: tuple[Factors | None, ...] = ()

    @property
    def count(self) -> int:
        """Number of contributions."""
        return len(self.stored)

    @property
    def weights(self) -> tuple[Fraction, ...]:
        """The members' exact weights."""
        return self.group.weights

    @property
    def stop(self) -> int:
        """Flat index behind the run's last element."""
        return self.start + len(self.stored[0])

    @cached_property
    def base(self) -> Tensor | None:
        """The base's values, [n] float64, or None without a base."""
        return None if self.stored_base is None else decoded(self.stored_base)

    @cached_property
    def given(self) -> tuple[Tensor, ...]:
        """What was contributed, k times [n] float64: values, or differences."""
        return tuple(decoded(x) for x in self.stored)

    @property
    def terms(self) -> tuple[Elements, ...]:
        """The contributions' values as terms of a sum, k times [n]: not decoded if they need not be."""
        return self.models if any(self.is_delta) else self.stored

    @cached_property
    def models(self) -> tuple[Tensor, ...]:
        """The contributions' values, k times [n]."""
        return tuple(
            decoded(self._origin) + given if delta else given
            for given, delta in zip(self.given, self.is_delta, strict=True)
        )

    @cached_property
    def deltas(self) -> tuple[Tensor, ...]:
        """The contributions' differences from the base, k times [n]."""
        return tuple(decoded(x) for x in self.changes)

    @cached_property
    def changes(self) -> tuple[Elements, ...]:
        """The same as terms of a sum, k times [n]: not taken before they must be."""
        return tuple(
            x if delta else Change(x, self._origin)
            for x, delta in zip(self.stored, self.is_delta, strict=True)
        )

    def select(self, indices: Sequence[int], group: Group) -> Tile:
        """Return the tile of some members only; ``group`` is what `Group.select` gave for them."""
        return replace(
            self,
            stored=tuple(self.stored[i] for i in indices),
            is_delta=tuple(self.is_delta[i] for i in indices),
            group=group,
            keys=tuple(self.keys[i] for i in indices) if self.keys else (),
            evidence={kind: tuple(row[i] for i in indices) for kind, row in self.evidence.items()},
            factors=tuple(self.factors[i] for i in indices) if self.factors else (),
        )

    def moved(self, deltas: Sequence[Tensor]) -> Tile:
        """Return the tile whose members differ from the base by ``deltas`` instead, k times [n]."""
        return replace(self, stored=tuple(deltas), is_delta=(True,) * self.count, factors=())

    @property
    def _origin(self) -> Values:
        if self.stored_base is None:
            raise ParameterError("this strategy reads differences from a base: declare needs_base=True")
        return self.stored_base


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
