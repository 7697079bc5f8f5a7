"""Merged models in a simulation: every correct host computes its own, from its own disk.

The engine is the real one. What nobody can fetch stands in the way of a merge; as people would, the founder
blocks it first.
"""

from __future__ import annotations

from crdtmerge.digest import DIGEST_BYTES, Digest, Domain, digest
from crdtmerge.errors import EmptySetError
from crdtmerge.ledger import FEDERATION
from crdtmerge.manifest import Manifest
from crdtmerge.op import Block
from crdtmerge.recipe import Recipe
from crdtmerge.replica import Replica
from crdtmerge.simulations.checkers import broken
from crdtmerge.simulations.host import Host
from crdtmerge.simulations.settled import correct, due
from crdtmerge.simulations.swarm import Swarm
from crdtmerge.store import Store


def block_the_unreachable(swarm: Swarm) -> int:
    """Have the founder block what nobody holds whole; return how much that was."""
    there = set(due(swarm, correct(swarm)))
    unreachable = [one for one in swarm.founder.running.view.contributions if one not in there]
    for contribution in unreachable:
        swarm.founder.say(Block(contribution))
    return len(unreachable)


def merged_by_all(swarm: Swarm) -> str:
    """Return the digest of the merged model, in hexadecimal; empty if there is nothing to merge.

    Raises:
        SimulationError: if two hosts computed different bytes.
    """
    models = {host.id: merged(host) for host in correct(swarm)}
    if len(set(models.values())) > 1:
        shown = ", ".join(f"{node.hex()[:8]} {model.hex()[:16]}" for node, model in models.items())
        raise broken("G1", f"merged models differ: {shown}")
    model = next(iter(models.values()))
    return "" if model == Digest(bytes(DIGEST_BYTES)) else model.hex()


def merged(host: Host, recipe: Recipe | None = None) -> Digest:
    """Return the digest of the model that a host computes; zeros if there is nothing to merge."""
    store = _store(host)
    with Replica(store, host.key) as replica:
        try:
            state = replica.merged(recipe=recipe)
        except EmptySetError:
            return Digest(bytes(DIGEST_BYTES))
    parts = []
    for name in sorted(state):
        raw = state[name].contiguous().numpy().tobytes()
        parts += [name.encode(), b"\0", len(raw).to_bytes(8, "big"), raw]
    return digest(Domain.MODEL, b"".join(parts))


def _store(host: Host) -> Store:
    """Return a store in memory with what is on a host's disk."""
    store, disk = Store.memory(), host.disk
    store.add_operations(operation.encoded for operation in disk.operations.values())
    store.set_setting(FEDERATION, host.running.ops.federation)
    for block in sorted(disk.blocks):
        store.blocks.put(disk.blocks.get(block))
    for manifest in disk.manifests.values():
        _put(store, host, manifest)
    return store


def _put(store: Store, host: Host, manifest: Manifest) -> None:
    for tensor in manifest.tensors + manifest.evidence:
        blocks = host.disk.tensors.get(tensor.root)
        if blocks is None:
            return
        if len(blocks) == tensor.blocks:
            store.put_tensor(tensor.dtype, tensor.shape, blocks)
    store.put_manifest(manifest)
