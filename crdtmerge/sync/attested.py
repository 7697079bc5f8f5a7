"""The attestations in force: of every member the newest about each result, and of these a bounded number.

Members only: a ban takes a member's attestations along. What is kept depends on the members and on the
attestations seen, not on their order or repetition, so the set can be reconciled like the address book.
Its order is by time, so that what is new stands together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from crdtmerge.digest import Digest
from crdtmerge.keys import NodeId
from crdtmerge.limits import ATTESTATIONS_PER_MEMBER_MAX
from crdtmerge.merkle import EMPTY, MerkleSet
from crdtmerge.sync.attestation import Attestation
from crdtmerge.sync.index import Index


class Attested:
    """At most ATTESTATIONS_PER_MEMBER_MAX attestations of each member.

    Args:
        is_member: who is a member now.
    """

    def __init__(self, is_member: Callable[[NodeId], bool]) -> None:
        self._is_member = is_member
        self._by_node: dict[NodeId, dict[tuple[Digest, Digest], Attestation]] = {}
        self._by_id: dict[Digest, Attestation] = {}
        self._ids: MerkleSet = EMPTY
        self._index: Index | None = None

    @property
    def root(self) -> Digest:
        """Stands for the whole set."""
        return self._ids.root

    @property
    def index(self) -> Index:
        """The ids of all attestations, to be reconciled."""
        if self._index is None:
            self._index = Index((one.created_ms, one.id) for one in self._by_id.values())
        return self._index

    def __iter__(self) -> Iterator[Attestation]:
        return iter(self._by_id.values())

    def by_id(self, id: Digest) -> Attestation | None:
        """Return the attestation with this id, if it is in force."""
        return self._by_id.get(id)

    def get(self, node: NodeId, subject: tuple[Digest, Digest]) -> Attestation | None:
        """Return what a node attests of (recipe, root)."""
        return self._by_node.get(node, {}).get(subject)

    def about(self, subject: tuple[Digest, Digest]) -> list[Attestation]:
        """Return what everybody attests of (recipe, root), ascending by node."""
        return [one for node in sorted(self._by_node) if (one := self._by_node[node].get(subject))]

    def offer(self, new: Attestation) -> list[Attestation] | None:
        """Keep a verified attestation if it is in force; return what it displaced, None if it is not kept."""
        if not self._is_member(new.node):
            return None
        of_node = self._by_node.setdefault(new.node, {})
        known = of_node.get(new.subject)
        if known is not None and known.age >= new.age:
            return None
        displaced = [] if known is None else [known]
        if known is None and len(of_node) == ATTESTATIONS_PER_MEMBER_MAX:
            displaced = [min(of_node.values(), key=lambda one: one.age)]
            if displaced[0].age >= new.age:
                return None
        for old in displaced:
            self._drop(old)
        self._by_node.setdefault(new.node, {})[new.subject] = self._by_id[new.id] = new
        self._ids = self._ids.add(new.id)
        self._index = None
        return displaced

    def prune(self) -> list[Attestation]:
        """Forget those of nodes that are members no more, and return them."""
        gone = [one for one in self._by_id.values() if not self._is_member(one.node)]
        for one in gone:
            self._drop(one)
        return gone

    def _drop(self, one: Attestation) -> None:
        del self._by_id[one.id], self._by_node[one.node][one.subject]
        if not self._by_node[one.node]:
            del self._by_node[one.node]
        self._ids = self._ids.remove(one.id)
        self._index = None
