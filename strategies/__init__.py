"""The merge strategies that ship with crdtmerge; importing this registers them.

A strategy is one pure function in the file of its family, declared by `crdtmerge.strategy.strategy` and said
in terms of `parts`. Three rules hold in every family:

* only `crdtmerge.arith` computes, so that the bits are the same on every machine;
* contributions are taken in the order given, which is canonical, and draws only from the tile's keys;
* nothing is guessed: what a method needs and lacks is an error, never another method.

Families are imported by name here and a failing import propagates: a node that silently lacked a strategy
would disagree with its peers about what is installed. Decoding, tiling and rounding are the engine's.
"""

from . import (
    alignment,
    breadcrumbs,
    clipping,
    coefficients,
    directions,
    emr,
    evidence,
    evolution,
    gated,
    grafting,
    isotropic,
    knots,
    linear,
    magnitude_drop,
    nuslerp,
    overlap,
    passthrough,
    projection,
    regression,
    robust,
    safety,
    selective,
    sparse,
    spectral,
    spherical,
    surgery,
    unlearning,
)

__all__ = [
    "alignment",
    "breadcrumbs",
    "clipping",
    "coefficients",
    "directions",
    "emr",
    "evidence",
    "evolution",
    "gated",
    "grafting",
    "isotropic",
    "knots",
    "linear",
    "magnitude_drop",
    "nuslerp",
    "overlap",
    "passthrough",
    "projection",
    "regression",
    "robust",
    "safety",
    "selective",
    "sparse",
    "spectral",
    "spherical",
    "surgery",
    "unlearning",
]
