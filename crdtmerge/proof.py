"""Proofs that a digest is in a set, or is not: all that a verifier needs.

How hashes combine, bottom up (`crdtmerge.merkle` draws the trie and makes the proofs):

    leaf = H(key)    branch = H(bit as 2 bytes, left, right)    root = H(count as 8 bytes, top, if any)

A proof is the way down by the bits of a key. Branches carry their bit in their hash, so nobody can lead
the way past the leaf that is the key's if the key is in; where the way ends in another leaf, it is not.

Always true here: `root_of` computes, `check` compares, and the error carries both roots. Left to others:
whose root to believe. A proof says nothing about a root that is not of a set.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from crdtmerge import canon
from crdtmerge.digest import DIGEST_BYTES, Digest, Domain, digest
from crdtmerge.errors import DigestMismatchError, MalformedError
from crdtmerge.limits import PROOF_BYTES_MAX

BITS: Final = 8 * DIGEST_BYTES


@dataclass(frozen=True, slots=True)
class Proof:
    """The way down a trie by the bits of ``key``.

    Attributes:
        key: whose presence or absence is proved.
        count: number of keys in the set.
        found: the key of the leaf where the way ends; None in the empty set.
        path: (bit of the branch, hash of the side not taken), from the top down.
    """

    key: Digest
    count: int
    found: Digest | None
    path: tuple[tuple[int, Digest], ...]

    @property
    def present(self) -> bool:
        """Whether this is a proof of presence."""
        return self.found == self.key

    def encode(self) -> bytes:
        """Return the canonical bytes."""
        return canon.encode([self.key, self.count, self.found, self.path])

    @classmethod
    def decode(cls, data: bytes) -> Proof:
        """Parse a proof from outside.

        Raises:
            MalformedError: if it is not the canonical encoding of a proof.
            LimitError: if it is longer than PROOF_BYTES_MAX.
        """
        key, count, found, path = canon.array(canon.decode(data, bytes_max=PROOF_BYTES_MAX), 4)
        steps = [canon.array(step, 2) for step in canon.array(path)]
        return cls(
            key=_digest(key),
            count=canon.integer(count, 0),
            found=None if found is None else _digest(found),
            path=tuple((canon.integer(bit, 0, BITS - 1), _digest(sibling)) for bit, sibling in steps),
        )


def root_of(proof: Proof) -> Digest:
    """Return the root of the set that ``proof`` speaks of, whichever it is.

    Raises:
        MalformedError: if no set has such a way for the key.
    """
    bits = [bit for bit, _ in proof.path]
    if any(above >= below for above, below in pairwise(bits)):
        raise MalformedError("a proof whose branches do not descend")
    if proof.found is None:
        if proof.count or proof.path:
            raise MalformedError("a proof that ends nowhere in a set that is not empty")
        return root_hash(0, None)
    if proof.count <= len(proof.path):
        raise MalformedError(f"a proof of {len(proof.path)} branches in a set of {proof.count}")
    if any(bit_of(proof.key, bit) != bit_of(proof.found, bit) for bit in bits):
        raise MalformedError("a proof that ends in a leaf to which the key's bits do not lead")
    top = leaf_hash(proof.found)
    for bit, sibling in reversed(proof.path):
        top = branch_hash(bit, sibling, top) if bit_of(proof.key, bit) else branch_hash(bit, top, sibling)
    return root_hash(proof.count, top)


def check(proof: Proof, root: Digest, *, present: bool) -> None:
    """Check that ``proof.key`` is in the set with this root, or is not.

    The caller compares ``proof.key`` with the key that it asked for.

    Raises:
        DigestMismatchError: if the proof is about another set.
        MalformedError: if it proves the contrary, or nothing.
    """
    got = root_of(proof)
    if got != root:
        raise DigestMismatchError("root of the proof", wanted=root, got=got)
    if proof.present != present:
        raise MalformedError(
            f"a proof that {proof.key.hex()} is {'in' if proof.present else 'not in'} the set"
        )


def leaf_hash(key: bytes) -> Digest:
    """Return the hash of a leaf."""
    return digest(Domain.SET_LEAF, key)


def branch_hash(bit: int, left: Digest, right: Digest) -> Digest:
    """Return the hash of the branch at ``bit``."""
    return digest(Domain.SET_BRANCH, bit.to_bytes(2, "big") + left + right)


def root_hash(count: int, top: Digest | None) -> Digest:
    """Return the root of a set of ``count`` keys with this hash at its top."""
    return digest(Domain.SET, count.to_bytes(8, "big"), top or b"")


def bit_of(key: bytes, bit: int) -> int:
    """Return one bit of ``key``, counted from its most significant."""
    return key[bit >> 3] >> (7 - (bit & 7)) & 1


def _digest(value: canon.Value) -> Digest:
    return Digest(canon.octets(value, DIGEST_BYTES))
