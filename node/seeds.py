"""Seeds: nodes that this node's people told it about, each with the certificate to expect there.

A newcomer knows nobody but the inviter of its ticket, and no record of theirs yet. Seeds are dialled now and
then for ever, which is what heals a partition after which nobody's record is right any more.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from crdtmerge import canon
from crdtmerge.keys import NodeId
from crdtmerge.node.address import Address
from crdtmerge.node.client import Contact
from crdtmerge.store import Store
from crdtmerge.sync.records import NodeRecord

_PREFIX: Final = "seed/"
_BYTES_MAX: Final = 8192


def save(store: Store, contact: Contact) -> None:
    """Keep a seed, in place of what was known of that node."""
    value = canon.encode([[str(address) for address in contact.addresses], contact.leaf])
    store.set_setting(_PREFIX + contact.node.hex(), value)


def follow(store: Store, known: dict[NodeId, Contact], record: NodeRecord) -> None:
    """Expect of a seed the certificate that its newest record names: it may have replaced the old one."""
    seed = known.get(record.node)
    if seed is not None and seed.leaf != record.leaf:
        known[record.node] = replace(seed, leaf=record.leaf)
        save(store, known[record.node])


def load(store: Store) -> dict[NodeId, Contact]:
    """Return all seeds, ascending by node."""
    found = {}
    for name, value in store.settings(_PREFIX):
        addresses, leaf = canon.array(canon.decode(value, bytes_max=_BYTES_MAX), 2)
        node = NodeId(bytes.fromhex(name.removeprefix(_PREFIX)))
        parsed = tuple(Address.parse(canon.text(text)) for text in canon.array(addresses))
        found[node] = Contact(node, parsed, canon.octets(leaf), given=True)
    return found
