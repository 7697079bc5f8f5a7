"""Who may say what: a pure function of the operations, without clocks and without consensus.

    level 0      the founders, all of them admins
    level r + 1  whom honoured admits by admins of level r name, and no lower level has placed

Always true here: whether an operation counts depends only on operations of strictly lower levels, so
there are no cycles, and nothing that a key says can touch a key of its own level or above. Banned is
whom an admin of a strictly lower level bans, until an admin of the banner's level or a lower one lifts
that ban. Of the banned, what the ban keeps stays honoured: the operations that it names and their past,
which is followed through the author's own operations. Several bans: what every one of them keeps.

Operations of keys without a place are neither honoured nor retained, but nothing is lost: the moment an
admit arrives, they count.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from crdtmerge.digest import Digest
from crdtmerge.keys import NodeId
from crdtmerge.merkle import EMPTY, MerkleMap, MerkleSet
from crdtmerge.op import Admit, Ban, Operation, Role, Unban
from crdtmerge.opset import OpSet


@dataclass(frozen=True, slots=True)
class Sentence:
    """A ban in effect: its id, and the ids that it keeps, whether these operations are here yet or not."""

    ban: Digest
    kept: MerkleSet


@dataclass(frozen=True, slots=True)
class Standing:
    """The place of one key: the level and role that it was admitted to, and the bans in effect."""

    level: int
    role: Role
    sentences: tuple[Sentence, ...]

    @property
    def bans(self) -> tuple[Digest, ...]:
        """The ids of the bans in effect, ascending."""
        return tuple(sentence.ban for sentence in self.sentences)

    def honours(self, id: Digest) -> bool:
        """Whether an operation of this key counts."""
        return all(id in sentence.kept for sentence in self.sentences)

    def retains(self, id: Digest) -> bool:
        """Whether an operation of this key counts, or some ban keeps it."""
        return not self.sentences or any(id in sentence.kept for sentence in self.sentences)


@dataclass(frozen=True, slots=True)
class Authority:
    """Who has which place, at one state of the operation set."""

    standings: MerkleMap[NodeId, Standing]

    def level(self, node: NodeId) -> int | None:
        """How far the key is from the founders (0); None for a stranger."""
        standing = self.standings.get(node)
        return None if standing is None else standing.level

    def role(self, node: NodeId) -> Role | None:
        """The role that the key was admitted to, banned or not; None for a stranger."""
        standing = self.standings.get(node)
        return None if standing is None else standing.role

    def is_banned(self, node: NodeId) -> bool:
        """Whether a ban of the key is in effect."""
        standing = self.standings.get(node)
        return standing is not None and bool(standing.sentences)

    def is_member(self, node: NodeId) -> bool:
        """Whether the key has a place, whatever its role, and is not banned."""
        standing = self.standings.get(node)
        return standing is not None and not standing.sentences

    def is_admin(self, node: NodeId) -> bool:
        """Whether the key is an admin and not banned."""
        return self.is_member(node) and self.role(node) is Role.ADMIN

    def members(self) -> tuple[NodeId, ...]:
        """The keys that have a place and are not banned, ascending."""
        return tuple(node for node in self.standings if self.is_member(node))

    def honours(self, operation: Operation) -> bool:
        """Whether the operation counts: its author has a place, and no ban voids it."""
        standing = self.standings.get(operation.author)
        return standing is not None and standing.honours(operation.id)

    def retains(self, operation: Operation) -> bool:
        """Whether the operation is in R(S), what replicas reconcile: it counts, or a ban keeps it.

        An operation that one ban keeps and another voids does not count, but the way to older operations
        that both keep may lead through it.
        """
        standing = self.standings.get(operation.author)
        return standing is not None and standing.retains(operation.id)

    def outranks(self, one: NodeId, other: NodeId) -> bool:
        """Whether the first key is an admin of a strictly lower level than the second one's."""
        above, below = self.standings.get(one), self.standings.get(other)
        if above is None or below is None:
            return False
        return above.role is Role.ADMIN and above.level < below.level


class Bans:
    """The honoured bans and unbans of admins, level by level or in any other order."""

    def __init__(self, ops: OpSet) -> None:
        self._ops = ops
        self._imposed: dict[NodeId, dict[Digest, tuple[int, Ban]]] = {}
        self._lifted: dict[tuple[NodeId, Digest], int] = {}

    def hear(self, operation: Operation, level: int) -> None:
        """Take account of an operation of an admin of ``level`` that counts."""
        body = operation.body
        if isinstance(body, Ban):
            self._imposed.setdefault(body.key, {})[operation.id] = level, body
        elif isinstance(body, Unban):
            for ban in body.bans:
                self._lifted[body.key, ban] = min(level, self._lifted.get((body.key, ban), level))

    def standing(self, key: NodeId, level: int, role: Role) -> Standing:
        """Return the standing of a key placed at ``level``, by what was heard so far."""
        imposed = sorted(self._imposed.get(key, {}).items())
        return Standing(
            level,
            role,
            tuple(
                Sentence(ban_id, EMPTY.union(past(self._ops, key, ban.keep)))
                for ban_id, (above, ban) in imposed
                if above < min(level, self._lifted.get((key, ban_id), level))
            ),
        )


def authority(ops: OpSet) -> Authority:
    """Return who may say what, by the definition at the top of the file."""
    return judge(ops)[0]


def judge(ops: OpSet) -> tuple[Authority, Bans]:
    """Return `authority`, and the bans that it has heard."""
    bans = Bans(ops)
    standings: dict[NodeId, Standing] = {}
    level, admitted = 0, dict.fromkeys(ops.charter.founders, Role.ADMIN)
    while admitted:
        placed = {key: bans.standing(key, level, role) for key, role in admitted.items()}
        standings |= placed
        admitted = {}
        admins = [key for key, standing in placed.items() if standing.role is Role.ADMIN]
        for operation in (said for key in admins for said in own(ops, key) if placed[key].honours(said.id)):
            bans.hear(operation, level)
            body = operation.body
            if (
                isinstance(body, Admit)
                and body.key not in standings
                and admitted.get(body.key) is not Role.ADMIN
            ):
                admitted[body.key] = body.role
        level += 1
    return Authority(MerkleMap(standings)), bans


def own(ops: OpSet, author: NodeId, ids: Iterable[Digest] | None = None) -> Iterator[Operation]:
    """Yield the operations of ``author``, those among ``ids`` if given."""
    for op_id in ops.by_author(author) if ids is None else ids:
        operation = ops.get(op_id)
        if operation is not None and operation.author == author:
            yield operation


def past(ops: OpSet, author: NodeId, ids: Iterable[Digest], known: MerkleSet = EMPTY) -> set[Digest]:
    """Return ``ids`` and what came before them, following `prev` through the author's own operations.

    Ids whose operations are not here are part of it: they count once they arrive.

    Args:
        ops: where the operations are.
        author: whose past it is.
        ids: where to begin.
        known: ids to leave out, whose past is known as well.
    """
    found: set[Digest] = set()
    ahead = list(ids)
    while ahead:
        op_id = ahead.pop()
        if op_id not in found and op_id not in known:
            found.add(op_id)
            ahead.extend(before for operation in own(ops, author, [op_id]) for before in operation.prev)
    return found
