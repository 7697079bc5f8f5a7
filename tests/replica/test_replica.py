"""A replica, as a Python program uses it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from crdtmerge import Recipe, Replica
from crdtmerge.errors import (
    DigestMismatchError,
    EmptySetError,
    LimitError,
    NonFiniteError,
    NotYetError,
    ParameterError,
    PermissionDeniedError,
    ShapeMismatchError,
    UsageError,
)
from crdtmerge.keys import SigningKey
from crdtmerge.merkle import check
from crdtmerge.op import Add, Operation, Policy, Role
from crdtmerge.recipe import Selection

State = dict[str, torch.Tensor]


def model(seed: int) -> State:
    draw, tune = torch.Generator().manual_seed(0), torch.Generator().manual_seed(seed)
    state = {"w": torch.randn(40, 30, generator=draw), "b": torch.randn(30, generator=draw)}
    return {k: v + 0.1 * torch.randn(v.shape, generator=tune) for k, v in state.items()} if seed else state


def pair() -> tuple[Replica, Replica]:
    """A founder's replica and an admitted member's."""
    alice = Replica.create(base=model(0), recipe=Recipe("ties", density="0.5"))
    bob = Replica.follow(federation=alice)
    alice.admit(bob.id)
    bob.join(alice)
    return alice, bob


def equal(one: State, other: State) -> bool:
    return one.keys() == other.keys() and all(one[name].equal(other[name]) for name in one)


def test_two_replicas_that_joined_see_one_root_and_merge_one_model() -> None:
    alice, bob = pair()
    alice.contribute(model(1), label="alice")
    bob.contribute(model(2), label="bob")
    assert alice.root != bob.root
    alice.join(bob)
    bob.join(alice)
    assert alice.root == bob.root
    assert equal(alice.merged(), bob.merged())


def test_joining_twice_changes_nothing() -> None:
    alice, bob = pair()
    alice.contribute(model(1))
    assert bob.join(alice) == 1
    assert bob.join(alice) == 0


def test_whoever_founds_with_another_base_is_in_another_federation() -> None:
    alice, mallory = Replica.create(base=model(0)), Replica.create(base=model(9))
    with pytest.raises(UsageError, match="different federations"):
        alice.join(mallory)


def test_two_federations_on_one_base_are_two_federations() -> None:
    one, other = Replica.create(base=model(0)), Replica.create(base=model(0))
    assert one.operations.federation != other.operations.federation


def test_equal_models_of_two_authors_are_one_contribution_until_both_retract() -> None:
    alice, bob = pair()
    digest = alice.contribute(model(1))
    assert bob.contribute(model(1)) == digest
    alice.join(bob)
    alice.retract(digest)
    assert alice.visible == ()
    bob.join(alice)
    assert bob.visible == ()


def test_an_add_that_a_retract_has_not_seen_survives_it() -> None:
    alice, bob = pair()
    digest = alice.contribute(model(1))
    alice.retract(digest)
    assert bob.contribute(model(1)) == digest
    bob.join(alice)
    alice.join(bob)
    assert alice.visible == bob.visible == (digest,)


def test_contributing_again_what_is_visible_says_nothing_new() -> None:
    alice, _ = pair()
    alice.contribute(model(1))
    count = len(alice.operations)
    alice.contribute(model(1))
    assert len(alice.operations) == count


def test_a_retracted_contribution_is_gone_from_the_next_model_to_the_bit() -> None:
    alice, _ = pair()
    alice.contribute(model(1))
    before = alice.merged()
    other = alice.contribute(model(2))
    assert not equal(alice.merged(), before)
    alice.retract(other)
    assert equal(alice.merged(), before)


def test_a_retract_by_a_stranger_is_refused_and_says_who_may() -> None:
    alice, bob = pair()
    digest = alice.contribute(model(1))
    bob.join(alice)
    with pytest.raises(PermissionDeniedError, match=r"not by this node .* Its author can retract it"):
        bob.retract(digest)


def test_a_forged_retract_by_a_stranger_changes_nothing() -> None:
    from crdtmerge.op import Retract

    alice, bob = pair()
    digest = alice.contribute(model(1))
    add = alice.view.adds[digest][0]
    forged = Operation.sign(
        SigningKey(b"m" * 32), Retract((add,)), federation=alice.operations.federation, created_ms=1
    )
    alice.store.add_operations([forged.encoded])
    alice.refresh()
    assert alice.visible == (digest,)
    bob.join(alice)
    assert bob.visible == (digest,)


def test_an_admin_above_the_author_can_retract() -> None:
    alice, bob = pair()
    digest = bob.contribute(model(2))
    alice.join(bob)
    alice.retract(digest)
    assert alice.visible == ()


def test_retracting_what_is_not_there_is_an_error() -> None:
    alice, _ = pair()
    digest = alice.contribute(model(1))
    alice.retract(digest)
    with pytest.raises(UsageError, match="nothing to retract"):
        alice.retract(digest)


def test_somebody_who_was_not_admitted_can_read_but_not_contribute() -> None:
    alice = Replica.create(base=model(0))
    stranger = Replica.follow(federation=alice)
    stranger.join(alice)
    with pytest.raises(PermissionDeniedError, match="Ask an admin for an invitation"):
        stranger.contribute(model(1))


def test_a_member_cannot_change_the_recipe_and_an_admin_can() -> None:
    alice, bob = pair()
    with pytest.raises(PermissionDeniedError, match="needs an admin"):
        bob.set_recipe(Recipe("weight_average"))
    alice.set_recipe(Recipe("weight_average"))
    bob.join(alice)
    assert bob.view.recipe.strategy == "weight_average"


def test_a_recipe_that_cannot_be_computed_is_never_signed() -> None:
    alice, _ = pair()
    count = len(alice.operations)
    with pytest.raises(ParameterError, match="density"):
        alice.set_recipe(Recipe("ties", density="7"))
    assert len(alice.operations) == count


def test_a_banned_member_is_out_with_all_it_said() -> None:
    alice, bob = pair()
    bob.contribute(model(2))
    alice.join(bob)
    alice.ban(bob.id)
    assert alice.visible == ()
    bob.join(alice)
    with pytest.raises(PermissionDeniedError, match="is banned"):
        bob.contribute(model(3))


def test_blocked_content_stays_out_when_it_is_added_again() -> None:
    alice, bob = pair()
    digest = bob.contribute(model(2))
    alice.join(bob)
    alice.block(digest)
    bob.join(alice)
    assert bob.visible == ()
    bob.contribute(model(2))
    assert bob.visible == ()


def test_a_second_admin_can_be_appointed() -> None:
    alice, bob = pair()
    carol = Replica.follow(federation=alice)
    alice.admit(carol.id, role=Role.ADMIN)
    carol.join(alice)
    carol.admit(SigningKey(b"d" * 32).id)
    assert len(carol.authority.members()) == 4
    assert bob.join(carol) > 0


def test_nothing_contributed_is_nothing_to_merge() -> None:
    alice, _ = pair()
    with pytest.raises(EmptySetError, match="no contribution is visible"):
        alice.merged()


def test_content_that_has_not_arrived_is_named_before_any_work() -> None:
    alice, bob = pair()
    digest = alice.contribute(model(1))
    operations = [operation.encoded for operation in alice.operations]
    bob.store.add_operations(operations)
    bob.refresh()
    assert bob.visible == (digest,)
    with pytest.raises(NotYetError) as caught:
        bob.merged()
    assert caught.value.wanted == (digest,)


def test_whoever_lacks_the_base_is_told_to_wait_for_it() -> None:
    alice = Replica.create(base=model(0))
    bob = Replica.follow(federation=alice)
    alice.admit(bob.id)
    bob.store.add_operations([operation.encoded for operation in alice.operations])
    bob.refresh()
    assert not bob.status().base_ready
    with pytest.raises(NotYetError, match="base has not arrived completely"):
        bob.contribute(model(1))
    bob.join(alice)
    assert bob.status().base_ready
    bob.contribute(model(1))


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (
            lambda s: s["b"].__setitem__(3, float("inf")),
            NonFiniteError,
            "b holds NaN or infinity at flat index 3",
        ),
        (lambda s: s.pop("b"), ShapeMismatchError, "b is missing"),
        (lambda s: s.update(b=torch.zeros(31)), ShapeMismatchError, r"b has shape \[31\], wanted \[30\]"),
        (lambda s: s.update(b=s["b"].half()), ShapeMismatchError, "b has dtype F16, wanted F32"),
    ],
)
def test_a_bad_contribution_is_refused_and_leaves_no_trace(spoil, error, message) -> None:  # type: ignore[no-untyped-def]
    alice, _ = pair()
    bad = model(1)
    spoil(bad)
    count = len(alice.operations)
    with pytest.raises(error, match=message):
        alice.contribute(bad)
    assert len(alice.operations) == count
    assert alice.visible == ()


def test_another_floating_dtype_is_accepted_when_asked_for() -> None:
    alice, _ = pair()
    tuned = {k: v.bfloat16() for k, v in model(1).items()}
    with pytest.raises(ShapeMismatchError, match="--any-float"):
        alice.contribute(tuned)
    alice.contribute(tuned, any_float=True)
    assert alice.merged()["w"].dtype is torch.float32


def test_a_bad_peer_blocks_nobody_and_every_replica_leaves_out_the_same() -> None:
    alice, bob = pair()
    alice.contribute(model(1))
    want = alice.merged()
    _announce_without_checks(bob, model(2) | {"b": torch.full((30,), float("nan"))})
    _announce_without_checks(bob, model(3) | {"b": torch.zeros(3)})
    alice.join(bob)
    bob.join(alice)
    assert len(alice.visible) == 3
    made = alice.plan()
    assert [reason.split(" ")[0] for _, reason in sorted(made.excluded, key=lambda row: row[1])] == ["1", "b"]
    assert bob.plan().excluded == made.excluded
    assert equal(alice.merged(), bob.merged())
    assert equal(alice.merged(), want)


def test_absurd_magnitudes_are_left_out_and_what_the_base_has_too_is_not_asked_about() -> None:
    huge = torch.full((4,), 3e38)
    alice = Replica.create(
        base={"mask": huge, "w": torch.zeros(4)}, recipe=Recipe("task_arithmetic", scale=1)
    )
    alice.contribute({"mask": huge, "w": torch.ones(4)})
    with pytest.raises(NonFiniteError, match=r"w holds 1e\+30, more than any weight, at flat index 0"):
        alice.contribute({"mask": huge, "w": torch.full((4,), 1e30)})
    _announce_without_checks(alice, {"mask": huge, "w": torch.full((4,), 3e38)})
    _announce_without_checks(alice, {"mask": huge, "w": torch.full((4,), -3e38)})
    assert len(alice.plan().excluded) == 2
    assert alice.merged()["w"].equal(torch.ones(4))


def _announce_without_checks(replica: Replica, state: State) -> None:
    from crdtmerge.manifest import Kind
    from crdtmerge.resolve import take

    manifest = take(replica.store, state, kind=Kind.FULL, base=replica.base.digest)
    replica._say(Add(manifest.digest))


def test_contributions_above_the_federations_size_limit_do_not_count() -> None:
    alice = Replica.create(base=model(0), policy=Policy(contribution_bytes_max=5000))
    _announce_without_checks(alice, model(1) | {"b": torch.zeros(300)})
    with pytest.raises(LimitError, match="at most 5000"):
        alice.contribute({name: tensor.double() for name, tensor in model(2).items()}, any_float=True)
    alice.contribute(model(1))
    assert len(alice.plan().contributions) == 1


def test_a_recipe_can_select_by_label_author_and_metric() -> None:
    alice, bob = pair()
    first = alice.contribute(model(1), label="speech", metrics={"accuracy": 0.9})
    second = bob.contribute(model(2), label="text", metrics={"accuracy": "0.5"})
    alice.join(bob)

    def chosen(**fields: object) -> set[bytes]:
        recipe = Recipe("weight_average", selection=Selection(**fields))  # type: ignore[arg-type]
        return {digest for digest, _ in alice.plan(recipe).contributions}

    assert chosen() == {first, second}
    assert chosen(labels=("speech",)) == {first}
    assert chosen(authors=(bob.id,)) == {second}
    assert chosen(metric="accuracy", at_least="0.75") == {first}
    with pytest.raises(EmptySetError):
        chosen(labels=("nothing",))


def test_a_proof_convinces_whoever_knows_the_root() -> None:
    alice, _ = pair()
    digest = alice.contribute(model(1))
    other = alice.contribute(model(2))
    check(alice.prove(digest), alice.root, present=True)
    alice.retract(digest)
    check(alice.prove(digest), alice.root, present=False)
    with pytest.raises(DigestMismatchError):
        check(alice.prove(other), digest, present=True)


def test_a_home_reopened_is_the_replica_that_was_closed(tmp_path: Path) -> None:
    with Replica.create(tmp_path / "alice", base=model(0), recipe=Recipe("slerp")) as alice:
        digest = alice.contribute(model(1), label="one")
        root, state = alice.root, alice.view.state_root
        status = alice.status()
    with Replica.open(tmp_path / "alice") as again:
        assert (again.visible, again.root, again.view.state_root) == ((digest,), root, state)
        assert again.status() == status
        assert again.status().ready == (digest,)


def test_what_another_process_commits_is_taken_up_by_refresh(tmp_path: Path) -> None:
    with Replica.create(tmp_path / "h", base=model(0)) as one, Replica.open(tmp_path / "h") as other:
        digest = one.contribute(model(1))
        assert len(other.visible) == 0
        assert other.refresh() == 1
        assert list(other.visible) == [digest]
        other.retract(digest)
        one.refresh()
        assert one.visible == ()


def test_a_folder_belongs_to_one_federation(tmp_path: Path) -> None:
    Replica.create(tmp_path / "h", base=model(0)).close()
    with pytest.raises(UsageError, match="already belongs to federation"):
        Replica.create(tmp_path / "h", base=model(0))


def test_opening_nothing_says_how_to_begin(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no replica: create one"):
        Replica.open(tmp_path / "nothing")


def test_low_rank_factors_and_differences_merge_like_the_checkpoints_they_stand_for(tmp_path: Path) -> None:
    alice, _ = pair()
    change = {"b": torch.full((30,), 0.5)}
    from crdtmerge.manifest import Kind

    alice.contribute(change, kind=Kind.DELTA)
    full = Replica.create(base=model(0), recipe=Recipe("ties", density="0.5"))
    full.contribute(model(0) | {"b": model(0)["b"] + 0.5})
    recipe = Recipe("task_arithmetic", scale=1)
    assert torch.allclose(alice.merged(recipe=recipe)["b"], full.merged(recipe=recipe)["b"], atol=1e-6)
    assert alice.merged(recipe=recipe)["w"].equal(model(0)["w"])
