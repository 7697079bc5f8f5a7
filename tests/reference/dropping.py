"""Methods that drop, elect by size or weigh by overlap, written slowly: lists, loops, the catalogue's words.

Every operation that a definition fixes is done here one by one in Python's floats, which are IEEE 754's, so
the fast ones must agree to the bit; norms and softmax are done as people would: those agree up to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

from crdtmerge.digest import stream

from .strategies import Vector, disjoint, elect


def cut(row: Vector, columns: int) -> list[Vector]:
    return [row[i : i + columns] for i in range(0, len(row), columns)]


def word(key: bytes, index: int) -> int:
    return int.from_bytes(stream(key, length=4, offset=4 * index), "little")


def magprune(tau: Vector, key: bytes, columns: int, density: Fraction, epsilon: Fraction) -> Vector:
    """Drop by rank in the row; what stays is divided by its own probability."""
    pruned = []
    for number, row in enumerate(cut(tau, columns)):
        order = sorted(range(columns), key=lambda j: (abs(row[j]), j))
        for j, x in enumerate(row):
            q = float(density)
            if columns > 1:
                q = order.index(j) * float(2 * epsilon / (columns - 1)) + float(density - epsilon)
            stays = word(key, number * columns + j) < math.floor(q * 2**32)
            pruned.append(x / q if stays else 0.0)
    return pruned


def della(
    base: Vector,
    rows: Sequence[Vector],
    weights: Sequence[Fraction],
    keys: Sequence[bytes],
    columns: int,
    density: Fraction,
    epsilon: Fraction,
) -> Vector:
    """Prune, elect, average what agrees."""
    taus = [[x - b for x, b in zip(row, base, strict=True)] for row in rows]
    pruned = [magprune(t, key, columns, density, epsilon) for t, key in zip(taus, keys, strict=True)]
    merged = disjoint(pruned, weights, elect(pruned, weights, "plus"), "mean")
    return [b + x for b, x in zip(base, merged, strict=True)]


def middle_of_row(row: Vector, density: Fraction, gamma: Fraction) -> Vector:
    """Drop the largest, keep the next, drop the rest."""
    order = sorted(range(len(row)), key=lambda j: (-abs(row[j]), j))
    outliers, kept = math.floor(gamma * len(row)), math.floor(density * len(row))
    stays = set(order[outliers : outliers + kept])
    return [x if j in stays else 0.0 for j, x in enumerate(row)]


def middle_of_tensor(tau: Vector, density: Fraction, gamma: Fraction) -> Vector:
    """Sort ascending, drop from both ends; the upper end gives way."""
    if density == 1:
        return tau
    order = sorted(range(len(tau)), key=lambda j: (abs(tau[j]), j))
    kept, top = math.floor(density * len(tau)), math.floor(gamma * len(tau))
    bottom = len(tau) - kept - top
    if bottom < 0:
        top, bottom = top + bottom, 0
    stays = set(order[bottom : len(tau) - top])
    return [x if j in stays else 0.0 for j, x in enumerate(tau)]


def summed(base: Vector, values: Sequence[Vector], weights: Sequence[Fraction], scale: Fraction) -> Vector:
    """Base plus a multiple of the weighted sum."""
    result = []
    for b, column in zip(base, zip(*values, strict=True), strict=True):
        total = 0.0
        for w, x in zip(weights, column, strict=True):
            total += float(w) * x
        result.append(b + total * float(scale))
    return result


def emr(base: Vector, rows: Sequence[Vector], member: int | None) -> Vector:
    """Elect by the plain sum, take the largest that agrees; a member takes its own part, rescaled."""
    taus = [[x - b for x, b in zip(row, base, strict=True)] for row in rows]
    gammas, unified = [], []
    for column in zip(*taus, strict=True):
        total = 0.0
        for x in column:
            total += x
        gammas.append(1 if total > 0 else -1)
        unified.append(gammas[-1] * max([0.0, *(abs(x) for x in column if x * gammas[-1] > 0)]) + 0.0)
    if member is None:
        return [b + u for b, u in zip(base, unified, strict=True)]
    own = taus[member]
    taken = [u if x * g > 0 else 0.0 for u, x, g in zip(unified, own, gammas, strict=True)]
    divisor = math.fsum(abs(u) for u in taken)
    factor = math.fsum(abs(x) for x in own) / divisor if divisor else 1.0
    return [b + factor * u for b, u in zip(base, taken, strict=True)]


def sce(base: Vector, rows: Sequence[Vector], density: Fraction) -> Vector:
    """Select by variance, weigh by mean squares, erase the minority's signs."""
    taus = [[x - b for x, b in zip(row, base, strict=True)] for row in rows]
    if density < 1:
        variances = []
        for column in zip(*taus, strict=True):
            mean = _plain(column) / len(column)
            variances.append(_plain([(x - mean) ** 2 for x in column]) / len(column))
        kept = math.floor(density * sum(v != 0 for v in variances))
        order = sorted(range(len(base)), key=lambda j: (-variances[j], j))
        taus = [[x if j in order[:kept] else 0.0 for j, x in enumerate(tau)] for tau in taus]
    squares = [math.fsum(x * x for x in tau) / len(tau) for tau in taus]
    total = math.fsum(squares)
    weights = [1 / len(taus) if total < 1e-6 else s / total for s in squares]
    result = []
    for b, column in zip(base, zip(*taus, strict=True), strict=True):
        sign = 1 if _plain(column) >= 0 else -1
        agreeing = [(w, x) for w, x in zip(weights, column, strict=True) if x * sign > 0]
        move = math.fsum(w * x for w, x in agreeing) / max(math.fsum(w for w, _ in agreeing), 1e-6)
        result.append(b + move)
    return result


def fusion(base: Vector, row: Vector, columns: int) -> tuple[Vector, Vector, float]:
    """Keep what matters unusually much; also the importances and their threshold."""
    important = []
    for before, after in zip(cut(base, columns), cut(row, columns), strict=True):
        p, q = softmax(after), softmax(before)
        divergence = math.fsum(
            (x + 1e-8) * math.log((x + 1e-8) / (y + 1e-8)) for x, y in zip(p, q, strict=True)
        )
        important += [abs(x - b) * divergence for x, b in zip(after, before, strict=True)]
    ranked = sorted(important)
    first, middle, third = (ranked[math.floor(Fraction(i, 4) * (len(ranked) - 1))] for i in (1, 2, 3))
    threshold = middle + 1.5 * (third - first)
    kept = [x if i >= threshold else b for x, b, i in zip(row, base, important, strict=True)]
    return kept, important, threshold


def softmax(row: Vector) -> Vector:
    powers = [math.exp(x - max(row)) for x in row]
    return [p / math.fsum(powers) for p in powers]


def _plain(values: Sequence[float]) -> float:
    total = 0.0
    for x in values:
        total += x
    return total
