"""Attestations: what members say they computed, signed by themselves.

    [version, federation, node, recipe, root, inputs, model, result, environment, created_ms]  + signature

Whoever publishes a merged model attests it: from this recipe and this visible root I got this model. Of two
attestations of one node about one (recipe, root) the one with the higher (created_ms, id) is in force.

An attestation is a claim and never evidence of what the right result is. Two that contradict each other
prove that a machine or the software is wrong, or that somebody lies; which of them, only computing the
result again decides. So nothing here outvotes anybody, and no result is ever taken from an attestation.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from crdtmerge import canon, keys
from crdtmerge.digest import DIGEST_BYTES, Digest, Domain, digest
from crdtmerge.errors import LimitError, MalformedError
from crdtmerge.keys import KEY_BYTES, SIGNATURE_BYTES, NodeId, SigningKey
from crdtmerge.limits import ATTESTATION_BYTES_MAX

VERSION: Final = 1
ENVIRONMENT_CHARACTERS_MAX: Final = 256

_PURPOSE: Final = "attestation"
_TIME_MAX: Final = (1 << 63) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What an attestation is about.

    Attributes:
        recipe: digest of the recipe.
        root: the visible root.
        inputs: digest of what was taken in, see `inputs_of`: where replicas merged other contributions or
            applied other coefficients, their models differ without either computing wrongly.
        model: digest of the merged tensors.
        result: digest of the result's record.
    """

    recipe: Digest
    root: Digest
    inputs: Digest
    model: Digest
    result: Digest


def inputs_of(
    base: Digest | None,
    merged: Iterable[Digest],
    excluded: Iterable[Digest],
    coefficients: Iterable[Digest] = (),
) -> Digest:
    """Return the digest of what a merge took in: base, contributions, those left out, coefficients."""
    taken = [base, list(merged), list(excluded), list(coefficients)]
    return digest(Domain.INPUTS, canon.encode(taken))


def contradiction(ours: Attestation, theirs: Attestation) -> str:
    """Say for people what two attestations that contradict each other say."""
    return (
        f"recipe={ours.claim.recipe.hex()[:16]} root={ours.claim.root.hex()[:16]} "
        f"ours={ours.claim.model.hex()} ({ours.environment}) "
        f"theirs={theirs.claim.model.hex()} ({theirs.environment}) by {theirs.node.hex()}: "
        "compute the result again on both machines, that decides who is wrong"
    )


@dataclass(frozen=True)
class Attestation:
    """A signed claim; made by `sign` or `decode`, which check it.

    Attributes:
        federation: whose recipe and root these are.
        node: who attests.
        claim: what.
        environment: software and processor, for people; printable ASCII.
        created_ms: what the node's clock said.
        signature: by the node, over all of the above.
    """

    federation: Digest
    node: NodeId
    claim: Claim
    environment: str
    created_ms: int
    signature: bytes

    @classmethod
    def sign(
        cls, key: SigningKey, claim: Claim, *, federation: Digest, environment: str, created_ms: int
    ) -> Attestation:
        """Attest ``claim`` as the owner of ``key``.

        Raises:
            MalformedError, LimitError: if others would refuse it.
        """
        draft = cls(federation, key.id, claim, environment, created_ms, bytes(SIGNATURE_BYTES))
        signature = key.sign(_PURPOSE, draft.unsigned)
        return cls.decode(cls(federation, key.id, claim, environment, created_ms, signature).encoded)

    @classmethod
    def decode(cls, data: bytes) -> Attestation:
        """Parse and verify an attestation from outside.

        Raises:
            MalformedError: if it is not the canonical encoding of one.
            LimitError: if it, or its environment, is too long.
            SignatureError: if the node did not sign it.
        """
        row = canon.array(canon.decode(data, bytes_max=ATTESTATION_BYTES_MAX), 11)
        version, federation, node, recipe, root, inputs, model, result, environment, created_ms, signature = (
            row
        )
        if canon.integer(version) != VERSION:
            raise MalformedError(f"an attestation of version {version!r}, this software reads {VERSION}")
        attestation = cls(
            federation=_digest(federation),
            node=NodeId(canon.octets(node, KEY_BYTES)),
            claim=Claim(
                recipe=_digest(recipe),
                root=_digest(root),
                inputs=_digest(inputs),
                model=_digest(model),
                result=_digest(result),
            ),
            environment=canon.text(environment),
            created_ms=canon.integer(created_ms, 0, _TIME_MAX),
            signature=canon.octets(signature, SIGNATURE_BYTES),
        )
        text = attestation.environment
        if len(text) > ENVIRONMENT_CHARACTERS_MAX:
            raise LimitError(f"{len(text)} characters of environment, at most {ENVIRONMENT_CHARACTERS_MAX}")
        if not (text.isascii() and text.isprintable()):
            raise MalformedError("an environment that is no printable ASCII")
        keys.verify(attestation.node, _PURPOSE, attestation.unsigned, attestation.signature)
        return attestation

    @cached_property
    def unsigned(self) -> bytes:
        """The canonical bytes that are signed and hashed."""
        return canon.encode(self._fields)

    @cached_property
    def id(self) -> Digest:
        """The digest of everything but the signature."""
        return digest(Domain.ATTESTATION, self.unsigned)

    @cached_property
    def encoded(self) -> bytes:
        """The canonical bytes with the signature."""
        return canon.encode([*self._fields, self.signature])

    @property
    def subject(self) -> tuple[Digest, Digest]:
        """What is attested: recipe and visible root."""
        return self.claim.recipe, self.claim.root

    @property
    def age(self) -> tuple[int, Digest]:
        """What to sort a node's attestations by: the higher is the newer."""
        return self.created_ms, self.id

    def contradicts(self, other: Attestation) -> bool:
        """Whether two models were made from one input; then one of the two is wrong, or a lie."""
        same = self.subject == other.subject and self.claim.inputs == other.claim.inputs
        return same and self.claim.model != other.claim.model

    @property
    def _fields(self) -> list[canon.Value]:
        claim = self.claim
        digests = [claim.recipe, claim.root, claim.inputs, claim.model, claim.result]
        return [VERSION, self.federation, self.node, *digests, self.environment, self.created_ms]


@dataclass(frozen=True, slots=True)
class Agreement:
    """How attestations about one (recipe, root) compare.

    Attributes:
        model: what the others are compared with: our own model, or without one the most attested.
        ours: our own attestation, if there is one.
        agree: those of this model, ours included, ascending by node.
        differ: those of another model from the same inputs.
        apart: those from other inputs: their replicas merged, or left out, other contributions.
    """

    model: Digest | None
    ours: Attestation | None
    agree: tuple[Attestation, ...]
    differ: tuple[Attestation, ...]
    apart: tuple[Attestation, ...]

    @property
    def attested(self) -> int:
        """How many members attest this (recipe, root)."""
        return len(self.agree) + len(self.differ) + len(self.apart)


def compare(attestations: Iterable[Attestation], *, me: NodeId, recipe: Digest, root: Digest) -> Agreement:
    """Compare what nodes attest of one (recipe, root); what is about another is left out."""
    found = sorted((a for a in attestations if a.subject == (recipe, root)), key=lambda a: a.node)
    ours = next((a for a in found if a.node == me), None)

    def backing(attestation: Attestation) -> tuple[int, bytes]:
        return sum(other.claim == attestation.claim for other in found), attestation.claim.model

    reference = ours or max(found, key=backing, default=None)
    if reference is None:
        return Agreement(None, None, (), (), ())
    differ = tuple(a for a in found if a.contradicts(reference))
    apart = tuple(a for a in found if a.claim.inputs != reference.claim.inputs)
    agree = tuple(a for a in found if a not in differ and a not in apart)
    return Agreement(reference.claim.model, ours, agree, differ, apart)


def _digest(value: canon.Value) -> Digest:
    return Digest(canon.octets(value, DIGEST_BYTES))
