"""The proof that somebody was invited: a one-time key signs the newcomer's node id.

An invitation ticket carries the secret half of a key made for it alone. Whoever holds the ticket signs
(federation, own node id) with that key, so a proof that is overheard admits nobody else.
"""

from __future__ import annotations

from typing import Final

from crdtmerge.authority import Authority
from crdtmerge.digest import Digest
from crdtmerge.errors import MalformedError, PolicyError
from crdtmerge.keys import KEY_BYTES, SIGNATURE_BYTES, NodeId, SigningKey, verify
from crdtmerge.op import Role
from crdtmerge.sync.messages import INVITE_PROOF_BYTES

_CONTEXT: Final = "invite"


def prove(invite: SigningKey, *, federation: Digest, node: NodeId) -> bytes:
    """Return the proof that ``node`` holds the secret ``invite`` to ``federation``."""
    return invite.id + invite.sign(_CONTEXT, federation + node)


def check(proof: bytes, *, federation: Digest, node: NodeId) -> NodeId:
    """Return the invite's public key if the proof was made for ``node``; whether it is open is not asked.

    Raises:
        MalformedError: if the proof has another length.
        SignatureError: if it was made by somebody else, for somebody else or for another federation.
    """
    if len(proof) != KEY_BYTES + SIGNATURE_BYTES:
        raise MalformedError(f"an invite's proof of {len(proof)} bytes, wanted {INVITE_PROOF_BYTES}")
    key = NodeId(proof[:KEY_BYTES])
    verify(key, _CONTEXT, federation + node, proof[KEY_BYTES:])
    return key


class Invites:
    """The open invites of one node.

    Args:
        host: the node, which has to be an admin to let anybody in.
        federation: whose member it is.
    """

    def __init__(self, host: NodeId, federation: Digest) -> None:
        self._host, self._federation = host, federation
        self._open: dict[NodeId, tuple[Role, int]] = {}

    def add(self, key: NodeId, role: Role, *, expires_ms: int) -> None:
        """Remember an invite by its public key."""
        self._open[key] = role, expires_ms

    def spend(self, now_ms: int, proof: bytes, node: NodeId, authority: Authority) -> tuple[NodeId, Role]:
        """Return the invite that ``node`` proves, and what it is invited as; the invite is open no more.

        Raises:
            MalformedError, SignatureError: as `check`.
            PolicyError: if there is no such open invite, ``node`` is banned, or the host no admin.
        """
        key = check(proof, federation=self._federation, node=node)
        role, expires_ms = self._open.get(key, (None, 0))
        if role is None or expires_ms <= now_ms or authority.is_banned(node):
            raise PolicyError(f"{node.hex()} holds no open invite")
        if not authority.is_admin(self._host):
            raise PolicyError("this node may admit nobody")
        del self._open[key]
        return key, role
