"""Products of matrices: split into slices of integers, and put together from the products of slices."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numba import carray  # type: ignore[attr-defined]

from crdtmerge.arith.kernels.compiler import CHUNK, Array, loop
from crdtmerge.arith.kernels.streams import pointer

_MAGNITUDE: Final = np.int64((1 << 63) - 1)
_INFINITE: Final = np.int64(0x7FF << 52)
_SUBNORMAL: Final = np.int64(1 << 52)

_WHOLE: Final = 1.5 * 2.0**52
"""Added and subtracted, it rounds to an integer what is below 2^51; a zero becomes 0.0, which nobody sees."""

_SIDE: Final = 32
"""Rows and columns of a tile whose transpose is read too: 8 KiB, so that several stay in the first cache."""


@loop
def _exponent(pattern: Any) -> Any:
    """Return the least e with |x| < 2^e for the bit pattern of |x|; 0 of 0."""
    if pattern >= _SUBNORMAL:
        return (pattern >> 52) - 1022
    if pattern == 0:
        return np.int64(0)
    return (np.float64(pattern).view(np.int64) >> 52) - 1022 - 1074


@loop
def _power_of_two(exponent: Any) -> Any:
    return np.int64((exponent + 1023) << 52).view(np.float64)


@loop
def _scale(peak: Any, bits: int) -> Any:
    """Return the exponent of a row, and two factors that scale it: their product may be no float64."""
    exponent = _exponent(peak)
    shift = bits - 1 - exponent
    return exponent, _power_of_two(shift >> 1), _power_of_two(shift - (shift >> 1))


@loop
def _split(rest: Array, bits: int, slices: Array, row: int, begin: int) -> None:
    step = 2.0**bits
    for s in range(slices.shape[0]):
        out = slices[s, row, begin : begin + rest.size]
        for j in range(rest.size):
            part = (rest[j] + _WHOLE) - _WHOLE
            out[j] = part
            rest[j] = (rest[j] - part) * step


@loop
def split_rows(address: int, stride: int, bits: int, slices: Array, exponents: Array) -> bool:
    """Split [m, n] float64 into slices with an exponent for each row; whether all elements are finite.

    Args:
        address: of the first element.
        stride: elements from one row to the next.
        bits: of a slice.
        slices: [count, m, n] float64, written.
        exponents: [m] int64, written.
    """
    _, rows, columns = slices.shape
    room = np.empty(CHUNK)
    for i in range(rows):
        x = carray(pointer(address + i * stride * 8), (columns,), np.float64)
        patterns, peak = x.view(np.int64), np.int64(0)
        for j in range(columns):
            peak = max(peak, patterns[j] & _MAGNITUDE)
        if peak >= _INFINITE:
            return False
        exponents[i], first, second = _scale(peak, bits)
        for begin in range(0, columns, CHUNK):
            rest = room[: min(CHUNK, columns - begin)]
            for j in range(rest.size):
                rest[j] = x[begin + j] * first * second
            _split(rest, bits, slices, i, begin)
    return True


@loop
def split_columns(address: int, stride: int, bits: int, slices: Array, exponents: Array) -> bool:
    """Split [m, n] float64 into slices with an exponent for each column: as `split_rows`, exponents [n]."""
    _, rows, columns = slices.shape
    room, first, second = np.empty(CHUNK), np.empty(columns), np.empty(columns)
    peaks = np.zeros(columns, np.int64)
    for i in range(rows):
        patterns = carray(pointer(address + i * stride * 8), (columns,), np.int64)
        for j in range(columns):
            peaks[j] = max(peaks[j], patterns[j] & _MAGNITUDE)
    for j in range(columns):
        if peaks[j] >= _INFINITE:
            return False
        exponents[j], first[j], second[j] = _scale(peaks[j], bits)
    for i in range(rows):
        x = carray(pointer(address + i * stride * 8), (columns,), np.float64)
        for begin in range(0, columns, CHUNK):
            rest = room[: min(CHUNK, columns - begin)]
            for j in range(rest.size):
                rest[j] = x[begin + j] * first[begin + j] * second[begin + j]
            _split(rest, bits, slices, i, begin)
    return True


@loop
def _collect(sums: Array, product: int, order: int, row: int, left: int, turned: bool, begins: bool) -> None:
    """Add a part of a row (or of a column) of a product, an address, to ``sums``, or begin them with it."""
    n = sums.size
    if turned:
        column = carray(pointer(product + (left * order + row) * 8), ((n - 1) * order + 1,), np.float64)
        for j in range(n):
            sums[j] = (0.0 if begins else sums[j]) + column[j * order]
        return
    part = carray(pointer(product + (row * order + left) * 8), (n,), np.float64)
    if begins:
        for j in range(n):
            sums[j] = part[j]
    else:
        for j in range(n):
            sums[j] = sums[j] + part[j]


@loop
def combine_slices(total: Array, terms: Array, step: float, e: Array, f: Array, symmetric: bool) -> None:
    """Add e · f · (the polynomial in ``step`` whose coefficients are sums of products).

    Args:
        total: [m, n] float64.
        terms: [t, 3] int64: address of a product, [m, n] float64; whether it is transposed; whether a
            coefficient ends with it. The last coefficient comes first.
        step: 2^-β.
        e: [m] float64.
        f: [n] float64.
        symmetric: the result is; of products that are, too, only the lower half is read.
    """
    rows, columns = total.shape
    side = _SIDE if symmetric else CHUNK
    some, others = np.empty(CHUNK), np.empty(CHUNK)
    for top in range(0, rows, side):
        bottom = min(top + side, rows)
        for left in range(0, bottom if symmetric else columns, side):
            for i in range(top, bottom):
                n = min(side, (i + 1 if symmetric else columns) - left)
                sums, coefficient, begins = some[:n], others[:n], True
                for j in range(n):
                    sums[j] = 0.0
                for t in range(len(terms)):
                    _collect(coefficient, terms[t, 0], columns, i, left, terms[t, 1] != 0, begins)
                    begins = terms[t, 2] != 0
                    if begins:
                        for j in range(n):
                            sums[j] = sums[j] * step + coefficient[j]
                factor, out, along = e[i], total[i, left : left + n], f[left : left + n]
                for j in range(n):
                    out[j] = out[j] + (sums[j] * factor) * along[j]
    if symmetric:
        for i in range(rows):
            for j in range(i):
                total[j, i] = total[i, j]
