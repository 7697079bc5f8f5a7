"""Sets of digests: equal sets have equal roots, and nobody can prove what is not so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtmerge.digest import DIGEST_BYTES, Digest
from crdtmerge.errors import DigestMismatchError, LimitError, MalformedError, ParameterError, RejectedError
from crdtmerge.merkle import EMPTY, MerkleMap, MerkleSet, Proof, check, root_of
from crdtmerge.testing import content, digests
from reference import merkle as reference

SPECIFICATION = (Path(__file__).parents[2] / "docs" / "spec" / "operations.md").read_text()
KEYS = [content(str(number)) for number in range(40)]
GROUND = [Digest((1 << bit).to_bytes(DIGEST_BYTES, "big")) for bit in range(256)]
"""Keys that an adversary ground to lie as deep in the trie as possible."""


def sets(*, least: int = 0) -> st.SearchStrategy[list[Digest]]:
    return st.lists(digests(), min_size=least, max_size=12, unique=True)


# --- sets ----------------------------------------------------------------------------------------


@given(sets(), st.randoms(use_true_random=False))
def test_order_of_insertion_never_shows(keys: list[Digest], chance: Random) -> None:
    shuffled = keys * 2
    chance.shuffle(shuffled)
    grown = EMPTY
    for key in shuffled:
        grown = grown.add(key)
    assert list(grown) == sorted(keys)
    assert len(grown) == len(keys)
    assert grown.root == MerkleSet.of(keys).root == MerkleSet.of(reversed(shuffled)).root


@given(sets())
def test_the_root_is_that_of_the_definition(keys: list[Digest]) -> None:
    assert MerkleSet.of(keys).root == reference.root(keys)


@given(sets(), sets())
def test_removing_what_was_added_gives_back_the_root(keys: list[Digest], others: list[Digest]) -> None:
    before = MerkleSet.of(keys)
    after = before
    for key in others:
        after = after.add(key)
    for key in others:
        if key not in keys:
            after = after.remove(key)
    assert after.root == before.root
    assert list(after) == list(before)


@given(sets(), sets())
def test_union_with_many_or_few_is_the_set_of_both(keys: list[Digest], others: list[Digest]) -> None:
    assert MerkleSet.of(keys).union(others) == MerkleSet.of(keys + others)
    assert MerkleSet.of(KEYS).union(others) == MerkleSet.of(KEYS + others)


@given(sets(least=1), sets())
def test_sets_that_were_handed_out_never_change(keys: list[Digest], others: list[Digest]) -> None:
    before = MerkleSet.of(keys)
    after = before.remove(keys[0])
    for key in others:
        after = after.add(key)
    assert before.root == reference.root(keys)
    assert list(before) == sorted(keys)


@given(sets(), digests())
def test_a_set_holds_its_keys_and_no_others(keys: list[Digest], other: Digest) -> None:
    trie = MerkleSet.of(keys)
    assert all(key in trie for key in keys)
    assert (other in trie) == (other in keys)
    assert trie == set(keys)
    assert b"short" not in trie
    assert trie.remove(other) == set(keys) - {other}


def test_the_empty_set_has_a_root_of_its_own() -> None:
    assert MerkleSet.of([]) == EMPTY
    assert EMPTY.root == reference.root([])
    assert EMPTY.add(KEYS[0]).remove(KEYS[0]) == EMPTY
    assert EMPTY.root != EMPTY.add(KEYS[0]).root


def test_the_roots_in_the_specification_are_ours() -> None:
    pair = MerkleSet.of([Digest(bytes(DIGEST_BYTES)), GROUND[0]])
    assert EMPTY.root.hex() in SPECIFICATION
    assert pair.root.hex() in SPECIFICATION


def test_a_trie_as_deep_as_keys_are_long_still_works() -> None:
    deep = MerkleSet.of(GROUND)
    assert deep.root == reference.root(GROUND)
    assert len(deep.prove(GROUND[0]).path) == 255
    for key in (GROUND[0], GROUND[255], KEYS[0], Digest(bytes(DIGEST_BYTES))):
        proof = Proof.decode(deep.prove(key).encode())
        check(proof, deep.root, present=key in GROUND)
        assert [bit for bit, _ in proof.path] == reference.path(GROUND, key)


def test_keys_of_another_length_are_refused() -> None:
    for key in (b"", bytes(31), bytes(33)):
        with pytest.raises(ParameterError, match="32 bytes"):
            EMPTY.add(Digest(key))
        with pytest.raises(ParameterError, match="32 bytes"):
            MerkleSet.of([Digest(key)])


# --- maps ----------------------------------------------------------------------------------------


@given(
    st.dictionaries(digests(), st.integers(0, 9), max_size=12),
    st.dictionaries(digests(), st.none() | st.integers(0, 9), max_size=6),
)
def test_a_map_is_a_dictionary_whose_root_is_that_of_its_keys(
    items: dict[Digest, int], changes: dict[Digest, int | None]
) -> None:
    wanted = {key: value for key, value in (items | changes).items() if value is not None}
    before = MerkleMap(items)
    after = before
    for key, value in changes.items():
        after = after.remove(key) if value is None else after.set(key, value)
    many = MerkleMap(dict.fromkeys(KEYS, 0) | items)
    assert after == before.update(changes) == MerkleMap(wanted) == wanted
    assert dict(many.update(changes)) == {
        key: value for key, value in (dict(many) | changes).items() if value is not None
    }
    assert list(after) == sorted(wanted)
    assert after.root == after.keyset.root == reference.root(wanted.keys())
    assert before == items


def test_a_key_that_a_map_does_not_have_is_an_error() -> None:
    with pytest.raises(KeyError):
        MerkleMap({KEYS[0]: 1})[KEYS[1]]
    assert MerkleMap({KEYS[0]: 1}).get(KEYS[1]) is None


# --- proofs --------------------------------------------------------------------------------------


@given(sets(), digests())
def test_presence_and_absence_are_proved(keys: list[Digest], key: Digest) -> None:
    trie = MerkleSet.of(keys)
    for wanted in [key, *keys]:
        proof = Proof.decode(trie.prove(wanted).encode())
        assert proof == trie.prove(wanted)
        assert proof.present == (wanted in keys)
        assert [bit for bit, _ in proof.path] == reference.path(keys, wanted)
        check(proof, trie.root, present=wanted in keys)


@given(sets(), digests())
def test_absence_of_a_present_key_and_presence_of_an_absent_one_are_refused(
    keys: list[Digest], key: Digest
) -> None:
    trie = MerkleSet.of(keys)
    with pytest.raises(MalformedError, match="not in the set" if key not in keys else "is in the set"):
        check(trie.prove(key), trie.root, present=key not in keys)


def refused(proof: Proof, root: Digest, *, present: bool) -> None:
    with pytest.raises((MalformedError, DigestMismatchError)):
        check(proof, root, present=present)


@given(sets(least=2), st.data())
def test_an_altered_sibling_is_refused(keys: list[Digest], data: st.DataObject) -> None:
    trie = MerkleSet.of(keys)
    key = data.draw(st.sampled_from(keys) | digests())
    proof = trie.prove(key)
    place = data.draw(st.integers(0, len(proof.path) - 1))
    path = list(proof.path)
    path[place] = (path[place][0], data.draw(digests()))
    refused(replace(proof, path=tuple(path)), trie.root, present=proof.present)


@given(sets(least=2), st.data())
def test_branches_at_other_bits_or_in_another_order_are_refused(
    keys: list[Digest], data: st.DataObject
) -> None:
    trie = MerkleSet.of(keys)
    proof = trie.prove(data.draw(st.sampled_from(keys)))
    bits = data.draw(st.lists(st.integers(0, 255), min_size=len(proof.path), max_size=len(proof.path)))
    path = tuple((bit, sibling) for bit, (_, sibling) in zip(bits, proof.path, strict=True))
    if path != proof.path:
        refused(replace(proof, path=path), trie.root, present=True)
    if len(path) > 1:
        refused(replace(proof, path=proof.path[::-1]), trie.root, present=True)


@given(sets(least=2), st.data())
def test_a_truncated_path_is_refused(keys: list[Digest], data: st.DataObject) -> None:
    trie = MerkleSet.of(keys)
    proof = trie.prove(data.draw(st.sampled_from(keys) | digests()))
    place = data.draw(st.integers(0, len(proof.path) - 1))
    shorter = proof.path[:place] + proof.path[place + 1 :]
    refused(replace(proof, path=shorter), trie.root, present=proof.present)


@given(sets(), st.data())
def test_a_wrong_count_is_refused(keys: list[Digest], data: st.DataObject) -> None:
    trie = MerkleSet.of(keys)
    proof = trie.prove(data.draw(digests()))
    count = data.draw(st.integers(0, 20).filter(lambda count: count != len(keys)))
    refused(replace(proof, count=count), trie.root, present=proof.present)


@given(sets(least=1), st.data())
def test_a_proof_for_another_key_is_refused(keys: list[Digest], data: st.DataObject) -> None:
    trie = MerkleSet.of(keys)
    proof = trie.prove(data.draw(st.sampled_from(keys)))
    other = data.draw(digests().filter(lambda key: key not in keys))
    refused(replace(proof, key=other), trie.root, present=True)
    refused(replace(proof, key=other, found=other), trie.root, present=True)


@given(sets(least=2), st.data())
def test_absence_shown_by_a_leaf_from_elsewhere_is_refused(keys: list[Digest], data: st.DataObject) -> None:
    trie = MerkleSet.of(keys)
    key, elsewhere = data.draw(st.permutations(keys))[:2]
    forged = replace(trie.prove(elsewhere), key=key)
    refused(forged, trie.root, present=False)
    refused(Proof(key, len(keys), None, ()), trie.root, present=False)
    refused(Proof(key, 0, None, ()), trie.root, present=False)


def test_a_branch_passed_off_as_a_leaf_is_refused() -> None:
    trie = MerkleSet.of(KEYS[:3])
    proof = trie.prove(KEYS[0])
    top = replace(proof, path=(), found=Digest(proof.path[0][1]), count=3)
    refused(top, trie.root, present=False)


def test_a_way_that_no_set_has_is_malformed_whatever_the_root() -> None:
    proof = MerkleSet.of(KEYS).prove(KEYS[0])
    elsewhere = min(KEYS, key=lambda key: key[0] & 0x80 == KEYS[0][0] & 0x80)
    assert proof.path[0][0] == 0, "the first branch parts the keys by their first bit"
    for wrong, why in (
        (replace(proof, path=proof.path[::-1]), "do not descend"),
        (replace(proof, path=proof.path[:1] + proof.path), "do not descend"),
        (replace(proof, count=len(proof.path)), "branches in a set of"),
        (replace(proof, found=elsewhere), "do not lead"),
        (replace(proof, found=None), "ends nowhere"),
        (replace(proof, found=None, path=()), "ends nowhere"),
        (replace(proof, found=None, count=0), "ends nowhere"),
    ):
        with pytest.raises(MalformedError, match=why):
            root_of(wrong)


def test_a_mismatch_carries_both_roots() -> None:
    ours, theirs = MerkleSet.of(KEYS[:3]), MerkleSet.of(KEYS[:4])
    with pytest.raises(DigestMismatchError) as caught:
        check(theirs.prove(KEYS[0]), ours.root, present=True)
    assert (caught.value.wanted, caught.value.got) == (ours.root, theirs.root)
    assert root_of(theirs.prove(KEYS[0])) == theirs.root


def test_an_encoded_proof_that_was_tampered_with_is_refused() -> None:
    trie = MerkleSet.of(KEYS)
    data = trie.prove(KEYS[0]).encode()
    for place in range(len(data)):
        forged = bytearray(data)
        forged[place] ^= 1 << place % 8
        with pytest.raises(RejectedError):
            check(Proof.decode(bytes(forged)), trie.root, present=True)
        with pytest.raises(MalformedError):
            Proof.decode(data[:place])
    with pytest.raises(LimitError):
        Proof.decode(bytes(1 << 20))
