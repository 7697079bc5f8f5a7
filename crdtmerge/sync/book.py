"""The address book: the record in force of every member that has one.

Members only: a record of anybody else is not kept, and a ban takes the record along. What is kept
depends on the members, the records seen and the time, on nothing else, so books can be reconciled like
operations, in a space of their own; their order is by expiry, so that fresh records stand together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from crdtmerge.digest import Digest
from crdtmerge.keys import NodeId
from crdtmerge.merkle import EMPTY, MerkleSet
from crdtmerge.sync.index import Index
from crdtmerge.sync.records import NodeRecord


class AddressBook:
    """One record for each member at most, so bounded by the number of members.

    Args:
        is_member: who is a member now.
    """

    def __init__(self, is_member: Callable[[NodeId], bool]) -> None:
        self._is_member = is_member
        self._by_node: dict[NodeId, NodeRecord] = {}
        self._by_id: dict[Digest, NodeRecord] = {}
        self._ids: MerkleSet = EMPTY
        self._index: Index | None = None
        self._nodes: list[NodeId] | None = None

    @property
    def root(self) -> Digest:
        """Stands for the whole book."""
        return self._ids.root

    @property
    def index(self) -> Index:
        """The ids of all records, to be reconciled."""
        if self._index is None:
            self._index = Index((record.expires_ms, record.id) for record in self._by_id.values())
        return self._index

    @property
    def nodes(self) -> Sequence[NodeId]:
        """Whose records are here, ascending."""
        if self._nodes is None:
            self._nodes = sorted(self._by_node)
        return self._nodes

    def get(self, node: NodeId) -> NodeRecord | None:
        """Return the record in force of a node."""
        return self._by_node.get(node)

    def by_id(self, id: Digest) -> NodeRecord | None:
        """Return the record with this id, if it is in force."""
        return self._by_id.get(id)

    def offer(self, record: NodeRecord, now_ms: int) -> bool:
        """Keep a verified record if it is in force and its node a member; return whether it was new."""
        known = self._by_node.get(record.node)
        if record.expires_ms <= now_ms or not self._is_member(record.node):
            return False
        if known is not None and not record.supersedes(known):
            return False
        if known is not None:
            self._drop(known)
        self._by_node[record.node] = self._by_id[record.id] = record
        self._ids = self._ids.add(record.id)
        self._index = self._nodes = None
        return True

    def prune(self, now_ms: int) -> None:
        """Forget the records that expired, and those of nodes that are members no more."""
        for record in list(self._by_node.values()):
            if record.expires_ms <= now_ms or not self._is_member(record.node):
                self._drop(record)

    def _drop(self, record: NodeRecord) -> None:
        del self._by_node[record.node], self._by_id[record.id]
        self._ids = self._ids.remove(record.id)
        self._index = self._nodes = None
