"""Attestations reach everybody, the newest counts, contradictions are told aloud, and nobody obeys them."""

from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sync_harness import Party

from crdtmerge import canon, testing
from crdtmerge.digest import Digest
from crdtmerge.errors import LimitError, MalformedError, PolicyError, RejectedError, SignatureError
from crdtmerge.keys import NodeId
from crdtmerge.limits import ATTESTATION_BYTES_MAX, ATTESTATIONS_PER_MEMBER_MAX
from crdtmerge.sync import messages as m
from crdtmerge.sync.attestation import (
    ENVIRONMENT_CHARACTERS_MAX,
    Attestation,
    Claim,
    compare,
    inputs_of,
)
from crdtmerge.sync.attested import Attested
from crdtmerge.sync.events import Diverged, ForgetAttestations, StoreAttestation

FEDERATION = Digest(b"f" * 32)
RECIPE, ROOT, INPUTS = (Digest(letter * 32) for letter in (b"r", b"v", b"i"))
RIGHT, WRONG = Digest(b"m" * 32), Digest(b"w" * 32)


def attest(
    name: str,
    model: Digest = RIGHT,
    *,
    at: int = 1,
    root: Digest = ROOT,
    inputs: Digest = INPUTS,
    federation: Digest = FEDERATION,
    environment: str = "torch 2, x86_64",
) -> Attestation:
    claim = Claim(recipe=RECIPE, root=root, inputs=inputs, model=model, result=Digest(b"d" * 32))
    return Attestation.sign(
        testing.key(name), claim, federation=federation, environment=environment, created_ms=at
    )


ANN = attest("ann")
LONGEST = attest("ann", environment="x" * ENVIRONMENT_CHARACTERS_MAX, at=(1 << 63) - 1)


def numbered(number: int) -> Digest:
    return Digest(number.to_bytes(32, "big"))


# --- the format -----------------------------------------------------------------------------------


def test_an_attestation_is_read_back_as_it_was_signed_and_fits_its_limit() -> None:
    assert Attestation.decode(ANN.encoded) == ANN
    assert len(LONGEST.encoded) <= ATTESTATION_BYTES_MAX


@given(st.data())
def test_a_mutated_attestation_is_refused(data: st.DataObject) -> None:
    mutated = bytearray(ANN.encoded)
    position = data.draw(st.integers(0, len(mutated) - 1))
    mutated[position] ^= data.draw(st.integers(1, 255))
    with pytest.raises(RejectedError):
        Attestation.decode(bytes(mutated))


@given(st.binary(max_size=400))
def test_arbitrary_bytes_are_no_attestation(data: bytes) -> None:
    with pytest.raises(RejectedError):
        Attestation.decode(data)


@pytest.mark.parametrize("field", range(1, 10))
def test_an_attestation_forged_in_any_field_is_refused(field: int) -> None:
    row: list[canon.Value] = list(canon.array(canon.decode(ANN.encoded, bytes_max=1024), 11))
    other = list(
        canon.array(canon.decode(attest("bob", WRONG, at=2, root=RIGHT).encoded, bytes_max=1024), 11)
    )
    own: dict[int, canon.Value] = {1: bytes(32), 3: bytes(32), 5: bytes(32), 7: bytes(32), 8: "mine"}
    row[field] = own.get(field, other[field])
    with pytest.raises(SignatureError):
        Attestation.decode(canon.encode(row))


def test_a_signature_for_another_purpose_is_worth_nothing() -> None:
    row = list(canon.array(canon.decode(ANN.encoded, bytes_max=1024), 11))
    row[-1] = testing.key("ann").sign("node record", ANN.unsigned)
    with pytest.raises(SignatureError):
        Attestation.decode(canon.encode(row))


@pytest.mark.parametrize(
    ("environment", "error"),
    [
        ("x" * 257, LimitError),
        ("bell\a", MalformedError),
        ("na\u00efve", MalformedError),
        ("a\nb", MalformedError),
    ],
)
def test_an_environment_that_would_spoil_a_terminal_is_refused(environment: str, error: type) -> None:
    with pytest.raises(error):
        attest("ann", environment=environment)


def test_bytes_after_an_attestation_are_refused() -> None:
    with pytest.raises(MalformedError):
        Attestation.decode(ANN.encoded + b"\0")
    with pytest.raises(LimitError):
        Attestation.decode(bytes(ATTESTATION_BYTES_MAX + 1))


# --- which are in force ---------------------------------------------------------------------------


def everybody(node: NodeId) -> bool:
    return True


def test_the_newest_of_a_node_about_a_result_is_in_force_whatever_the_order() -> None:
    three = [attest("ann", RIGHT, at=1), attest("ann", WRONG, at=2), attest("ann", RIGHT, at=2)]
    roots = set()
    for order in permutations(three):
        shelf = Attested(everybody)
        for one in order:
            shelf.offer(one)
        roots.add((shelf.root, len(list(shelf))))
    assert len(roots) == 1
    assert roots.pop()[1] == 1


SMALL = [attest(name, at=at, root=numbered(at % 5)) for name in ("ann", "bob") for at in range(8)]


@given(st.lists(st.sampled_from(SMALL)), st.lists(st.sampled_from(SMALL)))
def test_exchanging_what_is_in_force_gives_what_all_that_was_seen_gives(
    one: list[Attestation], other: list[Attestation]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("crdtmerge.sync.attested.ATTESTATIONS_PER_MEMBER_MAX", 3)
        halves = [Attested(everybody), Attested(everybody)]
        whole = Attested(everybody)
        for half, seen in zip(halves, (one, other), strict=True):
            for attestation in seen:
                half.offer(attestation)
        for attestation in one + other:
            whole.offer(attestation)
        for giver, taker in (halves, halves[::-1]):
            for attestation in list(giver):
                taker.offer(attestation)
        assert halves[0].root == halves[1].root == whole.root


def test_a_member_that_attests_without_end_displaces_only_its_own() -> None:
    shelf = Attested(everybody)
    shelf.offer(attest("bob"))
    for at in range(ATTESTATIONS_PER_MEMBER_MAX + 10):
        displaced = shelf.offer(attest("ann", at=at, root=numbered(at)))
        assert len(displaced or ()) == (at >= ATTESTATIONS_PER_MEMBER_MAX)
    assert len(list(shelf)) == ATTESTATIONS_PER_MEMBER_MAX + 1
    assert shelf.get(testing.Story.id("bob"), (RECIPE, ROOT)) is not None
    assert shelf.offer(attest("ann", at=0, root=numbered(0))) is None, "an old one comes back for nothing"


def test_what_strangers_and_banned_members_attest_is_not_kept() -> None:
    members = {testing.Story.id("ann")}
    shelf = Attested(members.__contains__)
    assert shelf.offer(attest("bob")) is None
    assert shelf.offer(ANN) == []
    members.clear()
    assert shelf.prune() == [ANN]
    assert shelf.root == Attested(everybody).root


# --- how they compare -----------------------------------------------------------------------------


def test_agreement_counts_who_made_the_same_model_from_the_same() -> None:
    others = [
        attest("bob"),
        attest("cid", WRONG),
        attest("dora", WRONG, inputs=inputs_of(None, [], [RIGHT])),
        attest("root", root=RIGHT),
    ]
    found = compare([ANN, *others], me=ANN.node, recipe=RECIPE, root=ROOT)
    assert (found.model, found.ours, found.attested) == (RIGHT, ANN, 4)
    assert set(found.agree) == {ANN, others[0]}
    assert found.differ == (others[1],)
    assert found.apart == (others[2],)


def test_no_majority_outvotes_what_was_computed_here() -> None:
    liars = [attest(name, WRONG) for name in ("bob", "cid", "dora")]
    found = compare([ANN, *liars], me=ANN.node, recipe=RECIPE, root=ROOT)
    assert (found.model, len(found.agree), len(found.differ)) == (RIGHT, 1, 3)


# --- between peers --------------------------------------------------------------------------------


def party(*names: str) -> tuple[Party, Digest]:
    story = testing.Story()
    for name in names:
        story.admit("root", name)
    made = Party(story, dict.fromkeys(["root", *names]))
    return made, story.ops.federation


def publish(party: Party, name: str, model: Digest, federation: Digest, *, at: int = 1) -> None:
    encoded = attest(name, model, federation=federation, at=at).encoded
    party.do(name, party.peers[name].on_attested(encoded))


def told(party: Party) -> list[tuple[str, NodeId]]:
    return [(name, output.theirs.node) for name, output in party.outputs if isinstance(output, Diverged)]


def test_an_attestation_reaches_everybody_by_exchanges_and_is_stored() -> None:
    made, federation = party("ann", "bob", "cid")
    publish(made, "ann", RIGHT, federation)
    made.wait(120_000)
    kept = {name: set(disk.attestations) for name, disk in made.disks.items() if name != "ann"}
    assert all(len(ids) == 1 for ids in kept.values()), kept
    assert len({peer._shelves.attested.root for peer in made.peers.values()}) == 1
    quiet = len(made.asked(m.Records))
    made.wait(60_000)
    assert len(made.asked(m.Records)) == quiet, "equal sets are not exchanged again"


def test_two_that_computed_different_models_both_hear_of_it_once() -> None:
    made, federation = party("ann", "bob")
    publish(made, "ann", RIGHT, federation)
    publish(made, "bob", WRONG, federation)
    made.wait(300_000)
    ann, bob = testing.Story.id("ann"), testing.Story.id("bob")
    assert sorted(told(made)) == sorted([("ann", bob), ("bob", ann)])


def test_a_divergence_is_told_to_who_computes_later() -> None:
    made, federation = party("ann", "bob")
    publish(made, "bob", WRONG, federation)
    made.wait(120_000)
    assert told(made) == []
    publish(made, "ann", RIGHT, federation)
    assert told(made) == [("ann", testing.Story.id("bob"))]


def test_a_corrected_attestation_ends_the_contradiction_everywhere() -> None:
    made, federation = party("ann", "bob")
    publish(made, "ann", RIGHT, federation)
    publish(made, "bob", WRONG, federation)
    made.wait(120_000)
    publish(made, "bob", RIGHT, federation, at=2)
    made.wait(120_000)
    everything = list(made.peers["ann"]._shelves.attested)
    assert {one.claim.model for one in everything} == {RIGHT}
    forgotten = [o for name, o in made.outputs if name == "ann" and isinstance(o, ForgetAttestations)]
    assert len(forgotten) == 1


def test_a_liar_is_reported_and_changes_nothing() -> None:
    made, federation = party("ann", "mallory")
    publish(made, "ann", RIGHT, federation)
    before = made.peers["ann"].view
    lie = attest("mallory", WRONG, federation=federation)
    made.ask("mallory", "ann", m.Records((lie.encoded,), (), m.Space.ATTESTATIONS))
    assert told(made) == [("ann", testing.Story.id("mallory"))]
    assert made.peers["ann"].view == before
    assert made.peers["ann"]._shelves.attested.get(testing.Story.id("ann"), (RECIPE, ROOT)) is not None
    made.ask("mallory", "ann", m.Records((lie.encoded,), (), m.Space.ATTESTATIONS))
    assert len(told(made)) == 1, "repeating a lie tells nobody anything new"


def test_an_attestation_of_another_federation_is_refused_and_nothing_of_the_message_kept() -> None:
    made, federation = party("ann")
    good, foreign = attest("ann", federation=federation), attest("root")
    with pytest.raises(PolicyError):
        made.ask("ann", "root", m.Records((good.encoded, foreign.encoded), (), m.Space.ATTESTATIONS))
    assert not list(made.peers["root"]._shelves.attested)


def test_operations_do_not_travel_as_records() -> None:
    with pytest.raises(MalformedError):
        m.Records((), (), m.Space.OPERATIONS)


def test_a_ban_takes_attestations_along_also_on_disk() -> None:
    made, federation = party("ann", "mallory")
    publish(made, "mallory", WRONG, federation)
    made.wait(120_000)
    assert made.disks["ann"].attestations
    made.say("root", made.story.ban("root", "mallory"))
    made.wait(60_000)
    assert not made.disks["ann"].attestations
    assert not list(made.peers["ann"]._shelves.attested)


def test_after_a_restart_contradictions_are_told_again_and_stale_rows_are_forgotten() -> None:
    made, federation = party("ann", "bob")
    stored = [
        attest("ann", RIGHT, federation=federation),
        attest("bob", WRONG, federation=federation, at=2),
        attest("bob", RIGHT, federation=federation, at=1),
        attest("cid", RIGHT, federation=federation),
    ]
    from crdtmerge.sync.chance import Chance
    from crdtmerge.sync.peer import Peer

    peer = Peer(
        testing.Story.id("ann"),
        made.story.ops.copy(),
        made.disks["ann"],
        Chance(b""),
        attestations=[one.encoded for one in stored],
    )
    outputs = peer.on_start(made.now_ms)
    assert [o.theirs for o in outputs if isinstance(o, Diverged)] == [stored[1]]
    gone = [one for o in outputs if isinstance(o, ForgetAttestations) for one in o.attestations]
    assert sorted(gone, key=stored.index) == stored[2:]
    assert not [o for o in outputs if isinstance(o, StoreAttestation)]


def test_a_node_spreads_only_what_it_attests_itself() -> None:
    made, federation = party("ann")
    with pytest.raises(MalformedError):
        made.peers["ann"].on_attested(attest("root", federation=federation).encoded)
