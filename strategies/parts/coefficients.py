"""Published coefficients as factors: which number multiplies which element of which contribution.

    model, group, tensor   one number for each contribution and tensor
    chunk, interval        runs of elements with a number each, within a tensor or over the whole model
    column                 a number for every column, the same in every row

Where a payload says nothing about a tensor, the strategy's initial coefficient stands. Numbers are the
payload's own float64s: nothing here normalises, scales or rounds them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import TypeAlias

from crdtmerge.arith import Tensor, masked, nearest, weighted_sum
from crdtmerge.coefficients import Coefficients, columns
from crdtmerge.errors import MalformedError
from crdtmerge.strategy import Tile

Factor: TypeAlias = "Fraction | Tensor"
"""A number for all elements of a tile, or [n] float64."""


def wanted(found: Coefficients, payloads: Sequence[str], modes: Sequence[str]) -> None:
    """Check that a payload is one of ``payloads``, with weights of one of ``modes``.

    Raises:
        MalformedError: if it is another.
    """
    if found.payload not in payloads or found.mode not in modes:
        raise MalformedError(
            f"it is a payload {found.payload} of mode {found.mode}, and {found.strategy} applies "
            f"{' or '.join(payloads)} of mode {' or '.join(modes)}"
        )


def published(tile: Tile, strategy: str) -> Coefficients | None:
    """Return the coefficients that were published for a strategy, if the tile's group has them."""
    found = tile.group.coefficients
    return found if found is not None and found.strategy == strategy else None


def factors(
    tile: Tile,
    found: Coefficients | None,
    initial: Fraction,
    through: Callable[[Tensor], Tensor] | None = None,
) -> list[Factor]:
    """Return the k factors of a tile: a payload's weights, else ``initial`` for each contribution.

    ``through`` is applied to the weights, [n] float64 to [n], not to the initial ones.
    """
    rows = None if found is None else _rows(tile, found)
    if rows is None or found is None:
        return [initial] * tile.count
    if through is not None:
        rows = through(rows.flatten()).reshape(rows.shape)
    if found.granularity == "column" and rows.shape[1] > 1:
        return [_columns(tile, row) for row in rows]
    runs = list(_runs(tile, found, rows.shape[1]))
    if len(runs) == 1:
        return [Fraction(x) for x in rows[:, runs[0][2]].tolist()]
    made: list[Factor] = []
    for row in rows:
        factor = row.new_empty(tile.stop - tile.start)
        for begin, end, place in runs:
            factor[begin:end] = row[place]
        made.append(factor)
    return made


def combine(values: Sequence[Tensor], by: Sequence[Factor]) -> Tensor:
    """Return ``Σ fᵢ xᵢ`` over k times [n], one product and one addition after the other.

    Determinism: as `crdtmerge.arith.weighted_sum`, of which this is the form with a factor per element.
    """
    total: Tensor | None = None
    numbers = [factor for factor in by if isinstance(factor, Fraction)]
    if len(numbers) == len(by):
        return weighted_sum(values, numbers)
    for x, factor in zip(values, by, strict=True):
        product = x * (nearest(factor) if isinstance(factor, Fraction) else factor)
        total = product if total is None else total + product
    assert total is not None  # noqa: S101 - a group has a member
    return total


def masks(tile: Tile, found: Coefficients) -> list[Tensor] | None:
    """Return what a payload of masks leaves of the k differences, or None if it has none for this tensor.

    Determinism: one product for each element; what a bit drops is +0.
    """
    name = f"masks/{tile.tensor}"
    if name not in found:
        return None
    elements = math.prod(tile.shape)
    bits, shared = found.setting("form", "bits", "real") == "bits", len(found.shapes[name]) == 1
    made = []
    for i, tau in enumerate(tile.deltas):
        row = 0 if shared else i
        if bits:
            mask = _bits(found, name, row * -(-elements // 8), tile.start, tile.stop)
        else:
            mask = found.read(name, row * elements + tile.start, row * elements + tile.stop)
        made.append(masked(tau, mask))
    return made


def _bits(found: Coefficients, name: str, origin: int, start: int, stop: int) -> Tensor:
    """Return bits ``[start, stop)`` behind byte ``origin``, the lowest of each byte first, as 0.0 and 1.0."""
    first = start // 8
    rest = found.read(name, origin + first, origin - (-stop // 8))
    unpacked = rest.new_empty(8 * len(rest))
    for place in range(8):
        half = (rest * 0.5).floor()
        unpacked[place::8] = rest - half * 2
        rest = half
    return unpacked[start - 8 * first : stop - 8 * first]


def _rows(tile: Tile, found: Coefficients) -> Tensor | None:
    """Return the weights that speak of a tile's tensor, [k, number of weights]; None if there are none."""
    granularity = found.granularity
    name = (
        "weights" if granularity in ("model", "tensor", "interval") else found.about("weights", tile.tensor)
    )
    if name is None or name not in found:
        return None
    weights = found.array(name).reshape(found.count, -1)
    if granularity == "tensor":
        position, _ = found.places[tile.tensor]
        return weights[:, position : position + 1]
    return weights


def _columns(tile: Tile, row: Tensor) -> Tensor:
    """Return for each element of a tile the weight of its column."""
    wide = columns(tile.shape)
    begin, length = tile.start % wide, tile.stop - tile.start
    return row.repeat(-(-(begin + length) // wide))[begin : begin + length]


def _runs(tile: Tile, found: Coefficients, count: int) -> Iterator[tuple[int, int, int]]:
    """Yield (begin, end, place): elements ``[begin, end)`` of a tile have the weight at a place of a row."""
    length = tile.stop - tile.start
    if count == 1:
        yield 0, length, 0
        return
    if found.granularity == "chunk":
        step, origin = -(-math.prod(tile.shape) // count), tile.start
        breaks = [i * step for i in range(1, count)]
    else:
        origin = found.places[tile.tensor][1] + tile.start
        breaks = [int(at) for at in found.array("breaks").tolist()]
    bounds = [0, *breaks, max(origin + length, breaks[-1])]
    for place, (begin, end) in enumerate(pairwise(bounds)):
        first, last = max(begin - origin, 0), min(end - origin, length)
        if first < last:
            yield first, last, place
