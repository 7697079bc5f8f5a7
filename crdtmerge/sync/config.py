"""What a deployment may tune about synchronisation, with units; the defaults suit an open network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

SECOND_MS: Final = 1000
HOUR_MS: Final = 3600 * SECOND_MS


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Rates and bounds of one peer.

    Attributes:
        period_ms: mean time between two exchanges that this peer begins, in a federation of up to 32.
        jitter_percent: each period is drawn from ``period_ms`` ± this much.
        push_delay_ms: shortest and longest wait for more operations before a push.
        fanout: members that first hear of an operation from this peer.
        live_percent, suspect_percent: how often an exchange goes to a live member, to one that seems
            dead; the rest goes to seeds. Without the latter two a partition never heals.
        failures_until_suspect: failed calls in a row after which a member seems dead.
        backoff_ms_max: longest pause before a member that seems dead is tried again.
        calls_per_peer_max, calls_max: block transfers in flight with one peer, and in all.
        block_ban_ms: how long a peer that served a wrong block is no source.
        packed: whether the driver can unpack blocks, so that they may travel packed.
    """

    period_ms: int = 10 * SECOND_MS
    jitter_percent: int = 30
    push_delay_ms: tuple[int, int] = (20, 50)
    fanout: int = 6
    live_percent: int = 80
    suspect_percent: int = 10
    failures_until_suspect: int = 3
    backoff_ms_max: int = 300 * SECOND_MS
    calls_per_peer_max: int = 8
    calls_max: int = 32
    block_ban_ms: int = HOUR_MS
    packed: bool = False
