"""Who may say what: five properties that hold in every history, and the rule that lacked them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtmerge.authority import Authority, authority
from crdtmerge.digest import Digest
from crdtmerge.keys import NodeId
from crdtmerge.op import Admit, Ban, Operation, Role
from crdtmerge.opset import OpSet
from crdtmerge.testing import Story, gather, histories, ids
from crdtmerge.visible import View, view

ADMIN = Role.ADMIN


def ranks(who: Authority) -> dict[NodeId, tuple[int, Role, tuple[Digest, ...]]]:
    """Everybody's level, role and bans."""
    return {node: (rank.level, rank.role, rank.bans) for node, rank in who.standings.items()}


def honoured(ops: Iterable[Operation], who: Authority) -> set[Digest]:
    return {operation.id for operation in ops if who.honours(operation)}


def meaning(seen: View) -> tuple[object, ...]:
    """What a view says to people: everything but R(S)."""
    return ranks(seen.authority), dict(seen.adds), seen.recipe_id, set(seen.blocked), seen.coefficients


# --- the five properties -------------------------------------------------------------------------


@given(histories(), st.data())
def test_order_and_duplication_of_operations_do_not_change_the_view(
    history: list[Operation], data: st.DataObject
) -> None:
    arrivals = data.draw(st.permutations(history + history[: data.draw(st.integers(0, len(history)))]))
    assert view(gather(history[0], arrivals)) == view(gather(history[0], history))


@given(histories(), st.sampled_from(["ann", "bob", "cid", "dora"]))
def test_after_a_root_ban_that_keeps_nothing_deleting_all_operations_of_the_banned_changes_nothing(
    history: list[Operation], name: str
) -> None:
    banned = Story.id(name)
    story = Story.of(history)
    story.ban("root", name)
    assert not any(
        story.view.authority.honours(operation) for operation in history if operation.author == banned
    )
    without = gather(history[0], [operation for operation in story.ops if operation.author != banned])
    assert meaning(view(without)) == meaning(view(story.ops))


@given(histories())
def test_a_lower_ranked_member_cannot_remove_or_void_a_higher_one(history: list[Operation]) -> None:
    ops = gather(history[0], history)
    seen = view(ops)
    who = seen.authority
    for level in range(1 + max(standing.level for standing in who.standings.values())):
        above = [op for op in ops if (rank := who.level(op.author)) is not None and rank <= level]
        alone = view(gather(history[0], above))
        assert ranks(alone.authority) == {
            node: rank for node, rank in ranks(who).items() if rank[0] <= level + 1
        }
        assert honoured(above, alone.authority) == honoured(above, who)
        tags = {tag for tags in alone.adds.values() for tag in tags}
        assert tags == {tag for tags in seen.adds.values() for tag in tags} & set(ids(above))
        assert alone.recipe_id == seen.recipe_id


@given(histories())
def test_equals_cannot_ban_each_other(history: list[Operation]) -> None:
    ops = gather(history[0], history)
    who = authority(ops)
    for node, standing in who.standings.items():
        heard = [op for op in ops if op.author == node or (who.level(op.author) or 0) < standing.level]
        assert ranks(authority(gather(history[0], heard)))[node] == ranks(who)[node]


@given(histories())
def test_pruning_to_what_is_reconciled_is_safe(history: list[Operation]) -> None:
    seen = view(gather(history[0], history))
    pruned = gather(history[0], [operation for operation in history if operation.id in seen.state])
    assert view(pruned) == seen
    assert set(view(pruned).state) == {operation.id for operation in pruned}


@given(histories(), st.data())
def test_replicas_that_exchange_only_what_is_reconciled_reach_the_view_of_the_union(
    history: list[Operation], data: st.DataObject
) -> None:
    holders = [data.draw(st.integers(0, 2)) for _ in history]
    replicas = [
        gather(history[0], [op for op, holder in zip(history, holders, strict=True) if holder in (place, 2)])
        for place in (0, 1)
    ]
    while len({view(replica).state_root for replica in replicas}) > 1:
        sent = [[op for op in replica if op.id in view(replica).state] for replica in replicas]
        for replica, operations in zip(replicas, reversed(sent), strict=True):
            replica.join(gather(history[0], operations))
    assert [meaning(view(replica)) for replica in replicas] == [
        meaning(view(gather(history[0], history)))
    ] * 2


# --- the refuted rule ----------------------------------------------------------------------------


def simple_rule(ops: OpSet, choose: Callable[[Iterable[int]], int]) -> set[NodeId]:
    """Who is a member by the simple rule: ranks from all admits, bans ignored; then bans by rank."""
    rank = dict.fromkeys(ops.charter.founders, 0)
    for _ in ops:
        for target in {op.body.key for op in ops if isinstance(op.body, Admit)} - set(ops.charter.founders):
            above = [
                rank[op.author]
                for op in ops
                if isinstance(op.body, Admit) and op.body.key == target and op.author in rank
            ]
            if above:
                rank[target] = 1 + choose(above)
    members: set[NodeId] = set()
    for node in sorted(rank, key=lambda node: rank[node]):
        bans = [op for op in ops if isinstance(op.body, Ban) and op.body.key == node]
        if not any(op.author in members and rank[op.author] < rank[node] for op in bans):
            members.add(node)
    return members


@pytest.mark.parametrize(("choose", "victim"), [(max, "victor"), (min, "wanda")], ids=["worst", "best"])
def test_a_banned_member_expels_others_by_the_simple_rule_and_not_by_ours(
    choose: Callable[[Iterable[int]], int], victim: str
) -> None:
    story = Story()
    for above, name in [("root", "mallory"), ("root", "victor"), ("victor", "uma"), ("uma", "wanda")]:
        story.admit(above, name, ADMIN)
    honest = {"root", "victor", "uma", "wanda"}
    story.ban("root", "mallory")
    assert simple_rule(story.ops, choose) == set(map(story.id, honest))
    assert set(story.view.authority.members()) == set(map(story.id, honest))

    story.admit("mallory", "puppet", ADMIN)  # whose rank is one below that of the banned
    story.admit("puppet", "victor", ADMIN)  # who had the rank of the banned, and gets a worse one
    story.ban("puppet", "victor")
    story.ban("puppet", "wanda")
    assert story.id(victim) not in simple_rule(story.ops, choose)
    assert set(story.view.authority.members()) == set(map(story.id, honest))
