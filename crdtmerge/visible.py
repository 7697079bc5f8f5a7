"""The view of a growing set of operations, kept up to date operation by operation.

Always true here: `LiveView.current` equals `view` of the whole set (`crdtmerge.view` defines it), whatever
the order of arrival, and views that were handed out never change: they share persistent tries.

Most operations only ever add to what is known: an add is live or it is not, a retract or a block ends
adds for good, an admit gives somebody a place and makes all that they have said count. These are taken
account of one by one. What takes something away again (a ban or an unban of somebody who has spoken, a
move to a lower level) is rare: the next view is then made from scratch.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable
from heapq import heappop, heappush

from crdtmerge.authority import Authority, Sentence, Standing, judge, own, past
from crdtmerge.digest import Digest
from crdtmerge.errors import ParameterError
from crdtmerge.keys import NodeId
from crdtmerge.merkle import EMPTY, MerkleMap, MerkleSet
from crdtmerge.op import (
    Add,
    Admit,
    Ban,
    Block,
    Coefficients,
    Genesis,
    Operation,
    Retract,
    Role,
    SetRecipe,
    Unban,
)
from crdtmerge.opset import OpSet
from crdtmerge.view import NOBODY, View, lower, may_retract, recipe_of, reconciled, view

__all__ = ["LiveView", "View", "reconciled", "view"]


class LiveView:
    """Follows one operation set.

    `apply` and the next `current` cost time logarithmic in the size of the set, unless the operation
    takes something from somebody who has spoken already: then `current` costs time linear in it.
    """

    def __init__(self, ops: OpSet) -> None:
        """Follow ``ops``; whoever adds an operation to it later calls `apply`."""
        self._ops = ops
        self._quota = ops.charter.policy.visible_per_author_max
        self._current: View | None = None
        self._begin()

    def apply(self, operation: Operation) -> None:
        """Take account of an operation that was just added to the set; twice does no harm.

        Raises:
            ParameterError: if the set does not hold it.
        """
        if operation.id not in self._ops:
            raise ParameterError(f"operation {operation.id.hex()} is not in the set that this view follows")
        self._current = None
        ahead = [operation]
        while ahead and not self._stale:
            ahead.extend(self._hear(ahead.pop()))

    @property
    def current(self) -> View:
        """What the set means now."""
        if self._stale:
            self._begin()
        if self._current is None:
            self._current = self._fold()
        return self._current

    def _begin(self) -> None:
        """Start anew from the whole set."""
        self._who, self._bans = judge(self._ops)
        self._retractors: dict[Digest, set[NodeId]] = {}  # of an add, which need not be here yet
        self._blocks: dict[Digest, int] = {}  # lowest level that blocked a content
        self._live: dict[Digest, set[Digest]] = {}  # adds of a content, those over quota too
        self._ranking: dict[NodeId, list[tuple[int, Digest]]] = {}  # live adds of an author with a quota
        self._recipes: list[tuple[int, Digest]] = []  # a heap
        self._superseded: dict[Digest, int] = {}  # lowest level that superseded a recipe
        self._tags: MerkleMap[Digest, MerkleSet] = MerkleMap()
        self._turned: dict[Digest, set[Digest]] = {}  # adds of a content that _tags is out of date about
        self._blocked = self._state = EMPTY
        self._retained: set[Digest] = set()  # ids still to go into _state
        self._published: MerkleMap[Digest, Operation] = MerkleMap()
        self._stale = False
        for author, standing in self._who.standings.items():
            for operation in own(self._ops, author):
                self._take(operation, standing)

    def _fold(self) -> View:
        """Bring the tries up to date with what was touched."""
        self._tags = self._tags.update({content: self._counted(content) for content in self._turned})
        self._state = self._state.union(self._retained)
        self._turned, self._retained = {}, set()
        while self._superseded.get(self._recipes[0][1], NOBODY) <= self._recipes[0][0]:
            heappop(self._recipes)
        recipe_id = self._recipes[0][1]
        return View(
            authority=self._who,
            tags=self._tags,
            recipe=recipe_of(self._ops, recipe_id),
            recipe_id=recipe_id,
            blocked=self._blocked,
            published=self._published,
            state=self._state,
            _ops=self._ops,
        )

    # --- authority -------------------------------------------------------------------------------

    def _hear(self, operation: Operation) -> Iterable[Operation]:
        """Take account of one operation; return those that count, or are retained, because of it."""
        standing = self._who.standings.get(operation.author)
        if standing is None:
            return ()
        missed = self._missing_link(operation, standing)
        self._take(operation, standing)
        if standing.role is Role.ADMIN and standing.honours(operation.id):
            return [*missed, *self._decree(operation, standing.level)]
        return missed

    def _missing_link(self, operation: Operation, standing: Standing) -> list[Operation]:
        """Extend what bans keep through ``operation``; return the author's operations that it leads to."""
        sentences, older = [], set()
        for sentence in standing.sentences:
            found: set[Digest] = set()
            if operation.id in sentence.kept:
                found = past(self._ops, operation.author, operation.prev, sentence.kept)
            older |= found
            sentences.append(Sentence(sentence.ban, sentence.kept.union(found)) if found else sentence)
        if older:
            self._place(operation.author, Standing(standing.level, standing.role, tuple(sentences)))
        return list(own(self._ops, operation.author, older))

    def _decree(self, operation: Operation, level: int) -> Iterable[Operation]:
        """Give somebody another standing, if an admin of ``level`` says so; return what they have said."""
        body = operation.body
        if not isinstance(body, (Admit, Ban, Unban)):
            return ()
        self._bans.hear(operation, level)
        old = self._who.standings.get(body.key)
        if isinstance(body, Admit):
            rank = level + 1, body.role is Role.MEMBER
            if old is not None and (old.level, old.role is Role.MEMBER) <= rank:
                return ()
            new = self._bans.standing(body.key, level + 1, body.role)
        elif old is None:
            return ()
        else:
            new = self._bans.standing(body.key, old.level, old.role)
        said = list(own(self._ops, body.key))
        if old is not None and (old.bans, old.level) != (new.bans, new.level):
            self._stale = bool(said)
        elif old is not None and old.role is new.role:
            return ()
        self._place(body.key, new)
        return said

    def _place(self, key: NodeId, standing: Standing) -> None:
        self._who = Authority(self._who.standings.set(key, standing))

    # --- content ---------------------------------------------------------------------------------

    def _take(self, operation: Operation, standing: Standing) -> None:
        """Take account of what an operation says about content."""
        if standing.retains(operation.id):
            self._retained.add(operation.id)
        if not standing.honours(operation.id):
            return
        body, decrees = operation.body, standing.role is Role.ADMIN
        if isinstance(body, Add):
            if self._is_live(operation, body, standing.level):
                self._turn(operation, body, live=True)
        elif isinstance(body, Retract):
            for tag in body.adds:
                self._retractors.setdefault(tag, set()).add(operation.author)
                self._review(tag)
        elif isinstance(body, Coefficients):
            self._published = self._published.set(operation.id, operation)
        elif isinstance(body, Block) and decrees:
            lower(self._blocks, body.contribution, standing.level)
            self._blocked = self._blocked.add(body.contribution)
            for tag in tuple(self._live.get(body.contribution, ())):
                self._review(tag)
        elif isinstance(body, (Genesis, SetRecipe)) and decrees:
            heappush(self._recipes, (standing.level, operation.id))
            for target in body.supersedes if isinstance(body, SetRecipe) else ():
                lower(self._superseded, target, standing.level)

    def _is_live(self, operation: Operation, body: Add, level: int) -> bool:
        return level < self._blocks.get(body.contribution, NOBODY) and not any(
            may_retract(self._who, retractor, operation.author)
            for retractor in self._retractors.get(operation.id, ())
        )

    def _review(self, tag: Digest) -> None:
        """End an add that has just been retracted or blocked."""
        add = self._ops.get(tag)
        if (
            add is None
            or not isinstance(add.body, Add)
            or tag not in self._live.get(add.body.contribution, ())
        ):
            return
        if not self._is_live(add, add.body, self._who.standings[add.author].level):
            self._turn(add, add.body, live=False)

    def _turn(self, add: Operation, body: Add, *, live: bool) -> None:
        """Begin or end an add, and have those that this moves across its author's quota counted anew."""
        tags = self._live.setdefault(body.contribution, set())
        if (add.id in tags) == live:
            return
        (tags.add if live else tags.discard)(add.id)
        self._turned.setdefault(body.contribution, set()).add(add.id)
        if self._quota is None:
            return
        ranking, row = self._ranking.setdefault(add.author, []), (add.created_ms, add.id)
        if live:
            insort(ranking, row)
        else:
            del ranking[bisect_left(ranking, row)]
        for _, tag in ranking[self._quota - 1 : self._quota + 1]:
            other = self._ops.get(tag)
            if other is not None and isinstance(other.body, Add):
                self._turned.setdefault(other.body.contribution, set()).add(tag)

    def _counted(self, content: Digest) -> MerkleSet | None:
        """Return the adds of a content that count now; None if there are none."""
        tags = self._tags.get(content, EMPTY)
        for tag in self._turned[content]:
            tags = tags.add(tag) if tag in self._live[content] and self._in_quota(tag) else tags.remove(tag)
        return tags or None

    def _in_quota(self, tag: Digest) -> bool:
        add = self._ops.get(tag)
        if self._quota is None or add is None:
            return True
        return bisect_left(self._ranking[add.author], (add.created_ms, tag)) < self._quota
