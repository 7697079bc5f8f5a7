"""Blocks: strings of at most 1 MiB, each known by its digest.

Three rules are always true here:

* What `get` returns has the digest that was asked for; it is checked on every single read.
* `put` of something that is there already costs no write, and no second copy.
* What was put before a `flush` returned survives a power cut; what was put after it may not.

Where the bytes lie is a matter of `crdtmerge.store.disk` and `crdtmerge.store.references`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from crdtmerge.block import Block, block_digest
from crdtmerge.digest import Digest, Domain, Readable, digest
from crdtmerge.errors import CorruptBlockError, NotYetError


def named(data: Readable | Block) -> tuple[Digest, Readable]:
    """Return the digest of what is to be kept, and its bytes: a `Block` has proved its own.

    Raises:
        LimitError: if it is longer than a block.
    """
    return (data.digest, data.data) if isinstance(data, Block) else (block_digest(data), data)


def absent(wanted: Digest) -> NotYetError:
    """Return the error that says that a block is not here."""
    return NotYetError(f"block {wanted.hex()} is not here; a sync may bring it", [wanted])


class Blocks(Protocol):
    """A set of blocks; every method may be called from several threads at once."""

    def has(self, wanted: Digest) -> bool:
        """Say whether the block is here, without reading it."""

    def get(self, wanted: Digest) -> bytes:
        """Return the block, verified.

        Raises:
            NotYetError: if it is not here.
            CorruptBlockError: if what is stored has another digest; `discard` it and fetch it again.
        """

    def put(self, data: Readable | Block) -> Digest:
        """Keep ``data`` and return its digest; durable after the next `flush`. A `Block` is not hashed again.

        Raises:
            LimitError: if it is longer than a block.
            OutOfSpaceError: if the disk is full; nothing of it is kept.
        """

    def discard(self, wanted: Digest) -> None:
        """Forget the block, if it is here."""

    def free_bytes(self) -> int | None:
        """Return how much more there is room for; None where nobody can say."""

    def flush(self) -> None:
        """Make everything put so far survive a power cut.

        Raises:
            StoreError: if the disk failed to; then nothing put since the last flush counts as kept.
        """

    def __iter__(self) -> Iterator[Digest]:
        """Yield the digests of all blocks, ascending."""


class MemoryBlocks:
    """Blocks in memory: for tests, simulations and `Store.memory`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._data: dict[Digest, bytes] = {}

    def has(self, wanted: Digest) -> bool:
        """Say whether the block is here."""
        return wanted in self._data

    def get(self, wanted: Digest) -> bytes:
        """Return the block, verified; see `Blocks.get`."""
        data = self._data.get(wanted)
        if data is None:
            raise absent(wanted)
        return verified(data, wanted)

    def put(self, data: Readable | Block) -> Digest:
        """Keep a copy of ``data`` and return its digest."""
        name, content = named(data)
        with self._lock:
            self._data[name] = bytes(content)
        return name

    def discard(self, wanted: Digest) -> None:
        """Forget the block, if it is here."""
        with self._lock:
            self._data.pop(wanted, None)

    def free_bytes(self) -> int | None:
        """Return None: memory is not measured here."""
        return None

    def weigh(self, wanted: Digest) -> tuple[int, int | None] | None:
        """Return a block's size in bytes, and None: nobody noted when it came; None without the block."""
        data = self._data.get(wanted)
        return None if data is None else (len(data), None)

    @contextmanager
    def taking_in(self) -> Iterator[None]:
        """Do nothing: nobody else has this memory."""
        yield

    collecting = taking_in

    def flush(self) -> None:
        """Do nothing: memory has no power cut to survive."""

    def close(self) -> None:
        """Do nothing: there is no folder to let go of."""

    def __iter__(self) -> Iterator[Digest]:
        with self._lock:
            return iter(sorted(self._data))


def verified(data: bytes, wanted: Digest, *, where: str = "") -> bytes:
    """Return ``data`` if it is the block ``wanted``.

    Raises:
        CorruptBlockError: if it is not; carries both digests, and ``where`` the bytes came from.
    """
    got = digest(Domain.BLOCK, data)
    if got != wanted:
        raise CorruptBlockError("block", wanted=wanted, got=got, where=where)
    return data
