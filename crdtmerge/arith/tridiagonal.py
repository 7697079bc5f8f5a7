"""A symmetric matrix as H·T·Hᵀ with T tridiagonal and H a product of reflections.

The first half of every eigendecomposition. In panels of 32 columns, each column's reflection is found from
the matrix as it would be after the reflections before it, while the matrix itself is changed once a panel:

    A ← A - V·Wᵀ - W·Vᵀ        (Dongarra, Sorensen, Hammarling 1989)

which is one exact product, symmetric to the bit.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import torch
from torch import Tensor

from crdtmerge.arith import compiled
from crdtmerge.arith.fold import fold
from crdtmerge.arith.householder import NEGLIGIBLE, Reflections, reflection
from crdtmerge.arith.product import product

PANEL: Final = 32


class Tridiagonal(NamedTuple):
    """H·T·Hᵀ.

    Attributes:
        diagonal: [n] float64 of T.
        beside: [n - 1] float64, T's elements on either side of the diagonal.
        panels: (s, reflections on the rows from s on), whose product in this order is H.
    """

    diagonal: Tensor
    beside: Tensor
    panels: tuple[tuple[int, Reflections], ...]

    def apply(self, x: Tensor) -> None:
        """Replace ``x``, [n, m], by H·x."""
        for start, reflections in reversed(self.panels):
            reflections.apply(x[start:])


def tridiagonal(a: Tensor) -> Tridiagonal:
    """Return H and T of a symmetric [n, n] float64 whose largest element is near 1; n >= 1.

    Determinism: with the panel's vectors so far as rows of V and W, column j from the diagonal downwards is
    a - fold(V·W[:, j]) - fold(W·V[:, j]); its first element goes to T, the others give the `reflection` v.
    On the rows below j, w = fold(A·v) - fold(V·fold(W·v)) - fold(W·fold(V·v)), then w ← τ·w and
    w ← w - ((τ · 0.5) · fold(w·v))·v.
    """
    n = len(a)
    a = a.clone(memory_format=torch.contiguous_format)
    diagonal, beside = a.new_zeros(n), a.new_zeros(max(n - 1, 0))
    panels = []
    for start in range(0, n - 1, PANEL):
        stop = min(start + PANEL, n - 1)
        v, w = a.new_zeros(stop - start, n), a.new_zeros(stop - start, n)
        tau = _reduce(a, start, v, w, diagonal, beside)
        panels.append((start + 1, Reflections.of(v[:, start + 1 :].mT.contiguous(), tau)))
        rest = slice(stop, n)
        left, right = torch.cat([v, w])[:, rest], torch.cat([w, v])[:, rest]
        a[rest, rest] -= product(left.mT, right)
    diagonal[n - 1] = a[n - 1, n - 1]
    return Tridiagonal(diagonal, beside, tuple(panels))


def _reduce(a: Tensor, start: int, v: Tensor, w: Tensor, diagonal: Tensor, beside: Tensor) -> Tensor:
    """Write the columns from ``start`` on of T, as many as ``v`` has rows, and V and W; return the τ."""
    n, tau = len(a), a.new_zeros(len(v))
    if (loops := compiled.kernels_for(a.device)) is not None:
        of_t = diagonal.numpy(), beside.numpy()
        loops.tridiagonal_panel(a.numpy(), start, v.numpy(), w.numpy(), tau.numpy(), *of_t, NEGLIGIBLE)
        return tau
    for done in range(len(v)):
        j = start + done
        before_v, before_w = v[:done], w[:done]
        column = a[j:, j] - fold(before_v[:, j:] * before_w[:, j, None])
        column -= fold(before_w[:, j:] * before_v[:, j, None])
        diagonal[j] = column[0]
        u, tau[done], beside[j] = reflection(column[1:])
        below = slice(j + 1, n)
        v[done, below] = u
        image = fold(a[below, below] * u[:, None])
        along_w, along_v = fold((before_w[:, below] * u).mT), fold((before_v[:, below] * u).mT)
        image -= fold(before_v[:, below] * along_w[:, None])
        image -= fold(before_w[:, below] * along_v[:, None])
        image *= tau[done]
        image -= (tau[done] * 0.5 * fold(image * u)) * u
        w[done, below] = image
    return tau
