"""Invitation tickets: the one piece of text that somebody needs to join a federation.

    crdtmerge1<base64url of: checksum (8 bytes) · canonical [version, federation, inviter, addresses,
                                                             leaf, CA secret, invite seed, expires_ms]>

A ticket tells a stranger whom to call (addresses), whom to expect there (the inviter's exact leaf), how to
get through the door (the CA secret) and why to be let in (the invite seed: an Ed25519 secret whose public
key the inviter remembers, once). It is a secret until it is used; carry it as one.

Always true here: a parsed ticket is well-formed in every field and its leaf is the inviter's. Whether the
inviter still honours it is the inviter's business: the expiry inside is a courtesy to the joiner.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from typing import Final

from crdtmerge import canon
from crdtmerge.digest import DIGEST_BYTES, Digest, Domain, digest
from crdtmerge.errors import LimitError, MalformedError, RejectedError
from crdtmerge.keys import KEY_BYTES, NodeId
from crdtmerge.limits import ADDRESSES_MAX, TICKET_BYTES_MAX
from crdtmerge.node import certificate, identity
from crdtmerge.node.address import Address

PREFIX: Final = "crdtmerge1"
VERSION: Final = 1
_CHECKSUM_BYTES: Final = 8


@dataclass(frozen=True, slots=True)
class Ticket:
    """An invitation, as the inviter made it."""

    federation: Digest
    inviter: NodeId
    addresses: tuple[Address, ...]
    leaf: bytes
    """The inviter's TLS certificate, DER."""
    ca_secret: bytes = field(repr=False)
    invite_seed: bytes = field(repr=False)
    expires_ms: int

    def __str__(self) -> str:
        """Return the text of the ticket, which `parse` reads."""
        payload = canon.encode(
            [
                VERSION,
                self.federation,
                self.inviter,
                [str(address) for address in self.addresses],
                self.leaf,
                self.ca_secret,
                self.invite_seed,
                self.expires_ms,
            ]
        )
        body = digest(Domain.INVITE, payload)[:_CHECKSUM_BYTES] + payload
        return PREFIX + base64.urlsafe_b64encode(body).decode().rstrip("=")


def parse(text: str) -> Ticket:
    """Read a ticket; white space around it is forgiven, nothing else is.

    Raises:
        LimitError: if the text is longer than TICKET_BYTES_MAX.
        MalformedError: if it is no ticket, was damaged on the way, or a field of it is out of range.
        RejectedError: if the leaf in it is not the inviter's.
    """
    text = text.strip()
    if len(text) > TICKET_BYTES_MAX:
        raise LimitError(f"a ticket of {len(text)} characters, at most {TICKET_BYTES_MAX} are accepted")
    if not text.startswith(PREFIX):
        raise MalformedError(f"not a ticket: a ticket begins with {PREFIX}")
    encoded = text.removeprefix(PREFIX)
    try:
        body = base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise MalformedError("not a ticket: characters that no ticket has") from error
    checksum, payload = body[:_CHECKSUM_BYTES], body[_CHECKSUM_BYTES:]
    if digest(Domain.INVITE, payload)[:_CHECKSUM_BYTES] != checksum:
        raise MalformedError("the ticket was damaged on the way: copy it again, whole")
    return _decode(payload)


def _decode(payload: bytes) -> Ticket:
    version, federation, inviter, addresses, leaf, ca_secret, seed, expires_ms = canon.array(
        canon.decode(payload, bytes_max=TICKET_BYTES_MAX), 8
    )
    canon.integer(version, VERSION, VERSION)
    texts = canon.array(addresses)
    if not 1 <= len(texts) <= ADDRESSES_MAX:
        raise LimitError(f"a ticket with {len(texts)} addresses, 1 to {ADDRESSES_MAX} are accepted")
    ticket = Ticket(
        federation=Digest(canon.octets(federation, DIGEST_BYTES)),
        inviter=NodeId(canon.octets(inviter, KEY_BYTES)),
        addresses=tuple(Address.parse(canon.text(text)) for text in texts),
        leaf=canon.octets(leaf),
        ca_secret=canon.octets(ca_secret, KEY_BYTES),
        invite_seed=canon.octets(seed, KEY_BYTES),
        expires_ms=canon.integer(expires_ms, 0),
    )
    identity.p256(ticket.ca_secret)
    if certificate.node_of(ticket.leaf, ticket.federation) != ticket.inviter:
        raise RejectedError("the certificate in the ticket is not the inviter's")
    return ticket
