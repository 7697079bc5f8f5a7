"""What operations say: the bodies of all kinds, and how they are encoded.

Always true here: a body is encoded as the array of its fields, in the order of `_LAYOUTS`. Lists of
digests ascend and hold nothing twice, so one statement has one encoding. Reading checks form and limits;
what is built in memory is checked when it is signed, since `crdtmerge.op.Operation.sign` reads it back.

Left to others: who may say it (`crdtmerge.authority`), and what follows (`crdtmerge.view`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import partial
from itertools import pairwise
from typing import Any, ClassVar, Final, TypeAlias

from crdtmerge import canon
from crdtmerge.digest import DIGEST_BYTES, Digest
from crdtmerge.errors import LimitError, MalformedError
from crdtmerge.keys import KEY_BYTES, NodeId
from crdtmerge.limits import TARGETS_MAX
from crdtmerge.recipe import Recipe

NONCE_BYTES: Final = 16


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


def read_digest(value: canon.Value) -> Digest:
    """Read one digest."""
    return Digest(canon.octets(value, DIGEST_BYTES))


def _digest_or_none(value: canon.Value) -> Digest | None:
    return None if value is None else read_digest(value)


def read_key(value: canon.Value) -> NodeId:
    """Read one public key."""
    return NodeId(canon.octets(value, KEY_BYTES))


def read_digests(
    what: str, value: canon.Value, *, least: int = 0, most: int = TARGETS_MAX
) -> tuple[Digest, ...]:
    """Read a list of digests, which must ascend.

    Raises:
        LimitError: if there are fewer than ``least`` or more than ``most``.
        MalformedError: if it is no such list.
    """
    items = tuple(read_digest(item) for item in canon.array(value))
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
        "founders": partial(read_digests, "founders", least=1),
        "base": _digest_or_none,
        "schema": _digest_or_none,
        "recipe": Recipe.from_value,
        "nonce": _nonce,
        "policy": _policy,
    },
    Admit: {"key": read_key, "role": _role},
    Ban: {"key": read_key, "keep": partial(read_digests, "kept operations")},
    Unban: {"key": read_key, "bans": partial(read_digests, "lifted bans", least=1)},
    Add: {"contribution": read_digest},
    Retract: {"adds": partial(read_digests, "retracted adds", least=1)},
    Block: {"contribution": read_digest},
    SetRecipe: {"recipe": Recipe.from_value, "supersedes": partial(read_digests, "superseded recipes")},
    Coefficients: {"payload": read_digest, "bound_to": partial(read_digests, "contributions", least=1)},
}
"""A body is encoded as the array of its fields in this order; each is read back by its reader."""

_KINDS: Final = {body.kind: body for body in _LAYOUTS}


def decode(kind: str, value: canon.Value) -> Body:
    """Read the body of an operation.

    Raises:
        MalformedError, LimitError: if it is not what `encode` gives.
    """
    known = _KINDS.get(kind)
    if known is None:
        raise MalformedError(f"an operation of unknown kind {kind!r}")
    layout = _LAYOUTS[known]
    row = canon.array(value, len(layout))
    return known(**{name: read(item) for (name, read), item in zip(layout.items(), row, strict=True)})


def encode(body: Body) -> canon.Value:
    """Return a body as a canonical value."""
    return [_plain(getattr(body, name)) for name in _LAYOUTS[type(body)]]


def _plain(field: Any) -> canon.Value:
    if isinstance(field, Policy):
        return [field.visible_per_author_max, field.contribution_bytes_max]
    return field.value if isinstance(field, (Recipe, Role)) else field
