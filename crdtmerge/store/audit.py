"""Reading what is stored in order to find what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from crdtmerge.digest import Digest, Domain, digest
from crdtmerge.errors import (
    CorruptBlockError,
    CrdtMergeError,
    NotYetError,
    RejectedError,
    SignatureError,
    StoreError,
)
from crdtmerge.op import Operation
from crdtmerge.store.database import Database


def stored_operation(name: bytes, data: bytes) -> Operation:
    """Return the operation with the id ``name``, given what is stored under it.

    Raises:
        CorruptBlockError: if it is not that operation.
    """
    try:
        operation = Operation.decode(data)
    except RejectedError as error:
        raise CorruptBlockError("operation", wanted=name, got=digest(Domain.OPERATION, data)) from error
    if operation.id != name:
        raise CorruptBlockError("operation", wanted=name, got=operation.id)
    return operation


def wrong_operations(database: Database) -> Iterator[tuple[Digest, CrdtMergeError]]:
    """Yield (id, error) for the operations whose bytes or signatures changed."""
    for _, name, data in database.operations():
        try:
            stored_operation(name, data).verify()
        except CorruptBlockError as error:
            yield Digest(name), error
        except SignatureError as error:
            yield Digest(name), SignatureError(f"operation {name.hex()}: {error}")


def wrong(
    names: Iterable[Digest], read: Callable[[Digest], object]
) -> Iterator[tuple[Digest, CrdtMergeError]]:
    """Yield (name, error) for what ``read``, which verifies what it reads, cannot read."""
    for name in names:
        try:
            read(name)
        except NotYetError:
            continue  # discarded since it was listed
        except StoreError as error:
            yield name, error
