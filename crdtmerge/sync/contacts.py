"""Whom to talk to: members that answer, members that seem dead, and seeds.

There is no failure detector and none is needed: that a member seems dead only decides how often it is
tried. It is tried again and again with growing pauses, and counts as alive the moment it is heard of.
Without calls to the seemingly dead and to seeds two halves of a split network would never look for each
other again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Final

from crdtmerge.keys import NodeId
from crdtmerge.sync.chance import Chance
from crdtmerge.sync.config import Config

REST_MS: Final = 1000
"""How long a busy node is left alone that does not say how long."""

REST_MS_MAX: Final = 60_000
"""The longest that a busy node is left alone, whatever it says."""


class Contacts:
    """What calls have shown about other nodes.

    Args:
        listed: the nodes that have a record, oneself perhaps among them.
        is_member: who is a member.
        me: oneself.
        seeds: nodes whose addresses are known otherwise; called now and then whatever happens.
        chance, config: as of the peer.
    """

    def __init__(
        self,
        listed: Callable[[], Sequence[NodeId]],
        is_member: Callable[[NodeId], bool],
        *,
        me: NodeId,
        seeds: Sequence[NodeId],
        chance: Chance,
        config: Config,
    ) -> None:
        self._listed, self._is_member, self._me = listed, is_member, me
        self._seeds = sorted(set(seeds) - {me})
        self._chance, self._config = chance, config
        self._failures: dict[NodeId, int] = {}
        self._retry_ms: dict[NodeId, int] = {}
        self._rest_ms: dict[NodeId, int] = {}

    def ended(self, now_ms: int, node: NodeId, answered: bool) -> None:
        """A call to a node ended, or (as answered) a request of it came in."""
        if answered:
            self._failures.pop(node, None)
            self._retry_ms.pop(node, None)
            return
        if now_ms < self._retry_ms.get(node, 0):
            return  # calls made before or in spite of the pause do not prolong it
        failures = self._failures.get(node, 0) + 1
        self._failures[node] = failures
        excess = failures - self._config.failures_until_suspect
        if excess >= 0:
            pause = min(self._config.period_ms << min(excess, 16), self._config.backoff_ms_max)
            self._retry_ms[node] = now_ms + pause

    def busy(self, now_ms: int, node: NodeId, retry_after_ms: int) -> None:
        """A node, alive and well, wants to be left alone for a while; not for longer than REST_MS_MAX."""
        wait_ms = min(retry_after_ms or REST_MS, REST_MS_MAX)
        self._rest_ms[node] = max(self._rest_ms.get(node, 0), now_ms + wait_ms)

    def rests_until(self, node: NodeId) -> int:
        """Return until when a node wants to be left alone; 0 if it does not."""
        return self._rest_ms.get(node, 0)

    def _resting(self, now_ms: int) -> set[NodeId]:
        self._rest_ms = {node: until for node, until in self._rest_ms.items() if until > now_ms}
        return set(self._rest_ms)

    def forget_strangers(self) -> None:
        """Forget what is known about nodes that are no members."""
        for node in [node for node in self._failures if not self._is_member(node)]:
            self.ended(0, node, True)

    def seems_dead(self, node: NodeId) -> bool:
        """Whether the last calls to a node all failed."""
        return node in self._retry_ms

    def live(self, but: Collection[NodeId] = ()) -> list[NodeId]:
        """Return the members that can be called and do not seem dead, ascending, leaving some out."""
        return sorted(self._known().difference(but, self._retry_ms))

    def some(self, now_ms: int, count: int, but: Collection[NodeId] = ()) -> list[NodeId]:
        """Return up to ``count`` random ones of `live` that do not want to be left alone."""
        return self._chance.sample(self.live({*but, *self._resting(now_ms)}), count)

    def partner(self, now_ms: int) -> NodeId | None:
        """Return whom to exchange with next; None if nobody is known.

        Pauses spare the network while there are others to talk to; who has nobody else tries anybody.
        """
        resting = self._resting(now_ms)
        known = self._known()
        due = sorted(node for node, retry in self._retry_ms.items() if retry <= now_ms and node in known)
        seeds = [
            node for node in self._seeds if node not in resting and self._retry_ms.get(node, 0) <= now_ms
        ]
        live = self.live(resting)
        drawn, config = self._chance.below(100), self._config
        if drawn < config.live_percent:
            groups = [live, due, seeds]
        elif drawn < config.live_percent + config.suspect_percent:
            groups = [due, live, seeds]
        else:
            groups = [seeds, live, due]
        groups.append(sorted({*known, *self._seeds} - resting))
        return next((self._chance.choose(group) for group in groups if group), None)

    def _known(self) -> set[NodeId]:
        members = [node for node in self._seeds if self._is_member(node)]
        return {*self._listed(), *members} - {self._me}
