"""What a search published for one exact set of contributions: numbers that a strategy applies.

A search (evolutionary, gradients on unlabelled data, a Pareto front …) runs at one peer, with an evaluator;
what it found is a payload of arrays, addressed by content like a model and bound to the contributions that
it was found for. Every replica applies it by the same pure strategy. A payload is a manifest of kind
COEFFICIENTS:

    metadata   strategy   which strategy applies it
               payload    coeffs | masks | hyper | plan | delta
               and what that payload asks for (granularity, mode …); claims of the search, for people
    tensors    applies_to [k, 32] U8: the contribution digests, ascending; then the arrays, whose rows stand
               in that order

Rules: a payload applies to exactly its contributions or not at all; numbers are binary floating point, as
found; claimed metrics never decide. The formats are docs/spec/formats.md, and `check` is their guard: it runs
before a payload is published, and again at every replica before one is applied. Which of several payloads is
taken is `candidates`' business, and whether it suits its strategy the strategy's own.
"""

from .artefact import (
    APPLIES_TO,
    GRANULARITIES,
    MODES,
    PAYLOADS,
    Coefficients,
    Published,
    Row,
    Shapes,
    candidates,
    columns,
)
from .formats import check

__all__ = [
    "APPLIES_TO",
    "GRANULARITIES",
    "MODES",
    "PAYLOADS",
    "Coefficients",
    "Published",
    "Row",
    "Shapes",
    "candidates",
    "check",
    "columns",
]
