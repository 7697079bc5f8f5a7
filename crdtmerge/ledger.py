"""What is known and said: the operations of one replica, what they mean, and signing new ones.

Nothing here computes on tensors, so looking at a federation or changing who is in it loads no tensor library.

Every method that signs checks first, against the view, that the operation would count: an operation that
everybody will ignore is an error of the caller, not something to publish.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from crdtmerge import ambient
from crdtmerge.authority import Authority
from crdtmerge.digest import Digest
from crdtmerge.errors import MalformedError, NotYetError, PermissionDeniedError, UsageError
from crdtmerge.home import open_home
from crdtmerge.keys import NodeId, SigningKey
from crdtmerge.manifest import Manifest
from crdtmerge.merkle import Proof
from crdtmerge.op import Admit, Ban, Block, Body, Operation, Retract, Role, Unban
from crdtmerge.opset import OpSet
from crdtmerge.recipe import Recipe
from crdtmerge.store import Store
from crdtmerge.visible import LiveView, View

FEDERATION: Final = "federation"
"""The setting that holds the id of the federation a store belongs to."""


@dataclass(frozen=True)
class Status:
    """Where a replica stands.

    Attributes:
        node, federation: who and of what.
        role: "admin", "member", or None for somebody not (or no longer) admitted.
        members: number of members.
        operations: number of operations known.
        root, state_root: what everybody should agree on: the visible contributions, and all operations
            that count.
        contributions: digests of the visible contributions, ascending.
        ready: those of them whose content is complete here.
        base_ready: whether the base's content is.
        recipe: what the federation computes.
    """

    node: NodeId
    federation: Digest
    role: str | None
    members: int
    operations: int
    root: Digest
    state_root: Digest
    contributions: tuple[Digest, ...]
    ready: tuple[Digest, ...]
    base_ready: bool
    recipe: Recipe


class Ledger:
    """The operations in a store, their view, and a key that signs more of them."""

    def __init__(
        self,
        store: Store,
        key: SigningKey,
        *,
        home: Path | None = None,
        clock: Callable[[], int] | None = None,
    ) -> None:
        """Load the operations that ``store`` holds.

        Raises:
            UsageError: if the store belongs to no federation.
        """
        federation = store.setting(FEDERATION)
        if federation is None:
            raise UsageError("this folder belongs to no federation: create one, or join one")
        self.store = store
        self.home = home
        self._key = key
        self._clock = clock or ambient.now_ms
        fresh, self._cursor = store.operations_since(0)
        self.operations = OpSet(next(operation for operation in fresh if operation.id == federation))
        self._live = LiveView(self.operations)
        self._absorb(fresh)

    @classmethod
    def open(cls, home: Path | str) -> Self:
        """Open what an existing folder holds.

        Raises:
            UsageError: if there is nothing.
        """
        store, signer = open_home(home, None, create=False)
        return cls(store, signer, home=Path(home))

    def close(self) -> None:
        """Release the store."""
        self.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def id(self) -> NodeId:
        """This replica's node id."""
        return self._key.id

    @property
    def key(self) -> SigningKey:
        """The key that signs for this replica."""
        return self._key

    @property
    def view(self) -> View:
        """What the operations mean: members, visible contributions, recipe."""
        return self._live.current

    @property
    def authority(self) -> Authority:
        """Who may do what."""
        return self.view.authority

    @property
    def genesis(self) -> Operation:
        """The operation that founded the federation."""
        return self.operations.genesis

    @property
    def visible(self) -> tuple[Digest, ...]:
        """Digests of the visible contributions, ascending: the canonical order."""
        return tuple(self.view.contributions)

    @property
    def root(self) -> Digest:
        """The visible root: equal on two replicas if and only if they see the same contributions."""
        return self.view.root

    @property
    def _base(self) -> Digest | None:
        return self.operations.charter.base

    @property
    def base(self) -> Manifest:
        """The base's manifest.

        Raises:
            UsageError: if the federation has none.
            NotYetError: if it has not arrived.
        """
        if self._base is None:
            raise UsageError("this federation has no base")
        return self.store.manifest(self._base)

    def whole_base(self) -> Manifest:
        """Return the base's manifest once all of its content is here.

        Raises:
            UsageError, NotYetError: as `base`, and if content is missing.
        """
        if self._base is not None and not self.is_ready(self._base):
            raise NotYetError(
                "the federation's base has not arrived completely: run `crdtmerge serve` until "
                "`crdtmerge status` shows it as ready",
                [self._base],
            )
        return self.base

    def status(self) -> Status:
        """Return where this replica stands."""
        view = self.view
        role = view.authority.role(self.id) if view.authority.is_member(self.id) else None
        return Status(
            node=self.id,
            federation=self.operations.federation,
            role=None if role is None else role.value,
            members=len(view.authority.members()),
            operations=len(self.operations),
            root=view.root,
            state_root=view.state_root,
            contributions=self.visible,
            ready=tuple(digest for digest in self.visible if self.is_ready(digest)),
            base_ready=self._base is None or self.is_ready(self._base),
            recipe=view.recipe,
        )

    def is_ready(self, contribution: Digest) -> bool:
        """Whether all content of a contribution is here."""
        if not self.store.has_manifest(contribution):
            return False
        try:
            return not self.store.missing(self.store.manifest(contribution))
        except MalformedError:
            return True  # it lies about its content: nothing more will come, and no replica merges it

    def prove(self, contribution: Digest) -> Proof:
        """Return a proof that a contribution is, or is not, under the visible root."""
        return self.view.contributions.prove(contribution)

    def refresh(self) -> int:
        """Take up operations that other processes committed to the same folder; how many there were."""
        fresh, self._cursor = self.store.operations_since(self._cursor)
        return self._absorb(fresh)

    def _absorb(self, operations: Iterable[Operation], *, verify: bool = False) -> int:
        fresh = [op for op in operations if self.operations.add(op, verify=verify)]
        for operation in fresh:
            self._live.apply(operation)
        return len(fresh)

    def retract(self, contribution: Digest) -> Operation:
        """Withdraw a contribution: exactly the adds of it that are known here and that we may remove.

        Raises:
            UsageError: if it is not visible.
            PermissionDeniedError: if it is somebody else's, and we have no authority over them.
        """
        self._require_member("retract")
        adds = self.view.adds.get(contribution, ())
        if not adds:
            raise UsageError(f"contribution {contribution.hex()[:12]}… is not visible: nothing to retract")
        said = [operation for add in adds if (operation := self.operations.get(add)) is not None]
        ours = tuple(operation.id for operation in said if self._may_remove(operation.author))
        if not ours:
            authors = ", ".join(sorted({operation.author.hex()[:12] + "…" for operation in said}))
            raise PermissionDeniedError(
                f"contribution {contribution.hex()[:12]}… was added by {authors}, not by this node "
                f"({self.id.hex()[:12]}…). Its author can retract it, or an admin above them."
            )
        return self._say(Retract(ours))

    def _may_remove(self, author: NodeId) -> bool:
        return author == self.id or (
            self.authority.is_admin(self.id) and self.authority.outranks(self.id, author)
        )

    def admit(self, node: NodeId, *, role: Role = Role.MEMBER) -> Operation:
        """Let somebody in."""
        self._require_admin("admit")
        return self._say(Admit(node, role))

    def ban(self, node: NodeId, *, keep: Sequence[Digest] = ()) -> Operation:
        """Throw somebody out; of their operations only ``keep`` and what precedes it stays honoured."""
        self._require_admin("ban")
        if self.authority.level(node) is not None and not self.authority.outranks(self.id, node):
            raise PermissionDeniedError(
                f"ban: {node.hex()[:12]}… is not below this node, and equals cannot ban each other"
            )
        return self._say(Ban(node, tuple(sorted(keep))))

    def unban(self, node: NodeId, bans: Sequence[Digest]) -> Operation:
        """Lift bans of ``node`` by their operation ids."""
        self._require_admin("unban")
        return self._say(Unban(node, tuple(sorted(bans))))

    def block(self, contribution: Digest) -> Operation:
        """Refuse a contribution's content for good, whoever adds it again."""
        self._require_admin("block")
        return self._say(Block(contribution))

    def _require_member(self, what: str) -> None:
        if not self.authority.is_member(self.id):
            banned = (
                "is banned" if self.authority.is_banned(self.id) else "is not a member of this federation"
            )
            raise PermissionDeniedError(
                f"{what}: this node ({self.id.hex()[:12]}…) {banned}. Ask an admin for an invitation."
            )

    def _require_admin(self, what: str) -> None:
        self._require_member(what)
        if not self.authority.is_admin(self.id):
            raise PermissionDeniedError(
                f"{what}: this needs an admin, and this node ({self.id.hex()[:12]}…) is a member"
            )

    def _say(self, body: Body) -> Operation:
        operation = Operation.sign(
            self._key,
            body,
            federation=self.operations.federation,
            created_ms=self._clock(),
            prev=self.operations.heads(self.id),
        )
        self.store.add_operations([operation.encoded])
        self._absorb([operation])
        return operation
