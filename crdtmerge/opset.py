"""The operation set: all that replicas must agree on.

It only ever grows, and joining two sets is their union: commutative, associative and idempotent without
further argument. Members, visible contributions and the recipe are pure functions of it (`authority`,
`visible`), so replicas that hold equal sets agree on everything.

Always true here: every operation is of this federation and carries its author's signature. Nothing is
refused for what it says: a banned author's operations are in the set, and the view leaves them out.
"""

from __future__ import annotations

from collections.abc import Iterator

from crdtmerge.digest import Digest
from crdtmerge.errors import MalformedError, PolicyError
from crdtmerge.keys import NodeId
from crdtmerge.limits import PREV_MAX
from crdtmerge.op import Genesis, Operation


class OpSet:
    """A grow-only set of the verified operations of one federation."""

    __slots__ = ("_authors", "_operations", "charter", "federation", "genesis")

    genesis: Operation
    """The operation that founded the federation."""
    charter: Genesis
    """What it says."""
    federation: Digest
    """Its id."""

    def __init__(self, genesis: Operation) -> None:
        """Begin with the genesis alone.

        Raises:
            MalformedError: if it is no genesis.
            SignatureError: if its signature does not verify.
        """
        if not isinstance(genesis.body, Genesis):
            raise MalformedError(f"a federation begins with a genesis, got an operation {genesis.kind}")
        genesis.verify()
        self.genesis, self.charter, self.federation = genesis, genesis.body, genesis.id
        self._operations: dict[Digest, Operation] = {}
        self._authors: dict[NodeId, _Author] = {}
        self._insert(genesis)

    def add(self, operation: Operation, *, verify: bool = True) -> bool:
        """Add one operation; return False if it is known.

        Args:
            operation: of this federation.
            verify: False if the caller has verified the signature.

        Raises:
            PolicyError: if it belongs to another federation.
            SignatureError: if its signature does not verify.
        """
        if operation.id in self._operations:
            return False
        if operation.federation != self.federation:
            theirs = (operation.federation or operation.id).hex()
            raise PolicyError(f"an operation of federation {theirs}, this is {self.federation.hex()}")
        if verify:
            operation.verify()
        self._insert(operation)
        return True

    def join(self, other: OpSet) -> list[Operation]:
        """Take over what ``other`` has; return what was new, ascending by id.

        Raises:
            PolicyError: if it is a set of another federation.
        """
        if other.federation != self.federation:
            raise PolicyError(f"a set of {other.federation.hex()}, this is {self.federation.hex()}")
        unknown = (op_id for op_id in other._operations if op_id not in self._operations)
        new = [other._operations[op_id] for op_id in sorted(unknown)]
        for operation in new:
            self._insert(operation)
        return new

    def get(self, id: Digest) -> Operation | None:
        """Return the operation with this id, or None."""
        return self._operations.get(id)

    def by_author(self, author: NodeId) -> tuple[Digest, ...]:
        """Return the ids of the author's operations, ascending."""
        entry = self._authors.get(author)
        return tuple(sorted(entry.ids)) if entry else ()

    def heads(self, author: NodeId) -> tuple[Digest, ...]:
        """Return what the author's next operation names as its predecessors, ascending.

        These are the author's operations that none of its others names; of more than PREV_MAX, which
        only an author who writes in several places at once has, the lowest.
        """
        entry = self._authors.get(author)
        return tuple(sorted(entry.heads)[:PREV_MAX]) if entry else ()

    def copy(self) -> OpSet:
        """Return an independent set with the same operations."""
        copy = object.__new__(OpSet)
        copy.genesis, copy.charter, copy.federation = self.genesis, self.charter, self.federation
        copy._operations = dict(self._operations)
        copy._authors = {author: entry.copy() for author, entry in self._authors.items()}
        return copy

    def __contains__(self, id: object) -> bool:
        return id in self._operations

    def __len__(self) -> int:
        return len(self._operations)

    def __iter__(self) -> Iterator[Operation]:
        return map(self._operations.__getitem__, sorted(self._operations))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, OpSet):
            return NotImplemented
        return self._operations.keys() == other._operations.keys()

    __hash__ = None  # type: ignore[assignment]

    def _insert(self, operation: Operation) -> None:
        self._operations[operation.id] = operation
        self._authors.setdefault(operation.author, _Author()).insert(operation)


class _Author:
    """The ids of one author's operations, those that no other names, and those named but not here."""

    __slots__ = ("absent", "heads", "ids")

    def __init__(self) -> None:
        self.ids: set[Digest] = set()
        self.heads: set[Digest] = set()
        self.absent: set[Digest] = set()

    def insert(self, operation: Operation) -> None:
        self.ids.add(operation.id)
        if operation.id in self.absent:
            self.absent.remove(operation.id)
        else:
            self.heads.add(operation.id)
        self.heads.difference_update(operation.prev)
        self.absent.update(before for before in operation.prev if before not in self.ids)

    def copy(self) -> _Author:
        copy = _Author()
        copy.ids, copy.heads, copy.absent = set(self.ids), set(self.heads), set(self.absent)
        return copy
