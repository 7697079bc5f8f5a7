"""What is published is attested; a contradiction is raised after publishing, and never obeyed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from crdtmerge import Recipe, Replica, witness
from crdtmerge.digest import Digest
from crdtmerge.errors import DivergenceError, LockedError
from crdtmerge.op import Body, Operation
from crdtmerge.replica.attest import claim_of, environment
from crdtmerge.resolve import verify_result
from crdtmerge.store.garbage import needed, withdrawn
from crdtmerge.sync.attestation import Agreement, Attestation, Claim

WRONG = Digest(b"w" * 32)


def model(seed: int) -> dict[str, torch.Tensor]:
    return {"w": torch.full((8, 4), 1.0 + seed)}


def pair() -> tuple[Replica, Replica]:
    """A founder's replica and a member's, with a contribution that both have."""
    alice = Replica.create(base=model(0), recipe=Recipe("weight_average"))
    bob = Replica.follow(federation=alice)
    alice.admit(bob.id)
    alice.contribute(model(1))
    bob.join(alice)
    return alice, bob


def standing(replica: Replica) -> Agreement:
    view = replica.view
    return witness.agreement(replica.store, view, me=replica.id, recipe=view.recipe.digest, root=replica.root)


def lie(liar: Replica, about: Claim) -> Attestation:
    """What a member signs that did not compute what it says."""
    return Attestation.sign(
        liar.key,
        replace(about, model=WRONG),
        federation=liar.operations.federation,
        environment="abacus",
        created_ms=9,
    )


def test_two_replicas_that_publish_attest_one_model(tmp_path: Path) -> None:
    alice, bob = pair()
    one, other = alice.resolve(tmp_path / "a"), bob.resolve(tmp_path / "b")
    bob.join(alice)
    found = standing(bob)
    assert (found.model, len(found.agree), found.attested) == (one.model, 2, 2)
    assert claim_of(one.result) == claim_of(other.result)
    assert found.ours is not None
    assert f"torch {torch.__version__}" in found.ours.environment


def test_publishing_again_attests_nothing_new(tmp_path: Path) -> None:
    alice, _ = pair()
    alice.resolve(tmp_path / "a")
    before = list(alice.store.attestations())
    alice.resolve(tmp_path / "a")
    alice.resolve(tmp_path / "elsewhere")
    assert list(alice.store.attestations()) == before


def test_a_differing_attestation_is_raised_with_both_environments_and_the_result_stands(
    tmp_path: Path,
) -> None:
    alice, mallory = pair()
    claim = claim_of(mallory.resolve(tmp_path / "m").result)
    forged = lie(mallory, claim)
    alice.store.put_attestation(forged.node, forged.id, forged.encoded)
    with pytest.raises(DivergenceError, match="attests another model") as caught:
        alice.resolve(tmp_path / "a")
    assert (caught.value.ours, caught.value.theirs) == (claim.model, WRONG)
    assert (caught.value.our_environment, caught.value.their_environment) == (environment(), "abacus")
    assert verify_result(tmp_path / "a").model == claim.model
    assert standing(alice).ours is not None, "others are to hear of it"
    assert [one.node for one in standing(alice).differ] == [mallory.id]


def test_a_banned_liar_is_listened_to_no_more(tmp_path: Path) -> None:
    alice, mallory = pair()
    claim = claim_of(mallory.resolve(tmp_path / "m").result)
    forged = lie(mallory, claim)
    alice.store.put_attestation(forged.node, forged.id, forged.encoded)
    alice.ban(mallory.id)
    alice.resolve(tmp_path / "a")
    assert standing(alice).attested == 1


def test_a_machine_that_contradicts_itself_says_so_once(tmp_path: Path) -> None:
    alice, _ = pair()
    claim = claim_of(alice.resolve(tmp_path / "a").result)
    for node, name, _ in list(alice.store.attestations()):
        alice.store.remove_attestation(node, name)
    earlier = lie(alice, claim)
    alice.store.put_attestation(earlier.node, earlier.id, earlier.encoded)
    with pytest.raises(DivergenceError, match="attested another model before"):
        alice.resolve(tmp_path / "a")
    alice.resolve(tmp_path / "a")
    assert standing(alice).model == claim.model
    assert len(list(alice.store.attestations())) == 1


def test_who_merged_other_contributions_did_not_compute_wrongly(tmp_path: Path) -> None:
    alice, bob = pair()
    claim = claim_of(bob.resolve(tmp_path / "b").result)
    elsewhere = replace(claim, inputs=WRONG, model=WRONG)
    apart = Attestation.sign(
        bob.key, elsewhere, federation=bob.operations.federation, environment="", created_ms=1
    )
    alice.store.put_attestation(apart.node, apart.id, apart.encoded)
    alice.resolve(tmp_path / "a")
    assert len(standing(alice).apart) == 1


def test_a_stranger_attests_to_nobody(tmp_path: Path) -> None:
    alice, bob = pair()
    alice.ban(bob.id)
    bob.join(alice)
    bob.resolve(tmp_path / "b")
    assert list(bob.store.attestations()) == []


def test_a_damaged_row_is_forgotten(tmp_path: Path) -> None:
    alice, _ = pair()
    alice.store.put_attestation(alice.id, WRONG, b"garbage")
    assert standing(alice).attested == 0
    assert list(alice.store.attestations()) == []


def test_nothing_is_collected_between_taking_in_a_model_and_announcing_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Replica.create(tmp_path / "a", base=model(0)) as alice:
        first = alice.contribute(model(1))
        alice.retract(first)
        tried: list[bool] = []
        say = alice._say

        def collecting(body: Body) -> Operation:
            with pytest.raises(LockedError):
                alice.store.garbage.collect(
                    needed(alice.operations, alice.view),
                    now_ms=0,
                    purge=withdrawn(alice.operations, alice.view),
                )
            tried.append(True)
            return say(body)

        monkeypatch.setattr(alice, "_say", collecting)
        assert alice.contribute(model(1)) == first
        assert tried
        assert alice.is_ready(first)
