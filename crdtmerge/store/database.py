"""The one SQLite file: rows of bytes, committed durably.

    operations   (position, id, encoded)                  in the order in which they were added
    entries      (kind, key, value)                       manifests, block lists, settings, …: see Kind
    files        (id, path, state)                        the user's files that blocks are read from
    block_refs   (digest, file, offset, length)           where in them

This is the only module that knows SQL. It keeps what it is given and checks nothing of it: the store
checks digests, before and after. Sequences are read in pages, so an iteration holds no lock and no
snapshot while its consumer works.

Within a process one connection serves all threads, under a lock: SQLite serialises writers anyway,
statements here take well under a millisecond, a database in memory exists per connection, and
``data_version`` has a meaning only on a connection that stays. Between processes the write-ahead log
does it; a writer waits up to BUSY_S for another.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Any, Final, TypeAlias

from crdtmerge.errors import OutOfSpaceError, StoreError

BUSY_S: Final = 30.0
"""How long a write waits for another process' transaction."""

SCHEMA_VERSION: Final = 1

_PAGE: Final = 256  # rows; of operations, 4 MiB

# Positions are never given twice, so "what was added since" has an answer after deletions too.
_SCHEMA: Final = """
CREATE TABLE operations (
    position INTEGER PRIMARY KEY AUTOINCREMENT, id BLOB NOT NULL UNIQUE, encoded BLOB NOT NULL
) STRICT;
CREATE TABLE entries (
    kind TEXT NOT NULL, key BLOB NOT NULL, value BLOB NOT NULL, PRIMARY KEY (kind, key)
) STRICT;
CREATE TABLE files (
    id INTEGER PRIMARY KEY, path BLOB NOT NULL UNIQUE, state TEXT NOT NULL
) STRICT;
CREATE TABLE block_refs (
    digest BLOB NOT NULL, file INTEGER NOT NULL REFERENCES files ON DELETE CASCADE,
    offset INTEGER NOT NULL, length INTEGER NOT NULL, PRIMARY KEY (digest, file)
) STRICT, WITHOUT ROWID;
CREATE INDEX block_refs_by_file ON block_refs (file);
"""

Row: TypeAlias = tuple[Any, ...]


class Kind(Enum):
    """What an entry is."""

    MANIFEST = "manifest"
    TENSOR = "tensor"
    SETTING = "setting"
    VERDICT = "verdict"
    RECORD = "record"
    ATTESTATION = "attestation"
    UNNEEDED = "unneeded"


class Database:
    """The SQLite file at ``path``, made if it is not there; without a path, a database in memory.

    Every method may be called from several threads and processes at once, and raises StoreError
    (OutOfSpaceError where that is why) when SQLite fails. What changes something is durable on return.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._lock = threading.RLock()
        with self._errors():
            self._connection = sqlite3.connect(
                path or ":memory:", timeout=BUSY_S, isolation_level=None, check_same_thread=False
            )
        try:
            for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
                self._rows(f"PRAGMA {pragma}")
            if self._version() == 0:
                self._create()
            if self._version() != SCHEMA_VERSION:
                raise StoreError(
                    f"{path} has schema version {self._version()}, this software reads {SCHEMA_VERSION}: "
                    "use the version of crdtmerge that wrote it"
                )
        except BaseException:
            self._connection.close()
            raise

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._connection.close()

    def data_version(self) -> int:
        """Return a number that changes when another connection commits."""
        version: int = self._rows("PRAGMA data_version")[0][0]
        return version

    def problems(self) -> list[str]:
        """Return what SQLite finds wrong with its file; empty if nothing."""
        return [row[0] for row in self._rows("PRAGMA integrity_check(100)") if row[0] != "ok"]

    # --- operations ---

    def add_operations(self, rows: Sequence[tuple[bytes, bytes]]) -> int:
        """Keep (id, encoded) rows whose id is not known, all or none; return how many."""
        with self._transaction() as connection:
            sql = "INSERT OR IGNORE INTO operations (id, encoded) VALUES (?, ?)"
            return connection.executemany(sql, rows).rowcount

    def operations(self, after: int = 0) -> Iterator[tuple[int, bytes, bytes]]:
        """Yield (position, id, encoded) of the operations after a position, in order."""
        sql = "SELECT position, id, encoded FROM operations WHERE position > ? ORDER BY position LIMIT ?"
        while page := self._rows(sql, after, _PAGE):
            yield from page
            after = page[-1][0]

    def remove_operation(self, id: bytes) -> None:
        """Forget an operation."""
        self._change("DELETE FROM operations WHERE id = ?", id)

    # --- entries ---

    def get(self, kind: Kind, key: bytes) -> bytes | None:
        """Return an entry's value."""
        rows = self._rows("SELECT value FROM entries WHERE kind = ? AND key = ?", kind.value, key)
        return rows[0][0] if rows else None

    def has(self, kind: Kind, key: bytes) -> bool:
        """Say whether there is such an entry, without reading its value."""
        return bool(self._rows("SELECT 1 FROM entries WHERE kind = ? AND key = ?", kind.value, key))

    def put(self, kind: Kind, entries: Sequence[tuple[bytes, bytes]]) -> None:
        """Keep (key, value) entries, all or none, in place of earlier ones with these keys."""
        with self._transaction() as connection:
            sql = "INSERT OR REPLACE INTO entries (kind, key, value) VALUES (?, ?, ?)"
            connection.executemany(sql, [(kind.value, key, value) for key, value in entries])

    def remove(self, keys: Iterable[tuple[Kind, bytes]]) -> None:
        """Remove entries, all or none."""
        with self._transaction() as connection:
            sql = "DELETE FROM entries WHERE kind = ? AND key = ?"
            connection.executemany(sql, [(kind.value, key) for kind, key in keys])

    def pop(self, kind: Kind, key: bytes) -> bytes | None:
        """Remove an entry and return its value: of all who ask at once, one gets it."""
        rows = self._change("DELETE FROM entries WHERE kind = ? AND key = ? RETURNING value", kind.value, key)
        return rows[0][0] if rows else None

    def keys(self, kind: Kind, prefix: bytes = b"") -> Iterator[bytes]:
        """Yield the keys of a kind that start with ``prefix``, ascending."""
        sql = "SELECT key FROM entries WHERE kind = ? AND key >= ? ORDER BY key LIMIT ?"
        start = prefix
        while page := self._rows(sql, kind.value, start, _PAGE):
            for (key,) in page:
                if not key.startswith(prefix):
                    return
                yield key
            start = page[-1][0] + b"\0"  # the next string of bytes in order

    def entries(self, kind: Kind, prefix: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Yield (key, value) of the entries of a kind whose keys start with ``prefix``, ascending."""
        for key in self.keys(kind, prefix):
            value = self.get(kind, key)
            if value is not None:  # else removed a moment ago
                yield key, value

    # --- references ---

    def add_references(self, path: bytes, state: str, rows: Iterable[tuple[bytes, int, int]]) -> None:
        """Keep (digest, offset, length) references into a file; those of another state of it are dropped."""
        with self._transaction() as connection:
            connection.execute("DELETE FROM files WHERE path = ? AND state != ?", (path, state))
            connection.execute("INSERT OR IGNORE INTO files (path, state) VALUES (?, ?)", (path, state))
            [(file,)] = connection.execute("SELECT id FROM files WHERE path = ?", (path,)).fetchall()
            sql = "INSERT OR REPLACE INTO block_refs (digest, file, offset, length) VALUES (?, ?, ?, ?)"
            connection.executemany(sql, ((digest, file, offset, length) for digest, offset, length in rows))

    def references(self, digest: bytes) -> list[tuple[bytes, str, int, int]]:
        """Return (path, state, offset, length) of every reference to a block."""
        sql = "SELECT path, state, offset, length FROM block_refs JOIN files ON id = file WHERE digest = ?"
        return self._rows(sql, digest)

    def references_into(self, path: bytes) -> list[tuple[bytes, int, int]]:
        """Return (digest, offset, length) of every reference into a file."""
        sql = "SELECT digest, offset, length FROM block_refs JOIN files ON id = file WHERE path = ?"
        return self._rows(sql, path)

    def referenced(self) -> Iterator[bytes]:
        """Yield the digests of all referenced blocks, ascending."""
        sql = "SELECT DISTINCT digest FROM block_refs WHERE digest > ? ORDER BY digest LIMIT ?"
        last = b""
        while page := self._rows(sql, last, _PAGE):
            yield from (digest for (digest,) in page)
            last = page[-1][0]

    def files(self) -> list[tuple[bytes, str]]:
        """Return (path, state) of every file that is referenced."""
        return self._rows("SELECT path, state FROM files ORDER BY path")

    def remove_file(self, path: bytes, state: str) -> None:
        """Forget a file, unless it is known in another state by now, and the references into it."""
        self._change("DELETE FROM files WHERE path = ? AND state = ?", path, state)

    def remove_references(self, digests: Iterable[bytes]) -> None:
        """Forget where blocks are in any file, of all or of none."""
        with self._transaction() as connection:
            sql = "DELETE FROM block_refs WHERE digest = ?"
            connection.executemany(sql, [(digest,) for digest in digests])

    def remove_reference(self, digest: bytes, path: bytes) -> None:
        """Forget that a block is in a file."""
        sql = "DELETE FROM block_refs WHERE digest = ? AND file = (SELECT id FROM files WHERE path = ?)"
        self._change(sql, digest, path)

    # --- SQLite ---

    def _rows(self, sql: str, *values: bytes | int | str) -> list[Row]:
        with self._lock, self._errors():
            return self._connection.execute(sql, values).fetchall()

    def _change(self, sql: str, *values: bytes | int | str) -> list[Row]:
        with self._transaction() as connection:
            return connection.execute(sql, values).fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._errors():
            self._connection.execute("BEGIN IMMEDIATE")  # a lock taken later could not wait its turn
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            full = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
            raise (OutOfSpaceError if full else StoreError)(f"database {self._path}: {error}") from error

    def _version(self) -> int:
        version: int = self._rows("PRAGMA user_version")[0][0]
        return version

    def _create(self) -> None:
        with self._transaction() as connection:
            if self._version() == 0:  # another process may have been first
                for statement in _SCHEMA.split(";"):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
