"""Opening a replica's folder, with or without the tensor library: importing it takes over a second."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from crdtmerge.ledger import Ledger

if TYPE_CHECKING:
    from crdtmerge.replica import Replica


@contextmanager
def ledger(home: Path) -> Iterator[Ledger]:
    """Open the operations in ``home``; enough for everything that computes on no tensor."""
    with Ledger.open(home) as opened:
        yield opened


@contextmanager
def replica(home: Path) -> Iterator[Replica]:
    """Open the whole replica in ``home``."""
    from crdtmerge.replica import Replica

    with Replica.open(home) as opened:
        yield opened
