"""What this home attests of its results, and what it knows of others' attestations.

A result that was published is attested: signed by the node's key and stored, from where a running node
spreads it. Then it is compared with what the other members attest. A contradiction is raised, never
resolved: no attestation, and no number of them, makes a computed result right or wrong. What decides is
computing it again.
"""

from __future__ import annotations

from collections.abc import Iterator

from crdtmerge.digest import Digest
from crdtmerge.errors import DivergenceError, RejectedError
from crdtmerge.keys import NodeId, SigningKey
from crdtmerge.store import Store
from crdtmerge.sync.attestation import Agreement, Attestation, Claim, compare
from crdtmerge.visible import View


def readable(store: Store) -> Iterator[bytes]:
    """Yield the stored attestations; forget damaged ones, which come again."""
    for node, name, data in list(store.attestations()):
        try:
            Attestation.decode(data)
        except RejectedError:
            store.remove_attestation(node, name)
        else:
            yield data


def agreement(store: Store, view: View, *, me: NodeId, recipe: Digest, root: Digest) -> Agreement:
    """Compare what the members attest of the result of a recipe at a visible root."""
    stored = map(Attestation.decode, readable(store))
    members = (one for one in stored if view.authority.is_member(one.node))
    newest: dict[NodeId, Attestation] = {}
    for one in sorted(members, key=lambda one: one.age):
        if one.subject == (recipe, root):
            newest[one.node] = one
    return compare(newest.values(), me=me, recipe=recipe, root=root)


def attest(
    store: Store,
    key: SigningKey,
    view: View,
    claim: Claim,
    *,
    federation: Digest,
    environment: str,
    now_ms: int,
) -> Attestation:
    """Attest a result that this home computed or checked; durable on return.

    Who is no member attests nothing to anybody: nothing is stored then. What was attested before is not
    attested again.

    Raises:
        DivergenceError: if another member, or this node at an earlier time, attests another model made
            from the same. Our attestation is stored all the same: others are to hear of it.
    """
    subject = {"recipe": claim.recipe, "root": claim.root}
    before = agreement(store, view, me=key.id, **subject).ours
    ours = before
    if ours is None or ours.claim != claim:
        created_ms = max(now_ms, 0 if before is None else before.created_ms + 1)
        ours = Attestation.sign(
            key, claim, federation=federation, environment=environment, created_ms=created_ms
        )
        if view.authority.is_member(key.id):
            store.put_attestation(ours.node, ours.id, ours.encoded)
            if before is not None:
                store.remove_attestation(before.node, before.id)
    if before is not None and before.contradicts(ours):
        raise _divergence("this node attested another model before", ours, before)
    for theirs in agreement(store, view, me=key.id, **subject).differ:
        raise _divergence(f"node {theirs.node.hex()} attests another model", ours, theirs)
    return ours


def take_over(source: Store, target: Store) -> None:
    """Take over what another replica in this process knows of attestations."""
    for node, name, data in list(source.attestations()):
        target.put_attestation(node, name, data)


def _divergence(what: str, ours: Attestation, theirs: Attestation) -> DivergenceError:
    return DivergenceError(
        f"{what}, made from the same contributions by the same recipe. Our result was published and stands; "
        "compute it again on both machines to see which is wrong, and report it",
        ours=ours.claim.model,
        theirs=theirs.claim.model,
        our_environment=ours.environment,
        their_environment=theirs.environment,
    )
