"""Jacobi's rotations: sweeps over small symmetric matrices, and over the columns of a large one."""

from __future__ import annotations

import math

import numpy as np

from crdtmerge.arith.kernels.compiler import Array, loop
from crdtmerge.arith.kernels.folds import fold_products


@loop
def _angle(alpha: float, beta: float, gamma: float, wanted: float) -> tuple[float, float, float]:
    """Return tangent, cosine and sine of the rotation that makes γ zero; of none unless ``wanted`` is 1."""
    delta, twice = beta - alpha, gamma * 2.0 * wanted
    root = abs(delta) + math.sqrt(delta * delta + twice * twice) + (1.0 - wanted)
    t = (-1.0 if delta < 0.0 else 1.0) * twice / root
    c = 1.0 / math.sqrt(1.0 + t * t)
    return t, c, t * c


@loop
def _rotate(upper: Array, lower: Array, c: float, s: float) -> None:
    for j in range(upper.size):
        x, y = upper[j], lower[j]
        upper[j] = c * x - s * y
        lower[j] = s * x + c * y


@loop
def _rotate_columns(x: Array, cosines: Array, sines: Array) -> None:
    half = cosines.size
    for i in range(len(x)):
        left, right = x[i, :half], x[i, half:]
        for j in range(half):
            p, q = left[j], right[j]
            left[j] = cosines[j] * p - sines[j] * q
            right[j] = sines[j] * p + cosines[j] * q


@loop
def _round(work: Array, rows: Array, active: float, negligible: float, cosines: Array, sines: Array) -> None:
    """Rotate rows and columns i and i + n/2 of a matrix, for all i < n/2."""
    n = len(work)
    half = n // 2
    diagonal, kept = np.empty(n), np.empty(half)
    for i in range(half):
        alpha, beta, gamma = work[i, i], work[i + half, i + half], work[i, i + half]
        wanted = (1.0 if abs(gamma) > negligible else 0.0) * active
        t, cosines[i], sines[i] = _angle(alpha, beta, gamma, wanted)
        diagonal[i], diagonal[i + half] = alpha - t * gamma, beta + t * gamma
        kept[i] = 1.0 - wanted
    for i in range(half):
        _rotate(work[i], work[i + half], cosines[i], sines[i])
        _rotate(rows[i], rows[i + half], cosines[i], sines[i])
    _rotate_columns(work, cosines, sines)
    for i in range(half):
        work[i, i], work[i + half, i + half] = diagonal[i], diagonal[i + half]
        work[i, i + half] = work[i, i + half] * kept[i]
        work[i + half, i] = work[i + half, i] * kept[i]


@loop
def sweep(work: Array, rows: Array, active: Array, seats: Array, negligible: float) -> None:
    """Have all pairs of rows and columns of each matrix meet, once.

    Args:
        work: [b, n, n] float64, n even.
        rows: [b, n, n] float64, rotated with the rows of ``work``.
        active: [b] float64, 1.0 where a matrix is to be rotated, else 0.0.
        seats: [n] int64, who sits where in the next round.
        negligible: elements up to this one are not rotated away.
    """
    n = len(seats)
    cosines, sines, room = np.empty(n // 2), np.empty(n // 2), np.empty((n, n))
    for b in range(len(work)):
        matrix, vectors = work[b], rows[b]
        for _ in range(n - 1):
            _round(matrix, vectors, active[b], negligible, cosines, sines)
            for i in range(n):
                for j in range(n):
                    room[i, j] = matrix[seats[i], seats[j]]
            matrix[:, :] = room
            for i in range(n):
                room[i] = vectors[seats[i]]
            vectors[:, :] = room


@loop
def one_sided_sweep(w: Array, v: Array, seats: Array, floor: float, orthogonal: float) -> None:
    """Make each two rows of ``w`` orthogonal, once, and turn those of ``v`` alike.

    Args:
        w: [n, m] float64, n even.
        v: [n, k] float64.
        seats: [n] int64, who sits where in the next round; after n - 1 rounds all sit as before.
        floor: rows up to this length are noise.
        orthogonal: the cosine of rows that are orthogonal to rounding.
    """
    n, half = len(w), len(w) // 2
    room, order, before = np.empty(w.shape[1]), np.arange(n), np.arange(n)
    for _ in range(n - 1):
        for i in range(half):
            p, q = w[order[i]], w[order[i + half]]
            alpha, beta = fold_products(p, p, room), fold_products(q, q, room)
            gamma = fold_products(p, q, room)
            first, second = math.sqrt(alpha), math.sqrt(beta)
            longer, shorter = max(first, second), min(first, second)
            oblique = longer > floor and abs(gamma * 8.0) > longer * max(shorter, floor) * orthogonal
            _, c, s = _angle(alpha, beta, gamma, 1.0 if oblique else 0.0)
            _rotate(p, q, c, s)
            _rotate(v[order[i]], v[order[i + half]], c, s)
        before[:] = order
        for i in range(n):
            order[i] = before[seats[i]]
