"""What counts: contributions, members and the recipe, as a pure function of the operations.

    add live              <=>  honoured, named by no valid retract, and its content not blocked by an
                               admin of its author's level or a lower one
    contribution visible  <=>  some add of it is live, and within its author's quota
    recipe                =    of those that no recipe of the same or a lower level supersedes, the one of
                               the lowest level, then of the lowest id; the genesis' has level 0
    R(S)                  =    the operations that are honoured or that a ban keeps

Always true here: equal sets have equal views, whatever the order of arrival, and the view of R(S) is the
view of S, so R(S) is all that replicas need to reconcile. This is the definition and reads like one;
`crdtmerge.visible` keeps a view up to date at little cost and equals it.

Left to others: who is honoured (`authority`), and what a contribution contains.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from crdtmerge.authority import Authority, authority
from crdtmerge.digest import Digest
from crdtmerge.keys import NodeId
from crdtmerge.merkle import MerkleMap, MerkleSet
from crdtmerge.op import Add, Block, Coefficients, Genesis, Operation, Retract, Role, SetRecipe
from crdtmerge.opset import OpSet
from crdtmerge.recipe import Recipe

NOBODY: Final = 1 << 32
"""A level that nobody has: below everybody."""


@dataclass(frozen=True, slots=True)
class View:
    """What one state of the operation set means; it never changes.

    Attributes:
        authority: who may say what.
        tags: the visible contributions, each with the ids of the adds that count.
        recipe, recipe_id: the merge, and the operation that set it.
        blocked: content that some admin blocked; a stronger author's add of it stays visible.
        published: the honoured operations that publish coefficients, by id.
        state: the ids of R(S).
    """

    authority: Authority
    tags: MerkleMap[Digest, MerkleSet]
    recipe: Recipe
    recipe_id: Digest
    blocked: MerkleSet
    published: MerkleMap[Digest, Operation]
    state: MerkleSet
    _ops: OpSet = field(repr=False, compare=False)

    @property
    def contributions(self) -> MerkleSet:
        """The visible contributions."""
        return self.tags.keyset

    @property
    def adds(self) -> Mapping[Digest, tuple[Digest, ...]]:
        """As `tags`, but tuples: what a retract names to take a contribution back."""
        return _Tuples(self.tags)

    @property
    def root(self) -> Digest:
        """Stands for the visible contributions: replicas with equal roots and recipes merge alike."""
        return self.contributions.root

    @property
    def state_root(self) -> Digest:
        """Stands for R(S): replicas with equal state roots have nothing to tell each other."""
        return self.state.root

    @property
    def coefficients(self) -> tuple[Operation, ...]:
        """The honoured operations that publish coefficients, ascending by id."""
        return tuple(self.published.values())

    def authors(self, contribution: Digest) -> tuple[NodeId, ...]:
        """Return who added a contribution, ascending; nobody if it is not visible."""
        adds = map(self._ops.get, self.tags.get(contribution, ()))
        return tuple(sorted({add.author for add in adds if add is not None}))


class _Tuples(Mapping[Digest, tuple[Digest, ...]]):
    __slots__ = ("_sets",)

    def __init__(self, sets: MerkleMap[Digest, MerkleSet]) -> None:
        self._sets = sets

    def __getitem__(self, key: Digest) -> tuple[Digest, ...]:
        return tuple(self._sets[key])

    def __iter__(self) -> Iterator[Digest]:
        return iter(self._sets)

    def __len__(self) -> int:
        return len(self._sets)


def view(ops: OpSet) -> View:
    """Return what ``ops`` means: the definition, from scratch."""
    who = authority(ops)
    honoured = [operation for operation in ops if who.honours(operation)]
    decrees = [operation for operation in honoured if who.role(operation.author) is Role.ADMIN]

    adds = {add.id: add for add in honoured if isinstance(add.body, Add)}
    retracted = {
        tag
        for retract in honoured
        if isinstance(retract.body, Retract)
        for tag in retract.body.adds
        if tag in adds and may_retract(who, retract.author, adds[tag].author)
    }
    blocks: dict[Digest, int] = {}
    superseded: dict[Digest, int] = {}
    for decree in decrees:
        level = who.standings[decree.author].level
        if isinstance(decree.body, Block):
            lower(blocks, decree.body.contribution, level)
        elif isinstance(decree.body, SetRecipe):
            for target in decree.body.supersedes:
                lower(superseded, target, level)

    live: dict[NodeId, list[tuple[int, Digest, Digest]]] = {}
    for tag, add in adds.items():
        content = content_of(add)
        if tag not in retracted and who.standings[add.author].level < blocks.get(content, NOBODY):
            live.setdefault(add.author, []).append((add.created_ms, tag, content))
    counted: dict[Digest, list[Digest]] = {}
    for rows in live.values():
        for _, tag, content in sorted(rows)[: ops.charter.policy.visible_per_author_max]:
            counted.setdefault(content, []).append(tag)

    recipes = [
        (who.standings[decree.author].level, decree.id)
        for decree in decrees
        if isinstance(decree.body, (Genesis, SetRecipe))
    ]
    _, recipe_id = min(row for row in recipes if row[0] < superseded.get(row[1], NOBODY))
    return View(
        authority=who,
        tags=MerkleMap({content: MerkleSet.of(tags) for content, tags in counted.items()}),
        recipe=recipe_of(ops, recipe_id),
        recipe_id=recipe_id,
        blocked=MerkleSet.of(blocks),
        published=MerkleMap({o.id: o for o in honoured if isinstance(o.body, Coefficients)}),
        state=MerkleSet.of(operation.id for operation in ops if who.retains(operation)),
        _ops=ops,
    )


def reconciled(ops: OpSet) -> MerkleSet:
    """Return the ids of R(S): the operations that replicas must agree on."""
    return view(ops).state


def may_retract(who: Authority, author: NodeId, added_by: NodeId) -> bool:
    """Whether a retract by ``author`` is valid for an add by ``added_by``."""
    return author == added_by or who.outranks(author, added_by)


def content_of(add: Operation) -> Digest:
    """Return the contribution that an add adds."""
    assert isinstance(add.body, Add), add.kind  # noqa: S101
    return add.body.contribution


def recipe_of(ops: OpSet, recipe_id: Digest) -> Recipe:
    """Return the recipe that the operation ``recipe_id`` sets."""
    operation = ops.get(recipe_id)
    assert operation is not None, recipe_id.hex()  # noqa: S101
    assert isinstance(operation.body, (Genesis, SetRecipe)), operation.kind  # noqa: S101
    return operation.body.recipe


def lower(levels: dict[Digest, int], key: Digest, level: int) -> None:
    """Keep the lowest of the levels noted for ``key``."""
    levels[key] = min(level, levels.get(key, level))
