"""Whose evidence speaks about a tensor, and what a method does about members without any.

Authors leave tensors out: buffers, heads, embeddings whose inputs would tell too much. Where fewer than half
of the members say anything, a method falls back to what its text says for such tensors, so that a single one
does not capture what all others left out. Where some are silent, the recipe's ``missing`` decides; which
members bring a kind at all is settled before any work.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from crdtmerge.arith import Tensor
from crdtmerge.errors import ParameterError
from crdtmerge.strategy import Choice, Tile

MISSING: Final = Choice(
    "missing",
    ("error", "exclude", "neutral"),
    "contributions without evidence are an error, are left out, or get a constant in its place",
)


def speaking(tile: Tile, said: Sequence[Tensor | None], what: str, missing: str) -> list[int]:
    """Return the indices of the members that say something about the tile's tensor; none if too few do.

    Args:
        tile: of the tensor.
        said: k times evidence, or None.
        what: the kind, for people.
        missing: the parameter of that name.

    Raises:
        ParameterError: if half or more but not all say something, and that is to be an error.
    """
    found = [i for i, evidence in enumerate(said) if evidence is not None]
    if 2 * len(found) < tile.count:
        return []
    if missing == "error" and len(found) < tile.count:
        silent = next(i for i in range(tile.count) if i not in found)
        who = tile.group.members[silent].digest.hex()[:12]
        raise ParameterError(
            f"contribution {who}… brings no {what} of {tile.tensor}, "
            "and others do. Contribute it again with whole evidence, or set missing=exclude in the recipe."
        )
    return found
