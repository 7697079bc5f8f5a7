"""How `crdtmerge status` shows whether members agree, and what keeps this node from completing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crdtmerge.sync.attestation import Agreement

from .screen import short

if TYPE_CHECKING:
    from crdtmerge.node.shortage import Shortage


def agreement_data(agreement: Agreement) -> dict[str, Any]:
    """Return an agreement as JSON: how many agree, and who does not."""
    return {
        "model": None if agreement.model is None else agreement.model.hex(),
        "ours": agreement.ours is not None,
        "agree": len(agreement.agree),
        "attested": agreement.attested,
        "diverged": [
            {"node": one.node.hex(), "model": one.claim.model.hex(), "environment": one.environment}
            for one in agreement.differ
        ],
        "other_inputs": [one.node.hex() for one in agreement.apart],
    }


def agreement_lines(agreement: Agreement) -> list[str]:
    """Return an agreement for people."""
    if agreement.model is None:
        return ["merged model: nobody attests one at this root"]
    whose = "" if agreement.ours is not None else ", none of them this node"
    shown = [
        f"merged model {short(agreement.model)}…: agree {len(agreement.agree)} of {agreement.attested}{whose}"
    ]
    shown += [f"  {short(one.node)}… merged or left out other contributions" for one in agreement.apart]
    shown += [
        f"  DIVERGED: {short(one.node)}… attests model {short(one.claim.model)}… ({one.environment})"
        for one in agreement.differ
    ]
    if agreement.differ:
        shown.append("  Attestations are claims: compute the result again on both machines to see who errs.")
    return shown


def room_data(shortage: Shortage | None) -> dict[str, int] | None:
    """Return what waits for room on the disk as JSON."""
    if shortage is None:
        return None
    return {"needed_bytes": shortage.needed_bytes, "free_bytes": shortage.free_bytes}


def room_lines(shortage: Shortage | None) -> list[str]:
    """Return what waits for room on the disk, for people."""
    if shortage is None:
        return []
    what = f"{short(shortage.contribution)}… needs {shortage.needed_bytes:,} bytes"
    return [f"DISK FULL: {what}, {shortage.free_bytes:,} may be filled; downloads go on when there is room"]
