"""What honest people do in a simulation: contribute, take back, let in, throw out, decide.

Each deed chooses somebody who can do it now, by what that host itself knows: in a partition two admins
decide at the same time and learn of each other later. A deed for which nobody is able does not happen; a
full disk refuses it before anything is confirmed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from crdtmerge.digest import DIGEST_BYTES, Digest
from crdtmerge.dtypes import DType
from crdtmerge.manifest import element_count
from crdtmerge.op import Add, Admit, Ban, Block, Coefficients, Retract, Role, SetRecipe, Unban
from crdtmerge.recipe import Recipe
from crdtmerge.simulations.disk import Raw
from crdtmerge.simulations.host import Host
from crdtmerge.simulations.plan import Plan
from crdtmerge.simulations.swarm import Swarm
from crdtmerge.sync.chance import Chance

FLOATS: Final[dict[str, tuple[int, ...]]] = {"layer.0": (3, 4), "layer.1": (5,)}
"""The tensors of models that are merged."""


STRATEGIES: Final = ("weight_average", "linear", "task_arithmetic", "ties", "dare", "slerp")
"""Recipes that admins choose from; all of them of version 1."""


@dataclass(frozen=True, slots=True)
class Scene:
    """Where a deed happens.

    Attributes:
        swarm, plan: of the simulation.
        chance: for this deed alone.
    """

    swarm: Swarm
    plan: Plan
    chance: Chance

    def able(self, *, admins: bool = False) -> list[Host]:
        """Return the honest hosts that run and are members (admins), by what they know."""
        found = []
        for host in self.swarm.up():
            who = host.running.view.authority
            if host.honest and (who.is_admin(host.id) if admins else who.is_member(host.id)):
                found.append(host)
        return found

    def one(self, *, admins: bool = False) -> Host | None:
        """Return one of `able`."""
        able = self.able(admins=admins)
        return self.chance.choose(able) if able else None

    def content(self, host: Host) -> Digest | None:
        """Return something that a host sees."""
        seen = list(host.running.view.contributions)
        return self.chance.choose(seen) if seen else None


Deed: TypeAlias = "Callable[[Scene], bool]"
"""Does something; returns whether it could."""


def floats(chance: Chance, shapes: Mapping[str, tuple[int, ...]] = FLOATS) -> dict[str, Raw]:
    """Return a model of F32 tensors whose values are between 0.5 and 2 or between -2 and -0.5."""
    model: dict[str, Raw] = {}
    for name, shape in shapes.items():
        raw = bytearray(chance.draw(4 * element_count(shape)))
        raw[3::4] = bytes(0x3F | byte & 0x80 for byte in raw[3::4])  # the exponent's upper bits
        model[name] = DType.F32, shape, bytes(raw)
    return model


def contribute(scene: Scene) -> bool:
    """Publish a new model, of which one tensor may be shared with an older one."""
    host, chance = scene.one(), scene.chance
    if host is None:
        return False
    if scene.plan.merge:
        base = host.running.ops.charter.base
        manifest = host.disk.put_model(floats(chance), base=base)
    else:
        count, size = scene.plan.tensors.draw(chance), scene.plan.bytes
        model: dict[str, bytes | Raw] = {f"t{n:04}": chance.draw(size.draw(chance)) for n in range(count)}
        model |= {"frozen": b"the same in all of them", "without a byte": b""}
        manifest = host.disk.put_model(model)
    host.say(Add(manifest.digest))
    return True


def add_again(scene: Scene) -> bool:
    """Add what is there already, or was taken back."""
    host = scene.one()
    known = [] if host is None else sorted(host.disk.manifests.keys() - {host.running.ops.charter.base})
    if host is None or not known:
        return False
    host.say(Add(scene.chance.choose(known)))
    return True


def retract(scene: Scene) -> bool:
    """Take back all adds of something, one's own or (as an admin) a lower one's."""
    host = scene.one()
    content = None if host is None else scene.content(host)
    if host is None or content is None:
        return False
    who, ops = host.running.view.authority, host.running.ops
    tags = []
    for tag in host.running.view.adds[content]:
        add = ops.get(tag)
        if add is not None and (add.author == host.id or who.outranks(host.id, add.author)):
            tags.append(tag)
    if not tags:
        return False
    host.say(Retract(tuple(sorted(tags))))
    return True


def invite(scene: Scene) -> bool:
    """Have somebody join by invitation."""
    host = scene.one(admins=True)
    if host is None:
        return False
    scene.swarm.invite(by=host)
    return True


def promote(scene: Scene) -> bool:
    """Make a member an admin."""
    host = scene.one(admins=True)
    honest = [other.id for other in scene.swarm.hosts if other.honest]
    if host is None:
        return False
    host.say(Admit(scene.chance.choose(honest), Role.ADMIN))
    return True


def ban(scene: Scene) -> bool:
    """Expel somebody of a lower level; half of the time, some of what they said stays."""
    host = scene.one(admins=True)
    if host is None:
        return False
    who = host.running.view.authority
    below = [node for node in who.members() if who.outranks(host.id, node)]
    enemies = [other.id for other in scene.swarm.hosts if not other.honest and other.id in below]
    if not below:
        return False
    target = scene.chance.choose(enemies if enemies and scene.chance.below(3) else below)
    said = list(host.running.ops.by_author(target))
    keep = scene.chance.sample(said, 3) if scene.chance.below(2) else []
    host.say(Ban(target, tuple(sorted(keep))))
    return True


def unban(scene: Scene) -> bool:
    """Lift all bans of somebody."""
    host = scene.one(admins=True)
    if host is None:
        return False
    standings = host.running.view.authority.standings
    banned = [node for node, standing in standings.items() if standing.bans]
    if not banned:
        return False
    target = scene.chance.choose(banned)
    host.say(Unban(target, standings[target].bans))
    return True


def block(scene: Scene) -> bool:
    """Refuse some content for good."""
    host = scene.one(admins=True)
    content = None if host is None else scene.content(host)
    if host is None or content is None:
        return False
    host.say(Block(content))
    return True


def set_recipe(scene: Scene) -> bool:
    """Choose another merge."""
    host = scene.one(admins=True)
    if host is None:
        return False
    strategy = scene.chance.choose(STRATEGIES)
    host.say(SetRecipe(Recipe(strategy, version=1), (host.running.view.recipe_id,)))
    return True


def coefficients(scene: Scene) -> bool:
    """Publish what a search found."""
    host = scene.one()
    content = None if host is None else scene.content(host)
    if host is None or content is None:
        return False
    host.say(Coefficients(Digest(scene.chance.draw(DIGEST_BYTES)), (content,)))
    return True


DEEDS: Final[dict[str, Deed]] = {
    "contribute": contribute,
    "add_again": add_again,
    "retract": retract,
    "invite": invite,
    "promote": promote,
    "ban": ban,
    "unban": unban,
    "block": block,
    "recipe": set_recipe,
    "coefficients": coefficients,
}
