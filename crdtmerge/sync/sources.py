"""Whom to fetch from: how much of it at a time, and what each source was found to hold.

The window of calls under way with a source grows by one with every piece that arrives, and halves with
every time-out. A source that served wrong bytes is none for an hour: they were checked, so they cost one
transfer and no more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Set
from dataclasses import dataclass, field
from typing import Final

from crdtmerge.digest import Digest
from crdtmerge.keys import NodeId
from crdtmerge.sync.config import Config
from crdtmerge.sync.events import Failure
from crdtmerge.sync.wants import Piece

SOURCES_MAX: Final = 8
"""Nodes that are fetched from at a time."""


@dataclass
class Source:
    """One node as a source.

    Attributes:
        node: which.
        window: calls that may be under way with it.
        has: wanted blocks that it holds.
        asked: wanted blocks that it was asked about since the last look around.
        lacks: manifests and block lists that it did not give since then.
        asking: whether a question what it has is under way.
    """

    node: NodeId
    window: int
    has: set[Digest] = field(default_factory=set)
    asked: set[Digest] = field(default_factory=set)
    lacks: set[Piece] = field(default_factory=set)
    asking: bool = False

    def holds(self, piece: Piece) -> bool:
        """Whether it is worth asking for a piece: a block that it said it has, or anything else untried."""
        return piece.digest in self.has if piece.is_block else piece not in self.lacks

    def failed(self, piece: Piece) -> None:
        """It did not give a piece: do not ask again before the next look around."""
        self.has.discard(piece.digest)
        self.lacks.add(piece)


class Sources:
    """The sources in use, the calls under way with them, and the nodes that are none."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._banned_until_ms: dict[NodeId, int] = {}
        self._by_node: dict[NodeId, Source] = {}
        self._under_way: Counter[NodeId] = Counter()
        self._asked: dict[Piece, set[NodeId]] = {}

    @property
    def all(self) -> list[Source]:
        """The sources, the preferred first."""
        return list(self._by_node.values())

    def choose(self, now_ms: int, preferred: Iterable[NodeId], others: Iterable[NodeId]) -> None:
        """Look around: use the preferred nodes, those that proved useful, then others.

        What sources lacked is forgotten, so that they are asked again.
        """
        self._banned_until_ms = {n: until for n, until in self._banned_until_ms.items() if until > now_ms}
        others = list(others)
        useful = [node for node in others if node in self._by_node and self._by_node[node].has]
        nodes = [n for n in dict.fromkeys([*preferred, *useful, *others]) if n not in self._banned_until_ms]
        kept = self._by_node
        self._by_node = {
            node: kept.get(node) or Source(node, self._config.calls_per_peer_max)
            for node in nodes[:SOURCES_MAX]
        }
        for source in self._by_node.values():
            source.asked = set(source.has)
            source.lacks.clear()

    def ban(self, now_ms: int, node: NodeId) -> None:
        """Take nothing more from a node for a while."""
        self._banned_until_ms[node] = now_ms + self._config.block_ban_ms
        self._by_node.pop(node, None)

    def asked(self, piece: Piece) -> int:
        """Of how many nodes a piece is being asked."""
        return len(self._asked.get(piece, ()))

    @property
    def blocks_under_way(self) -> int:
        """How many blocks may arrive, one that was asked of two nodes counted twice."""
        return sum(len(nodes) for piece, nodes in self._asked.items() if piece.is_block)

    def room(self, resting: Set[NodeId] = frozenset()) -> bool:
        """Whether another call may be made, to anybody but those resting."""
        if self._under_way.total() >= self._config.calls_max:
            return False
        return any(self._room(s) > 0 and s.node not in resting for s in self._by_node.values())

    def pick(self, piece: Piece, resting: Set[NodeId] = frozenset()) -> Source | None:
        """Return the source with the most room that may hold a piece and is not being asked for it.

        Args:
            piece: which.
            resting: sources that want to be left alone.
        """
        if self._under_way.total() >= self._config.calls_max:
            return None
        asked = self._asked.get(piece, set()) | resting
        able = [s for s in self.all if s.holds(piece) and s.node not in asked and self._room(s) > 0]
        return max(able, key=self._room, default=None)

    def begin(self, source: Source, piece: Piece) -> None:
        """A call for a piece was made."""
        self._under_way[source.node] += 1
        self._asked.setdefault(piece, set()).add(source.node)

    def end(self, node: NodeId, piece: Piece, failure: Failure | None) -> None:
        """That call ended."""
        self._under_way[node] -= 1
        self._asked[piece].discard(node)
        if not self._asked[piece]:
            del self._asked[piece]
        source = self._by_node.get(node)
        if source is None:
            return
        if failure is None:
            source.window = min(source.window + 1, self._config.calls_per_peer_max)
        else:
            source.window = max(source.window // 2, 1)
            if failure not in (Failure.TIMEOUT, Failure.BUSY):  # after which time passes: no busy loop
                source.failed(piece)

    def stored(self, piece: Piece) -> None:
        """Nobody needs to be asked for a piece any more."""
        for source in self._by_node.values():
            source.has.discard(piece.digest)
            source.asked.discard(piece.digest)

    def rarity(self) -> Counter[Digest]:
        """Return how many sources hold each block."""
        return Counter(block for source in self._by_node.values() for block in source.has)

    def _room(self, source: Source) -> int:
        return source.window - self._under_way[source.node]
