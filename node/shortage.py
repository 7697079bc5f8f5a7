"""A note for people that downloads wait for room on the disk: `crdtmerge status` shows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from crdtmerge import canon
from crdtmerge.digest import DIGEST_BYTES, Digest
from crdtmerge.store import Store
from crdtmerge.sync.events import NoRoom

_SETTING: Final = "node/shortage"
_BYTES_MAX: Final = 128


@dataclass(frozen=True, slots=True)
class Shortage:
    """What waits for room: a contribution, what it needs, and what was free."""

    contribution: Digest
    needed_bytes: int
    free_bytes: int


def save(store: Store, short: NoRoom | None) -> None:
    """Note that something waits for room; None: nothing does."""
    if short is None:
        store.pop_setting(_SETTING)
    else:
        row: list[canon.Value] = [short.contribution, short.needed_bytes, short.free_bytes]
        store.set_setting(_SETTING, canon.encode(row))


def load(store: Store) -> Shortage | None:
    """Return what waits for room, if something does."""
    data = store.setting(_SETTING)
    if data is None:
        return None
    contribution, needed, free = canon.array(canon.decode(data, bytes_max=_BYTES_MAX), 3)
    digest = Digest(canon.octets(contribution, DIGEST_BYTES))
    return Shortage(digest, canon.integer(needed, 0), canon.integer(free, 0))
