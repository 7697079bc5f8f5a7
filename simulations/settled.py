"""What must hold after a simulation has healed, within its time and for good.

The correct are the honest hosts that are members by the founder's view; nobody can expel the founder. They
must agree on everything, hold every readable contribution whole, and see exactly what the definition of the
view says about the union of what they hold. What honest people confirmed is among it, unless an authority
above them voided it.
"""

from __future__ import annotations

from collections.abc import Sequence

from crdtmerge.digest import Digest
from crdtmerge.errors import MalformedError
from crdtmerge.manifest import Manifest, tensor_root
from crdtmerge.opset import OpSet
from crdtmerge.simulations.checkers import broken
from crdtmerge.simulations.host import Host
from crdtmerge.simulations.swarm import Swarm
from crdtmerge.view import View, view


def correct(swarm: Swarm) -> list[Host]:
    """Return the honest hosts that are members by the founder's view, running or not."""
    if swarm.founder.peer is None:
        return []
    members = swarm.founder.running.view.authority
    return [host for host in swarm.hosts if host.honest and members.is_member(host.id)]


def due(swarm: Swarm, hosts: Sequence[Host]) -> list[Digest]:
    """Return the contributions that every correct host must have: all parts are somewhere among them."""
    seen = swarm.founder.running.view.contributions
    base = swarm.founder.running.ops.charter.base
    return [one for one in [*([] if base is None else [base]), *seen] if _somewhere(one, hosts)]


def _somewhere(contribution: Digest, hosts: Sequence[Host]) -> bool:
    manifest: Manifest | None = None
    for host in hosts:
        manifest = host.disk.manifests.get(contribution) or manifest
    if manifest is None:
        return False
    for tensor in manifest.tensors + manifest.evidence:
        lists = (host.disk.tensors.get(tensor.root) for host in hosts)
        blocks = next((blocks for blocks in lists if blocks is not None), None)
        if blocks is None:
            return False
        try:
            if tensor_root(tensor.dtype, tensor.shape, blocks) != tensor.root:
                return False
        except MalformedError:
            return False  # the manifest lies about a tensor that others have
        if not all(any(host.disk.blocks.sound(block) for host in hosts) for block in blocks):
            return False
    return True


def difference(swarm: Swarm) -> str:
    """Say what keeps the correct hosts from being in agreement and complete; nothing if they are."""
    hosts = correct(swarm)
    if not hosts:
        return "the founder is down"
    down = [host for host in hosts if host.peer is None]
    if down:
        return f"{len(down)} of {len(hosts)} correct hosts are down"
    if any(op_id not in host.running.ops for host in hosts for op_id in host.acknowledged):
        return "a machine has not heard yet what was confirmed on its own host"
    for what, of in (("state", _state_root), ("visible", _visible_root)):
        roots = {of(host.running.view) for host in hosts}
        if len(roots) > 1:
            return f"{len(roots)} different {what} roots among {len(hosts)} correct hosts"
    wanted = due(swarm, hosts)
    for host in hosts:
        lacks = [one for one in wanted if not host.disk.holds(one)]
        if lacks:
            return f"{host.id.hex()[:8]} lacks {len(lacks)} of {len(wanted)} contributions"
    return ""


def _state_root(seen: View) -> Digest:
    return seen.state_root


def _visible_root(seen: View) -> Digest:
    return seen.root


def check(swarm: Swarm) -> None:
    """Check everything that must hold once the correct hosts agree.

    Raises:
        SimulationError: if something does not.
    """
    hosts = correct(swarm)
    union = OpSet(swarm.genesis)
    for host in hosts:
        for operation in host.running.ops:
            union.add(operation, verify=False)
    truth = view(union)
    for host in hosts:
        seen = host.running.view
        if (seen.state_root, seen.root) != (truth.state_root, truth.root):
            raise broken("G1", f"{host.id.hex()[:8]} agrees with the others, but not with the definition")
        if seen.recipe_id != truth.recipe_id or seen.blocked != truth.blocked:
            raise broken("G1", f"{host.id.hex()[:8]} has another recipe, or other blocks")
        if seen.authority.members() != truth.authority.members():
            raise broken("G1", f"{host.id.hex()[:8]} has other members")
    for host in (host for host in swarm.hosts if host.honest):
        for op_id in host.acknowledged:
            said = union.get(op_id) or host.disk.operations.get(op_id)
            if said is None:
                raise broken("G2", f"what {host.id.hex()[:8]} confirmed is nowhere any more")
            if truth.authority.retains(said) and op_id not in truth.state:
                raise broken("G3", f"what {host.id.hex()[:8]} confirmed never reached the others")
