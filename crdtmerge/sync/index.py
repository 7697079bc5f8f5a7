"""A set of ids in the order in which it is reconciled, and fingerprints of its ranges.

    key      8 bytes big-endian milliseconds, then the id: what is new stands together, at the end
    runs     … id id id | id id id id id | id …    cut after every id whose last byte is below 4
    range         [--------- fingerprint ---------)

A range's fingerprint is a keyed hash of its count and of the digests of the runs in it. Where runs are
cut depends on the ids alone, so two sides that agree on a range agree on its fingerprint. The digests of
whole runs are made once; those that a range cuts short are made on demand, some sixty ids each.

The combination is a hash and not a XOR or a sum: of those, ids can be made that cancel out.

An index is derived data: it is built from the set, never stored or believed from elsewhere.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from typing import Final

from crdtmerge.digest import DIGEST_BYTES, Digest, Domain, digest, keyed

TIME_BYTES: Final = 8
KEY_BYTES: Final = TIME_BYTES + DIGEST_BYTES
FINGERPRINT_BYTES: Final = 16
SHORT_ID_BYTES: Final = 8
_CUT_BELOW: Final = 4


class Index:
    """An immutable sorted set of ids.

    Args:
        items: (milliseconds, id) pairs, in any order, each id once.
    """

    __slots__ = ("_digests", "_ends", "_ids", "_keys")

    def __init__(self, items: Iterable[tuple[int, Digest]]) -> None:
        self._keys = sorted([when.to_bytes(TIME_BYTES, "big") + key for when, key in items])
        self._ids = b"".join([key[TIME_BYTES:] for key in self._keys])
        last_bytes = self._ids[DIGEST_BYTES - 1 :: DIGEST_BYTES]
        self._ends = [position + 1 for position, last in enumerate(last_bytes) if last < _CUT_BELOW]
        starts = [0, *self._ends]
        self._digests = b"".join([self._run(*run) for run in zip(starts, self._ends, strict=False)])

    def __len__(self) -> int:
        return len(self._keys)

    def _run(self, start: int, stop: int) -> Digest:
        return digest(Domain.ID_RUN, self._ids[start * DIGEST_BYTES : stop * DIGEST_BYTES])

    def ids(self, start: int, stop: int) -> list[Digest]:
        """Return the ids at positions ``[start, stop)``."""
        return [Digest(key[TIME_BYTES:]) for key in self._keys[start:stop]]

    def position(self, bound: bytes | None) -> int:
        """Return the number of ids whose key is below ``bound``; None is above every key."""
        return len(self._keys) if bound is None else bisect_left(self._keys, bound)

    def bound(self, position: int) -> bytes:
        """Return the shortest bytes that separate the keys before ``position`` from those after it."""
        if position == 0:
            return b""
        before, after = self._keys[position - 1], self._keys[position]
        common = next(i for i in range(KEY_BYTES) if before[i] != after[i])
        return after[: common + 1]

    def fingerprint(self, key: bytes, start: int, stop: int) -> bytes:
        """Return the fingerprint under ``key`` of the ids at positions ``[start, stop)``."""
        first, last = bisect_right(self._ends, start), bisect_right(self._ends, stop)
        parts = [(stop - start).to_bytes(8, "big")]
        if first < last:
            whole = first  # the first run that begins inside the range
            if start != (self._ends[first - 1] if first else 0):
                parts.append(self._run(start, self._ends[first]))
                whole += 1
            parts.append(self._digests[whole * DIGEST_BYTES : last * DIGEST_BYTES])
            start = self._ends[last - 1]
        if start < stop:
            parts.append(self._run(start, stop))
        return keyed(key, b"".join(parts), length=FINGERPRINT_BYTES)

    def short_ids(self, key: bytes, start: int, stop: int) -> list[bytes]:
        """Return 8 bytes for each id at ``[start, stop)``, unforeseeable without ``key``.

        The hashed text has 32 bytes, and a fingerprint's 8 more than a multiple of 32: never the same.
        """
        return [keyed(key, one, length=SHORT_ID_BYTES) for one in self.ids(start, stop)]
