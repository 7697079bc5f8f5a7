"""Operations: the signed statements that a federation consists of.

    [version, federation, kind, author, created_ms, prev[], body]  + signature
     └──────────────── id = H(these, canonical) ──────────────┘

Always true here: an id covers everything but the signature, so a signature never changes an id. Every
operation but the genesis names its federation, so it is worth nothing in another one. Lists of digests
ascend and hold nothing twice, so one statement has one encoding. `Operation.sign` reads back what it
made: what this software signs, every peer's decoder accepts.

Left to others: whether an author may say what it says (`authority`), and what follows (`visible`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property, partial
from itertools import pairwise
from typing import Any, ClassVar, Final, TypeAlias

from crdtmerge import canon, keys
from crdtmerge.digest import DIGEST_BYTES, Digest, Domain, digest
from crdtmerge.errors import LimitError, MalformedError
from crdtmerge.keys import KEY_BYTES, SIGNATURE_BYTES, NodeId, SigningKey
from crdtmerge.limits import OPERATION_BYTES_MAX, PREV_MAX, TARGETS_MAX
from crdtmerge.recipe import Recipe

VERSION: Final = 1
NONCE_BYTES: Final = 16
MILLISECONDS_MAX: Final = (1 << 63) - 1

_PURPOSE: Final = "operation"


class Role(Enum):
    """What an admitted key may do."""

    ADMIN = "admin"
    """Admit, ban and unban, set recipes, block content; and all that a member may."""
    MEMBER = "member"
    """Add contributions, retract its own, publish coefficients."""


@dataclass(frozen=True, slots=True)
class Policy:
    """Quotas that every replica applies alike, because they are part of the genesis.

    Attributes:
        visible_per_author_max: of an author's live adds, the first so many by (created_ms, id) count.
        contribution_bytes_max: contributions with more bytes are not merged.
    """

    visible_per_author_max: int | None = None
    contribution_bytes_max: int | None = None


@dataclass(frozen=True, slots=True)
class Genesis:
    """Founds a federation; its id is the federation's.

    Attributes:
        founders: the first admins, ascending; one of them signs.
        base: digest of the base model's manifest, if there is one.
        schema: digest of the names, dtypes and shapes that contributions must have.
        recipe: the merge until an admin sets another.
        nonce: 16 bytes that tell two federations of the same founders apart.
        policy: quotas.
    """

    kind: ClassVar[str] = "genesis"
    founders: tuple[NodeId, ...]
    base: Digest | None
    schema: Digest | None
    recipe: Recipe
    nonce: bytes
    policy: Policy = Policy()


@dataclass(frozen=True, slots=True)
class Admit:
    """Lets a key in."""

    kind: ClassVar[str] = "admit"
    key: NodeId
    role: Role


@dataclass(frozen=True, slots=True)
class Ban:
    """Expels a key.

    Attributes:
        key: who is expelled.
        keep: operations of theirs that stay honoured, along with those that came before them.
    """

    kind: ClassVar[str] = "ban"
    key: NodeId
    keep: tuple[Digest, ...] = ()


@dataclass(frozen=True, slots=True)
class Unban:
    """Lifts the bans of a key that it names; later bans are not affected."""

    kind: ClassVar[str] = "unban"
    key: NodeId
    bans: tuple[Digest, ...]


@dataclass(frozen=True, slots=True)
class Add:
    """Adds a contribution; the operation's id is the tag that a retract must name."""

    kind: ClassVar[str] = "add"
    contribution: Digest


@dataclass(frozen=True, slots=True)
class Retract:
    """Takes back exactly the adds that it names; an add that it has not seen stays."""

    kind: ClassVar[str] = "retract"
    adds: tuple[Digest, ...]


@dataclass(frozen=True, slots=True)
class Block:
    """Bars content for good: a retract cannot stop somebody from adding it again, this does."""

    kind: ClassVar[str] = "block"
    contribution: Digest


@dataclass(frozen=True, slots=True)
class SetRecipe:
    """Chooses the merge, in place of the recipes (by operation id) that it supersedes."""

    kind: ClassVar[str] = "recipe"
    recipe: Recipe
    supersedes: tuple[Digest, ...] = ()


@dataclass(frozen=True, slots=True)
class Coefficients:
    """Publishes what a search found, bound to the exact contributions that it was run on."""

    kind: ClassVar[str] = "coefficients"
    payload: Digest
    bound_to: tuple[Digest, ...]


Body: TypeAlias = Genesis | Admit | Ban | Unban | Add | Retract | Block | SetRecipe | Coefficients
"""What an operation says."""


@dataclass(frozen=True)
class Operation:
    """One signed statement of one author; made by `sign` or `decode`, which check its form.

    Attributes:
        federation: id of the genesis; None exactly in the genesis itself.
        author: who says it.
        created_ms: the author's clock in milliseconds since 1970: a claim that nothing depends on.
        prev: ids of operations of the same author that came before, ascending.
        body: what it says.
        signature: by the author, over all of the above.
    """

    federation: Digest | None
    author: NodeId
    created_ms: int
    prev: tuple[Digest, ...]
    body: Body
    signature: bytes

    @classmethod
    def sign(
        cls,
        key: SigningKey,
        body: Body,
        *,
        federation: Digest | None,
        created_ms: int,
        prev: Sequence[Digest] = (),
    ) -> Operation:
        """Make an operation of ``key``'s owner.

        Raises:
            MalformedError, LimitError: if a peer would refuse it: lists that do not ascend, too many
                targets, a genesis that its author does not found, ...
        """
        draft = cls(federation, key.id, created_ms, tuple(prev), body, bytes(SIGNATURE_BYTES))
        signature = key.sign(_PURPOSE, draft.unsigned)
        signed = cls(federation, key.id, created_ms, tuple(prev), body, signature)
        return cls.decode(signed.encoded)

    @classmethod
    def decode(cls, data: bytes) -> Operation:
        """Parse an operation from outside: its form, not its signature and not its author's rights.

        Raises:
            MalformedError: if it is not the canonical encoding of an operation.
            LimitError: if it is longer than OPERATION_BYTES_MAX, or names too many operations.
        """
        row = canon.array(canon.decode(data, bytes_max=OPERATION_BYTES_MAX), 8)
        version, federation, kind, author, created_ms, prev, body, signature = row
        if version != VERSION:
            raise MalformedError(f"an operation of version {version!r}, this software reads {VERSION}")
        operation = cls(
            federation=None if federation is None else _digest(federation),
            author=_key(author),
            created_ms=canon.integer(created_ms, 0, MILLISECONDS_MAX),
            prev=_ascending("predecessors", prev, most=PREV_MAX),
            body=_read(canon.text(kind), body),
            signature=canon.octets(signature, SIGNATURE_BYTES),
        )
        if (operation.federation is None) != isinstance(operation.body, Genesis):
            raise MalformedError("a genesis belongs to no federation, everything else to one")
        if isinstance(operation.body, Genesis) and (
            operation.author not in operation.body.founders or operation.prev
        ):
            raise MalformedError("a genesis is the first operation of one of its founders")
        return operation

    @property
    def kind(self) -> str:
        """The kind of the body, such as ``add``."""
        return self.body.kind

    @cached_property
    def unsigned(self) -> bytes:
        """The canonical bytes that are signed and hashed."""
        return canon.encode(self._fields)

    @cached_property
    def id(self) -> Digest:
        """The digest of everything but the signature."""
        return digest(Domain.OPERATION, self.unsigned)

    @cached_property
    def encoded(self) -> bytes:
        """The canonical bytes with the signature, as stored and sent."""
        return canon.encode([*self._fields, self.signature])

    def verify(self) -> None:
        """Check the signature.

        Raises:
            SignatureError: if the author did not sign this.
        """
        keys.verify(self.author, _PURPOSE, self.unsigned, self.signature)

    @property
    def _fields(self) -> list[canon.Value]:
        head: list[canon.Value] = [VERSION, self.federation, self.kind, self.author, self.created_ms]
        return [*head, list(self.prev), _row(self.body)]


def _digest(value: canon.Value) -> Digest:
    return Digest(canon.octets(value, DIGEST_BYTES))


def _digest_or_none(value: canon.Value) -> Digest | None:
    return None if value is None else _digest(value)


def _key(value: canon.Value) -> NodeId:
    return NodeId(canon.octets(value, KEY_BYTES))


def _ascending(
    what: str, value: canon.Value, *, least: int = 0, most: int = TARGETS_MAX
) -> tuple[Digest, ...]:
    items = tuple(_digest(item) for item in canon.array(value))
    if not least <= len(items) <= most:
        raise LimitError(f"{len(items)} {what}, between {least} and {most} are accepted")
    for before, after in pairwise(items):
        if before >= after:
            raise MalformedError(f"{what} are not in ascending order, or twice: {after.hex()}")
    return items


def _role(value: canon.Value) -> Role:
    try:
        return Role(canon.text(value))
    except ValueError as error:
        raise MalformedError(f"unknown role {value!r}") from error


def _nonce(value: canon.Value) -> bytes:
    return canon.octets(value, NONCE_BYTES)


def _policy(value: canon.Value) -> Policy:
    return Policy(*(None if quota is None else canon.integer(quota, 1) for quota in canon.array(value, 2)))


_LAYOUTS: Final[dict[type[Body], dict[str, Callable[[canon.Value], Any]]]] = {
    Genesis: {
        "founders": partial(_ascending, "founders", least=1),
        "base": _digest_or_none,
        "schema": _digest_or_none,
        "recipe": Recipe.from_value,
        "nonce": _nonce,
        "policy": _policy,
    },
    Admit: {"key": _key, "role": _role},
    Ban: {"key": _key, "keep": partial(_ascending, "kept operations")},
    Unban: {"key": _key, "bans": partial(_ascending, "lifted bans", least=1)},
    Add: {"contribution": _digest},
    Retract: {"adds": partial(_ascending, "retracted adds", least=1)},
    Block: {"contribution": _digest},
    SetRecipe: {"recipe": Recipe.from_value, "supersedes": partial(_ascending, "superseded recipes")},
    Coefficients: {"payload": _digest, "bound_to": partial(_ascending, "contributions", least=1)},
}
"""A body is encoded as the array of its fields in this order; each is read back by its reader."""

_KINDS: Final = {body.kind: body for body in _LAYOUTS}


def _read(kind: str, value: canon.Value) -> Body:
    known = _KINDS.get(kind)
    if known is None:
        raise MalformedError(f"an operation of unknown kind {kind!r}")
    layout = _LAYOUTS[known]
    row = canon.array(value, len(layout))
    return known(**{name: read(item) for (name, read), item in zip(layout.items(), row, strict=True)})


def _row(body: Body) -> list[canon.Value]:
    return [_plain(getattr(body, name)) for name in _LAYOUTS[type(body)]]


def _plain(field: Any) -> canon.Value:
    if isinstance(field, Policy):
        return [field.visible_per_author_max, field.contribution_bytes_max]
    return field.value if isinstance(field, (Recipe, Role)) else field
