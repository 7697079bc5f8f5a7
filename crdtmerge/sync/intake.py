"""What happens to operations that arrive: verified, then kept, or waiting for their author's admission.

    bytes ── decode, federation, signature ──> author placed?  ── no ──> waiting, bounded
                                                   │ yes
                                          in R(S)? ── no ──> dropped: a ban voids it
                                                   │ yes
                                                 kept

Dropping loses nothing: what is dropped or falls out of the waiting room is brought back by
reconciliation as soon as it belongs to R(S), since whoever kept it has it in theirs.
"""

from __future__ import annotations

from collections.abc import Iterable

from crdtmerge.digest import Digest
from crdtmerge.errors import PolicyError
from crdtmerge.limits import PENDING_OPERATIONS_MAX
from crdtmerge.op import Admit, Ban, Operation, Unban
from crdtmerge.opset import OpSet
from crdtmerge.sync.index import Index
from crdtmerge.visible import LiveView, View


class Intake:
    """The operations of one federation, and what they amount to.

    Args:
        ops: what is stored; extended in place.
    """

    def __init__(self, ops: OpSet) -> None:
        self.ops = ops
        self._live = LiveView(ops)
        self._waiting: dict[Digest, Operation] = {}
        self._index: tuple[Digest, Index] | None = None

    @property
    def view(self) -> View:
        """What the operations amount to now."""
        return self._live.current

    @property
    def index(self) -> Index:
        """R(S), to be reconciled; built when it is asked for and the set has changed."""
        root = self.view.state_root
        if self._index is None or self._index[0] != root:
            operations = map(self.ops.get, self.view.state)
            self._index = root, Index((op.created_ms, op.id) for op in operations if op is not None)
        return self._index[1]

    def knows(self, id: Digest) -> bool:
        """Whether an operation is kept or waiting."""
        return id in self.ops or id in self._waiting

    def read(self, encoded: Iterable[bytes]) -> list[Operation]:
        """Parse operations from outside; return those that are new, verified.

        Raises:
            MalformedError, LimitError, SignatureError: if one of them is refused.
            PolicyError: if one belongs to another federation.
        """
        return self.verified(map(Operation.decode, encoded))

    def verified(self, operations: Iterable[Operation]) -> list[Operation]:
        """Return those of ``operations`` that are new, after verifying them; raises as `read`."""
        new = {op.id: op for op in operations if not self.knows(op.id)}
        for operation in new.values():
            if operation.federation != self.ops.federation:
                raise PolicyError(f"operation {operation.id.hex()} belongs to another federation")
            operation.verify()
        return list(new.values())

    def take(self, operations: Iterable[Operation]) -> list[Operation]:
        """Keep, hold or drop verified operations; return those that are kept, in order.

        An admission among them may place authors whose operations were waiting: those are kept as well.
        """
        kept: list[Operation] = []
        ahead = list(operations)
        while ahead:
            authority = self.view.authority
            placing = False
            for operation in ahead:
                if authority.level(operation.author) is None:
                    self._hold(operation)
                elif authority.retains(operation) and self.ops.add(operation, verify=False):
                    self._live.apply(operation)
                    kept.append(operation)
                    placing |= isinstance(operation.body, (Admit, Ban, Unban))
            ahead = self._placed() if placing else []
        return kept

    def _hold(self, operation: Operation) -> None:
        self._waiting[operation.id] = operation
        if len(self._waiting) > PENDING_OPERATIONS_MAX:
            del self._waiting[next(iter(self._waiting))]

    def _placed(self) -> list[Operation]:
        authority = self.view.authority
        placed = [op for op in self._waiting.values() if authority.level(op.author) is not None]
        for operation in placed:
            del self._waiting[operation.id]
        return placed
