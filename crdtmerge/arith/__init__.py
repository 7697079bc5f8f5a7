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

from crdtmerge.arith import compiled, draw, environment, linear, scalar
from crdtmerge.arith.across import ascending, ranks
from crdtmerge.arith.convert import decode, encode, encode_into, non_finite
from crdtmerge.arith.dots import (
    Cosine,
    ExactDot,
    Moments,
    cosine,
    exact_dot,
    exact_squared_norm,
    mean,
    variance,
)
from crdtmerge.arith.draw import keep_mask
from crdtmerge.arith.elementwise import (
    clamp,
    masked,
    maximum,
    minimum,
    positive_zero,
    sign,
    sqrt,
)
from crdtmerge.arith.exact import ExactSum
from crdtmerge.arith.fold import fold
from crdtmerge.arith.functions import exp, log, sigmoid, softmax, tanh
from crdtmerge.arith.gaussian import normal_quantile
from crdtmerge.arith.order import Cut, TopSelection, mirrored
from crdtmerge.arith.pending import Elements, decoded
from crdtmerge.arith.rank import (
    RankSelection,
    kth_magnitude,
    median,
    median_rows,
    midpoint,
    quantile,
    quantile_rank,
    quantile_rows,
    rank_rows,
)
from crdtmerge.arith.reduce import LaneDot, LaneGram, LaneSum, dot, lane_sum, squared_norm
from crdtmerge.arith.scalar import nearest
from crdtmerge.arith.stored import Stored, Values
from crdtmerge.arith.streams import Change, Drawn, Dropped, Trimmed
from crdtmerge.arith.sums import AgreeingMean, WeightedSum, agreeing, balance, signs, weighted_sum

__all__ = [
    "AgreeingMean",
    "Change",
    "Cosine",
    "Cut",
    "Drawn",
    "Dropped",
    "Elements",
    "ExactDot",
    "ExactSum",
    "LaneDot",
    "LaneGram",
    "LaneSum",
    "Moments",
    "RankSelection",
    "Stored",
    "Tensor",
    "TopSelection",
    "Trimmed",
    "Values",
    "WeightedSum",
    "agreeing",
    "ascending",
    "balance",
    "clamp",
    "compiled",
    "cosine",
    "decode",
    "decoded",
    "dot",
    "draw",
    "encode",
    "encode_into",
    "environment",
    "exact_dot",
    "exact_squared_norm",
    "exp",
    "fold",
    "keep_mask",
    "kth_magnitude",
    "lane_sum",
    "linear",
    "log",
    "masked",
    "maximum",
    "mean",
    "median",
    "median_rows",
    "midpoint",
    "minimum",
    "mirrored",
    "nearest",
    "non_finite",
    "normal_quantile",
    "positive_zero",
    "quantile",
    "quantile_rank",
    "quantile_rows",
    "rank_rows",
    "ranks",
    "scalar",
    "sigmoid",
    "sign",
    "signs",
    "softmax",
    "sqrt",
    "squared_norm",
    "tanh",
    "variance",
    "weighted_sum",
]
