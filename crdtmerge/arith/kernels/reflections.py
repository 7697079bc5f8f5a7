"""Householder's reflections, a panel of columns at a time: what `qr` and `tridiagonal` do elementwise."""

from __future__ import annotations

import math

import numpy as np

from crdtmerge.arith.kernels.compiler import Array, loop
from crdtmerge.arith.kernels.folds import STRIP, fold_products, fold_rows


@loop
def _reflect(x: Array, v: Array, room: Array, negligible: float) -> tuple[float, float]:
    """Write the vector of the reflection that maps [n] to (α, 0, …), and return τ and α."""
    norm = math.sqrt(fold_products(x, x, room))
    v[0] = 1.0
    if norm < negligible or x.size == 1:
        for i in range(1, x.size):
            v[i] = 0.0
        return 0.0, 0.0 if norm < negligible else x[0]
    alpha = -norm if x[0] >= 0.0 else norm
    divisor = x[0] - alpha
    for i in range(1, x.size):
        v[i] = x[i] / divisor
    return (alpha - x[0]) / alpha, alpha


@loop
def _subtract(out: Array, x: Array, left: int, factors: Array, room: Array, sums: Array) -> None:
    """Subtract the sum of as many rows of ``x`` as there are factors, from column ``left`` on."""
    fold_rows(x, 0, left, factors, room, sums[: out.size])
    for i in range(out.size):
        out[i] = out[i] - sums[i]


@loop
def reduce_panel(panel: Array, v: Array, tau: Array, negligible: float) -> None:
    """Make [m, n] upper triangular, m >= n; what is below stays undefined.

    Args:
        panel: the columns.
        v: [m, n] zeros; the reflections' vectors.
        tau: [n], written.
        negligible: what is shorter is zero.
    """
    rows, width = panel.shape
    column, along, line, sums = np.empty(rows), np.empty(rows), np.empty(rows), np.empty(width)
    room = np.empty((rows, STRIP))
    for c in range(width):
        n, right = rows - c, width - c - 1
        for i in range(n):
            column[i] = panel[c + i, c]
        tau[c], panel[c, c] = _reflect(column[:n], along[:n], line, negligible)
        for i in range(n):
            v[c + i, c] = along[i]
        if right:
            fold_rows(panel, c, c + 1, along[:n], room, sums[:right])
            for i in range(n):
                factor = along[i] * tau[c]
                rest = panel[c + i, c + 1 :]
                for j in range(right):
                    rest[j] = rest[j] - factor * sums[j]


@loop
def join_reflections(gram: Array, tau: Array, t: Array) -> None:
    """Write T of I - V·T·Vᵀ, [k, k] of zeros, given VᵀV."""
    line, column = np.empty(tau.size), np.empty(tau.size)
    for c in range(tau.size):
        for j in range(c):
            column[j] = gram[j, c]
        for i in range(c):
            t[i, c] = fold_products(t[i, :c], column[:c], line) * -tau[c]
        t[c, c] = tau[c]


@loop
def tridiagonal_panel(
    a: Array,
    start: int,
    v: Array,
    w: Array,
    tau: Array,
    diagonal: Array,
    beside: Array,
    negligible: float,
) -> None:
    """Reduce the columns of a symmetric [n, n] from ``start`` on, one for each row of ``v`` and ``w``.

    Args:
        a: the matrix as it was before this panel.
        start: the first column.
        v: [k, n] zeros; the reflections' vectors.
        w: [k, n] zeros; their images.
        tau: [k], written.
        diagonal: [n], written at these columns.
        beside: [n - 1], written likewise.
        negligible: what is shorter is zero.
    """
    n, width = len(a), tau.size
    column, image, sums, line = np.empty(n), np.empty(n), np.empty(n), np.empty(n)
    factors, others, room = np.empty(width), np.empty(width), np.empty((n, STRIP))
    for done in range(width):
        j = start + done
        size = n - j
        for i in range(size):
            column[i] = a[j + i, j]
        for i in range(done):
            factors[i], others[i] = w[i, j], v[i, j]
        _subtract(column[:size], v, j, factors[:done], room, sums)
        _subtract(column[:size], w, j, others[:done], room, sums)
        diagonal[j] = column[0]
        u, result = v[done, j + 1 :], image[: size - 1]
        tau[done], beside[j] = _reflect(column[1:size], u, line, negligible)
        fold_rows(a, j + 1, j + 1, u, room, result)
        for i in range(done):
            factors[i] = fold_products(w[i, j + 1 :], u, line)
            others[i] = fold_products(v[i, j + 1 :], u, line)
        _subtract(result, v, j + 1, factors[:done], room, sums)
        _subtract(result, w, j + 1, others[:done], room, sums)
        for i in range(size - 1):
            result[i] = result[i] * tau[done]
        factor = tau[done] * 0.5 * fold_products(result, u, line)
        for i in range(size - 1):
            w[done, j + 1 + i] = result[i] - factor * u[i]
