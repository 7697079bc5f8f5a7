"""The payload of one reconciliation step: the key space cut into ranges, and something said of each.

    payload = canonical array [bound, body, bound, body, …, nil, body]

A range begins where the one before it ended (the first at the empty key) and ends below its bound; the
last bound is nil: the end of all keys. A bound is one byte, how many bytes it shares with the bound
before, and the bytes that follow. The bodies:

    nil              settled: nothing to say
    16 bytes         `Fingerprint` of what the sender holds in the range
    [short ids]      `Listing` of what the sender holds, 8 bytes each, joined
    [bits, ids]      `Answer` to a listing: bit i set (byte i // 8, lowest first) where the sender lacks the
                     i-th listed; and the ids, 32 bytes each, joined, that the listing lacks
    true             `Ask.LIST`: we differ, and I hold few; list what you hold
    false            `Ask.AGAIN`: this message is full; ask again for all that follows (so it comes last)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Final, TypeAlias

from crdtmerge import canon
from crdtmerge.digest import DIGEST_BYTES
from crdtmerge.errors import LimitError, MalformedError
from crdtmerge.limits import RECONCILE_BYTES_MAX
from crdtmerge.sync.index import FINGERPRINT_BYTES, KEY_BYTES, SHORT_ID_BYTES

LISTED_MAX: Final = 2048
"""Short ids in one listing: one quarter of a message."""

Bound: TypeAlias = "bytes | None"
"""A key or a beginning of one; None lies above every key."""


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What the sender holds in the range, in 16 bytes."""

    value: bytes


@dataclass(frozen=True, slots=True)
class Listing:
    """The short ids of what the sender holds in the range, in key order."""

    short_ids: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """What is different between a listing and what the sender holds.

    Attributes:
        lacks: for each listed id, whether the sender lacks it.
        ids: what the sender holds and the listing does not; only of the answered range, which may end
            before the listing's.
    """

    lacks: bytes
    ids: tuple[bytes, ...]

    def lacks_at(self, position: int) -> bool:
        """Whether the sender lacks the id at this position of the listing."""
        return bool(self.lacks[position // 8] >> position % 8 & 1)


class Ask(Enum):
    """What the sender wants said next about the range."""

    LIST = True
    AGAIN = False


Body: TypeAlias = "Fingerprint | Listing | Answer | Ask"


@dataclass(frozen=True, slots=True)
class Said:
    """What a message says of the keys in ``[lower, upper)``."""

    lower: bytes
    upper: Bound
    body: Body


def below(bound: Bound, other: Bound) -> bool:
    """Whether ``bound`` is lower than ``other``."""
    return bound is not None and (other is None or bound < other)


class Writer:
    """Collects what is to be said, in ascending order, up to the size of a message."""

    def __init__(self) -> None:
        self._values: list[canon.Value] = []
        self._bound: Bound = b""
        self._room = RECONCILE_BYTES_MAX - 16  # for the array's head, and a last pair

    def add(self, said: Said) -> bool:
        """Append ``said`` if there is room for it; what lies between it and the last is settled."""
        values: list[canon.Value] = []
        if below(self._bound, said.lower):
            values += [_relative(said.lower, self._bound), None]
        values += [_relative(said.upper, said.lower), _body_value(said.body)]
        size = sum(map(_bytes, values))
        if size > self._room:
            return False
        self._values += values
        self._room -= size
        self._bound = said.upper
        return True

    @property
    def ids_room(self) -> int:
        """How many ids an answer to a listing may still carry, however long the listing was."""
        return max(0, self._room - LISTED_MAX // 8 - 2 * (KEY_BYTES + 3) - 16) // DIGEST_BYTES

    def ask_again(self) -> None:
        """Say that everything after what was added is unanswered."""
        self._values += [None, Ask.AGAIN.value]
        self._bound = None

    def finish(self) -> bytes:
        """Return the payload."""
        ending: list[canon.Value] = [] if self._bound is None else [None, None]
        return canon.encode(self._values + ending)


def write(said: Iterable[Said]) -> bytes:
    """Return the payload that says all of this.

    Raises:
        LimitError: if one message cannot.
    """
    writer = Writer()
    if not all(writer.add(one) for one in said):
        raise LimitError(f"a reconciliation message of more than {RECONCILE_BYTES_MAX} bytes")
    return writer.finish()


def read(payload: bytes) -> Iterator[Said]:
    """Parse a payload from outside; settled ranges are left out.

    Raises:
        LimitError: if it is too long.
        MalformedError: if it is not canonical, bounds do not ascend, or a body is none of the above.
    """
    values = canon.array(canon.decode(payload, bytes_max=RECONCILE_BYTES_MAX))
    if len(values) % 2 or not values or values[-2] is not None:
        raise MalformedError("a reconciliation message that does not cover all keys")
    lower, body = b"", None
    for position in range(0, len(values), 2):
        upper, body = _bound(values[position], lower), _body(values[position + 1])
        if upper is None and position + 2 != len(values):
            raise MalformedError("a range after the end of all keys")
        if upper is not None and upper <= lower:
            raise MalformedError("bounds of a reconciliation message do not ascend")
        if body is Ask.AGAIN and upper is not None:
            raise MalformedError("more is said after a message said it was full")
        if body is not None:
            yield Said(lower, upper, body)
        lower = upper or b""


def _bound(value: canon.Value, before: bytes) -> Bound:
    if value is None:
        return None
    raw = canon.octets(value)
    if not raw or raw[0] > len(before) or raw[0] + len(raw) - 1 > KEY_BYTES:
        raise MalformedError(f"a bound of {len(raw)} bytes that shares {raw[:1].hex() or 'nothing'}")
    return before[: raw[0]] + raw[1:]


def _body(value: canon.Value) -> Body | None:
    if value is None:
        return None
    if isinstance(value, bool):
        return Ask(value)
    if isinstance(value, bytes):
        return Fingerprint(canon.octets(value, FINGERPRINT_BYTES))
    parts = canon.array(value)
    if len(parts) == 1:
        short_ids = _cut(canon.octets(parts[0]), SHORT_ID_BYTES)
        if len(short_ids) > LISTED_MAX:
            raise LimitError(f"a listing of {len(short_ids)} ids, at most {LISTED_MAX} are accepted")
        return Listing(short_ids)
    lacks, ids = canon.array(value, 2)
    return Answer(canon.octets(lacks), _cut(canon.octets(ids), DIGEST_BYTES))


def _body_value(body: Body) -> canon.Value:
    match body:
        case Fingerprint(value):
            return value
        case Listing(short_ids):
            return [b"".join(short_ids)]
        case Answer(lacks, ids):
            return [lacks, b"".join(ids)]
        case Ask():
            return body.value


def _cut(joined: bytes, size: int) -> tuple[bytes, ...]:
    if len(joined) % size:
        raise MalformedError(f"{len(joined)} bytes of ids of {size} bytes each")
    return tuple(joined[start : start + size] for start in range(0, len(joined), size))


def _bytes(value: canon.Value) -> int:
    """Return the size of a body once encoded, or a little more."""
    if isinstance(value, bytes):
        return 3 + len(value)
    return 1 + sum(map(_bytes, value)) if isinstance(value, list) else 1


def _relative(bound: Bound, before: Bound) -> Bound:
    if bound is None or before is None:
        return None
    shared = next((i for i, (a, b) in enumerate(zip(before, bound, strict=False)) if a != b), len(before))
    return bytes([shared]) + bound[shared:]
