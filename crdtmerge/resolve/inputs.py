"""Any run of elements of any contribution: the one reader of model content.

A full checkpoint gives values; a delta and a pair of low-rank factors give differences from the base.
What a contribution leaves out did not change. Content that several contributions share is read once,
because blocks are known by digest and the store keeps the last ones at hand.
"""

from __future__ import annotations

from fractions import Fraction

import torch

from crdtmerge import arith
from crdtmerge.arith import Stored, Tensor, Values
from crdtmerge.manifest import Factor, Kind, Manifest
from crdtmerge.manifest import Tensor as Entry
from crdtmerge.store import Reader


def stored(reader: Reader, entry: Entry, start: int, stop: int) -> Stored:
    """Return elements ``[start, stop)`` of a stored floating tensor, to be read when they are needed.

    Reading them then raises what `read` raises.
    """
    size = entry.dtype.itemsize
    return Stored(lambda: reader.view(entry, start * size, stop * size), entry.dtype, stop - start)


def read(reader: Reader, entry: Entry, start: int, stop: int) -> Tensor:
    """Return elements ``[start, stop)`` of a stored floating tensor as float64 [stop - start].

    Raises:
        NotYetError: if a block is absent.
        CorruptBlockError: if a block is not what its digest says.
    """
    return stored(reader, entry, start, stop).decoded()


def read_contribution(
    reader: Reader, manifest: Manifest, name: str, columns: int, start: int, stop: int
) -> tuple[Values, bool]:
    """Return elements ``[start, stop)`` of one tensor of a contribution, and whether they are differences.

    Args:
        reader: of the content.
        manifest: of the contribution.
        name: of the tensor in the base.
        columns: its last dimension (1 for a scalar): low-rank factors are multiplied row by row.
        start, stop: flat row-major indices.
    """
    if manifest.kind is Kind.LORA:
        factor = next((f for f in manifest.factors if f.target == name), None)
        if factor is None:
            return torch.zeros(stop - start, dtype=torch.float64), True
        return _product(reader, manifest, factor, columns, start, stop), True
    entry = manifest.by_name.get(name)
    if entry is None:
        return torch.zeros(stop - start, dtype=torch.float64), True
    return stored(reader, entry, start, stop), manifest.kind is Kind.DELTA


def _product(
    reader: Reader, manifest: Manifest, factor: Factor, columns: int, start: int, stop: int
) -> Tensor:
    """Return elements ``[start, stop)`` of ``scale · B @ A``.

    Determinism: each element is the sum over the rank in ascending order, one multiplication and one
    addition at a time, then one multiplication by the scale rounded to float64.
    """
    a, b = manifest.by_name[factor.a], manifest.by_name[factor.b]
    rank = a.shape[0]
    first, last = start // columns, -(-stop // columns)
    right = read(reader, a, 0, a.elements).reshape(rank, columns)
    left = read(reader, b, first * rank, last * rank).reshape(last - first, rank)
    total = torch.zeros(last - first, columns, dtype=torch.float64)
    for j in range(rank):
        total += left[:, j : j + 1] * right[j : j + 1, :]
    total *= arith.nearest(Fraction(*factor.scale))
    return total.reshape(-1)[start - first * columns : stop - first * columns].contiguous()
