"""What members say about themselves, beside the operations: where they are, and what they computed.

Two sets that are reconciled like operations, each in a space of its own: the address book and the
attestations. Of either, the newest of a member counts, and only members count; so unlike operations they
forget. What is kept is stored, what is displaced is forgotten on disk as well, and two attestations that
contradict each other are reported if one of them is ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from crdtmerge.digest import Digest
from crdtmerge.errors import PolicyError
from crdtmerge.keys import NodeId
from crdtmerge.sync.attestation import Attestation
from crdtmerge.sync.attested import Attested
from crdtmerge.sync.book import AddressBook
from crdtmerge.sync.events import Diverged, ForgetAttestations, StoreAttestation, StoreRecord
from crdtmerge.sync.index import Index
from crdtmerge.sync.messages import Space
from crdtmerge.sync.port import Port
from crdtmerge.sync.records import NodeRecord


class Shelves:
    """The address book and the attestations of one node.

    Args:
        federation: whose attestations are kept.
        is_member: who is a member now.
        me: this node.
        port: where outputs go.

    Attributes:
        book: the node records.
        attested: the attestations.
    """

    def __init__(
        self, federation: Digest, is_member: Callable[[NodeId], bool], *, me: NodeId, port: Port
    ) -> None:
        self._federation, self._me, self._port = federation, me, port
        self.book = AddressBook(is_member)
        self.attested = Attested(is_member)

    def index(self, space: Space) -> Index:
        """Return the ids in a space, to be reconciled."""
        return self.attested.index if space is Space.ATTESTATIONS else self.book.index

    def held(self, space: Space, ids: Iterable[Digest]) -> list[bytes]:
        """Return those of the wanted records of a space that are here, encoded."""
        shelf = self.attested if space is Space.ATTESTATIONS else self.book
        return [record.encoded for name in ids if (record := shelf.by_id(name)) is not None]

    def keep(self, now_ms: int, space: Space, encoded: Iterable[bytes]) -> int:
        """Take records of a space from outside; return how many were new.

        Raises:
            MalformedError, LimitError, SignatureError: if one is refused; nothing was kept.
            PolicyError: if an attestation is about another federation.
        """
        if space is Space.ATTESTATIONS:
            return self.keep_attestations([Attestation.decode(data) for data in encoded])
        return self.keep_records(now_ms, [NodeRecord.decode(data) for data in encoded])

    def keep_records(self, now_ms: int, records: Iterable[NodeRecord]) -> int:
        """Keep those of verified node records that are in force; return how many were new."""
        new = [record for record in records if self.book.offer(record, now_ms)]
        for record in new:
            self._port.emit(StoreRecord(record.node, record.encoded))
        return len(new)

    def keep_attestations(self, attestations: Iterable[Attestation], *, stored: bool = False) -> int:
        """Keep those of verified attestations that are in force; return how many were new.

        Args:
            attestations: the attestations.
            stored: whether they are on disk already, so that those that are not kept are to be forgotten.

        Raises:
            PolicyError: if one is about another federation; nothing was kept.
        """
        attestations = list(attestations)
        for one in attestations:
            if one.federation != self._federation:
                raise PolicyError(f"an attestation of federation {one.federation.hex()}")
        count = 0
        for one in attestations:
            if self.attested.by_id(one.id) is not None:
                continue
            displaced = self.attested.offer(one)
            if displaced is not None:
                count += 1
                if not stored:
                    self._port.emit(StoreAttestation(one))
                self._confront(one)
            elif stored:
                displaced = [one]
            if displaced:
                self._port.emit(ForgetAttestations(tuple(displaced)))
        return count

    def prune(self, now_ms: int) -> None:
        """Forget what expired, and what is of nodes that are members no more."""
        self.book.prune(now_ms)
        gone = self.attested.prune()
        if gone:
            self._port.emit(ForgetAttestations(tuple(gone)))

    def _confront(self, new: Attestation) -> None:
        """Report what contradicts our own attestation, whichever of the two came last."""
        ours = self.attested.get(self._me, new.subject)
        others = self.attested.about(new.subject) if new is ours else [new]
        for other in others:
            if ours is not None and other.contradicts(ours):
                self._port.emit(Diverged(ours, other))
