"""Loops that a compiler of Python makes one pass of: each gives the bits of the torch operations it replaces.

Nothing is defined here. What a loop returns is defined beside the torch version that calls it, and tests
compare the two to the bit. Three rules keep them equal: products, sums and quotients are single operations
in the order that the definition gives (nothing is contracted, since ``fastmath`` stays off); integers do
the rest; and a loop that meets what it cannot do says so instead of guessing.

Importing this package takes about a second: `crdtmerge.arith.compiled` does it when it pays.
"""

from crdtmerge.arith.kernels.lanes import add_products_to_lanes, add_to_lanes
from crdtmerge.arith.kernels.matrices import combine_slices, split_columns, split_rows
from crdtmerge.arith.kernels.patterns import sample, scan
from crdtmerge.arith.kernels.reflections import join_reflections, reduce_panel, tridiagonal_panel
from crdtmerge.arith.kernels.rotations import one_sided_sweep, sweep
from crdtmerge.arith.kernels.streams import write
from crdtmerge.arith.kernels.sums import agreeing_mean, combine, count_signs
from crdtmerge.arith.kernels.systems import finish_panel, secular_roots, solve_block
from crdtmerge.arith.kernels.targets import encode

__all__ = [
    "add_products_to_lanes",
    "add_to_lanes",
    "agreeing_mean",
    "combine",
    "combine_slices",
    "count_signs",
    "encode",
    "finish_panel",
    "join_reflections",
    "one_sided_sweep",
    "reduce_panel",
    "sample",
    "scan",
    "secular_roots",
    "solve_block",
    "split_columns",
    "split_rows",
    "sweep",
    "tridiagonal_panel",
    "write",
]
