"""Descent in a fixed number of steps, each operation of which is written down.

A method that was published as "minimise this" is better solved in closed form. Where its numbers are those of
a run of an optimiser that was stopped on the way, that run is what has to be repeated.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Final

from crdtmerge.arith import Tensor, dot, nearest, scalar, sqrt

BETAS: Final = Fraction(9, 10), Fraction(999, 1000)
EPSILON: Final = 1e-8

NEAREST_END: Final = 0.001
"""How near to either end the point of least norm may be said to lie."""


def adam(start: Tensor, gradient: Callable[[Tensor], Tensor], rate: Fraction, steps: int) -> Tensor:
    """Return where ``steps`` steps of Adam lead from ``start``, [m, n].

    With g the gradient in step t = 1, 2, …: ``m ← β₁ m + (1-β₁) g``, ``v ← β₂ v + (1-β₂) g²``, ``x ← x -
    (rate / (1-β₁ᵗ)) · m / (√v / √(1-β₂ᵗ) + 1e-8)``, beginning with m = v = 0; β = 0.9, 0.999.

    Determinism: every product, sum, quotient and root is rounded once, from left to right; factors are the
    floats nearest to the exact numbers in parentheses, √ of one is that of the float nearest to it.

    Source: Kingma and Ba 2015, arXiv:1412.6980, algorithm 1, in the form of torch's.
    """
    first, second = BETAS
    left, right = Fraction(1), Fraction(1)
    x, m, v = start, start * 0.0, start * 0.0
    for _ in range(steps):
        left, right = left * first, right * second
        g = gradient(x)
        m = m * nearest(first) + g * nearest(1 - first)
        v = v * nearest(second) + (g * g) * nearest(1 - second)
        root = sqrt(v) / scalar.sqrt(nearest(1 - right))
        x = x - (m * nearest(rate / (1 - left))) / (root + EPSILON)
    return x


def least_norm(a: Tensor, b: Tensor) -> float:
    """Return the γ for which ``γ a + (1-γ) b`` is shortest, two tensors of one shape; not quite 0 or 1.

    ``(b·b - a·b) / (a·a + b·b - 2 a·b)``, or 0.999 if ``a·b >= a·a``, 0.001 if ``a·b >= b·b``.

    Determinism: dot products are lane sums of the tensors row by row; then float64 from left to right.

    Source: Sener and Koltun 2018, arXiv:1810.04650, algorithm 1, with the ends of their code.
    """
    across, left, right = (dot(x.flatten(), y.flatten()) for x, y in ((a, b), (a, a), (b, b)))
    if across >= left:
        return 1 - NEAREST_END
    if across >= right:
        return NEAREST_END
    return (right - across) / (left + right - 2 * across)
