"""Keeping what this node shows of itself current: its certificate, and the record that pins it.

A new key is made when half of the leaf's life is over, or when `crdtmerge rotate` put the old one aside. Then
in this order: the server presents both leaves, the client calls with the new one, and the new record spreads.
Whoever has the old record still finds the old leaf; whoever has the new one refuses calls under it.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from crdtmerge import ambient
from crdtmerge.keys import SigningKey
from crdtmerge.node import wardrobe
from crdtmerge.node.address import Address
from crdtmerge.node.credentials import Credentials
from crdtmerge.node.driver import Driver
from crdtmerge.node.record import current_record, leaf_issued_ms, own_record
from crdtmerge.node.server import Server
from crdtmerge.op import Operation
from crdtmerge.store import Store

log = logging.getLogger(__name__)

LOOK_S: Final = 2.0
RENEW_S: Final = 3600.0


@dataclass(slots=True)
class Renewal:
    """What one node shows of itself, and where that comes from."""

    home: Path
    store: Store
    key: SigningKey
    genesis: Operation

    def credentials(self) -> Credentials:
        """Return the credentials now, with a new key if the old one is worn out.

        Raises:
            UsageError: if the home lacks a key, or did not join yet.
        """
        now_ms = ambient.now_ms()
        mine = own_record(self.store, self.key.id)
        if mine is not None:  # a leaf older than the one that others know of would be refused
            now_ms = max(now_ms, leaf_issued_ms(mine.leaf, self.genesis.id) + 1000)
        made = Credentials.load(self.home, self.genesis, now_ms=now_ms)
        if wardrobe.worn(made.leaf, self.genesis.id, now_ms=now_ms):
            wardrobe.rotate(self.home)
            made = Credentials.load(self.home, self.genesis, now_ms=now_ms)
        return made

    def record(self, credentials: Credentials, addresses: tuple[Address, ...]) -> bytes:
        """Return this node's record, signed again where it has to be."""
        return current_record(
            self.store, self.key, addresses=addresses, leaf=credentials.leaf, now_ms=ambient.now_ms()
        ).encoded

    async def watch(
        self, credentials: Credentials, addresses: tuple[Address, ...], server: Server, driver: Driver
    ) -> None:
        """Renew certificate and record, for ever: every hour, and when the keys in the home change."""
        state: wardrobe.State = ()  # unknown, so the keys are read again soon after the start
        record = self.record(credentials, addresses)
        renewed_s = asyncio.get_running_loop().time()
        while True:
            await asyncio.sleep(LOOK_S)
            now_s = asyncio.get_running_loop().time()
            if wardrobe.state(self.home) == state and now_s - renewed_s < RENEW_S:
                continue
            made = self.credentials()
            state, renewed_s = wardrobe.state(self.home), now_s
            if made != credentials:
                log.info("certificates presented=%d", 1 if made.old is None else 2)
                server.renew(made)
            if (again := self.record(made, addresses)) != record or made != credentials:
                await driver.renew(again, None if made == credentials else made)
            credentials, record = made, again
