"""What counts: contributions, quotas, blocks and recipes, and a view that keeps up with a growing set."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtmerge import visible
from crdtmerge.authority import Authority, Bans, judge
from crdtmerge.errors import ParameterError
from crdtmerge.op import Add, Admit, Block, Body, Coefficients, Operation, Policy, Role, SetRecipe
from crdtmerge.opset import OpSet
from crdtmerge.recipe import Recipe
from crdtmerge.testing import RECIPE, Story, content, gather, histories, ids
from crdtmerge.visible import LiveView, reconciled, view

ADMIN, MEMBER = Role.ADMIN, Role.MEMBER
X, Y, Z = content("x"), content("y"), content("z")


def federation(policy: Policy | None = None) -> Story:
    """Two founders; Ann and Amy are admins below them; Bob and Ben are members below Ann."""
    story = Story("root", "twin", policy=policy)
    for above, name, role in (
        ("root", "ann", ADMIN),
        ("root", "amy", ADMIN),
        ("ann", "bob", MEMBER),
        ("ann", "ben", MEMBER),
    ):
        story.admit(above, name, role)
    return story


# --- adds and retracts ---------------------------------------------------------------------------


def test_what_a_member_adds_is_visible_and_what_a_stranger_adds_is_not() -> None:
    story = federation()
    add = story.add("bob", "x")
    story.add("eve", "y")
    assert dict(story.view.adds) == {X: (add.id,)}
    assert list(story.view.contributions) == [X]
    assert story.view.authors(X) == (story.id("bob"),)
    assert story.view.authors(Y) == ()


def test_a_contribution_that_two_added_is_visible_until_both_adds_are_retracted() -> None:
    story = federation()
    adds = [story.add("bob", "x"), story.add("ben", "x")]
    assert story.view.adds[X] == ids(adds)
    assert story.view.authors(X) == tuple(sorted([story.id("bob"), story.id("ben")]))
    story.retract("bob", adds[0])
    assert story.view.adds[X] == (adds[1].id,)
    story.retract("ben", adds[1])
    assert X not in story.view.contributions


def test_a_retract_that_arrives_before_its_add_still_retracts_it() -> None:
    story = federation()
    add = story.add("bob", "x")
    retract = story.retract("bob", add)
    late = gather(story.genesis, [op for op in story.ops if op.id not in (add.id, retract.id)])
    live = LiveView(late)
    for operation in (retract, add):
        late.add(operation)
        live.apply(operation)
        assert X not in live.current.contributions


def test_retracted_contribution_stays_invisible_after_a_late_duplicate() -> None:
    story = federation()
    add = story.add("bob", "x")
    story.retract("bob", add)
    live = LiveView(story.ops)
    assert not story.ops.add(Operation.decode(add.encoded))
    live.apply(add)
    assert X not in live.current.contributions
    assert live.current == story.view


def test_adding_again_after_a_retract_makes_it_visible_again() -> None:
    story = federation()
    story.retract("bob", story.add("bob", "x"))
    again = story.add("bob", "x")
    assert story.view.adds[X] == (again.id,)


def test_an_add_that_a_retract_has_not_seen_survives_it() -> None:
    story = federation()
    first = story.add("bob", "x")
    unseen = story("bob", Add(X), prev=first.prev)
    story.retract("bob", first)
    assert story.view.adds[X] == (unseen.id,)


def test_only_the_author_or_an_admin_above_retracts_an_add() -> None:
    story = federation()
    theirs = story.add("bob", "x")
    anns = story.add("ann", "y")
    for author, target in (("ben", theirs), ("amy", anns), ("bob", anns), ("eve", theirs)):
        story.retract(author, target)
        assert list(story.view.contributions) == sorted([X, Y]), f"{author} retracted what is not theirs"
    story.retract("amy", theirs)
    story.retract("root", anns)
    assert not story.view.contributions


def test_a_member_of_a_better_level_who_is_no_admin_retracts_nothing_of_others() -> None:
    story = federation()
    story.admit("root", "max", MEMBER)
    add = story.add("bob", "x")
    story.retract("max", add)
    assert X in story.view.contributions
    story.admit("twin", "max", ADMIN)
    assert X not in story.view.contributions, "an admin now, and what was said counts"


def test_a_retract_that_names_no_add_harms_nobody() -> None:
    story = federation()
    add = story.add("bob", "x")
    story.retract("root", story.genesis)
    story.retract("ann", story.add("eve", "y"))
    assert story.view.adds == {X: (add.id,)}
    assert LiveView(story.ops).current == story.view


def test_a_ban_that_keeps_the_add_but_not_its_retract_makes_it_visible_again() -> None:
    story = federation()
    add = story.add("bob", "x")
    story.retract("bob", add)
    story.ban("ann", "bob", keep=[add])
    assert story.view.adds == {X: (add.id,)}


# --- blocks --------------------------------------------------------------------------------------


def test_a_blocked_contribution_stays_out_however_often_it_is_added_again() -> None:
    story = federation()
    story.add("bob", "x")
    story("ann", Block(X))
    for author in ("bob", "ben", "ann", "amy"):
        story.add(author, "x")
    assert X not in story.view.contributions
    assert story.view.blocked == {X}


def test_a_block_does_not_void_the_add_of_a_stronger_author() -> None:
    story = federation()
    add = story.add("root", "x")
    story.add("ann", "x")
    story("ann", Block(X))
    assert story.view.adds == {X: (add.id,)}
    story("twin", Block(X))
    assert not story.view.adds


def test_members_and_strangers_block_nothing() -> None:
    story = federation()
    story.add("bob", "x")
    story("ben", Block(X))
    story("eve", Block(X))
    assert X in story.view.contributions
    assert not story.view.blocked


def test_the_block_of_an_admin_who_is_banned_later_is_void() -> None:
    story = federation()
    story("amy", Block(X))
    story.add("bob", "x")
    assert X not in story.view.contributions
    story.ban("root", "amy")
    assert X in story.view.contributions


# --- quotas --------------------------------------------------------------------------------------


def test_of_an_authors_adds_the_first_by_date_count_up_to_the_quota() -> None:
    story = federation(Policy(visible_per_author_max=2))
    for name, created_ms in (("z", 30), ("y", 20), ("x", 10)):
        story("bob", Add(content(name)), created_ms=created_ms)
    other = story("ben", Add(Z), created_ms=99)
    assert list(story.view.contributions) == sorted([X, Y, Z])
    assert story.view.adds[Z] == (other.id,), "Bob's third does not count, Ben's first does"


def test_adds_of_one_date_count_by_ascending_id() -> None:
    story = federation(Policy(visible_per_author_max=1))
    adds = [story("bob", Add(content(name)), created_ms=5) for name in "xyz"]
    first = min(adds, key=lambda add: add.id)
    assert list(story.view.adds.values()) == [(first.id,)]


def test_a_retracted_or_blocked_add_frees_its_place() -> None:
    story = federation(Policy(visible_per_author_max=1))
    adds = [story("bob", Add(content(name)), created_ms=date) for date, name in enumerate("xyz")]
    live = LiveView(story.ops)
    assert list(live.current.contributions) == [X]
    live.apply(story.retract("bob", adds[0]))
    assert list(live.current.contributions) == [Y]
    live.apply(story("root", Block(Y)))
    assert list(live.current.contributions) == [Z]
    live.apply(story("bob", Add(X), created_ms=0))
    assert list(live.current.contributions) == [X]


def test_the_same_content_twice_takes_two_places() -> None:
    story = federation(Policy(visible_per_author_max=2))
    for date, name in enumerate("xxy"):
        story("bob", Add(content(name)), created_ms=date, prev=[])
    assert list(story.view.contributions) == [X]


# --- recipes -------------------------------------------------------------------------------------


def recipe(name: str, *supersedes: Operation) -> Body:
    return SetRecipe(Recipe(name, version=1), ids(supersedes))


def test_the_genesis_recipe_counts_until_somebody_of_its_level_supersedes_it() -> None:
    story = federation()
    assert (story.view.recipe, story.view.recipe_id) == (RECIPE, story.genesis.id)
    story("ann", recipe("ties", story.genesis))
    assert story.view.recipe == RECIPE, "Ann is below the founders"
    chosen = story("twin", recipe("slerp", story.genesis))
    assert (story.view.recipe.strategy, story.view.recipe_id) == ("slerp", chosen.id)


def test_of_recipes_that_stand_side_by_side_the_lowest_level_then_the_lowest_id_counts() -> None:
    story = federation()
    sides = [story(author, recipe(author, story.genesis)) for author in ("root", "twin")]
    story("ann", recipe("ann", *sides))
    assert story.view.recipe_id == min(side.id for side in sides)


def test_a_superseded_recipe_still_supersedes() -> None:
    story = federation()
    first = story("root", recipe("first", story.genesis))
    second = story("root", recipe("second", first))
    assert story.view.recipe_id == second.id
    third = story("twin", recipe("third", second))
    assert story.view.recipe_id == third.id


def test_recipes_of_members_strangers_and_the_banned_do_not_count() -> None:
    story = federation()
    for author in ("bob", "eve", "ann"):
        story(author, recipe(author, story.genesis))
    chosen = story("root", recipe("ties", story.genesis))
    story.ban("twin", "ann")
    assert story.view.recipe_id == chosen.id


# --- coefficients and R(S) -----------------------------------------------------------------------


def test_coefficients_of_members_are_listed_by_ascending_id() -> None:
    story = federation()
    said = [story(author, Coefficients(content(author), (X,))) for author in ("bob", "ann", "eve", "root")]
    assert story.view.coefficients == tuple(
        sorted((said[place] for place in (0, 1, 3)), key=lambda operation: operation.id)
    )


def test_what_replicas_reconcile_leaves_out_strangers_and_what_bans_void() -> None:
    story = federation()
    stranger, kept, void = story.add("eve", "x"), story.add("bob", "y"), story.add("bob", "z")
    story.ban("ann", "bob", keep=[kept])
    assert reconciled(story.ops) == {op.id for op in story.ops} - {stranger.id, void.id}
    assert story.view.state_root == reconciled(story.ops).root


# --- the live view -------------------------------------------------------------------------------


@given(histories(), st.data())
def test_a_live_view_equals_the_view_after_every_operation_in_whatever_order(
    history: list[Operation], data: st.DataObject
) -> None:
    ops = OpSet(history[0])
    live = LiveView(ops)
    for operation in data.draw(st.permutations(history[1:])):
        ops.add(operation, verify=False)
        live.apply(operation)
        assert live.current == view(ops)


@given(histories(), st.data())
def test_a_live_view_that_is_looked_at_now_and_then_equals_the_view(
    history: list[Operation], data: st.DataObject
) -> None:
    ops = OpSet(history[0])
    live = LiveView(ops)
    arrivals = data.draw(st.permutations(history[1:] * 2))
    ahead = data.draw(st.integers(0, 3))
    for place, operation in enumerate(arrivals):
        for early in arrivals[place : place + 1 + ahead]:  # the set may be ahead of what is applied
            ops.add(early, verify=False)
        live.apply(operation)
        if data.draw(st.booleans()):
            assert live.current.recipe_id in ops
    assert live.current == view(ops)


@given(histories())
def test_views_that_were_handed_out_never_change(history: list[Operation]) -> None:
    ops = OpSet(history[0])
    live = LiveView(ops)
    handed = []
    for operation in history[1:]:
        ops.add(operation, verify=False)
        live.apply(operation)
        handed.append((live.current, view(ops.copy())))
    assert all(seen == then for seen, then in handed)


@pytest.fixture
def starts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the sets that live views began with, or began anew with."""
    seen: list[int] = []

    def counted(ops: OpSet) -> tuple[Authority, Bans]:
        seen.append(len(ops))
        return judge(ops)

    monkeypatch.setattr(visible, "judge", counted)
    return seen


def test_only_what_takes_something_away_starts_a_live_view_anew(starts: list[int]) -> None:
    story = Story("root", "twin")
    ops = OpSet(story.genesis)
    live = LiveView(ops)

    def started(operation: Operation) -> bool:
        """Whether the live view began anew because of ``operation``."""
        before = len(starts)
        ops.add(operation)
        live.apply(operation)
        assert live.current == view(ops)
        return len(starts) > before

    early = story.add("ann", "x")
    for operation in (
        early,
        story.admit("root", "ann"),
        story.admit("twin", "ann", ADMIN),
        story.admit("ann", "bob"),
        story.add("bob", "y"),
        story.ban("root", "amy"),
        story.admit("root", "amy"),
        story.ban("ann", "amy"),
        story.ban("ann", "root"),
        story("ann", Block(X)),
        story.retract("bob", early),
        story("root", recipe("ties", story.genesis)),
    ):
        assert not started(operation), operation.kind
    kept = story.add("bob", "z")
    assert not started(kept)
    ban = story.ban("root", "bob", keep=[kept])
    assert started(ban)
    assert not started(story.add("bob", "void"))
    assert started(story.unban("root", "bob", ban))
    assert started(story.admit("root", "bob")), "Bob has spoken, at another level"


def test_a_missing_link_of_a_kept_past_does_not_start_a_live_view_anew(starts: list[int]) -> None:
    story = federation()
    first, middle, last = (story.add("bob", name) for name in "xyz")
    story.ban("root", "bob", keep=[last])
    ops = gather(story.genesis, [op for op in story.ops if op.id not in (middle.id, last.id)])
    live = LiveView(ops)
    assert first.id not in live.current.state
    for operation, counted in ((last, [Z]), (middle, sorted([X, Y, Z]))):
        ops.add(operation)
        live.apply(operation)
        assert list(live.current.contributions) == counted
        assert live.current == view(ops)
    assert len(starts) == 1


def test_an_operation_that_is_not_in_the_set_is_an_error() -> None:
    story = federation()
    live = LiveView(OpSet(story.genesis))
    with pytest.raises(ParameterError, match="not in the set"):
        live.apply(story("root", Admit(story.id("bob"), MEMBER)))
