"""What a search found at one replica is applied by all of them, or by none."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from crdtmerge import Recipe, Replica
from crdtmerge.digest import Digest
from crdtmerge.errors import (
    CorruptBlockError,
    NonFiniteError,
    NotYetError,
    ParameterError,
    PermissionDeniedError,
    UsageError,
)
from crdtmerge.op import Coefficients
from crdtmerge.resolve import CORRECTIONS, Payload, take_coefficients, verify_result

State = dict[str, torch.Tensor]
FALLBACK = "no coefficients match these contributions; its initial point is used"


def row(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def model(*values: float) -> State:
    return {"w": row(*values)}


BASE = model(1, 2, 3, 4)
A, B = model(1.5, 2, 2, 4.25), model(2, 1, 3.5, 3.5)


def weights(*values: float, strategy: str = "ada_merging") -> Payload:
    return Payload(strategy, "coeffs", {"weights": row(*values)})


def pair(recipe: Recipe | None = None) -> tuple[Replica, Replica, Digest, Digest]:
    """A founder's replica and a member's that both hold A and B."""
    alice = Replica.create(base=BASE, recipe=recipe or Recipe("ada_merging"))
    bob = Replica.follow(federation=alice)
    alice.admit(bob.id)
    a, b = alice.contribute(A), alice.contribute(B)
    bob.join(alice)
    return alice, bob, a, b


def notes(replica: Replica) -> str:
    return " ".join(replica.plan().notes)


def test_what_one_replica_publishes_all_apply() -> None:
    alice, bob, a, b = pair()
    assert FALLBACK in notes(alice)
    said = bob.publish(weights(0.5, 0.25), [a, b])
    alice.join(bob)
    assert isinstance(said.body, Coefficients)
    assert alice.plan().coefficients == bob.plan().coefficients == (said.body.payload,)
    assert not alice.plan().notes
    assert alice.merged()["w"].tolist() == bob.merged()["w"].tolist() == [1.5, 1.75, 2.625, 4.0]


def test_rows_follow_their_contributions_whatever_order_they_are_named_in() -> None:
    alice, bob, a, b = pair()
    assert alice.publish(weights(0.5, 0.25), [a, b]).body == bob.publish(weights(0.25, 0.5), [b, a]).body


def test_saying_the_same_twice_is_saying_it_once() -> None:
    alice, _, a, b = pair()
    assert alice.publish(weights(1, 1)) == alice.publish(weights(1, 1), [a, b])


def test_coefficients_are_void_once_one_of_their_contributions_is_retracted() -> None:
    alice, bob, a, _ = pair()
    alice.publish(weights(1, 1))
    bob.join(alice)
    alice.retract(a)
    bob.join(alice)
    for replica in (alice, bob):
        assert FALLBACK in notes(replica)
        assert replica.plan().coefficients == ()


def test_coefficients_are_void_while_another_contribution_is_visible_and_count_again_after() -> None:
    alice, _, _, _ = pair()
    alice.publish(weights(1, 1))
    third = alice.contribute(model(1, 2, 3, 5))
    assert FALLBACK in notes(alice)
    alice.retract(third)
    assert alice.plan().coefficients


def test_the_author_of_higher_authority_is_believed_then_the_lower_digest() -> None:
    alice, bob, _, _ = pair()
    others = [bob.publish(weights(x, x)).body for x in (0.1, 0.2, 0.4)]
    payloads = [said.payload for said in others if isinstance(said, Coefficients)]
    alice.join(bob)
    assert alice.plan().coefficients == (min(payloads),)
    founders = alice.publish(weights(0.9, 0.9)).body
    assert isinstance(founders, Coefficients)
    bob.join(alice)
    assert alice.plan().coefficients == bob.plan().coefficients == (founders.payload,)


def test_a_liar_who_claims_the_best_metric_is_not_preferred() -> None:
    alice, bob, _, _ = pair()
    honest = alice.publish(weights(0.5, 0.5)).body
    bob.join(alice)
    arrays = {"weights": row(9, 9)}
    bob.publish(Payload("ada_merging", "coeffs", arrays, {"claimed": "accuracy 1.0"}))
    assert isinstance(honest, Coefficients)
    assert bob.plan().coefficients == (honest.payload,)


def test_a_malformed_payload_that_slipped_out_is_passed_over_by_all_and_named() -> None:
    alice, bob, _, _ = pair()
    bound = bob.visible
    bad = take_coefficients(bob.store, weights(1, 1), bound)
    wrong = take_coefficients(
        bob.store, Payload("ada_merging", "coeffs", {"weights": row(1, 2)[:, None]}), bound
    )
    bob._say(Coefficients(wrong.digest, bound))
    bob._say(Coefficients(bad.digest, (bound[0],)))
    alice.join(bob)
    for replica in (alice, bob):
        assert f"coefficients {wrong.digest.hex()[:12]}… are passed over: weights has shape" in notes(replica)
        assert FALLBACK in notes(replica)
    assert alice.merged()["w"].equal(bob.merged()["w"])


def test_a_payload_bound_to_others_than_its_operation_says_is_passed_over() -> None:
    alice, _, a, b = pair()
    third = alice.contribute(model(1, 2, 3, 5))
    stolen = take_coefficients(alice.store, weights(1, 1), [a, third])
    alice.retract(third)
    alice._say(Coefficients(stolen.digest, tuple(sorted((a, b)))))
    assert "bound to other contributions" in notes(alice)


def test_coefficients_whose_content_has_not_arrived_stop_the_merge_until_it_does() -> None:
    alice, bob, _, _ = pair()
    said = bob.publish(weights(1, 1))
    alice.store.add_operations([said.encoded])
    alice.refresh()
    with pytest.raises(NotYetError):
        alice.plan()
    alice.join(bob)
    assert alice.plan().coefficients


def test_whoever_publishes_nonsense_is_told_before_anything_is_said() -> None:
    alice, _, a, b = pair()
    before = len(alice.operations)
    with pytest.raises(NonFiniteError, match="weights"):
        alice.publish(weights(1, float("nan")))
    with pytest.raises(ParameterError, match=r"shape \[3\], wanted one row each for 2 contributions"):
        alice.publish(weights(1, 1, 1), [a, b])
    with pytest.raises(ParameterError, match="applies no published coefficients"):
        alice.publish(weights(1, 1, strategy="ties"))
    with pytest.raises(ParameterError, match="applies coeffs of mode task_vector"):
        alice.publish(Payload("ada_merging", "coeffs", {"weights": row(0.5, 0.5)}, {"mode": "convex"}))
    with pytest.raises(UsageError, match="not visible"):
        alice.publish(weights(1), [Digest(bytes(32))])
    with pytest.raises(ParameterError, match="each named once"):
        alice.publish(weights(1, 1), [a, a])
    assert len(alice.operations) == before


def test_whoever_is_no_member_publishes_nothing() -> None:
    alice, _, _, _ = pair()
    eve = Replica.follow(federation=alice)
    eve.join(alice)
    with pytest.raises(PermissionDeniedError):
        eve.publish(weights(1, 1))


def test_a_merge_says_in_its_record_what_it_applied(tmp_path: Path) -> None:
    alice, _, _, _ = pair()
    before = alice.resolve(tmp_path / "before").result
    said = alice.publish(weights(0.5, 0.25)).body
    after = alice.resolve(tmp_path / "after").result
    assert isinstance(said, Coefficients)
    assert (before.coefficients, FALLBACK in before.notes[0]) == ((), True)
    assert (after.coefficients, after.notes) == ((said.payload,), ())
    assert verify_result(tmp_path / "after") == after


def test_results_before_and_after_publishing_live_side_by_side(tmp_path: Path) -> None:
    alice = Replica.create(tmp_path / "home", base=BASE, recipe=Recipe("ada_merging"))
    alice.contribute(A)
    one = alice.resolve()
    alice.publish(weights(1))
    other = alice.resolve()
    assert one.folder != other.folder
    assert alice.resolve().folder == other.folder


SURGERY = Recipe("representation_surgery")


def adapters(merged: str) -> Payload:
    arrays = {"down/task": row(1, -1)[None, :], "up/task": row(2, 1)[:, None]}
    return Payload("representation_surgery", "delta", arrays, {"merged": merged})


def test_corrections_for_the_model_that_came_out_stand_beside_it(tmp_path: Path) -> None:
    alice, _, _, _ = pair(SURGERY)
    plain = alice.resolve(tmp_path / "plain")
    said = alice.publish(adapters(plain.model.hex())).body
    mended = alice.resolve(tmp_path / "mended")
    assert isinstance(said, Coefficients)
    assert mended.model == plain.model
    assert mended.result.coefficients == (said.payload,)
    assert mended.result.corrections is not None
    stored = load_file(mended.folder / CORRECTIONS)
    assert stored["up/task"].tolist() == [[2], [1]]
    assert verify_result(mended.folder) == mended.result
    assert alice.resolve(tmp_path / "mended").result == mended.result


def test_corrections_for_another_model_are_left_out_and_noted(tmp_path: Path) -> None:
    alice, _, _, _ = pair(SURGERY)
    alice.publish(adapters("ab" * 32))
    resolved = alice.resolve(tmp_path / "out")
    assert (resolved.result.coefficients, resolved.result.corrections) == ((), None)
    assert "are for model abababababab…: left out" in resolved.result.notes[0]
    assert not (resolved.folder / CORRECTIONS).exists()
    assert alice.resolve(tmp_path / "out").result == resolved.result


def test_a_byte_flipped_in_the_corrections_is_found(tmp_path: Path) -> None:
    alice, _, _, _ = pair(SURGERY)
    alice.publish(adapters(alice.resolve(tmp_path / "plain").model.hex()))
    path = alice.resolve(tmp_path / "mended").folder / CORRECTIONS
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(CorruptBlockError, match="up/task"):
        verify_result(tmp_path / "mended")
