"""One peer: whom it answers, what it keeps, what it says first, and that equal events give equal outputs."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sync_harness import NOW_MS, Disk, Party, calls, record_of

from crdtmerge import testing
from crdtmerge.digest import Digest
from crdtmerge.errors import LimitError, MalformedError, PolicyError, RejectedError, SignatureError
from crdtmerge.keys import SigningKey
from crdtmerge.limits import OPERATIONS_PER_MESSAGE_MAX
from crdtmerge.op import Add, Admit, Coefficients, Genesis, Operation, Role
from crdtmerge.opset import OpSet
from crdtmerge.sync import index as index_module
from crdtmerge.sync import intake as intake_module
from crdtmerge.sync import messages as m
from crdtmerge.sync import ranges
from crdtmerge.sync.chance import Chance
from crdtmerge.sync.events import (
    AdmissionWanted,
    Call,
    Changed,
    Failure,
    Misbehaved,
    StoreOperations,
    StoreRecord,
)
from crdtmerge.sync.intake import Intake
from crdtmerge.sync.invite import check, prove
from crdtmerge.sync.messages import Reply, Request
from crdtmerge.sync.peer import Peer
from crdtmerge.visible import view

ZERO = Digest(bytes(32))
DAY_MS = 86_400_000


def story_of(*members: str) -> testing.Story:
    """A federation whose root has admitted these."""
    story = testing.Story()
    for name in members:
        story.admit("root", name)
    return story


def hello(story: testing.Story, *, invite: bytes | None = None) -> m.Hello:
    return m.Hello(bytes(16), story.ops.federation, ZERO, ZERO, invite=invite)


def requests(story: testing.Story) -> list[Request]:
    """One of each kind."""
    return [
        hello(story),
        m.Reconcile(m.Space.OPERATIONS, bytes(32), ranges.write([])),
        m.PushOps((story.genesis.encoded,)),
        m.GetOps((story.genesis.id,)),
        m.Records((record_of("root").encoded,)),
        m.Have((ZERO,)),
        m.GetBlock(ZERO),
        m.GetMeta(m.Meta.MANIFEST, ZERO),
    ]


# --- whom it answers --------------------------------------------------------------------------------


def test_members_are_answered_whatever_they_ask() -> None:
    story = story_of("ann")
    party = Party(story, {"root": None, "ann": None})
    replies = [type(party.ask("ann", "root", request)).__name__ for request in requests(story)]
    assert replies == [f"{type(request).__name__}Reply" for request in requests(story)]


def test_what_was_erased_is_not_given_from_memory() -> None:
    party = Party(story_of("ann"), {"root": None, "ann": None})
    manifest = party.disks["root"].put_model({"w": bytes(8)})
    request = m.GetMeta(m.Meta.MANIFEST, manifest.digest)
    given_before = m.GetMetaReply(len(manifest.encoded), manifest.encoded)
    assert party.ask("ann", "root", request) == given_before
    party.disks["root"].discard(manifest.digest)
    party.do("root", party.peers["root"].on_stored(party.now_ms, lost=True))
    assert party.ask("ann", "root", request) == m.GetMetaReply(0)


@pytest.mark.parametrize("stranger", ["mallory", "banned"])
def test_strangers_and_the_banned_are_refused_whatever_they_ask(stranger: str) -> None:
    story = story_of("ann", "banned")
    story.ban("root", "banned")
    party = Party(story, {"root": None})
    for request in requests(story):
        with pytest.raises(PolicyError, match="no member"):
            party.peers["root"].on_request(NOW_MS, party.id(stranger), request)
    assert party.peers["root"].on_tick(NOW_MS) == []


def test_a_member_that_is_banned_is_refused_from_then_on() -> None:
    story = story_of("ann")
    party = Party(story, {"root": None})
    party.ask("ann", "root", m.Have(()))
    party.say("root", story.ban("root", "ann"))
    with pytest.raises(PolicyError):
        party.ask("ann", "root", m.Have(()))


def test_a_hello_for_another_federation_is_refused() -> None:
    party = Party(story_of("ann"), {"root": None})
    with pytest.raises(PolicyError, match="not of federation"):
        party.ask("ann", "root", hello(testing.Story(nonce=b"another nonce..."[:16])))


# --- invitations ------------------------------------------------------------------------------------

INVITE = testing.key("an invite")


def proof(story: testing.Story, name: str, *, key: SigningKey = INVITE) -> bytes:
    return prove(key, federation=story.ops.federation, node=testing.Story.id(name))


def inviting(story: testing.Story, *, host: str = "root", role: Role = Role.MEMBER) -> Party:
    party = Party(story, {host: None})
    party.peers[host].on_invite(INVITE.id, role, expires_ms=NOW_MS + DAY_MS)
    return party


def test_a_newcomer_with_an_invite_gets_the_genesis_and_the_driver_is_asked_to_admit_it() -> None:
    story = testing.Story()
    party = inviting(story, role=Role.ADMIN)
    request = hello(story, invite=proof(story, "new"))
    reply, outputs = party.peers["root"].on_request(NOW_MS, party.id("new"), request)
    assert isinstance(reply, m.HelloReply)
    assert Operation.decode(reply.genesis).id == story.ops.federation
    assert outputs == [AdmissionWanted(party.id("new"), Role.ADMIN, INVITE.id)]


def test_an_invite_admits_one_newcomer_only() -> None:
    story = testing.Story()
    party = inviting(story)
    party.ask("new", "root", hello(story, invite=proof(story, "new")))
    with pytest.raises(PolicyError, match="no open invite"):
        party.ask("other", "root", hello(story, invite=proof(story, "other")))


def test_an_overheard_proof_admits_nobody_else() -> None:
    story = testing.Story()
    party = inviting(story)
    with pytest.raises(SignatureError):
        party.ask("eve", "root", hello(story, invite=proof(story, "new")))
    party.ask("new", "root", hello(story, invite=proof(story, "new")))
    assert any(isinstance(output, AdmissionWanted) for _, output in party.outputs)


def test_a_newcomer_whose_reply_was_lost_may_ask_again_once_admitted() -> None:
    story = testing.Story()
    party = inviting(story)
    party.ask("new", "root", hello(story, invite=proof(story, "new")))
    party.say("root", story.admit("root", "new"))
    reply = party.ask("new", "root", hello(story, invite=proof(story, "new")))
    assert isinstance(reply, m.HelloReply)
    assert reply.genesis == story.genesis.encoded


@pytest.mark.parametrize("case", ["expired", "unknown", "banned", "not an admin", "other federation"])
def test_an_invite_that_is_not_good_admits_nobody(case: str) -> None:
    story = story_of("ann", "outcast")
    story.ban("root", "outcast")
    party = inviting(story, host="ann" if case == "not an admin" else "root")
    (host,) = party.peers
    name = "outcast" if case == "banned" else "new"
    made = proof(story, name, key=testing.key("another invite") if case == "unknown" else INVITE)
    if case == "other federation":
        made = prove(INVITE, federation=ZERO, node=party.id(name))
    if case == "expired":
        party.now_ms += DAY_MS
    with pytest.raises((PolicyError, SignatureError)):
        party.ask(name, host, hello(story, invite=made))
    assert not any(isinstance(output, AdmissionWanted) for _, output in party.outputs)


def test_a_proof_of_another_length_is_malformed() -> None:
    with pytest.raises(MalformedError):
        check(b"short", federation=ZERO, node=INVITE.id)


# --- what it keeps ----------------------------------------------------------------------------------


def test_what_is_new_is_stored_before_it_is_pushed_and_before_the_news_of_it() -> None:
    story = story_of("ann", "bob")
    party = Party(story, {"root": None, "ann": None, "bob": None})
    add = story.add("ann", "model")
    outputs = party.peers["ann"].on_local(NOW_MS, [add])
    assert outputs[0] == StoreOperations((add,))
    assert isinstance(outputs[1], Changed)
    assert calls(outputs, m.PushOps) == []
    due_ms = party.peers["ann"].next_tick_ms
    assert due_ms is not None
    pushed = calls(party.peers["ann"].on_tick(due_ms), m.PushOps)
    assert {call.to for call in pushed} == {party.id("root"), party.id("bob")}


def test_an_operation_reaches_everybody_by_pushing_alone() -> None:
    people = ["root", *(f"peer{number}" for number in range(12))]
    story = story_of(*people[1:])
    party = Party(story, dict.fromkeys(people))
    party.say("peer3", story.add("peer3", "model"))
    party.wait(500)
    assert party.agreed()
    assert party.asked(m.Hello) == []
    assert view(story.ops).state_root == party.peers["peer7"].view.state_root


def test_a_push_with_one_bad_operation_changes_nothing() -> None:
    story = story_of("ann")
    party = Party(story, {"root": None})
    good = story.add("ann", "model").encoded
    forged = story.add("ann", "other").encoded[:-1] + b"\0"
    elsewhere = testing.Story(nonce=b"another nonce..."[:16]).add("root", "model").encoded
    for bad, error in ((forged, SignatureError), (b"junk", MalformedError), (elsewhere, PolicyError)):
        with pytest.raises(error):
            party.ask("ann", "root", m.PushOps((good, bad)))
    assert len(party.peers["root"].ops) == 2
    assert party.ask("ann", "root", m.PushOps((good,))) == m.PushOpsReply(1)
    assert party.ask("ann", "root", m.PushOps((good,))) == m.PushOpsReply(0)


@given(st.data())
def test_a_mutated_operation_is_refused_or_known(data: st.DataObject) -> None:
    story = story_of("ann")
    intake = Intake(story.ops.copy())
    mutated = bytearray(story.add("ann", "model").encoded)
    mutated[data.draw(st.integers(0, len(mutated) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(RejectedError):
        intake.read([bytes(mutated)])


def test_operations_of_somebody_not_yet_admitted_wait_and_count_once_the_admission_comes() -> None:
    story = story_of("ann")
    before = story.ops.copy()
    admit = story.admit("root", "new")
    adds = [story.add("new", "model"), story.add("new", "other")]
    party = Party(story, {"root": before})
    assert party.ask("ann", "root", m.PushOps(tuple(op.encoded for op in adds))) == m.PushOpsReply(0)
    assert len(party.peers["root"].ops) == len(before)
    assert party.ask("ann", "root", m.PushOps((admit.encoded,))) == m.PushOpsReply(3)
    assert party.peers["root"].view.root == view(story.ops).root


def test_a_flood_of_strangers_is_bounded_and_loses_nothing_for_good(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake_module, "PENDING_OPERATIONS_MAX", 10)
    story = story_of("ann")
    before = story.ops.copy()
    admit = story.admit("root", "new")
    adds = [story.add("new", f"model {number}") for number in range(50)]
    party = Party(story, {"root": before.copy(), "ann": None})
    party.ask("ann", "root", m.PushOps(tuple(op.encoded for op in adds)))
    assert sum(party.peers["root"]._intake.knows(op.id) for op in adds) == 10
    party.ask("ann", "root", m.PushOps((admit.encoded,)))
    party.wait(20_000)
    assert party.peers["root"].ops == story.ops


def test_operations_that_a_ban_voids_are_dropped_and_what_it_keeps_is_taken() -> None:
    story = story_of("ann", "bob")
    kept = story.add("bob", "good")
    ban = story.ban("root", "bob", keep=[kept])
    void = story.add("bob", "evil")
    ops = OpSet(story.genesis)
    for operation in story.ops:
        if operation.id not in (kept.id, void.id):
            ops.add(operation)
    party = Party(story, {"root": ops})
    assert party.ask("ann", "root", m.PushOps((void.encoded,))) == m.PushOpsReply(0)
    assert party.ask("ann", "root", m.PushOps((kept.encoded,))) == m.PushOpsReply(1)
    assert void.id not in party.peers["root"].ops
    assert ban.id in party.peers["root"].ops
    assert party.peers["root"].view.state_root == view(story.ops).state_root


# --- exchanges --------------------------------------------------------------------------------------


def test_equal_roots_are_the_end_of_an_exchange_after_one_call() -> None:
    party = Party(story_of("ann"), {"root": None, "ann": None})
    party.wait(13_000, "root")
    assert {type(call.request) for name, call in party.log} == {m.Hello}


def exchange_between(ours: Sequence[int], theirs: Sequence[int], total: int) -> Party:
    """Two peers that know some of many operations, after one of them had time for an exchange."""
    story = story_of("ann")
    people: dict[str, OpSet | None] = {}
    adds = [story.add("root", f"model {number}") for number in range(total)]
    for name, known in (("root", ours), ("ann", theirs)):
        unknown = {adds[number].id for number in range(total) if number not in set(known)}
        people[name] = testing.gather(story.genesis, (op for op in story.ops if op.id not in unknown))
    party = Party(story, people)
    party.wait(13_000, "root")
    return party


def test_an_exchange_levels_whatever_differs() -> None:
    for ours, theirs in (([], range(40)), (range(40), []), (range(0, 200, 2), range(1, 200, 2))):
        party = exchange_between(ours, theirs, 200 if len(theirs) == 100 else 40)
        assert party.agreed()
        assert party.peers["ann"].ops == party.story.ops
        sizes = [len(c.request.ids) for _, c in party.asked(m.GetOps) if isinstance(c.request, m.GetOps)]
        assert max(sizes, default=0) <= OPERATIONS_PER_MESSAGE_MAX


def test_short_ids_that_collide_lose_no_operation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_module, "SHORT_ID_BYTES", 1)
    monkeypatch.setattr(ranges, "SHORT_ID_BYTES", 1)
    party = exchange_between(range(0, 120, 2), range(1, 120, 2), 120)
    for _ in range(4):
        party.wait(13_000, "root")
    assert party.agreed()
    assert len(party.asked(m.Hello)) > 2, "this test is about collisions, and there were none"


def test_operations_found_by_an_exchange_are_news_unless_there_are_too_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def pushed_news(differences: int) -> set[bool]:
        party = exchange_between(range(differences), [], differences)
        pushes = [call.request for _, call in party.asked(m.PushOps)]
        return {push.news for push in pushes if isinstance(push, m.PushOps)}

    assert pushed_news(5) == {True}
    monkeypatch.setattr("crdtmerge.sync.exchange.NEWS_MAX", 4)
    assert pushed_news(5) == {False}


def test_a_call_that_is_lost_is_made_again_before_an_exchange_is_given_up() -> None:
    story = story_of("ann")
    party = Party(story, {"root": story.ops.copy(), "ann": None})
    story.add("ann", "model")
    party.peers["ann"].ops.join(story.ops)
    lost: list[Call] = []

    def lose_first_two(name: str, call: Call) -> Reply | Failure | None:
        if len(lost) < 2:
            lost.append(call)
            return Failure.TIMEOUT
        return None

    party.interfere = lose_first_two
    party.wait(13_000, "root")
    assert [type(call.request) for call in lost] == [m.Hello, m.Hello]
    assert any(not isinstance(call.request, m.Hello) or call not in lost for _, call in party.log)


def test_after_a_failed_exchange_comes_another() -> None:
    party = Party(story_of("ann"), {"root": None, "ann": None})
    party.interfere = lambda name, call: Failure.UNREACHABLE
    party.wait(13_000, "root")
    failed = len(party.log)
    party.interfere = lambda name, call: None
    party.wait(13_000, "root")
    assert 0 < failed < len(party.log)


def test_a_partner_that_answers_with_junk_is_reported_and_changes_nothing() -> None:
    story = story_of("ann")
    party = Party(story, {"root": None, "ann": None})
    junk = m.HelloReply(bytes(16), Digest(b"x" * 32), Digest(b"y" * 32), operations=b"\xff", records=b"\xc0")
    party.interfere = lambda name, call: junk if isinstance(call.request, m.Hello) else None
    party.wait(13_000, "root")
    accused = [output.node for _, output in party.outputs if isinstance(output, Misbehaved)]
    assert set(accused) == {party.id("ann")}
    assert party.peers["root"].ops == story.ops


def test_node_records_spread_by_exchanges_and_a_renewed_one_replaces_the_old() -> None:
    party = Party(story_of("ann", "bob"), {"root": None, "ann": None, "bob": None})
    renewed = record_of("ann", sequence=2)
    party.do("ann", party.peers["ann"].on_record(NOW_MS, renewed.encoded))
    party.wait(60_000)
    for name in ("root", "bob"):
        assert party.peers[name].record_of(party.id("ann")) == renewed
        assert party.disks[name].records[party.id("ann")] == renewed.encoded


def test_a_banned_nodes_record_is_forgotten_and_it_is_not_called_any_more() -> None:
    story = story_of("ann", "bob")
    party = Party(story, {"root": None, "ann": None, "bob": None})
    party.say("root", story.ban("root", "bob"))
    party.wait(1_000)
    party.log.clear()
    party.wait(120_000, "root", "ann")
    assert party.peers["root"].record_of(party.id("bob")) is None
    assert party.log
    assert {call.to for _, call in party.log} == {party.id("root"), party.id("ann")}


def test_a_record_of_somebody_else_is_not_taken_for_ones_own() -> None:
    party = Party(story_of("ann"), {"root": None})
    with pytest.raises(MalformedError):
        party.peers["root"].on_record(NOW_MS, record_of("ann").encoded)


def test_a_newcomers_own_record_is_kept_once_it_is_admitted() -> None:
    story = testing.Story()
    new = testing.key("new").id
    peer = Peer(new, story.ops.copy(), Disk(), Chance(b"new"), record=record_of("new").encoded)
    assert not [o for o in peer.on_start(NOW_MS) if isinstance(o, StoreRecord)]
    outputs = peer.on_local(NOW_MS, [story.admit("root", "new")])
    assert [o.node for o in outputs if isinstance(o, StoreRecord)] == [new]


# --- bounds and determinism -------------------------------------------------------------------------


def test_messages_bound_what_they_carry_when_they_are_made() -> None:
    many = tuple(ZERO for _ in range(20_000))
    oversized: list[type[Request] | type[Reply]] = []
    for make, error in (
        (lambda: m.GetOps(many), LimitError),
        (lambda: m.Have(many), LimitError),
        (lambda: m.PushOps((bytes(20_000),)), LimitError),
        (lambda: m.PushOps((b"",) * 65), LimitError),
        (lambda: m.GetOpsReply((b"",) * 65), LimitError),
        (lambda: m.Records(ids=many), LimitError),
        (lambda: m.RecordsReply((bytes(5000),)), LimitError),
        (lambda: m.GetBlockReply(bytes(2_000_000)), LimitError),
        (lambda: m.GetMeta(m.Meta.TENSOR, ZERO, -1), LimitError),
        (lambda: m.GetMetaReply(1 << 60), LimitError),
        (lambda: m.GetMetaReply(1, bytes(2_000_000)), LimitError),
        (lambda: m.HaveReply(bytes(20_000)), LimitError),
        (lambda: m.ReconcileReply(bytes(70_000)), LimitError),
        (lambda: m.Reconcile(m.Space.RECORDS, b"short", b""), MalformedError),
        (lambda: m.Hello(b"", ZERO, ZERO, ZERO), MalformedError),
        (lambda: m.Hello(bytes(16), ZERO, ZERO, ZERO, invite=b"x"), MalformedError),
        (lambda: m.GetBlock(Digest(b"short")), MalformedError),
        (lambda: m.PushOpsReply(-1), MalformedError),
    ):
        with pytest.raises(error):
            oversized.append(type(make()))
    assert not oversized


def test_equal_events_give_equal_outputs() -> None:
    def history() -> list[object]:
        story = story_of("ann", "bob")
        party = Party(story, {"root": None, "ann": None, "bob": None})
        manifest = party.disks["ann"].put_model({"w": b"weights", "v": b"more"})
        party.say("ann", story("ann", Add(manifest.digest)))
        party.wait(30_000)
        return [*party.outputs, *party.log]

    first = history()
    assert first == history()
    assert len(first) > 50


def test_an_admission_by_the_driver_is_spread_like_anything_that_is_said() -> None:
    story = story_of("ann")
    party = Party(story, {"root": None, "ann": None})
    admit = story("root", Admit(party.id("new"), Role.MEMBER))
    party.say("root", admit)
    party.wait(200)
    assert party.peers["ann"].view.authority.is_member(party.id("new"))


# --- laws -------------------------------------------------------------------------------------------


def test_operations_that_a_ban_voids_do_not_keep_peers_busy_for_ever() -> None:
    story = story_of("ann", "bob")
    before = story.ops.copy()
    void = story.add("bob", "evil")
    before.add(story.ban("root", "bob"))
    party = Party(story, {"root": None, "ann": before})
    assert void.id in party.peers["root"].ops
    party.wait(60_000)
    assert void.id not in party.peers["ann"].ops
    assert {type(call.request) for _, call in party.log} == {m.Hello}


@given(testing.histories(people=("root", "twin", "ann", "bob")), st.data())
def test_peers_that_exchange_what_counts_reach_the_view_of_the_union(
    history: list[Operation], data: st.DataObject
) -> None:
    genesis, *said = history
    assume(isinstance(genesis.body, Genesis) and len(genesis.body.founders) == 2)
    people: dict[str, OpSet | None] = {
        name: testing.gather(genesis, [op for op in said if data.draw(st.booleans())])
        for name in ("root", "twin")
    }
    union = testing.gather(genesis, [op for ops in people.values() for op in ops or () if op is not genesis])
    party = Party(testing.Story(), people)
    party.wait(30_000)
    expected = view(union)
    for peer in party.peers.values():
        assert peer.view.root == expected.root
        assert peer.view.recipe == expected.recipe
        assert peer.view.state_root == expected.state_root


# --- coefficients ----------------------------------------------------------------------------------


def publish(party: Party, name: str, payload: Digest, *bound_to: Digest) -> None:
    party.say(name, party.story(name, Coefficients(payload, tuple(sorted(bound_to)))))


def test_published_coefficients_are_fetched_like_a_contribution() -> None:
    story = story_of("ann", "bob")
    party = Party(story, dict.fromkeys(["root", "ann", "bob"]))
    model = party.disks["ann"].put_model({"w": b"model"}).digest
    payload = party.disks["bob"].put_model({"coeffs": b"numbers"}).digest
    party.say("ann", story("ann", Add(model)))
    publish(party, "bob", payload, model)
    party.wait(60_000)
    for name in ("root", "ann"):
        assert {model, payload} <= set(party.disks[name].manifests), name
        assert party.peers[name].missing == 0


def test_coefficients_that_come_before_what_they_are_bound_to_are_fetched_when_that_is_visible() -> None:
    story = story_of("ann", "bob")
    party = Party(story, dict.fromkeys(["root", "ann", "bob"]))
    model = party.disks["ann"].put_model({"w": b"model"}).digest
    payload = party.disks["bob"].put_model({"coeffs": b"numbers"}).digest
    publish(party, "bob", payload, model)
    party.wait(60_000)
    assert payload not in party.disks["root"].manifests, "nobody could apply them"
    party.say("ann", story("ann", Add(model)))
    party.wait(60_000)
    assert payload in party.disks["root"].manifests


def test_coefficients_for_what_nobody_contributed_make_nobody_store_anything() -> None:
    story = story_of("mallory")
    party = Party(story, dict.fromkeys(["root", "mallory"]))
    junk = party.disks["mallory"].put_model({"junk": b"junk"}).digest
    publish(party, "mallory", junk, testing.content("nothing"))
    party.wait(60_000)
    assert not party.disks["root"].manifests


def test_coefficients_beyond_their_limit_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crdtmerge.sync.jobs.COEFFICIENTS_BYTES_MAX", 6)
    story = story_of("ann", "mallory")
    party = Party(story, dict.fromkeys(["root", "ann", "mallory"]))
    model = party.disks["ann"].put_model({"w": b"large enough model"}).digest
    payload = party.disks["mallory"].put_model({"coeffs": b"too much"}).digest
    party.say("ann", story("ann", Add(model)))
    publish(party, "mallory", payload, model)
    party.wait(60_000)
    assert model in party.disks["root"].manifests
    assert not any(data == b"too much" for data in party.disks["root"].blocks.values())
    accused = {o.node for name, o in party.outputs if name == "root" and isinstance(o, Misbehaved)}
    assert accused == {testing.Story.id("mallory")}


# --- busy nodes ------------------------------------------------------------------------------------


def test_a_busy_node_is_called_again_when_it_said_and_nothing_is_lost() -> None:
    story = story_of("ann")
    party = Party(story, dict.fromkeys(["root", "ann"]))
    model = party.disks["ann"].put_model({"w": b"model"}).digest
    until_ms = party.now_ms + 45_000
    busy = Party.id("root")
    asked: list[int] = []

    def interfere(name: str, call: Call) -> Reply | Failure | None:
        if name == "ann" and call.to == busy and party.now_ms < until_ms:
            asked.append(party.now_ms)
            return Failure.BUSY
        return None

    party.interfere = interfere
    party.say("ann", story("ann", Add(model)))
    party.wait(45_000, "ann")
    assert asked
    assert not party.peers["ann"]._contacts.seems_dead(busy), "a busy node is no dead one"
    party.wait(60_000)
    assert party.agreed()
    assert model in party.disks["root"].manifests


def test_a_call_that_was_put_off_for_a_while_is_not_made_before() -> None:
    story = story_of("ann")
    party = Party(story, dict.fromkeys(["root", "ann"]))
    peer = party.peers["ann"]
    outputs = peer.on_tick(peer.next_tick_ms or 0)
    (call,) = calls(outputs, m.Hello)
    now_ms = peer.next_tick_ms or party.now_ms + 20_000
    peer.on_failed(now_ms, call.call_id, Failure.BUSY, retry_after_ms=50_000)
    made = []
    while peer.next_tick_ms is not None and peer.next_tick_ms < now_ms + 50_000:
        made += calls(peer.on_tick(peer.next_tick_ms))
    assert made == []
