"""A federation in virtual time: hosts, the network between them, and the questions a test asks.

    swarm = Swarm(seed=7, hosts=8)
    swarm.contribute(swarm.hosts[3])
    swarm.run_until(swarm.agreed, within_ms=60_000)

One seed, one history: whatever happened once can be made to happen again, to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from crdtmerge.digest import Digest
from crdtmerge.keys import KEY_BYTES, SigningKey
from crdtmerge.manifest import Kind
from crdtmerge.op import Add, Admit, Ban, Genesis, Operation, Policy, Role
from crdtmerge.recipe import Recipe
from crdtmerge.simulations.clock import DAY_MS, Clock
from crdtmerge.simulations.disk import Raw
from crdtmerge.simulations.host import Host
from crdtmerge.simulations.network import Conditions, Network
from crdtmerge.simulations.watch import Watch
from crdtmerge.sync.chance import Chance
from crdtmerge.sync.config import Config

H = TypeVar("H", bound=Host)

LOOK_MS = 10
"""How often `Swarm.run_until` looks."""


class Swarm:
    """Hosts of one federation; the first is its founder and has admitted the others.

    Args:
        seed: decides everything that is uncertain.
        hosts: how many.
        conditions: what the network is like.
        config: of every peer.
        watch: looks on.
        policy: the federation's quotas.
        base: tensors of the base model, if there is to be one.
        recipe: of the merge.

    Attributes:
        hosts: in the order in which they came.
    """

    def __init__(
        self,
        *,
        seed: int,
        hosts: int,
        conditions: Conditions | None = None,
        config: Config | None = None,
        watch: Watch | None = None,
        policy: Policy | None = None,
        base: Mapping[str, Raw] | None = None,
        recipe: Recipe | None = None,
    ) -> None:
        self.chance = Chance(f"swarm {seed}".encode())
        self.clock = Clock()
        self.network = Network(self.clock, self.chance.fork("network"), conditions or Conditions())
        self.hosts: list[Host] = []
        self._config = config or Config()
        self._watch = watch or Watch()
        founder = self.add_host(Host)
        manifest = None if base is None else founder.disk.put_model(base, kind=Kind.BASE)
        charter = Genesis(
            founders=(founder.id,),
            base=None if manifest is None else manifest.digest,
            schema=None if manifest is None else manifest.schema,
            recipe=recipe or Recipe("linear", version=1),
            nonce=self.chance.draw(16),
            policy=policy or Policy(),
        )
        self.genesis = Operation.sign(
            founder.key, charter, federation=None, created_ms=self.clock.now_ms, prev=()
        )
        founder.start(self.genesis)
        for _ in range(hosts - 1):
            self.recruit(Host)

    @property
    def federation(self) -> Digest:
        """The federation's id."""
        return self.genesis.id

    @property
    def founder(self) -> Host:
        """Whom nobody can ban."""
        return self.hosts[0]

    @property
    def trace(self) -> Digest:
        """Stands for everything that has happened on the network."""
        return self.network.trace

    def add_host(self, kind: type[H]) -> H:
        """Return a new host, which is off and nobody knows."""
        key = SigningKey(self.chance.draw(KEY_BYTES))
        chance = self.chance.fork(f"host {len(self.hosts)}")
        host = kind(key, self.clock, self.network, chance, config=self._config, watch=self._watch)
        self.hosts.append(host)
        return host

    # --- what happens -------------------------------------------------------------------------------

    def recruit(self, kind: type[H], role: Role = Role.MEMBER) -> H:
        """Have the founder admit a new host, which starts."""
        host = self.add_host(kind)
        self.founder.say(Admit(host.id, role))
        host.start(self.genesis, seeds=[self.founder.id])
        return host

    def contribute(self, host: Host, *, tensors: int = 3, bytes_each: int = 64) -> Operation:
        """Have a host publish a new model."""
        model = {f"t{number:04}": self.chance.draw(bytes_each) for number in range(tensors)}
        return host.say(Add(host.disk.put_model(model).digest))

    def ban(self, host: Host, *, by: Host, keep: Iterable[Digest] = ()) -> Operation:
        """Have an admin expel a host."""
        return by.say(Ban(host.id, tuple(sorted(keep))))

    def invite(self, *, by: Host) -> Host:
        """Have a new host join with an invitation of an admin.

        Raises:
            OutOfSpaceError: if the admin's disk is full.
        """
        by.disk.check_space()
        host, secret = self.add_host(Host), SigningKey(self.chance.draw(KEY_BYTES))
        by.open_invite(secret.id, Role.MEMBER, expires_ms=by.local.now_ms + 7 * DAY_MS)
        host.join(by.id, secret, self.federation)
        return host

    def run(self, duration_ms: int) -> None:
        """Let time pass."""
        self.clock.run(duration_ms)

    def run_until(
        self, condition: Callable[[], bool], *, within_ms: int, every_ms: int = LOOK_MS
    ) -> int | None:
        """Let time pass until something is so; return how long it took, or None if it never was."""
        start_ms = looked_ms = self.clock.now_ms
        while not condition():
            looked_ms = self.clock.now_ms
            while self.clock.now_ms < looked_ms + every_ms:
                if not self.clock.step(start_ms + within_ms):
                    return self.clock.now_ms - start_ms if condition() else None
        return self.clock.now_ms - start_ms

    # --- how it stands ------------------------------------------------------------------------------

    def up(self) -> list[Host]:
        """The hosts that run."""
        return [host for host in self.hosts if host.peer is not None]

    def agreed(self, hosts: Iterable[Host] | None = None) -> bool:
        """Whether hosts (those that run) have the same operations that count."""
        return len({host.running.view.state_root for host in hosts or self.up()}) == 1

    def complete(self, hosts: Iterable[Host] | None = None) -> bool:
        """Whether hosts (those that run) agree and hold all content of what is visible."""
        hosts = list(hosts or self.up())
        return self.agreed(hosts) and all(
            host.running.missing == 0 and host.ready >= set(host.running.view.contributions) for host in hosts
        )
