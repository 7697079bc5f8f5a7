"""An author tells each half of the federation another story, and hopes that they never agree again."""

from __future__ import annotations

from crdtmerge.op import Add, Operation
from crdtmerge.testing import Story, content, gather, key
from crdtmerge.visible import view


def forked(story: Story, name: str, prev: tuple[Operation, ...]) -> Operation:
    """What the liar says on one side, as if the other story did not exist."""
    ids = tuple(sorted(operation.id for operation in prev))
    return Operation.sign(
        key("liar"), Add(content(name)), federation=story.genesis.id, created_ms=7, prev=ids
    )


def test_two_stories_for_two_halves_become_one_history_wherever_both_arrive() -> None:
    story = Story()
    admit = story.admit("root", "liar")
    left = gather(story.genesis, [admit, forked(story, "for the left", (admit,))])
    right = gather(story.genesis, [admit, forked(story, "for the right", (admit,))])
    assert view(left).root != view(right).root
    one, other = left.copy(), right.copy()
    one.join(right)
    other.join(left)
    assert view(one).root == view(other).root
    assert view(one).state_root == view(other).state_root
    assert set(view(one).contributions) == {content("for the left"), content("for the right")}


def test_a_ban_ends_both_stories_or_keeps_the_one_that_it_names() -> None:
    story = Story()
    admit = story.admit("root", "liar")
    left, right = (forked(story, name, (admit,)) for name in ("left", "right"))
    ban = story.ban("root", "liar", keep=[left])
    both = gather(story.genesis, [admit, right, left, ban])
    assert set(view(both).contributions) == {content("left")}
    ban = story.ban("root", "liar")
    assert not view(gather(story.genesis, [admit, right, left, ban])).contributions
