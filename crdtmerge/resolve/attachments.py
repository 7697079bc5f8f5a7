"""What a tile brings beside the weights: evidence about its elements, low-rank factors."""

from __future__ import annotations

from fractions import Fraction

import torch

from crdtmerge.arith import Tensor
from crdtmerge.evidence import KINDS, Layout
from crdtmerge.manifest import Manifest
from crdtmerge.manifest import Tensor as Entry
from crdtmerge.store import Reader
from crdtmerge.strategy import Factors

from .inputs import read


def read_evidence(
    reader: Reader, manifest: Manifest, kind: str, name: str, start: int, stop: int
) -> Tensor | None:
    """Return what a contribution's evidence of a kind says about elements ``[start, stop)`` of a tensor.

    Kinds that describe elements give [stop - start]; bits come as 0.0 and 1.0; others come whole, in their
    stored shape. None if there is no such evidence.
    """
    entry = manifest.evidence_by_name.get(f"{kind}/{name}")
    if entry is None:
        return None
    layout = KINDS[kind].layout
    if layout is Layout.ELEMENT:
        return read(reader, entry, start, stop)
    if layout is Layout.BITS:
        return _bits(reader, entry, start, stop)
    if not entry.dtype.floating:
        raw = reader.read(entry, 0, entry.bytes)
        return torch.tensor(float(int.from_bytes(raw, "little")), dtype=torch.float64)
    return read(reader, entry, 0, entry.elements).reshape(entry.shape)


def _bits(reader: Reader, entry: Entry, start: int, stop: int) -> Tensor:
    first = start // 8
    raw = bytearray(reader.read(entry, first, -(-stop // 8)))
    packed = torch.frombuffer(raw, dtype=torch.uint8) if raw else torch.zeros(0, dtype=torch.uint8)
    bits = (packed.reshape(-1, 1) >> torch.arange(8, dtype=torch.uint8)) & 1
    return bits.flatten()[start - 8 * first : stop - 8 * first].double()


def read_factors(reader: Reader, manifest: Manifest, name: str) -> Factors | None:
    """Return the low-rank factors by which a contribution changes a tensor, or None if it has none."""
    factor = next((f for f in manifest.factors if f.target == name), None)
    if factor is None:
        return None
    a, b = (manifest.by_name[part] for part in (factor.a, factor.b))
    return Factors(
        read(reader, a, 0, a.elements).reshape(a.shape),
        read(reader, b, 0, b.elements).reshape(b.shape),
        Fraction(*factor.scale),
    )
