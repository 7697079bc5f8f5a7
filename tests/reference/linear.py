"""docs/spec/linear.md line by line, in fractions and Python's floats; slow on purpose, and only in part.

What is defined in few words is computed here to the bit: the product, sums by halving, Cholesky and
triangular systems. Decompositions are checked by what they promise instead, with exact residuals.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

from reference.arith import float64

Matrix = Sequence[Sequence[float]]

LEVELS = {
    "ONE": [[(0, 0)]],
    "TWO": [[(0, 0)], [(0, 1), (1, 0)]],
    "TWO_FULL": [[(0, 0)], [(0, 1), (1, 0)], [(1, 1)]],
    "THREE": [[(0, 0)], [(0, 1), (1, 0)], [(0, 2), (2, 0), (1, 1)]],
}
COUNTS = {"ONE": 1, "TWO": 2, "TWO_FULL": 2, "THREE": 3}
BLOCK = 2048


def beta(length: int) -> int:
    """Bits of a slice: min(26, ⌊(55 - ⌈log₂ K⌉) / 2⌋)."""
    logarithm = next(k for k in range(60) if 2**k >= length)
    return min(26, (55 - logarithm) // 2)


def exponent(values: Sequence[float]) -> int:
    """The least e with |x| < 2^e for all of them, 0 for zeros."""
    largest = max(abs(Fraction(v)) for v in values)
    e = -1100
    while largest >= Fraction(2) ** e:
        e += 1
    return e if largest else 0


def slices(values: Sequence[float], count: int, bits: int) -> tuple[int, list[list[int]]]:
    """The exponent and the slices of a row; Python rounds fractions to nearest, ties to even."""
    e = exponent(values)
    rest = [Fraction(v) * Fraction(2) ** (bits - 1 - e) for v in values]
    found = []
    for _ in range(count):
        found.append([round(r) for r in rest])
        rest = [(r - s) * 2**bits for r, s in zip(rest, found[-1], strict=True)]
    return e, found


def dot(row: Sequence[float], column: Sequence[float], mode: str) -> float:
    """One element of a product."""
    total = 0.0
    for start in range(0, len(row), BLOCK):
        x, y = row[start : start + BLOCK], column[start : start + BLOCK]
        bits = beta(len(x))
        (e, left), (f, right) = (slices(v, COUNTS[mode], bits) for v in (x, y))
        combined = 0.0
        for place, level in enumerate(reversed(LEVELS[mode])):
            coefficient = None
            for i, j in level:
                integer = sum(a * b for a, b in zip(left[i], right[j], strict=True))
                assert abs(integer) <= 2**53
                coefficient = float(integer) if coefficient is None else coefficient + float(integer)
            assert coefficient is not None
            combined = coefficient if place == 0 else combined * 2.0**-bits + coefficient
        total = total + float64(Fraction(combined) * Fraction(2) ** (e + f - 2 * (bits - 1)))
    return total + 0.0


def product(a: Matrix, b: Matrix, mode: str = "THREE") -> list[list[float]]:
    """A·B."""
    columns = list(zip(*b, strict=True))
    return [[dot(row, column, mode) for column in columns] for row in a]


def error_bound(row: Sequence[float], column: Sequence[float], mode: str) -> Fraction:
    """How far an element of a product of at most 2048 terms may be from the true value."""
    exact = abs(sum((Fraction(a) * Fraction(b) for a, b in zip(row, column, strict=True)), Fraction(0)))
    bits, length = beta(len(row)), len(row)
    slack = (5 * length + 16) * Fraction(2) ** (exponent(row) + exponent(column) - COUNTS[mode] * bits)
    return (exact + slack) / 2**53 + slack + Fraction(1, 2**1075)


def fold(values: Sequence[float]) -> float:
    """The upper half is added to the lower until one is left."""
    values = list(values)
    half = 1
    while 2 * half < len(values):
        half *= 2
    while len(values) > 1:
        for j in range(half, len(values)):
            values[j - half] = values[j - half] + values[j]
        values, half = values[:half], half // 2
    return values[0]


def cholesky(a: Matrix) -> list[list[float]]:
    """The lower factor of a positive definite matrix, in panels of 64 columns."""
    n = len(a)
    work = [list(row) for row in a]
    for start in range(0, n, 64):
        stop = min(start + 64, n)
        for i in range(start, n):
            for j in range(start, stop):
                if start:
                    work[i][j] = work[i][j] - dot(work[i][:start], work[j][:start], "THREE")
        for c in range(start, stop):
            root = math.sqrt(work[c][c])
            for i in range(c, n):
                work[i][c] = work[i][c] / root
            for i in range(c + 1, n):
                for j in range(c + 1, stop):
                    work[i][j] = work[i][j] - work[i][c] * work[j][c]
    return [[work[i][j] if j <= i else 0.0 for j in range(n)] for i in range(n)]


def solve_lower(lower: Matrix, right: Sequence[float]) -> list[float]:
    """Forward substitution in blocks of 64 rows, one right-hand side."""
    x = list(right)
    for start in range(0, len(x), 64):
        stop = min(start + 64, len(x))
        for i in range(start, stop):
            if start:
                x[i] = x[i] - dot(lower[i][:start], x[:start], "THREE")
        for i in range(start, stop):
            x[i] = x[i] / lower[i][i]
            for k in range(i + 1, stop):
                x[k] = x[k] - lower[k][i] * x[i]
    return [v + 0.0 for v in x]


def exact_product(a: Matrix, b: Matrix) -> list[list[Fraction]]:
    """A·B without rounding."""
    columns = [[Fraction(v) for v in column] for column in zip(*b, strict=True)]
    rows = [[Fraction(v) for v in row] for row in a]
    return [[sum((x * y for x, y in zip(r, c, strict=True)), Fraction(0)) for c in columns] for r in rows]
