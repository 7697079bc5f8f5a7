"""The laws by which replicas agree: joining sets, and meaning the same by equal sets."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from crdtmerge.op import Add, Admit, Ban, Body, Operation, Retract, Role, Unban
from crdtmerge.opset import OpSet
from crdtmerge.testing import RECIPE, Story, content, gather, histories, key
from crdtmerge.visible import LiveView, view


@st.composite
def parts(draw: st.DrawFn, count: int) -> list[OpSet]:
    """Sets of one federation that overlap somehow."""
    history = draw(histories())
    return [
        gather(history[0], [operation for operation in history if draw(st.booleans())]) for _ in range(count)
    ]


def joined(*sets: OpSet) -> OpSet:
    union = sets[0].copy()
    for other in sets[1:]:
        union.join(other)
    return union


@given(parts(2))
def test_join_is_commutative(sets: list[OpSet]) -> None:
    a, b = sets
    assert joined(a, b) == joined(b, a)


@given(parts(3))
def test_join_is_associative(sets: list[OpSet]) -> None:
    a, b, c = sets
    assert joined(joined(a, b), c) == joined(a, joined(b, c))


@given(parts(2))
def test_join_is_idempotent(sets: list[OpSet]) -> None:
    a, b = sets
    assert joined(a, a) == a
    assert joined(a, b, b, a) == joined(a, b)
    assert joined(a, b).join(b) == []


@given(parts(2))
def test_join_loses_nothing_and_invents_nothing(sets: list[OpSet]) -> None:
    a, b = sets
    before = {operation.id for operation in a}
    new = a.join(b)
    assert {operation.id for operation in a} == before | {operation.id for operation in b}
    assert [operation.id for operation in new] == sorted({operation.id for operation in b} - before)


@given(parts(2))
def test_heads_after_a_join_do_not_depend_on_its_direction(sets: list[OpSet]) -> None:
    a, b = sets
    for author in {operation.author for operation in joined(a, b)}:
        assert joined(a, b).heads(author) == joined(b, a).heads(author)


NAMES = ["one", "two", "three"]
PEOPLE = ["root", "ann", "bob", "eve"]


class Replicas(RuleBasedStateMachine):
    """Three replicas on which people work at the same time, and which meet now and then."""

    said = Bundle("said")

    @initialize()
    def found(self) -> None:
        self.story = Story("root")
        self.sets = {name: OpSet(self.story.genesis) for name in NAMES}
        self.live = {name: LiveView(self.sets[name]) for name in NAMES}

    def take(self, name: str, operation: Operation) -> None:
        if self.sets[name].add(operation, verify=False):
            self.live[name].apply(operation)

    def say(self, name: str, author: str, body: Body) -> Operation:
        """Let somebody who knows what this replica knows say something."""
        ops, signer = self.sets[name], key(author)
        operation = Operation.sign(
            signer,
            body,
            federation=ops.federation,
            created_ms=len(self.story.ops),
            prev=ops.heads(signer.id),
        )
        self.story.ops.add(operation, verify=False)
        self.take(name, operation)
        return operation

    @rule(target=said, at=st.sampled_from(NAMES), who=st.sampled_from(PEOPLE), what=st.sampled_from("xyz"))
    def add(self, at: str, who: str, what: str) -> Operation:
        return self.say(at, who, Add(content(what)))

    @rule(
        target=said,
        at=st.sampled_from(NAMES),
        who=st.sampled_from(PEOPLE[:3]),
        whom=st.sampled_from(PEOPLE[1:]),
        role=st.sampled_from(Role),
    )
    def admit(self, at: str, who: str, whom: str, role: Role) -> Operation:
        return self.say(at, who, Admit(key(whom).id, role))

    @rule(target=said, at=st.sampled_from(NAMES), who=st.sampled_from(PEOPLE), what=said)
    def retract(self, at: str, who: str, what: Operation) -> Operation:
        return self.say(at, who, Retract((what.id,)))

    @rule(target=said, at=st.sampled_from(NAMES), who=st.sampled_from(PEOPLE[:2]), keep=said)
    def ban(self, at: str, who: str, keep: Operation) -> Operation:
        return self.say(at, who, Ban(keep.author, (keep.id,)))

    @rule(target=said, at=st.sampled_from(NAMES), who=st.sampled_from(PEOPLE[:2]), ban=said)
    def unban(self, at: str, who: str, ban: Operation) -> Operation:
        whom = ban.body.key if isinstance(ban.body, Ban) else ban.author
        return self.say(at, who, Unban(whom, (ban.id,)))

    @rule(source=st.sampled_from(NAMES), to=st.sampled_from(NAMES))
    def sync(self, source: str, to: str) -> None:
        for operation in self.sets[to].join(self.sets[source]):
            self.live[to].apply(operation)
        assert set(self.sets[source]) <= set(self.sets[to])

    @rule(to=st.sampled_from(NAMES), what=said)
    def a_stray_operation_arrives(self, to: str, what: Operation) -> None:
        self.take(to, what)

    @invariant()
    def every_live_view_is_the_view_of_its_set(self) -> None:
        for name in NAMES:
            assert self.live[name].current == view(self.sets[name])

    def teardown(self) -> None:
        if not hasattr(self, "sets"):
            return
        for _ in range(2):
            for source in NAMES:
                for to in NAMES:
                    self.sync(source, to)
        assert all(ops == self.story.ops for ops in self.sets.values())
        assert len({live.current.state_root for live in self.live.values()}) == 1
        assert len({live.current.root for live in self.live.values()}) == 1
        assert all(live.current.recipe == RECIPE for live in self.live.values())


TestReplicas = Replicas.TestCase
