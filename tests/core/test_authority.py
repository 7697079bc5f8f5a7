"""Who may say what: levels, bans and what bans keep, case by case.

What holds in every history stands in tests/laws/test_authority_laws.py.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from crdtmerge.authority import authority
from crdtmerge.op import NONCE_BYTES, Add, Admit, Ban, Body, Role
from crdtmerge.testing import Story, content, gather

ADMIN, MEMBER = Role.ADMIN, Role.MEMBER


# --- levels --------------------------------------------------------------------------------------


def test_levels_count_the_admits_from_the_founders_and_the_best_counts() -> None:
    story = Story("root", "twin")
    story.admit("root", "ann", ADMIN)
    story.admit("ann", "bob", ADMIN)
    story.admit("bob", "cid")
    who = story.view.authority
    assert [who.level(story.id(name)) for name in ("root", "twin", "ann", "bob", "cid", "eve")] == [
        0,
        0,
        1,
        2,
        3,
        None,
    ]
    story.admit("twin", "bob")
    who = story.view.authority
    assert (who.level(story.id("bob")), who.role(story.id("bob"))) == (1, MEMBER)
    assert who.level(story.id("cid")) is None, "whom a member admits is nobody"


def test_the_better_role_of_several_admits_to_a_level_counts() -> None:
    for number in range(4):  # ids, and so the order in which the admits are read, differ
        story = Story("root", "twin", nonce=bytes([number]) * NONCE_BYTES)
        for author, role in (("root", MEMBER), ("twin", ADMIN), ("root", MEMBER)):
            story.admit(author, "ann", role)
        assert story.view.authority.is_admin(story.id("ann"))


def test_a_worse_admit_changes_nothing() -> None:
    story = Story()
    story.admit("root", "ann", ADMIN)
    story.admit("root", "bob", ADMIN)
    before = story.view.authority
    story.admit("ann", "bob", MEMBER)
    story.admit("ann", "root", MEMBER)
    story.admit("ann", "ann", ADMIN)
    assert story.view.authority == before


def test_strangers_cannot_admit_themselves() -> None:
    story = Story()
    story.admit("eve", "eve", ADMIN)
    story.admit("eve", "mallory", ADMIN)
    assert story.view.authority.members() == (story.id("root"),)


def test_what_somebody_said_before_being_admitted_counts_from_then_on() -> None:
    story = Story()
    add = story.add("ann", "x")
    assert not story.view.authority.honours(add)
    assert add.id not in story.view.state
    story.admit("root", "ann")
    assert story.view.authority.honours(add)
    assert add.id in story.view.state


def test_a_member_admits_and_bans_nobody() -> None:
    story = Story()
    story.admit("root", "ann")
    story.admit("root", "bob", ADMIN)
    story.admit("bob", "cid")
    story.admit("ann", "eve")
    story.ban("ann", "cid")
    assert story.view.authority.is_member(story.id("cid"))
    assert not story.view.authority.is_member(story.id("eve"))


# --- bans ----------------------------------------------------------------------------------------


def chain() -> Story:
    """Everybody admitted the next: root, ann, bob, cid."""
    story = Story("root", "twin")
    for above, name in (("root", "ann"), ("ann", "bob"), ("bob", "cid")):
        story.admit(above, name, ADMIN)
    return story


def test_a_founder_cannot_be_banned() -> None:
    story = chain()
    story.ban("twin", "root")
    story.ban("ann", "root")
    assert story.view.authority.is_member(story.id("root"))


def test_a_ban_voids_all_that_the_banned_said_and_those_they_admitted_lose_their_place() -> None:
    story = chain()
    add = story.add("cid", "x")
    story.ban("ann", "bob")
    who = story.view.authority
    assert who.is_banned(story.id("bob"))
    assert who.level(story.id("cid")) is None
    assert not who.honours(add)
    assert who.members() == tuple(sorted(map(story.id, ("root", "twin", "ann"))))


def test_a_ban_keeps_the_named_operations_and_their_past_and_nothing_later() -> None:
    story = chain()
    before = story.admit("ann", "dora")
    kept = story.add("ann", "x")
    after = story.add("ann", "y")
    story.ban("root", "ann", keep=[kept])
    who = story.view.authority
    assert (who.honours(before), who.honours(kept), who.honours(after)) == (True, True, False)
    assert who.is_member(story.id("dora"))
    assert who.is_member(story.id("bob"))
    assert not who.is_member(story.id("ann"))


def test_an_operation_slipped_in_later_beside_the_kept_past_is_void() -> None:
    story = chain()
    kept = story.add("ann", "x")
    story.ban("root", "ann", keep=[kept])
    slipped = story("ann", Admit(story.id("eve"), ADMIN), prev=kept.prev, created_ms=0)
    assert not story.view.authority.honours(slipped)


def test_of_an_author_who_tells_two_stories_a_ban_keeps_the_one_that_it_names() -> None:
    story = chain()
    told_here = story("ann", Add(content("here")), prev=[])
    told_there = story("ann", Add(content("there")), prev=[])
    assert list(story.view.contributions) == sorted([content("here"), content("there")])
    story.ban("root", "ann", keep=[told_here])
    assert list(story.view.contributions) == [content("here")]
    assert not story.view.authority.retains(told_there)


def test_somebody_elses_operation_is_not_kept_by_naming_it_as_ones_own_past() -> None:
    story = chain()
    evil = story.add("bob", "evil")
    kept = story("ann", Admit(story.id("dora"), MEMBER), prev=[evil.id])
    story.ban("root", "ann", keep=[kept])
    story.ban("root", "bob")
    assert story.view.authority.honours(kept)
    assert not story.view.authority.honours(evil)


def test_the_kept_past_does_not_lead_through_somebody_elses_operation() -> None:
    story = chain()
    void = story.add("ann", "void")
    bridge = story("bob", Add(content("bridge")), prev=[void.id])
    kept = story("ann", Add(content("kept")), prev=[bridge.id])
    story.ban("root", "ann", keep=[kept])
    who = story.view.authority
    assert (who.honours(kept), who.honours(void)) == (True, False)


def test_under_several_bans_only_what_every_one_keeps_stays() -> None:
    story = chain()
    first, second = story.add("ann", "x"), story.add("ann", "y")
    story.ban("root", "ann", keep=[second])
    story.ban("twin", "ann", keep=[first])
    who = story.view.authority
    assert (who.honours(first), who.honours(second)) == (True, False)
    assert (who.retains(first), who.retains(second)) == (True, True), "the way to the first leads through it"


def test_a_kept_operation_that_arrives_late_still_counts_with_its_past() -> None:
    story = chain()
    first, second = story.add("ann", "x"), story.add("ann", "y")
    story.ban("root", "ann", keep=[second])
    early = gather(story.genesis, [op for op in story.ops if op.id != second.id])
    assert not authority(early).honours(first)
    early.add(second)
    assert authority(early) == story.view.authority
    assert authority(early).honours(first)


def test_an_unban_lifts_the_bans_that_it_names_and_no_later_one() -> None:
    story = chain()
    ban = story.ban("root", "bob")
    story.unban("twin", "bob", ban)
    assert story.view.authority.is_member(story.id("bob"))
    story.ban("root", "bob")
    assert story.view.authority.is_banned(story.id("bob"))


def test_an_unban_from_below_the_banner_lifts_nothing() -> None:
    story = chain()
    ban = story.ban("root", "bob")
    story.unban("ann", "bob", ban)
    assert story.view.authority.is_banned(story.id("bob"))


def test_whom_a_founder_raises_to_the_level_of_a_banner_is_out_of_their_reach() -> None:
    story = chain()
    story.ban("ann", "cid")
    assert story.view.authority.is_banned(story.id("cid"))
    story.admit("root", "cid")
    assert story.view.authority.is_member(story.id("cid"))


def test_an_unban_that_names_another_key_lifts_nothing() -> None:
    story = chain()
    ban = story.ban("root", "bob")
    story.unban("root", "cid", ban)
    assert story.view.authority.is_banned(story.id("bob"))


def test_the_ban_of_a_banned_admin_counts_only_if_it_was_kept() -> None:
    for keep in (True, False):
        story = chain()
        ban = story.ban("ann", "bob")
        story.admit("root", "dora", ADMIN)
        story.admit("dora", "bob", ADMIN)
        story.ban("root", "ann", keep=[ban] if keep else [])
        assert story.view.authority.is_banned(story.id("bob")) == keep


def test_a_stolen_key_is_banned_with_a_cut_and_its_owner_comes_back_with_another() -> None:
    story = chain()
    mine = story.add("ann", "mine")
    theft = story.admit("ann", "thief", ADMIN)
    story.ban("root", "ann", keep=[mine])
    story.admit("root", "ann's new key", ADMIN)
    late = story.admit("ann", "accomplice", ADMIN)
    who = story.view.authority
    assert who.honours(mine)
    assert not who.honours(theft)
    assert not who.honours(late)
    assert who.is_admin(story.id("ann's new key"))
    assert not who.is_member(story.id("thief"))


def test_a_key_that_is_banned_before_it_is_admitted_comes_in_banned() -> None:
    story = Story()
    ban = story.ban("root", "eve")
    assert not story.view.authority.is_banned(story.id("eve"))
    story.admit("root", "eve")
    assert story.view.authority.is_banned(story.id("eve"))
    story.unban("root", "eve", ban)
    assert story.view.authority.is_member(story.id("eve"))


@given(st.lists(st.integers(0, 1 << 62), min_size=6, max_size=6))
def test_a_lying_clock_changes_no_standing(clocks: list[int]) -> None:
    honest, liar = Story(), Story()
    for story, dates in ((honest, range(6)), (liar, clocks)):
        statements: list[tuple[str, Body]] = [
            ("root", Admit(story.id("ann"), ADMIN)),
            ("ann", Admit(story.id("bob"), ADMIN)),
            ("bob", Admit(story.id("cid"), MEMBER)),
            ("root", Admit(story.id("cid"), ADMIN)),
            ("cid", Add(content("x"))),
            ("root", Ban(story.id("ann"))),
        ]
        said = [
            story(author, body, created_ms=created_ms)
            for created_ms, (author, body) in zip(dates, statements, strict=True)
        ]
        who = story.view.authority
        assert [who.honours(operation) for operation in said] == [True, False, False, True, True, True]
        assert who.is_banned(story.id("ann"))
        assert [who.level(story.id(name)) for name in ("ann", "bob", "cid")] == [1, None, 1]
