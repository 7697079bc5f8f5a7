"""When each node was last spoken with: figures for people, never an input of the protocol.

The node keeps them in memory and stores them now and then, so that `crdtmerge peers` can show them also
while the node is down. Losing them loses nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from crdtmerge import canon
from crdtmerge.errors import MalformedError
from crdtmerge.keys import KEY_BYTES, NodeId
from crdtmerge.store import Store

_SETTING: Final = "node/figures"
_BYTES_MAX: Final = 16 << 20


@dataclass(frozen=True, slots=True)
class LastContact:
    """What is known of our calls to one node.

    Attributes:
        success_ms: when it last answered, in milliseconds since 1970; 0 for never.
        failure_ms: when it last did not; 0 for never.
        failures: calls in a row that it did not answer.
        round_trip_ms: how long the last answer took.
        reason: of the last failure.
    """

    success_ms: int = 0
    failure_ms: int = 0
    failures: int = 0
    round_trip_ms: int = 0
    reason: str = ""


class Figures:
    """The figures of one node.

    Attributes:
        reachable: whether others could dial this node back; None until one tried.
    """

    def __init__(self) -> None:
        self.reachable: bool | None = None
        self._last: dict[NodeId, LastContact] = {}

    def __getitem__(self, node: NodeId) -> LastContact:
        return self._last.get(node, LastContact())

    def succeeded(self, node: NodeId, *, now_ms: int, round_trip_ms: int) -> None:
        """Note an answer."""
        self._last[node] = replace(self[node], success_ms=now_ms, failures=0, round_trip_ms=round_trip_ms)

    def failed(self, node: NodeId, *, now_ms: int, reason: str) -> None:
        """Note a call without an answer."""
        before = self[node]
        self._last[node] = replace(before, failure_ms=now_ms, failures=before.failures + 1, reason=reason)

    def encode(self) -> bytes:
        """Return the figures as bytes, for `save`."""
        return canon.encode(
            [
                self.reachable,
                [
                    [node, last.success_ms, last.failure_ms, last.failures, last.round_trip_ms, last.reason]
                    for node, last in sorted(self._last.items())
                ],
            ]
        )


def save(store: Store, figures: bytes) -> None:
    """Store what `Figures.encode` returned."""
    store.set_setting(_SETTING, figures)


def load(store: Store) -> Figures:
    """Return the stored figures; none if there are none, or if they cannot be read."""
    figures = Figures()
    try:
        reachable, nodes = canon.array(canon.decode(store.setting(_SETTING) or b"", bytes_max=_BYTES_MAX), 2)
        for entry in canon.array(nodes):
            node, success, failure, failures, round_trip, reason = canon.array(entry, 6)
            figures._last[NodeId(canon.octets(node, KEY_BYTES))] = LastContact(
                canon.integer(success),
                canon.integer(failure),
                canon.integer(failures),
                canon.integer(round_trip),
                canon.text(reason),
            )
        figures.reachable = None if reachable is None else canon.flag(reachable)
    except MalformedError:
        return Figures()
    return figures
