"""Arithmetic whose bits are the same everywhere.

Every number in a merged model comes out of this package, and every function in it is defined bit by
bit in docs/spec/arith.md: two machines with other instruction sets, thread counts or libraries agree.
IEEE 754 promises that for a single + − × ÷ √, not for sums, products of matrices or elementary
functions, so the order of every sum is written down and whatever a vendor may round as it likes is absent.

Rules that are always true here:

* tensors are float64, one-dimensional and finite; non-finite numbers are refused at the door;
* a result does not depend on how a stream was cut into tiles, nor on the number of threads;
* decoding rounds nothing and encoding rounds once; what happens in between is float64.

It knows nothing of models, files or peers.
"""

from torch import Tensor

from crdtmerge.arith import draw, environment, scalar
from crdtmerge.arith.convert import decode, encode, non_finite
from crdtmerge.arith.draw import keep_mask
from crdtmerge.arith.elementwise import (
    clamp,
    masked,
    maximum,
    minimum,
    positive_zero,
    sign,
    sqrt,
    weighted_sum,
)
from crdtmerge.arith.exact import ExactSum
from crdtmerge.arith.order import Cut, TopSelection
from crdtmerge.arith.reduce import LaneDot, LaneGram, LaneSum, dot, lane_sum, squared_norm
from crdtmerge.arith.scalar import nearest

__all__ = [
    "Cut",
    "ExactSum",
    "LaneDot",
    "LaneGram",
    "LaneSum",
    "Tensor",
    "TopSelection",
    "clamp",
    "decode",
    "dot",
    "draw",
    "encode",
    "environment",
    "keep_mask",
    "lane_sum",
    "masked",
    "maximum",
    "minimum",
    "nearest",
    "non_finite",
    "positive_zero",
    "scalar",
    "sign",
    "sqrt",
    "squared_norm",
    "weighted_sum",
]
