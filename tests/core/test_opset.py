"""The operation set: of one federation, verified, and only ever growing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtmerge.errors import MalformedError, PolicyError, SignatureError
from crdtmerge.limits import PREV_MAX
from crdtmerge.op import Add, Operation
from crdtmerge.opset import OpSet
from crdtmerge.testing import Story, content, gather, histories, key


def test_a_federation_begins_with_a_verified_genesis() -> None:
    story = Story()
    assert list(OpSet(story.genesis)) == [story.genesis]
    assert OpSet(story.genesis).federation == story.genesis.id
    with pytest.raises(MalformedError, match="genesis"):
        OpSet(story.add("root", "x"))
    with pytest.raises(SignatureError):
        OpSet(forged(story.genesis))


def forged(operation: Operation) -> Operation:
    fields = (operation.federation, operation.author, operation.created_ms, operation.prev, operation.body)
    return Operation(*fields, signature=bytes(64))


def test_an_operation_is_new_once() -> None:
    story = Story()
    ops, add = OpSet(story.genesis), story.add("root", "x")
    assert ops.add(add)
    assert not ops.add(add)
    assert not ops.add(story.genesis)
    assert (len(ops), add.id in ops, ops.get(add.id)) == (2, True, add)
    assert ops.get(content("x")) is None


def test_a_forged_signature_is_refused_and_nothing_is_kept() -> None:
    story = Story()
    ops, add = OpSet(story.genesis), story.add("root", "x")
    with pytest.raises(SignatureError):
        ops.add(forged(add))
    assert add.id not in ops
    assert ops.heads(add.author) == (story.genesis.id,)


def test_another_federations_operations_and_genesis_are_refused() -> None:
    here, there = Story(), Story(nonce=b"another federatn")
    for operation in (there.genesis, there.add("root", "x")):
        with pytest.raises(PolicyError):
            here.ops.add(operation)
    with pytest.raises(PolicyError):
        here.ops.join(there.ops)
    assert len(here.ops) == 1


def test_the_next_operation_follows_the_heads() -> None:
    story = Story()
    first = story.add("root", "x")
    assert first.prev == (story.genesis.id,)
    left, right = (story("root", Add(content(name)), prev=[first.id]) for name in "yz")
    assert story.ops.heads(first.author) == tuple(sorted([left.id, right.id]))
    last = story.add("root", "x")
    assert last.prev == tuple(sorted([left.id, right.id]))
    assert story.ops.heads(first.author) == (last.id,)
    assert story.ops.heads(key("nobody").id) == ()


def test_heads_are_the_same_when_a_predecessor_arrives_late() -> None:
    story = Story()
    first, second = story.add("ann", "x"), story.add("ann", "y")
    late = gather(story.genesis, [second, first])
    assert late.heads(first.author) == (second.id,)


def test_heads_are_an_authors_own_whatever_others_name() -> None:
    story = Story()
    add = story.add("ann", "x")
    story("bob", Add(content("y")), prev=[add.id])
    assert story.ops.heads(add.author) == (add.id,)


def test_an_author_who_forks_wildly_names_as_many_heads_as_the_limit_allows() -> None:
    story = Story()
    forks = [story("ann", Add(content(str(number))), prev=[]) for number in range(PREV_MAX + 2)]
    joined = story.add("ann", "x")
    assert joined.prev == tuple(sorted(fork.id for fork in forks))[:PREV_MAX]
    assert len(story.ops.heads(joined.author)) == 3


@given(histories(), st.data())
def test_operations_and_heads_are_found_by_author_and_ascend(
    history: list[Operation], data: st.DataObject
) -> None:
    ops = gather(history[0], data.draw(st.permutations(history)))
    assert [operation.id for operation in ops] == sorted({operation.id for operation in history})
    for author in {operation.author for operation in history}:
        own = [operation for operation in ops if operation.author == author]
        assert ops.by_author(author) == tuple(operation.id for operation in own)
        named = {before for operation in own for before in operation.prev}
        assert ops.heads(author) == tuple(op.id for op in own if op.id not in named)[:PREV_MAX]
    assert ops.by_author(key("nobody").id) == ()


@given(histories())
def test_a_copy_is_equal_and_independent(history: list[Operation]) -> None:
    ops = gather(history[0], history)
    copy = ops.copy()
    assert copy == ops
    root = key("root")
    before = ops.heads(root.id)
    fresh = Operation.sign(root, Add(content("x")), federation=ops.federation, created_ms=1, prev=before)
    copy.add(fresh)
    assert (fresh.id in copy, fresh.id in ops, copy == ops) == (True, False, False)
    assert (copy.heads(root.id), ops.heads(root.id)) == ((fresh.id,), before)
    assert fresh.id not in ops.by_author(root.id)
    assert copy != "a set"
