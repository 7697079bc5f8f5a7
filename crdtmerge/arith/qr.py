"""The QR factors of a matrix: orthonormal columns times an upper triangle whose diagonal is not negative.

By Householder reflections in panels of 32 columns. Columns are first scaled by powers of two, which changes
nothing but the size of R's columns: so ill-scaled matrices lose nothing. No rank is assumed: if columns
depend on each other, R has zeros (or rounding errors) on its diagonal, and Q has orthonormal columns still.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import torch
from torch import Tensor

from crdtmerge.arith import compiled
from crdtmerge.arith.fold import fold
from crdtmerge.arith.householder import NEGLIGIBLE, Reflections, reflection
from crdtmerge.arith.scaling import exponent_of, finite, scaled
from crdtmerge.errors import ParameterError

PANEL: Final = 32


class QR(NamedTuple):
    """Q·R.

    Attributes:
        q: [m, k] float64 with orthonormal columns, k = min(m, n).
        r: [k, n] float64, upper triangular, no diagonal element negative.
    """

    q: Tensor
    r: Tensor


def qr(a: Tensor) -> QR:
    """Return Q and R with Q·R = A, for [m, n] float64.

    Determinism: columns are scaled to maxima in [1/2, 1). Within a panel, each column's `reflection` is
    applied to the columns on its right, p ← p - (τ·v)·fold(v·p); then all of them to the matrix on the
    right, by products. Q is the product of all panels times the first k unit vectors, last panel first.
    Where R's diagonal is negative, its row and Q's column change sign.

    Raises:
        ParameterError: if ``a`` is no matrix.
        NonFiniteError: if an element is not finite, or R exceeds float64.
    """
    if a.ndim != 2:
        raise ParameterError(f"wanted a matrix, got shape {tuple(a.shape)}")
    m, n = a.shape
    k = min(m, n)
    if not k:
        return QR(a.new_zeros(m, 0), a.new_zeros(0, n))
    exponent = exponent_of(a, 0)
    work = scaled(a, -exponent)
    panels: list[tuple[int, Reflections]] = []
    for start in range(0, k, PANEL):
        stop = min(start + PANEL, k)
        reflections = _reduce(work[start:, start:stop])
        panels.append((start, reflections))
        if stop < n:
            reflections.apply_transposed(work[start:, stop:])
    q = torch.eye(m, k, dtype=a.dtype, device=a.device)
    for start, reflections in reversed(panels):
        reflections.apply(q[start:, start:])
    r = work[:k].triu()
    sign = 1.0 - 2.0 * (r.diagonal() < 0)
    r = scaled(r * sign[:, None], exponent).add_(0.0)
    return QR((q * sign).add_(0.0), finite(r, "a triangular factor"))


def _reduce(panel: Tensor) -> Reflections:
    """Make ``panel`` upper triangular, in place (what is below stays undefined), and return how."""
    width = panel.shape[1]
    v = panel.new_zeros(panel.shape)
    tau = panel.new_zeros(width)
    if (loops := compiled.kernels_for(panel.device)) is not None:
        columns = panel.contiguous()
        loops.reduce_panel(columns.numpy(), v.numpy(), tau.numpy(), NEGLIGIBLE)
        panel.copy_(columns)
        return Reflections.of(v, tau)
    for c in range(width):
        v[c:, c], tau[c], panel[c, c] = reflection(panel[c:, c])
        rest = panel[c:, c + 1 :]
        column = v[c:, c, None]
        rest -= (column * tau[c]) * fold(column * rest)
    return Reflections.of(v, tau)
