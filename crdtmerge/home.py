"""A home: the folder of one replica, with its identity and its store; or some memory instead."""

from __future__ import annotations

from pathlib import Path

from crdtmerge import ambient
from crdtmerge.errors import UsageError
from crdtmerge.keys import KEY_BYTES, SigningKey
from crdtmerge.store import Store
from crdtmerge.store.secrets import IDENTITY, create_secret


def open_home(home: Path | str | None, key: SigningKey | None, *, create: bool) -> tuple[Store, SigningKey]:
    """Return the store and the identity of a folder; without one, a store in memory.

    Args:
        home: the folder.
        key: the identity that it must have, or will have if it is new.
        create: make what is not there.

    Raises:
        UsageError: if nothing is there, or another identity.
    """
    if home is None:
        return Store.memory(), key or SigningKey(ambient.entropy(KEY_BYTES))
    folder = Path(home)
    if not create and not (folder / IDENTITY).exists():
        raise UsageError(f"{folder} holds no replica: create one with `crdtmerge init`, or join a federation")
    given = None if key is None else key.seed
    seed = create_secret(folder / IDENTITY, given, lambda: ambient.entropy(KEY_BYTES))
    return Store.open(folder), SigningKey(seed)
