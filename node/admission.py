"""Letting newcomers in: what an invitation is good for, once, also after a crash in the middle.

Three durable steps: claim the invitation for that node, store the admission, forget the invitation. Whatever
the last one that was done, the next start goes on from there (`crdtmerge.node.invites`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from crdtmerge.keys import NodeId, SigningKey
from crdtmerge.node import invites
from crdtmerge.op import Admit, Operation, Role
from crdtmerge.store import Store
from crdtmerge.sync.events import Output
from crdtmerge.sync.peer import Peer

log = logging.getLogger(__name__)


class Admissions:
    """Signs admissions for one node.

    Args:
        store: the home's.
        key: this node's identity.
        peer: the machine.
        local: gives the machine operations that are stored.
        now_ms: a clock that never goes back.
    """

    def __init__(
        self,
        store: Store,
        key: SigningKey,
        peer: Peer,
        local: Callable[[Iterable[Operation]], list[Output]],
        now_ms: Callable[[], int],
    ) -> None:
        self._store, self._key, self._peer = store, key, peer
        self._local, self._now_ms = local, now_ms

    def look(self) -> list[Output]:
        """Tell the machine of open invitations, finish what was interrupted, forget what has expired."""
        outputs: list[Output] = []
        for invite in list(invites.outstanding(self._store)):
            if invite.claimed is not None:
                outputs += self.admit(invite.claimed, invite.role, invite.key)
            elif invite.expires_ms <= self._now_ms():
                invites.forget(self._store, invite.key)
            else:
                self._peer.on_invite(invite.key, invite.role, expires_ms=invite.expires_ms)
        return outputs

    def admit(self, node: NodeId, role: Role, key: NodeId) -> list[Output]:
        """Admit a node that proved an invitation, unless that is used up; return what follows."""
        invite = invites.find(self._store, key)
        if invite is None or invite.claimed not in (None, node):
            log.warning("refused node=%s reason=the invitation is used up", node.hex()[:16])
            return []
        invites.save(self._store, invites.Invite(key, role, invite.expires_ms, claimed=node))
        outputs: list[Output] = []
        if self._peer.view.authority.level(node) is None:
            operation = Operation.sign(
                self._key,
                Admit(node, role),
                federation=self._peer.ops.federation,
                created_ms=self._now_ms(),
                prev=self._peer.ops.heads(self._key.id),
            )
            self._store.add_operations([operation.encoded])
            outputs = self._local([operation])
            log.info("admitted node=%s role=%s", node.hex()[:16], role.value)
        invites.forget(self._store, key)
        return outputs
