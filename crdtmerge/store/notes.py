"""This replica's own notes: settings, what admission decided, the address book, attestations.

Unlike content they have no digest: they are what was last written, by whichever process.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from crdtmerge.digest import Digest, from_hex
from crdtmerge.keys import KEY_BYTES
from crdtmerge.store.database import Database, Kind

_PIN: Final = "pin/"
_COLLECTIONS: Final = "collections"


class Notes:
    """Notes in ``database``; durable when the method that changes them returns."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def setting(self, key: str) -> bytes | None:
        """Return a setting."""
        return self._database.get(Kind.SETTING, key.encode())

    def set_setting(self, key: str, value: bytes) -> None:
        """Keep a setting, in place of an earlier one."""
        self._database.put(Kind.SETTING, [(key.encode(), value)])

    def pop_setting(self, key: str) -> bytes | None:
        """Remove a setting and return what it was: of all who ask at once, one gets it."""
        return self._database.pop(Kind.SETTING, key.encode())

    def settings(self, prefix: str = "") -> Iterator[tuple[str, bytes]]:
        """Yield (key, value) of the settings whose key starts with ``prefix``, ascending."""
        for key, value in self._database.entries(Kind.SETTING, prefix.encode()):
            yield key.decode(), value

    def pin(self, content: Digest) -> None:
        """Keep a contribution or coefficients from being collected as garbage, whatever is visible."""
        self.set_setting(_PIN + content.hex(), b"")

    def unpin(self, content: Digest) -> None:
        """Let it go again."""
        self.pop_setting(_PIN + content.hex())

    def pins(self) -> Iterator[Digest]:
        """Yield what is pinned, ascending."""
        return (from_hex(key.removeprefix(_PIN)) for key, _ in self.settings(_PIN))

    def collections(self) -> int:
        """Return how often garbage was collected here, by whichever process: content may be gone."""
        return int.from_bytes(self.setting(_COLLECTIONS) or b"", "big")

    def note_collection(self) -> None:
        """Count one more collection."""
        self.set_setting(_COLLECTIONS, (self.collections() + 1).to_bytes(8, "big"))

    def verdict(self, contribution: Digest) -> str | None:
        """Return what admission decided about a contribution; None if it did not yet."""
        data = self._database.get(Kind.VERDICT, contribution)
        return None if data is None else data.decode()

    def set_verdict(self, contribution: Digest, text: str) -> None:
        """Keep what admission decided about a contribution."""
        self._database.put(Kind.VERDICT, [(contribution, text.encode())])

    def put_record(self, node_id: bytes, record: bytes) -> None:
        """Keep a node's record in the address book, in place of an earlier one."""
        self._database.put(Kind.RECORD, [(node_id, record)])

    def records(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield (node id, record) of the address book, ascending."""
        return self._database.entries(Kind.RECORD)

    def remove_record(self, node_id: bytes) -> None:
        """Forget a node's record."""
        self._database.pop(Kind.RECORD, node_id)

    def put_attestation(self, node_id: bytes, id: bytes, attestation: bytes) -> None:
        """Keep what a node attests of a result."""
        self._database.put(Kind.ATTESTATION, [(node_id + id, attestation)])

    def attestations(self, node_id: bytes = b"") -> Iterator[tuple[bytes, bytes, bytes]]:
        """Yield (node id, id, attestation) of those that are kept, of one node if given, ascending."""
        for key, data in self._database.entries(Kind.ATTESTATION, node_id):
            yield key[:KEY_BYTES], key[KEY_BYTES:], data

    def remove_attestation(self, node_id: bytes, id: bytes) -> None:
        """Forget an attestation."""
        self._database.pop(Kind.ATTESTATION, node_id + id)
