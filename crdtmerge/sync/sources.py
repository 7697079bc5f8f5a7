"""Whom to fetch from: how much of it at a time, and what each source was found to hold.

A window of calls per source grows by one with every piece that arrives and halves with every time-out. A
source that served a wrong block is none for an hour: its bytes were checked, so it cost one transfer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from crdtmerge.digest import Digest
from crdtmerge.keys import NodeId
from crdtmerge.sync.config import Config
from crdtmerge.sync.wants import Piece

SOURCES_MAX = 8
"""Nodes that blocks are fetched from at a time."""


@dataclass
class Source:
    """One node as a source.

    Attributes:
        node: which.
        window: calls that may be under way with it.
        in_flight: pieces asked of it.
        has: wanted blocks that it holds.
        asked: wanted blocks that it was asked about since the last look.
        lacks: manifests and block lists that it did not hold when asked.
        asking: whether it is being asked what it has.
    """

    node: NodeId
    window: int
    in_flight: set[Piece] = field(default_factory=set)
    has: set[Digest] = field(default_factory=set)
    asked: set[Digest] = field(default_factory=set)
    lacks: set[Piece] = field(default_factory=set)
    asking: bool = False

    @property
    def room(self) -> int:
        """How many more calls may be made to it."""
        return self.window - len(self.in_flight)


class Sources:
    """The sources in use, and the nodes that are none.

    Args:
        config: bounds.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._banned_until_ms: dict[NodeId, int] = {}
        self.by_node: dict[NodeId, Source] = {}

    def __iter__(self) -> Iterable[Source]:  # type: ignore[override]
        return iter(self.by_node.values())

    def choose(self, now_ms: int, candidates: Iterable[NodeId]) -> None:
        """Use the first candidates that are not banned; forget what the others lacked at the last look."""
        banned = self._banned_until_ms
        self._banned_until_ms = {node: until for node, until in banned.items() if until > now_ms}
        chosen = [node for node in dict.fromkeys(candidates) if node not in self._banned_until_ms]
        kept, self.by_node = self.by_node, {}
        for node in chosen[:SOURCES_MAX]:
            source = self.by_node[node] = kept.get(node) or Source(node, self._config.calls_per_peer_max)
            source.asked = set(source.has)
            source.lacks.clear()

    def succeeded(self, source: Source) -> None:
        """A piece arrived."""
        source.window = min(source.window + 1, self._config.calls_per_peer_max)

    def timed_out(self, source: Source) -> None:
        """A call was not answered."""
        source.window = max(source.window // 2, 1)

    def ban(self, now_ms: int, node: NodeId) -> None:
        """Take nothing more from a node for a while."""
        self._banned_until_ms[node] = now_ms + self._config.block_ban_ms
        self.by_node.pop(node, None)

    def rarity(self) -> Mapping[Digest, int]:
        """Return how many sources hold each block; blocks that none holds are left out."""
        counts: dict[Digest, int] = {}
        for source in self.by_node.values():
            for block in source.has:
                counts[block] = counts.get(block, 0) + 1
        return counts
