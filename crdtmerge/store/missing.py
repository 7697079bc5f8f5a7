"""What a sync has to bring before a manifest's content is complete."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from crdtmerge.digest import Digest
from crdtmerge.errors import NotYetError
from crdtmerge.manifest import Manifest, Tensor
from crdtmerge.store.reader import split

MISSING_MAX: Final = 16_384
"""Digests of either sort in one answer: as many as one Have request carries."""


@dataclass(frozen=True, slots=True)
class Missing:
    """What of a manifest's content is not here; false if all of it is.

    Attributes:
        roots: of tensors whose block list is absent, in manifest order, each once.
        blocks: that are absent, of the tensors whose block list is here, likewise. When either reaches
            MISSING_MAX the search ends, so ask again when these have come.
    """

    roots: tuple[Digest, ...]
    blocks: tuple[Digest, ...]

    def __bool__(self) -> bool:
        return bool(self.roots or self.blocks)


def missing(
    manifest: Manifest, block_names: Callable[[Tensor], bytes], has_block: Callable[[Digest], bool]
) -> Missing:
    """Return what is missing, given what finds a tensor's joined block digests, and what finds a block."""
    roots: dict[Digest, None] = {}  # sets that keep their order
    blocks: dict[Digest, None] = {}
    distinct = {(t.root, t.dtype, t.shape): t for t in manifest.tensors + manifest.evidence}
    for tensor in distinct.values():
        try:
            names = block_names(tensor)
        except NotYetError:
            roots[tensor.root] = None
            names = b""
        for name in dict.fromkeys(split(names)):
            if len(blocks) < MISSING_MAX and name not in blocks and not has_block(name):
                blocks[name] = None
        if MISSING_MAX in (len(roots), len(blocks)):
            break
    return Missing(tuple(roots), tuple(blocks))
