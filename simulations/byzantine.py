"""Nodes that are members and enemies: a driver that misuses real messages and a real identity.

An enemy runs an honest machine, so it knows what a member knows and is believed like one. On top of that
it lies in its replies (`lies`) and does what is named below, with whomever it finds. It holds its own key
and no other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from crdtmerge.digest import DIGEST_BYTES, Digest, Domain, digest
from crdtmerge.dtypes import DType
from crdtmerge.errors import CrdtMergeError
from crdtmerge.keys import KEY_BYTES, SIGNATURE_BYTES, NodeId, SigningKey
from crdtmerge.manifest import Kind, Manifest, Tensor
from crdtmerge.op import MILLISECONDS_MAX, Add, Admit, Ban, Block, Body, Operation, Retract, Role, SetRecipe
from crdtmerge.recipe import Recipe
from crdtmerge.simulations.host import Host
from crdtmerge.simulations.lies import LIES
from crdtmerge.simulations.network import Answer
from crdtmerge.sync.blobs import GetMeta, Meta
from crdtmerge.sync.events import Call, Failure
from crdtmerge.sync.messages import (
    NONCE_BYTES,
    GetOps,
    Hello,
    PushOps,
    Reconcile,
    Records,
    Reply,
    Request,
    Space,
)
from crdtmerge.sync.records import NodeRecord

FOREVER_MS: Final = MILLISECONDS_MAX


class Enemy(Host):
    """A member that keeps no promise.

    Attributes:
        behaviours: what it may do, of BEHAVIOURS.
        quiet: whether it only lies in its replies from now on, so that there is an end to wait for.
        deeds: how often it did what.
    """

    honest = False
    behaviours: tuple[str, ...] = ()
    quiet = False

    def act(self) -> None:
        """Do one of the things that it may do, if it runs."""
        acts = [name for name in self.behaviours if name in ACTS]
        if self.peer is None or not acts or self.quiet:
            return
        name = self._chance.choose(acts)
        self.watch.noticed(f"enemy: {name}")
        ACTS[name](self)

    def _serve(self, sender: NodeId, request: Request, answer: Answer) -> None:
        super()._serve(sender, request, lambda reply: self._lie(request, reply, answer))

    def _lie(self, request: Request, reply: Reply | CrdtMergeError, answer: Answer) -> None:
        lies = [name for name in self.behaviours if name in LIES]
        if isinstance(reply, CrdtMergeError) or not lies or self._chance.below(4) == 0:
            answer(reply)
            return
        name = self._chance.choose(lies)
        lie = LIES[name](self._chance, request, reply)
        if lie != reply:
            self.watch.noticed(f"enemy: {name}")
        if lie is not None:
            answer(lie)

    def _call(self, call: Call) -> None:
        self.heard = call.request
        super()._call(call)

    heard: Request | None = None
    """The last request of its machine: something to say again."""

    # --- means ------------------------------------------------------------------------------------

    def tell(self, request: Request, to: NodeId | None = None) -> None:
        """Send a request to somebody, or to anybody, and ignore the reply."""
        others = sorted(set(self.running.view.authority.members()) - {self.id})
        if others:
            self._network.call(self.id, to or self._chance.choose(others), request, _ignore)

    def claim(self, body: Body, *, created_ms: int | None = None, key: SigningKey | None = None) -> Operation:
        """Sign something, with a true signature."""
        return Operation.sign(
            key or self.key,
            body,
            federation=self.running.ops.federation,
            created_ms=self.local.now_ms if created_ms is None else created_ms,
            prev=(),
        )

    def push(self, *operations: Operation, to: NodeId | None = None) -> None:
        """Send operations to somebody."""
        self.tell(PushOps(tuple(operation.encoded for operation in operations)), to)

    def somebody(self) -> NodeId:
        """Return a member, perhaps oneself."""
        return self._chance.choose(self.running.view.authority.members())

    def some_digest(self) -> Digest:
        """Return a digest of nothing."""
        return Digest(self._chance.draw(DIGEST_BYTES))

    def something(self) -> Digest:
        """Return a contribution that exists; of nothing, if there is none."""
        known = sorted(self.disk.manifests)
        return self._chance.choose(known) if known else self.some_digest()

    def some_key(self) -> SigningKey:
        """Return the key of somebody who is no member."""
        return SigningKey(self._chance.draw(KEY_BYTES))

    def number(self, below: int) -> int:
        """Return a number."""
        return self._chance.below(below)


def _ignore(end: Reply | Failure) -> None:
    """Do nothing with a reply."""


def forge(enemy: Enemy) -> None:
    """Say something in another's name, with a signature of one's own or none."""
    body = Ban(enemy.somebody()) if enemy.number(2) else Add(enemy.something())
    honest = enemy.claim(body)
    signature = honest.signature if enemy.number(2) else bytes(SIGNATURE_BYTES)
    victim = enemy.somebody()
    forged = Operation(honest.federation, victim, honest.created_ms, (), body, signature)
    if victim != enemy.id:
        enemy.push(forged)


def usurp(enemy: Enemy) -> None:
    """Rule without authority: ban, block, admit, set the recipe, take back what others added."""
    tags = [tag for tags in enemy.running.view.adds.values() for tag in tags][:8]
    contents = list(enemy.running.view.contributions) or [enemy.some_digest()]
    bodies: list[Body] = [
        Ban(enemy.somebody()),
        Block(contents[enemy.number(len(contents))]),
        Admit(enemy.some_key().id, Role.ADMIN),
        Admit(enemy.id, Role.ADMIN),
        SetRecipe(Recipe("usurped", version=1), (enemy.running.view.recipe_id,)),
    ]
    if tags:
        bodies.append(Retract(tuple(sorted(tags))))
    enemy.push(enemy.claim(bodies[enemy.number(len(bodies))]))


def equivocate(enemy: Enemy) -> None:
    """Tell two members two stories, each as what comes next."""
    for _ in range(2):
        enemy.push(enemy.claim(Add(enemy.something())), to=enemy.somebody())


def lie_about_time(enemy: Enemy) -> None:
    """Claim the beginning or the end of time."""
    enemy.push(enemy.claim(Add(enemy.something()), created_ms=FOREVER_MS * enemy.number(2)))


def flood(enemy: Enemy) -> None:
    """Bring operations and records of strangers, and of oneself, in full messages."""
    strangers = [enemy.some_key() for _ in range(4)]
    said = [enemy.claim(Add(enemy.something()), key=key) for key in strangers]
    enemy.push(*said, *said, enemy.claim(Add(enemy.something())))
    enemy.tell(Records(tuple(_record(key, enemy.local.now_ms).encoded for key in strangers)))


def _record(key: SigningKey, now_ms: int) -> NodeRecord:
    return NodeRecord.sign(
        key, addresses=["127.0.0.1:1"] * 8, leaf=b"", sequence=FOREVER_MS, expires_ms=now_ms + 1_000_000
    )


def publish_nothing(enemy: Enemy) -> None:
    """Add contributions that nobody holds."""
    enemy.push(enemy.claim(Add(enemy.some_digest())))


def publish_monsters(enemy: Enemy) -> None:
    """Add a manifest of greatest sizes, or one that claims another's tensor in another shape."""
    manifests = enemy.disk.manifests
    roots = sorted({t.root for m in manifests.values() for t in m.tensors}) or [enemy.some_digest()]
    root = roots[enemy.number(len(roots))]
    shapes = [(1 << 40,), (0, 1 << 44), (3, 5, 7), (1 << 20, 1 << 20)]
    tensor = Tensor("t0000", DType.U8, shapes[enemy.number(len(shapes))], root)
    manifest = Manifest(kind=Kind.FULL, base=None, tensors=(tensor,))
    enemy.disk.manifests[manifest.digest] = manifest
    enemy.push(enemy.claim(Add(manifest.digest)))


def raise_the_dead(enemy: Enemy) -> None:
    """Add again what was taken back, and say again whatever was said."""
    dead = [
        o.body.contribution
        for o in enemy.running.ops
        if isinstance(o.body, Add) and o.body.contribution not in enemy.running.view.contributions
    ]
    if dead:
        enemy.push(enemy.claim(Add(dead[enemy.number(len(dead))])))
    old = list(enemy.running.ops)[:64]
    enemy.push(*old)
    if enemy.heard is not None:
        enemy.tell(enemy.heard)


def pester(enemy: Enemy) -> None:
    """Ask what cannot be asked: sessions that never began, pieces beyond the end, ids of nothing."""
    questions: list[Request] = [
        Reconcile(Space.OPERATIONS, enemy.some_digest(), enemy.some_digest()),
        Reconcile(Space.RECORDS, bytes(2 * NONCE_BYTES), b"\x93" * 4096),
        GetMeta(Meta.MANIFEST, enemy.some_digest(), 1 << 20),
        GetOps(tuple(enemy.some_digest() for _ in range(64))),
        PushOps(tuple(enemy.some_digest() * 512 for _ in range(64))),
        Hello(bytes(NONCE_BYTES), enemy.some_digest(), enemy.some_digest(), enemy.some_digest()),
        Hello(
            bytes(NONCE_BYTES),
            enemy.running.ops.federation,
            digest(Domain.PAYLOAD),
            digest(Domain.PAYLOAD),
            invite=bytes(KEY_BYTES + SIGNATURE_BYTES),
        ),
        Records((_record(enemy.key, 0).encoded, b"\xc1" * 4096)),
    ]
    enemy.tell(questions[enemy.number(len(questions))])


Act: TypeAlias = Callable[[Enemy], None]

ACTS: Final[dict[str, Act]] = {
    "forge": forge,
    "usurp": usurp,
    "equivocate": equivocate,
    "lie_about_time": lie_about_time,
    "flood": flood,
    "publish_nothing": publish_nothing,
    "publish_monsters": publish_monsters,
    "raise_the_dead": raise_the_dead,
    "pester": pester,
}

BEHAVIOURS: Final = (*LIES, *ACTS)
"""All that an enemy may do."""
