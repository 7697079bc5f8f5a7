"""What evidence must be: rules on names and shapes, then on numbers, the same on every replica.

Evidence is a claim that decides a merge, so it is guilty until read to the end. All of this follows from
content alone, like the rule that weights are finite: who breaks a rule is left out by everybody alike.

    form      <kind>/<tensor>, a known kind, a tensor of the base; the dtype and shape that the kind asks for
    content   finite, of bounded magnitude, not negative where the kind is not; a Gram matrix can be one;
              a mask has no stray bits

Content streams through in runs of at most a block, so memory does not grow with it (of a Gram matrix the
diagonal is held as well). What cannot be seen from outside is left to the methods: that statistics are true,
and that a Gram matrix is definite, which its Cholesky factor shows when it is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

import torch

from crdtmerge import arith
from crdtmerge.arith.packed import side
from crdtmerge.dtypes import DType
from crdtmerge.errors import EvidenceError
from crdtmerge.limits import BLOCK_BYTES
from crdtmerge.manifest import Manifest, Tensor, element_count

from .kinds import KINDS, Kind, Layout

Read = Callable[[Tensor, int, int], bytes]
"""From a tensor and a range of bytes to its raw content, verified."""

MAGNITUDE_MAX: Final = 2.0**64
"""Of an element of evidence: products with weights of this size, summed, stay far inside float64."""

_SLACK: Final = 1.0 + 1e-6
"""By which |Gᵢⱼ| may exceed √(Gᵢᵢ Gⱼⱼ): the rounding of an author's float32."""

_LEAST: Final = 2.0**-148
"""What rounding to float32 may have taken from any element, where numbers are subnormal."""

_COUNT_MAX: Final = 1 << 53
"""Of a whole number: float64 holds all up to here."""

_TRIANGLES: Final = (Layout.GRAM, Layout.GRAM_FIRST)
_DTYPES: Final = {Layout.BITS: (DType.U8,), Layout.SCALAR: (DType.I64,)}
_FLOATS: Final = (DType.F32, DType.F64)


def shape_of(layout: Layout, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return the shape of evidence of a layout about a tensor of a shape; None if there is none about it."""
    if layout is Layout.ELEMENT:
        return shape
    if layout is Layout.BITS:
        return (-(-element_count(shape) // 8),)
    if layout is Layout.SCALAR:
        return ()
    if not shape or (layout in _TRIANGLES and len(shape) < 2):
        return None
    size = shape[0] if layout in (Layout.ROWS, Layout.GRAM_FIRST) else shape[-1]
    return (size * (size + 1) // 2,) if layout in _TRIANGLES else (size,)


def check_form(manifest: Manifest, reference: Mapping[str, Tensor]) -> None:
    """Check names, dtypes and shapes of a contribution's evidence.

    Args:
        manifest: the contribution.
        reference: tensors of the base, or of the contribution that sets the schema, by name.

    Raises:
        EvidenceError: naming the first that breaks a rule, what was got and what was wanted.
    """
    for entry in manifest.evidence:
        name, slash, about = entry.name.partition("/")
        kind = KINDS.get(name)
        if kind is None or not slash:
            raise _error(entry, "is of no known kind, named <kind>/<tensor>")
        tensor = reference.get(about)
        if tensor is None or not tensor.dtype.floating:
            raise _error(entry, f"is about {about!r}, which is no floating tensor of the base")
        dtypes = _DTYPES.get(kind.layout, _FLOATS)
        if entry.dtype not in dtypes:
            wanted = " or ".join(dtype.code for dtype in dtypes)
            raise _error(entry, f"has dtype {entry.dtype.code}, wanted {wanted}")
        shape = shape_of(kind.layout, tensor.shape)
        if shape is None:
            raise _error(entry, f"is about a tensor of shape {list(tensor.shape)}, which has no {name}")
        if entry.shape != shape:
            raise _error(entry, f"has shape {list(entry.shape)}, wanted {list(shape)}")


def check_content(
    manifest: Manifest,
    reference: Mapping[str, Tensor],
    read: Read,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Check every number of a contribution's evidence, whose form is right.

    Determinism: numbers are compared one by one; of a Gram matrix |Gᵢⱼ| with the product of √(Gᵢᵢ + ε),
    √(Gⱼⱼ + ε) and 1 + 10⁻⁶, plus ε = 2⁻¹⁴⁸, rounded in this order.

    Args:
        manifest: the contribution.
        reference: as for `check_form`.
        read: of the content.
        progress: called with bytes read.

    Raises:
        EvidenceError: naming the first that breaks a rule, and where.
        NotYetError: if content is missing.
    """
    for entry in manifest.evidence:
        name, _, about = entry.name.partition("/")
        kind = KINDS[name]
        if kind.layout is Layout.BITS:
            _check_bits(entry, read, reference[about].elements)
        elif kind.layout is Layout.SCALAR:
            count = int.from_bytes(read(entry, 0, entry.bytes), "little", signed=True)
            if not 0 < count <= _COUNT_MAX:
                raise _error(entry, f"is {count}, wanted a positive whole number up to 2⁵³")
        elif kind.layout in _TRIANGLES:
            _check_triangle(entry, kind, read)
        else:
            for start in range(0, entry.bytes, BLOCK_BYTES):
                _numbers(entry, kind, read, start, min(start + BLOCK_BYTES, entry.bytes))
        if progress is not None:
            progress(entry.bytes)


def _numbers(entry: Tensor, kind: Kind, read: Read, begin: int, end: int) -> arith.Tensor:
    """Return the elements in a range of bytes as float64, after those checks that look at one at a time."""
    raw = read(entry, begin, end)
    first = begin // entry.dtype.itemsize
    bad = arith.non_finite(raw, entry.dtype, bound=MAGNITUDE_MAX)
    if bad is not None:
        raise _error(entry, f"is NaN, infinite or beyond 2⁶⁴ at flat index {first + bad}")
    values = arith.decode(raw, entry.dtype)
    if not kind.signed:
        _refuse(entry, values < 0, first, "is negative")
    return values


def _check_bits(entry: Tensor, read: Read, elements: int) -> None:
    unused = -elements % 8
    if unused and read(entry, entry.bytes - 1, entry.bytes)[0] >> (8 - unused):
        raise _error(entry, f"has bits set behind the last of {elements} elements; they must be 0")


def _check_triangle(entry: Tensor, kind: Kind, read: Read) -> None:
    """Check that a packed matrix could be a Gram matrix: no negative square, no cosine beyond 1."""
    n = side(entry.elements)
    roots = torch.zeros(n, dtype=torch.float64)
    size = entry.dtype.itemsize
    for top, bottom in _bands(n, BLOCK_BYTES // size):
        first = top * (top + 1) // 2
        values = _numbers(entry, kind, read, first * size, bottom * (bottom + 1) // 2 * size)
        rows = torch.arange(top, bottom)
        diagonal = values[rows * (rows + 3) // 2 - first]
        if (diagonal < 0).any():
            where = int(rows[diagonal < 0][0])
            raise _error(entry, f"has a negative square on its diagonal, in row {where}")
        roots[top:bottom] = arith.sqrt(diagonal + _LEAST)
        row = torch.repeat_interleave(rows, rows + 1)
        column = torch.arange(first, first + len(values)) - row * (row + 1) // 2
        too_large = values.abs() > roots[row] * roots[column] * _SLACK + _LEAST
        _refuse(entry, too_large, first, "is more than √(Gᵢᵢ Gⱼⱼ), so this is no Gram matrix,")


def _bands(n: int, elements: int) -> Iterator[tuple[int, int]]:
    """Yield runs of rows of a triangle that hold ``elements`` elements at most, or one row."""
    top = 0
    while top < n:
        bottom = top + 1
        while bottom < n and (bottom + 1) * (bottom + 2) // 2 - top * (top + 1) // 2 <= elements:
            bottom += 1
        yield top, bottom
        top = bottom


def _refuse(entry: Tensor, bad: arith.Tensor, first: int, what: str) -> None:
    if bad.any():
        raise _error(entry, f"{what} at flat index {first + int(bad.nonzero()[0])}")


def _error(entry: Tensor, what: str) -> EvidenceError:
    return EvidenceError(
        f"evidence {entry.name} {what}. Compute it again with crdtmerge.evidence, or contribute without it.",
        entry.name,
    )
