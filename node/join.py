"""Joining: from a ticket to a home that knows its federation and is known in it.

Three steps, each of which may be repeated after any interruption: introduce ourselves to the inviter with
the invitation, store the genesis that it answers with, and exchange with it until we see our own admission.
Nothing that would tie the home to a federation is written before the inviter answered.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Final

from crdtmerge import ambient
from crdtmerge.errors import DigestMismatchError, NotYetError, PolicyError, UsageError
from crdtmerge.keys import NodeId, SigningKey
from crdtmerge.ledger import FEDERATION
from crdtmerge.merkle import EMPTY
from crdtmerge.node import config as configuration
from crdtmerge.node import identity, seeds
from crdtmerge.node.client import CallError, Client, Contact
from crdtmerge.node.config import Config
from crdtmerge.node.credentials import Credentials
from crdtmerge.node.lock import locked
from crdtmerge.node.serve import driving, operations
from crdtmerge.node.ticket import Ticket
from crdtmerge.op import Operation
from crdtmerge.store import Store
from crdtmerge.sync.events import Failure
from crdtmerge.sync.invite import prove
from crdtmerge.sync.messages import NONCE_BYTES, Hello, HelloReply

ADMISSION_S: Final = 30.0
PERIOD_S: Final = 0.5
"""Between two exchanges, while somebody waits for the first."""
_LOOK_S: Final = 0.05


async def join(home: Path, ticket: Ticket, config: Config | None = None) -> NodeId:
    """Make ``home`` a member of the ticket's federation; return its node id.

    The home is created, with a new identity, unless it has one. Contributions are not fetched here: that
    goes on for as long as the home is served.

    Raises:
        UsageError: if the home belongs to another federation, or the ticket has expired.
        PolicyError: if the inviter refused.
        CallError: if the inviter could not be reached; try again later.
        NotYetError: if the admission did not arrive in time; try again later.
    """
    key = identity.create_signing_key(home)
    with locked(home), Store.open(home) as store:
        known = store.setting(FEDERATION)
        if known not in (None, ticket.federation):
            raise UsageError(f"{home} belongs to another federation; use another home")
        credentials = Credentials.make(
            key,
            tls_secret=identity.create_tls_secret(home),
            ca_secret=ticket.ca_secret,
            federation=ticket.federation,
            issued_ms=ambient.now_ms(),
        )
        config = config or configuration.load(home)
        inviter = Contact(ticket.inviter, ticket.addresses, ticket.leaf, given=True)
        genesis = await _introduce(key, ticket, inviter, credentials, config)
        identity.create_ca_secret(home, secret=ticket.ca_secret)
        seeds.save(store, inviter)
        store.add_operations([genesis.encoded])
        store.set_setting(FEDERATION, genesis.id)
        await _wait_for_admission(store, key, credentials, config)
    return key.id


def run(home: Path, ticket: Ticket, config: Config | None = None) -> NodeId:
    """Join from a program without an event loop; see `join`."""
    return asyncio.run(join(home, ticket, config))


async def _introduce(
    key: SigningKey, ticket: Ticket, inviter: Contact, credentials: Credentials, config: Config
) -> Operation:
    """Show the invitation to the inviter; return the verified genesis."""
    hello = Hello(
        nonce=ambient.entropy(NONCE_BYTES),
        federation=ticket.federation,
        state_root=EMPTY.root,
        book_root=EMPTY.root,
        invite=prove(SigningKey(ticket.invite_seed), federation=ticket.federation, node=key.id),
    )
    client = Client(credentials, may_dial_local=config.may_dial_local, proxy=config.proxy)
    try:
        reply = await client.call(inviter, hello)
    except CallError as error:
        if error.failure is not Failure.REFUSED:
            where = ", ".join(map(str, inviter.addresses))
            reason = f"no answer from the inviter at {where}; is its node running (`crdtmerge serve`)?"
            raise CallError(error.failure, f"{reason} {error}") from error
        expired = " (the ticket has expired)" if ticket.expires_ms <= ambient.now_ms() else ""
        raise PolicyError(f"the inviter refused{expired}: {error}") from error
    finally:
        await client.close()
    assert isinstance(reply, HelloReply)  # noqa: S101 - the client parses no other reply to Hello
    genesis = Operation.decode(reply.genesis)
    if genesis.id != ticket.federation:
        raise DigestMismatchError("the inviter's genesis", wanted=ticket.federation, got=genesis.id)
    genesis.verify()
    return genesis


async def _wait_for_admission(
    store: Store, key: SigningKey, credentials: Credentials, config: Config
) -> None:
    ops, position = operations(store)
    hurried = replace(config, period_s=PERIOD_S)
    async with driving(store, key, ops, position, credentials=credentials, config=hurried) as driver:
        try:
            async with asyncio.timeout(ADMISSION_S):
                while not driver.is_member(key.id):
                    driver.check()
                    await asyncio.sleep(_LOOK_S)
        except TimeoutError as error:
            raise NotYetError("the inviter answered, but the admission did not arrive: join again") from error
