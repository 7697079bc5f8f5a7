"""What a merge was made of: the record that stands beside every merged model.

    result digest = H(recipe, visible root, contributions, excluded, merged tensors and base,
                      coefficients, notes, corrections)

Equal recipe, contributions and base give equal bytes here, on every machine; two replicas that differ in
this digest for the same root have found a bug.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final

from crdtmerge import canon
from crdtmerge.digest import DIGEST_BYTES, Digest, Domain, digest
from crdtmerge.errors import MalformedError
from crdtmerge.limits import MANIFEST_BYTES_MAX
from crdtmerge.manifest import Manifest
from crdtmerge.recipe import Recipe

VERSION: Final = 3


@dataclass(frozen=True)
class Result:
    """A merged model, described.

    Attributes:
        recipe: how it was computed, versions pinned.
        root: the visible root that seeded the random draws.
        contributions: digests of what was merged, ascending.
        excluded: (digest, reason) of visible contributions that every replica leaves out, ascending.
        merged: the merged tensors, as a manifest of kind FULL.
        coefficients: digests of the published coefficients that were applied, ascending.
        notes: what a user should know, ascending: for example that no coefficients matched and a strategy's
            initial point was used.
        corrections: the payload of corrections that stand beside the model, made for exactly this model.
    """

    recipe: Recipe
    root: Digest
    contributions: tuple[Digest, ...]
    excluded: tuple[tuple[Digest, str], ...]
    merged: Manifest
    coefficients: tuple[Digest, ...] = ()
    notes: tuple[str, ...] = ()
    corrections: Manifest | None = None

    @property
    def model(self) -> Digest:
        """Digest of the merged tensors: what replicas compare."""
        return self.merged.model

    @cached_property
    def encoded(self) -> bytes:
        """The canonical bytes."""
        return canon.encode(
            [
                VERSION,
                self.recipe.encoded,
                self.root,
                list(self.contributions),
                [list(pair) for pair in self.excluded],
                self.merged.encoded,
                list(self.coefficients),
                list(self.notes),
                None if self.corrections is None else self.corrections.encoded,
            ]
        )

    @cached_property
    def digest(self) -> Digest:
        """Digest of the canonical bytes."""
        return digest(Domain.RESULT, self.encoded)

    @classmethod
    def decode(cls, data: bytes) -> Result:
        """Parse a result's record.

        Raises:
            MalformedError: if it is not canonical.
        """
        row = canon.array(canon.decode(data, bytes_max=2 * MANIFEST_BYTES_MAX))
        if not row or canon.integer(row[0]) != VERSION:
            raise MalformedError(f"a result of version {row[:1]}, this software reads {VERSION}")
        recipe, root, members, excluded, merged, coefficients, notes, corrections = canon.array(row, 9)[1:]
        return cls(
            recipe=Recipe.decode(canon.octets(recipe)),
            root=Digest(canon.octets(root, DIGEST_BYTES)),
            contributions=tuple(Digest(canon.octets(d, DIGEST_BYTES)) for d in canon.array(members)),
            excluded=tuple(
                (Digest(canon.octets(key, DIGEST_BYTES)), canon.text(reason))
                for key, reason in (canon.array(pair, 2) for pair in canon.array(excluded))
            ),
            merged=Manifest.decode(canon.octets(merged)),
            coefficients=tuple(Digest(canon.octets(d, DIGEST_BYTES)) for d in canon.array(coefficients)),
            notes=tuple(canon.text(note) for note in canon.array(notes)),
            corrections=None if corrections is None else Manifest.decode(canon.octets(corrections)),
        )
