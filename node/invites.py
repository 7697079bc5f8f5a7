"""Open invitations of this node, in its store: each is good for one newcomer, once.

    settings:  invite/<public key, hexadecimal>  ->  [role, expires_ms, claimed by (empty: nobody yet)]

Admitting somebody is three durable steps: claim the invite for that node, store the admission, forget the
invite. After a crash between them `claimed` tells what is left to do, so that an invite neither admits two
nor is lost by the one who used it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from crdtmerge import ambient, canon
from crdtmerge.errors import PermissionDeniedError, UsageError
from crdtmerge.keys import KEY_BYTES, NodeId, SigningKey
from crdtmerge.ledger import Ledger
from crdtmerge.node import identity
from crdtmerge.node.address import Address
from crdtmerge.node.client import Contact
from crdtmerge.node.credentials import Credentials
from crdtmerge.node.record import own_record
from crdtmerge.node.ticket import Ticket
from crdtmerge.op import Role
from crdtmerge.store import Store

LIFE_MS: Final = 7 * 24 * 3600 * 1000
_PREFIX: Final = "invite/"
_BYTES_MAX: Final = 256


@dataclass(frozen=True, slots=True)
class Invite:
    """An invitation that was made and not used up yet."""

    key: NodeId
    role: Role
    expires_ms: int
    claimed: NodeId | None = None


def invite(
    home: Path,
    ledger: Ledger,
    *,
    addresses: tuple[Address, ...] = (),
    role: Role = Role.MEMBER,
    life_ms: int = LIFE_MS,
) -> Ticket:
    """Make an invitation; the node that serves ``home`` will honour it, running or not at the moment.

    Args:
        home: of an admin.
        ledger: the home's.
        addresses: where the newcomer reaches this node; where it was last reachable by default.
        role: what the newcomer becomes.
        life_ms: how long the invitation is good.

    Raises:
        PermissionDeniedError: if this node is no admin, so that nobody would heed its admission.
        UsageError: if no address is known.
    """
    if not ledger.authority.is_admin(ledger.id):
        raise PermissionDeniedError(f"invite: this needs an admin, and {ledger.id.hex()[:12]}… is none")
    record = own_record(ledger.store, ledger.id)
    addresses = addresses or (Contact.of(record).addresses if record else ())
    if not addresses or not all(address.port for address in addresses):
        raise UsageError(
            "invite: give --address HOST:PORT, where the newcomer reaches this node, or serve this home first"
        )
    credentials = Credentials.load(home, ledger.genesis)
    secret = SigningKey(ambient.entropy(KEY_BYTES))
    expires_ms = ambient.now_ms() + life_ms
    save(ledger.store, Invite(secret.id, role, expires_ms))
    return Ticket(
        federation=credentials.federation,
        inviter=ledger.id,
        addresses=addresses,
        leaf=credentials.leaf,
        ca_secret=identity.ca_secret(home),
        invite_seed=secret.seed,
        expires_ms=expires_ms,
    )


def save(store: Store, invite: Invite) -> None:
    """Keep an invitation, in place of what was known of it."""
    value = canon.encode([invite.role.value, invite.expires_ms, invite.claimed or b""])
    store.set_setting(_PREFIX + invite.key.hex(), value)


def forget(store: Store, key: NodeId) -> None:
    """Let an invitation be used up, or withdraw it."""
    store.pop_setting(_PREFIX + key.hex())


def find(store: Store, key: NodeId) -> Invite | None:
    """Return the invitation with this public key, if it is open or claimed."""
    value = store.setting(_PREFIX + key.hex())
    return None if value is None else _decode(key, value)


def outstanding(store: Store) -> Iterator[Invite]:
    """Yield every invitation that is not used up."""
    for name, value in store.settings(_PREFIX):
        yield _decode(NodeId(bytes.fromhex(name.removeprefix(_PREFIX))), value)


def _decode(key: NodeId, value: bytes) -> Invite:
    role, expires_ms, claimed = canon.array(canon.decode(value, bytes_max=_BYTES_MAX), 3)
    node = NodeId(canon.octets(claimed))
    return Invite(key, Role(canon.text(role)), canon.integer(expires_ms, 0), node or None)
