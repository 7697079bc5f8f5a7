"""The proof that somebody was invited: a one-time key signs the newcomer's node id.

An invitation ticket carries the secret half of a key made for it alone. Whoever holds the ticket signs
(federation, own node id) with that key, so a proof that is overheard admits nobody else.
"""

from __future__ import annotations

from typing import Final

from crdtmerge.digest import Digest
from crdtmerge.errors import MalformedError
from crdtmerge.keys import KEY_BYTES, SIGNATURE_BYTES, NodeId, SigningKey, verify
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
