"""This node's own record: what it tells others about where to dial and which certificate to expect.

It is signed again only when something changed or half of its life is over, and its sequence never falls,
even if the store was restored from an old copy: it is at least the time of signing.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Final

from crdtmerge.digest import Digest
from crdtmerge.errors import RejectedError
from crdtmerge.keys import NodeId, SigningKey
from crdtmerge.node import certificate
from crdtmerge.node.address import Address
from crdtmerge.store import Store
from crdtmerge.sync.records import NodeRecord

LIFE_MS: Final = 30 * 24 * 3600 * 1000


@lru_cache(maxsize=4096)
def leaf_issued_ms(leaf: bytes, federation: Digest) -> int:
    """Return when a leaf in a record was issued; 0 if it is none, since records are not checked for that."""
    try:
        return certificate.read(leaf, federation).issued_ms
    except RejectedError:
        return 0


def own_record(store: Store, node: NodeId) -> NodeRecord | None:
    """Return the stored record of this node, if there is a readable one."""
    for name, data in store.records():
        if name == node:
            try:
                return NodeRecord.decode(data)
            except RejectedError:
                return None
    return None


def others_records(store: Store, node: NodeId) -> Iterator[bytes]:
    """Yield the readable records of all nodes but this one; forget the damaged ones, which come again."""
    for name, data in list(store.records()):
        if name != node:
            try:
                NodeRecord.decode(data)
            except RejectedError:
                store.remove_record(name)
            else:
                yield data


def current_record(
    store: Store, key: SigningKey, *, addresses: tuple[Address, ...], leaf: bytes, now_ms: int
) -> NodeRecord:
    """Return this node's record, signing and storing a new one where the stored one will not do."""
    texts = tuple(str(address) for address in addresses)
    stored = own_record(store, key.id)
    if (
        stored is not None
        and (stored.addresses, stored.leaf) == (texts, leaf)
        and stored.expires_ms - now_ms > LIFE_MS // 2
    ):
        return stored
    sequence = max(now_ms, stored.sequence + 1 if stored else 0)
    record = NodeRecord.sign(key, addresses=texts, leaf=leaf, sequence=sequence, expires_ms=now_ms + LIFE_MS)
    store.put_record(key.id, record.encoded)
    return record
