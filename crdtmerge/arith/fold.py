"""The sum of a few vectors by halving: the upper half is added to the lower until one is left.

For sums along one side of a matrix that are too short to be worth an exact product. The order depends on
their number alone:

    x₀ x₁ x₂ x₃ x₄      h = 4: x₄ is added to x₀
    x₀ x₁ x₂ x₃         h = 2: x₂ to x₀, x₃ to x₁
    x₀ x₁               h = 1: x₁ to x₀

An error is at most ⌈log₂ n⌉ roundings deep. Products of factors go the same way.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def fold(x: Tensor) -> Tensor:
    """Return the sum over the first dimension, [n, ...] float64 to [...]; 0.0 of nothing.

    Determinism: for h the powers of two below n, descending: xⱼ ← xⱼ + xⱼ₊ₕ where there is one, for all j <
    h.
    """
    return _folded(x, torch.add) if len(x) else x.new_zeros(x.shape[1:])


def fold_product(x: Tensor) -> Tensor:
    """Return the product over the first dimension, in the order of `fold`, [n, ...] to [...]; n >= 1."""
    return _folded(x, torch.mul)


def _folded(x: Tensor, combine: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    rows = x.shape[0]
    half = (1 << (rows - 1).bit_length()) // 2
    while half:
        both = rows - half
        lower = combine(x[:both], x[half:])
        x = torch.cat([lower, x[both:half]]) if both < half else lower
        rows, half = half, half // 2
    return x[0]
