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
        evidence: kinds of evidence that members must bring (`crdtmerge.evidence.KINDS`).
        optional_evidence: kinds that it reads where they are there.
        roles: of each of these at least one member must be there.
        coefficients: whether it applies published coefficients; without a match it uses its documented
            initial point, and the result says so.
        members_min: the least number of members it is defined for.
    """

    base: bool = False
    draws: bool = False
    scope: str = "element"
    evidence: tuple[str, ...] = ()
    optional_evidence: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    coefficients: bool = False
    members_min: int = 1

    @property
    def kind(self) -> str:
        """P: of the weights alone; E: of weights and evidence; S: of weights and published coefficients."""
        return "S" if self.coefficients else "E" if self.evidence else "P"

    @property
    def kinds_read(self) -> tuple[str, ...]:
        """All kinds of evidence that it reads."""
        return self.evidence + self.optional_evidence

    def join(self, other: Needs) -> Needs:
        """Return the needs of a strategy that uses another one inside."""
        return Needs(
            base=self.base or other.base,
            draws=self.draws or other.draws,
            scope=max(self.scope, other.scope, key=SCOPES.index),
            evidence=_union(self.evidence, other.evidence),
            optional_evidence=_union(self.optional_evidence, other.optional_evidence),
            roles=_union(self.roles, other.roles),
            coefficients=self.coefficients or other.coefficients,
            members_min=max(self.members_min, other.members_min),
        )

    def words(self) -> tuple[str, ...]:
        """Return the needs for people."""
        return (
            *(["base"] if self.base else []),
            *(f"evidence {kind}" for kind in self.evidence),
            *(f"role {role}" for role in self.roles),
            *(["coefficients"] if self.coefficients else []),
            *([f"{self.members_min} contributions"] if self.members_min > 1 else []),
        )


def _union(mine: tuple[str, ...], theirs: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(mine + theirs))
