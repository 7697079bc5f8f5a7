"""The vocabulary of evidence: what each kind says about a tensor, in which form, and what it must fulfil."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final


class Layout(Enum):
    """The form of a piece of evidence, for a tensor of shape [out, …, in] with d elements."""

    ELEMENT = "element"
    """One number for each element: the tensor's own shape."""
    BITS = "bits"
    """One bit for each element, row-major, the lowest bit of a byte first: ⌈d / 8⌉ bytes."""
    ROWS = "rows"
    """One number for each index of the first dimension: [out]."""
    COLUMNS = "columns"
    """One number for each index of the last dimension: [in]."""
    GRAM = "gram"
    """The lower triangle, row by row, of a symmetric matrix over the last dimension: [in·(in+1)/2]."""
    GRAM_FIRST = "gram.first"
    """The same over the first dimension, for layers that keep their inputs there: [out·(out+1)/2]."""
    SCALAR = "scalar"
    """One whole number: []."""


@dataclass(frozen=True)
class Kind:
    """A kind of evidence.

    Attributes:
        name: the part of an evidence tensor's name before the slash.
        layout: its form.
        signed: whether negative numbers are allowed.
        doc: what it is, with the usual symbol.
    """

    name: str
    layout: Layout
    signed: bool
    doc: str


KINDS: Final = {
    kind.name: kind
    for kind in (
        Kind("fisher.diag", Layout.ELEMENT, False, "diagonal Fisher information, mean over examples"),
        Kind("adam.v", Layout.ELEMENT, False, "Adam's second moment, bias-corrected"),
        Kind("adam.v.row", Layout.ROWS, False, "row sums of Adam's second moment"),
        Kind("adam.v.col", Layout.COLUMNS, False, "column sums of Adam's second moment"),
        Kind("gram", Layout.GRAM, True, "mean of x·xᵀ over the inputs x of a linear layer"),
        Kind("gram.first", Layout.GRAM_FIRST, True, "the same for layers stored as [in, out]"),
        Kind("gram.n", Layout.SCALAR, False, "number of inputs behind `gram`"),
        Kind("gram.diag", Layout.COLUMNS, False, "the diagonal of `gram` alone"),
        Kind("gram.mean", Layout.COLUMNS, True, "mean of the inputs x"),
        Kind("feat.sq", Layout.COLUMNS, False, "sum of squared normalised inputs of a norm layer"),
        Kind("saliency.abs", Layout.ELEMENT, False, "Σ |θ ⊙ gradient| of the fine-tune (SNIP score)"),
        Kind("saliency.abs.base", Layout.ELEMENT, False, "the same of the base on the same data"),
        Kind("saliency.sq", Layout.ELEMENT, False, "mean of (θ ⊙ gradient)²"),
        Kind("saliency.median", Layout.ELEMENT, True, "order statistic of θ ⊙ gradient over examples"),
        Kind("mask", Layout.BITS, False, "elements that the author elects"),
        Kind("alignment", Layout.ELEMENT, True, "aligned minus unaligned weights (a safety direction)"),
    )
}
"""All kinds by name."""

WEIGHTS: Final = "weights"
"""Metadata key of an evidence file: model digest, in hexadecimal, of the weights that it describes."""
