"""What `Replica.resolve` returns."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from crdtmerge.digest import Digest
from crdtmerge.resolve import Result


@dataclass(frozen=True)
class Resolved:
    """A published result.

    Attributes:
        result: what it was made of.
        folder: where it is.
        blocks_read: blocks that were read for it; what contributions share was read once.
    """

    result: Result
    folder: Path
    blocks_read: int

    @property
    def model(self) -> Digest:
        """Digest of the merged tensors."""
        return self.result.model
