"""What a strategy needs beyond the contributed weights: declared, joined, and checked before work starts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

SCOPES: Final = ("element", "row", "tensor")
"""What a tile may be cut into: any run of elements, whole rows along the last dimension, the whole tensor."""


@dataclass(frozen=True)
class Needs:
    """The needs of a strategy with its parameters.

    Attributes:
        base: whether it reads differences from a base.
        draws: whether it uses randomness, so that the seed is part of what its output depends on.
        scope: one of `SCOPES`.
        evidence: kinds of evidence that members must bring (`crdtmerge.evidence.KINDS`); ``|`` parts kinds
            of which one will do.
        evidence_of: the role of the members that must bring it; None: all of them.
        optional_evidence: kinds that it reads where they are there.
        roles: of each of these at least one member must be there.
        coefficients: whether it applies published coefficients; without a match it uses its documented
            initial point, and the result says so.
        members_min, members_max: how many members it is defined for; None is no bound.
    """

    base: bool = False
    draws: bool = False
    scope: str = "element"
    evidence: tuple[str, ...] = ()
    evidence_of: str | None = None
    optional_evidence: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    coefficients: bool = False
    members_min: int = 1
    members_max: int | None = None

    @property
    def kind(self) -> str:
        """P: of the weights alone; E: of weights and evidence; S: of weights and published coefficients."""
        return "S" if self.coefficients else "E" if self.evidence else "P"

    @property
    def kinds_read(self) -> tuple[str, ...]:
        """All kinds of evidence that it reads."""
        return (*(kind for entry in self.evidence for kind in entry.split("|")), *self.optional_evidence)

    def join(self, other: Needs) -> Needs:
        """Return the needs of a strategy that uses another one inside."""
        return Needs(
            base=self.base or other.base,
            draws=self.draws or other.draws,
            scope=max(self.scope, other.scope, key=SCOPES.index),
            evidence=_union(self.evidence, other.evidence),
            evidence_of=self.evidence_of if self.evidence else other.evidence_of,
            optional_evidence=_union(self.optional_evidence, other.optional_evidence),
            roles=_union(self.roles, other.roles),
            coefficients=self.coefficients or other.coefficients,
            members_min=max(self.members_min, other.members_min),
            members_max=min((m for m in (self.members_max, other.members_max) if m), default=None),
        )

    def words(self) -> tuple[str, ...]:
        """Return the needs for people."""
        return (
            *(["base"] if self.base else []),
            *(f"evidence {kind.replace('|', ' or ')}" for kind in self.evidence),
            *(f"role {role}" for role in self.roles),
            *(["coefficients"] if self.coefficients else []),
            *([f"at least {self.members_min} contributions"] if self.members_min > 1 else []),
            *([f"at most {self.members_max} contributions"] if self.members_max else []),
        )


def _union(mine: tuple[str, ...], theirs: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(mine + theirs))
