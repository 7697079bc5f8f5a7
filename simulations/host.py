"""One simulated computer: how it starts and stops, and what people do with it.

The disk outlives the machine: `Host.crash` loses everything else, `Host.start` begins again from it. What
somebody said here and was told to be kept is in `Host.acknowledged`, and must never be lost.
"""

from __future__ import annotations

from collections.abc import Iterable

from crdtmerge.digest import Digest
from crdtmerge.errors import MalformedError, StoreError
from crdtmerge.keys import NodeId, SigningKey
from crdtmerge.op import Admit, Body, Operation, Role
from crdtmerge.opset import OpSet
from crdtmerge.simulations.clock import DAY_MS, Clock
from crdtmerge.simulations.driver import REVIVE_MS, Driver
from crdtmerge.simulations.network import Network
from crdtmerge.simulations.watch import Watch
from crdtmerge.sync import messages
from crdtmerge.sync.chance import Chance
from crdtmerge.sync.config import Config
from crdtmerge.sync.events import Failure, Output
from crdtmerge.sync.invite import prove
from crdtmerge.sync.messages import Reply
from crdtmerge.sync.peer import Peer
from crdtmerge.sync.records import NodeRecord

RECORD_LIFE_MS = 30 * DAY_MS
NOTHING = Digest(bytes(32))


class Host(Driver):
    """A computer on the network.

    Attributes:
        off: whether it stays down, even if somebody tries to revive it.
    """

    def __init__(
        self,
        key: SigningKey,
        clock: Clock,
        network: Network,
        chance: Chance,
        *,
        config: Config,
        watch: Watch | None = None,
    ) -> None:
        super().__init__(key, clock, network, chance, watch or Watch())
        self.off = False
        self._config = config
        self._genesis: Operation | None = None
        self._seeds: tuple[NodeId, ...] = ()

    # --- life -------------------------------------------------------------------------------------

    def start(self, genesis: Operation, *, seeds: Iterable[NodeId] = ()) -> None:
        """Run the machine from what is on the disk; if the disk does not let it, try again later."""
        self._genesis, self._seeds = genesis, tuple(seeds) or self._seeds
        self.local.restart()
        try:
            self.disk.put_operations([genesis])
            record = self._current_record()
        except StoreError as error:
            self.broken(error)
            return
        ops = OpSet(genesis)
        for operation in self.disk.operations.values():
            ops.add(operation, verify=False)
        self.run(
            Peer(
                self.id,
                ops,
                self.disk,
                self._chance.fork(f"life {self._life}"),
                config=self._config,
                seeds=self._seeds,
                record=record.encoded,
                records=[data for node, data in self.disk.records.items() if node != self.id],
                attestations=list(self.disk.attestations.values()),
            )
        )
        for key, (role, expires_ms, claimed) in list(self.disk.invites.items()):
            if claimed is not None:
                self._admit_claimed(key, role, claimed)
            elif self.peer is not None:
                self.peer.on_invite(key, role, expires_ms=expires_ms)

    def revive(self) -> None:
        """Start again, unless it runs or is kept off."""
        if self.peer is None and not self.off and self._genesis is not None:
            self.start(self._genesis)

    def join(self, inviter: NodeId, invite: SigningKey, federation: Digest) -> None:
        """Ask an inviter to be admitted, again and again until it answers, then start."""
        hello = messages.Hello(
            nonce=self._chance.draw(messages.NONCE_BYTES),
            federation=federation,
            state_root=NOTHING,
            book_root=NOTHING,
            invite=prove(invite, federation=federation, node=self.id),
        )

        def ended(end: Reply | Failure) -> None:
            if end is Failure.TIMEOUT:
                self.join(inviter, invite, federation)
            elif isinstance(end, messages.HelloReply) and end.genesis:
                genesis = Operation.decode(end.genesis)
                if genesis.id != federation:
                    raise MalformedError("the genesis of another federation")
                self.start(genesis, seeds=[inviter])
            else:
                self._clock.after(REVIVE_MS, lambda: self.join(inviter, invite, federation))

        self._network.call(self.id, inviter, hello, ended)

    def _admit_claimed(self, key: NodeId, role: Role, node: NodeId) -> None:
        """Finish an admission that a crash interrupted."""
        self.soon(lambda: self.turn(lambda peer: self.admit(node, role, key)))

    def _current_record(self) -> NodeRecord:
        """Return this host's own record: the stored one, or a new one once half of its life is over."""
        now_ms, stored = self.local.now_ms, self.disk.records.get(self.id)
        record = None if stored is None else NodeRecord.decode(stored)
        if record is None or record.expires_ms - now_ms <= RECORD_LIFE_MS // 2:
            record = NodeRecord.sign(
                self.key,
                addresses=[f"{self.id.hex()[:12]}.example:1"],
                leaf=b"",
                sequence=max(now_ms, record.sequence + 1 if record else 0),
                expires_ms=now_ms + RECORD_LIFE_MS,
            )
            self.disk.put_record(self.id, record.encoded)
        life = self._life + (self.peer is None)
        renew_ms = self.local.true_ms(record.expires_ms - RECORD_LIFE_MS // 2)
        self._clock.at(renew_ms, lambda: self._renew() if life == self._life else None)
        return record

    def _renew(self) -> None:
        self.soon(
            lambda: self.turn(lambda peer: peer.on_record(self.local.now_ms, self._current_record().encoded))
        )

    def sleep(self, wait_ms: int) -> None:
        """Do nothing for a while, as a suspended computer; what comes meanwhile waits."""
        if not self._busy:
            self._pause(wait_ms, self._resume)

    def reset_clock(self, ahead_ms: int) -> None:
        """Set the clock, which may wake the machine."""
        self.local.set(ahead_ms)
        self._alarm.put_out()
        self._plan()

    # --- work -------------------------------------------------------------------------------------

    def say(self, body: Body) -> Operation:
        """Sign an operation, make it durable, confirm it, and spread it.

        Raises:
            OutOfSpaceError: if the disk is full; nothing was confirmed.
        """
        operation = self.sign(body)
        self.acknowledged.append(operation.id)
        self.soon(lambda: self.turn(lambda peer: peer.on_local(self.local.now_ms, [operation])))
        return operation

    def open_invite(self, key: NodeId, role: Role, *, expires_ms: int) -> None:
        """Let the holder of an invitation in, also after a restart.

        Raises:
            OutOfSpaceError: if the disk is full.
        """
        self.disk.check_space()
        self.disk.invites[key] = role, expires_ms, None
        self.running.on_invite(key, role, expires_ms=expires_ms)

    def sign(self, body: Body) -> Operation:
        """Sign an operation and make it durable."""
        operation = Operation.sign(
            self.key,
            body,
            federation=self.running.ops.federation,
            created_ms=self.local.now_ms,
            prev=self.running.ops.heads(self.id),
        )
        self.disk.put_operations([operation])
        return operation

    def admit(self, node: NodeId, role: Role, invite: NodeId) -> list[Output]:
        """Sign one admission for an invitation, whatever happens in between; it is used up then."""
        open_role, expires_ms, claimed = self.disk.invites.get(invite, (role, 0, None))
        if invite not in self.disk.invites or claimed not in (None, node):
            return []
        self.disk.check_space()
        self.disk.invites[invite] = open_role, expires_ms, node
        if self.power_fails():
            return []
        outputs: list[Output] = []
        if self.running.view.authority.level(node) is None:
            outputs = self.running.on_local(self.local.now_ms, [self.sign(Admit(node, role))])
        del self.disk.invites[invite]
        return outputs
