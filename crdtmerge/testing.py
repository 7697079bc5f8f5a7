"""Hypothesis strategies and a story-teller, for tests of your own.

    from hypothesis import given
    from crdtmerge import testing

    @given(testing.histories())
    def test_order_of_arrival_never_shows(history): ...

Histories are what an adversary could bring about: keys that speak before they are admitted or after they
are banned, equivocation (operations that leave out their author's latest, or name somebody else's as
their past), bans that keep something, lying clocks, retracts of what is not theirs or has not arrived.
Every operation is truly signed.

Needs the extra ``crdtmerge[testing]``; nothing else in the package imports Hypothesis.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Final

from hypothesis import strategies as st

from crdtmerge.digest import DIGEST_BYTES, Digest, Domain, digest
from crdtmerge.keys import NodeId, SigningKey
from crdtmerge.op import (
    NONCE_BYTES,
    Add,
    Admit,
    Ban,
    Block,
    Body,
    Coefficients,
    Genesis,
    Operation,
    Policy,
    Retract,
    Role,
    SetRecipe,
    Unban,
)
from crdtmerge.opset import OpSet
from crdtmerge.recipe import Recipe
from crdtmerge.view import View, view

CASTS: Final = (("root", "twin", "ann", "bob", "cid", "dora"), ("root", "twin", "ann"))
"""Who may speak in a history: enough people for five levels, or so few that they meet often."""

RECIPE: Final = Recipe("linear", version=1)

_KINDS: Final = ["add", "add", "add", "admit", "ban", "ban", "unban", "retract", "block", "recipe", "find"]


def key(name: str) -> SigningKey:
    """Return the key of somebody called ``name``: always the same."""
    return SigningKey(digest(Domain.CHANCE, name.encode()))


def content(name: str) -> Digest:
    """Return the digest of a contribution called ``name``: always the same."""
    return digest(Domain.MANIFEST, name.encode())


class Story:
    """A federation as it happens: signs what people say, and remembers it.

    ``story("ann", Add(content("x")))`` is Ann's next operation.

    Attributes:
        ops: all that was said, in a set.
    """

    def __init__(
        self, *founders: str, policy: Policy | None = None, nonce: bytes = bytes(NONCE_BYTES)
    ) -> None:
        """Let ``founders`` (one called "root" unless given) found a federation."""
        people = founders or ("root",)
        body = Genesis(
            founders=tuple(sorted(self.id(name) for name in people)),
            base=None,
            schema=None,
            recipe=RECIPE,
            nonce=nonce,
            policy=policy or Policy(),
        )
        self.genesis = Operation.sign(key(people[0]), body, federation=None, created_ms=0)
        self.ops = OpSet(self.genesis)

    @classmethod
    def of(cls, history: Sequence[Operation]) -> Story:
        """Go on where ``history``, genesis first, ended."""
        story = object.__new__(cls)
        story.genesis, story.ops = history[0], gather(history[0], history)
        return story

    @property
    def view(self) -> View:
        """What all of it means."""
        return view(self.ops)

    @staticmethod
    def id(name: str) -> NodeId:
        """Return the node id of somebody called ``name``."""
        return key(name).id

    def __call__(
        self, author: str, body: Body, *, prev: Iterable[Digest] | None = None, created_ms: int | None = None
    ) -> Operation:
        """Sign and remember what ``author`` says.

        Args:
            author: who says it.
            body: what is said.
            prev: the author's own operations that came before; None takes the heads, as is honest.
            created_ms: what the author's clock says; None counts up.
        """
        signer = key(author)
        operation = Operation.sign(
            signer,
            body,
            federation=self.ops.federation,
            created_ms=len(self.ops) if created_ms is None else created_ms,
            prev=self.ops.heads(signer.id) if prev is None else sorted(prev),
        )
        self.ops.add(operation, verify=False)
        return operation

    def admit(self, author: str, name: str, role: Role = Role.MEMBER) -> Operation:
        """Let ``author`` admit ``name``."""
        return self(author, Admit(self.id(name), role))

    def ban(self, author: str, name: str, keep: Iterable[Operation] = ()) -> Operation:
        """Let ``author`` ban ``name``, but for ``keep`` and its past."""
        return self(author, Ban(self.id(name), ids(keep)))

    def unban(self, author: str, name: str, *bans: Operation) -> Operation:
        """Let ``author`` lift ``bans`` of ``name``."""
        return self(author, Unban(self.id(name), ids(bans)))

    def add(self, author: str, name: str) -> Operation:
        """Let ``author`` add the contribution called ``name``."""
        return self(author, Add(content(name)))

    def retract(self, author: str, *adds: Operation) -> Operation:
        """Let ``author`` retract ``adds``."""
        return self(author, Retract(ids(adds)))


def ids(operations: Iterable[Operation]) -> tuple[Digest, ...]:
    """Return the ids of ``operations`` as a body lists them."""
    return tuple(sorted({operation.id for operation in operations}))


def gather(genesis: Operation, operations: Iterable[Operation]) -> OpSet:
    """Return the set of ``operations`` of one federation, without verifying them again."""
    ops = OpSet(genesis)
    for operation in operations:
        ops.add(operation, verify=False)
    return ops


def digests() -> st.SearchStrategy[Digest]:
    """Digests, some of which differ in their last bits only, as an adversary can grind them."""
    scattered = st.binary(min_size=DIGEST_BYTES, max_size=DIGEST_BYTES)
    ground = st.integers(0, 31).map(lambda tail: bytes(DIGEST_BYTES - 1) + bytes([tail]))
    flipped = st.integers(0, 8 * DIGEST_BYTES - 1).map(lambda bit: (1 << bit).to_bytes(DIGEST_BYTES, "big"))
    return (scattered | ground | flipped).map(Digest)


def policies() -> st.SearchStrategy[Policy]:
    """Policies with and without a quota of visible contributions."""
    return st.builds(Policy, st.none() | st.integers(1, 3), st.none())


@st.composite
def histories(
    draw: st.DrawFn,
    *,
    people: Sequence[str] | None = None,
    operations_max: int = 28,
    policy: st.SearchStrategy[Policy] | None = None,
) -> list[Operation]:
    """Histories of one federation, genesis first, in the order in which they were said.

    Args:
        draw: given by Hypothesis.
        people: who may speak; the first two, or the first alone, are founders. One of CASTS by default.
        operations_max: length, beside the genesis and the first admits.
        policy: the federation's; any by default.
    """
    people = draw(st.sampled_from(CASTS)) if people is None else people
    founders = people[: draw(st.integers(1, 2))]
    story = Story(*founders, policy=draw(policies() if policy is None else policy))
    said = [story.genesis]
    levels = [founders[0], *people[len(founders) :]]
    for above, name in pairwise(levels):  # without a chain of command most statements say nothing
        if draw(st.integers(0, 5)):
            author = draw(st.sampled_from([above, founders[0]]))
            said.append(story.admit(author, name, Role.ADMIN if draw(st.integers(0, 3)) else Role.MEMBER))
    for _ in range(draw(st.integers(0, operations_max))):
        said.append(draw(_statements(story, people, said)))
    return said


@st.composite
def _statements(draw: st.DrawFn, story: Story, people: Sequence[str], said: Sequence[Operation]) -> Operation:
    """One more operation of ``story``, after what was ``said``."""
    earlier = st.sampled_from(said)
    above, below = sorted(draw(st.lists(st.integers(0, len(people) - 1), min_size=2, max_size=2)))
    if not draw(st.integers(0, 3)):
        above, below = below, above  # mostly those who came first speak about those who came later
    who, about = people[above], story.id(people[below])
    contents = st.sampled_from(["x", "y", "z"]).map(content)
    kind = draw(st.sampled_from(_KINDS))
    if kind in ("add", "retract", "find"):
        who = people[below]
    body: Body
    if kind == "admit":
        body = Admit(about, draw(st.sampled_from([Role.ADMIN, Role.ADMIN, Role.MEMBER])))
    elif kind == "ban":
        theirs = [operation for operation in said if operation.author == about]
        body = Ban(about, ids(draw(st.lists(st.sampled_from(theirs), max_size=3))) if theirs else ())
    elif kind == "unban":
        bans = [operation for operation in said if isinstance(operation.body, Ban)]
        lifted = draw(st.sampled_from(bans or list(said)))
        body = Unban(lifted.body.key if isinstance(lifted.body, Ban) else about, (lifted.id,))
    elif kind == "add":
        body = Add(draw(contents))
    elif kind == "retract":
        adds = [operation for operation in said if isinstance(operation.body, Add)]
        body = Retract(ids(draw(st.lists(st.sampled_from(adds or list(said)), min_size=1, max_size=2))))
    elif kind == "block":
        body = Block(draw(contents))
    elif kind == "recipe":
        body = SetRecipe(RECIPE, ids(draw(st.lists(earlier, max_size=2))))
    else:
        body = Coefficients(digest(Domain.PAYLOAD), (draw(contents),))
    own = [operation.id for operation in said if operation.author == story.id(who)]
    past = draw(st.sampled_from(["honest", "honest", "forked", "false"]))
    prev = None
    if past != "honest":
        known = own if past == "forked" and own else [operation.id for operation in said]
        prev = draw(st.sets(st.sampled_from(known), max_size=2))
    return story(who, body, prev=prev, created_ms=draw(st.integers(0, 8)))
