"""The sum of a few vectors by halving: the upper half is added to the lower until one is left.

For sums along one side of a matrix that are too short to be worth an exact product. The order depends on
their number alone:

    x₀ x₁ x₂ x₃ x₄      h = 4: x₄ is added to x₀
    x₀ x₁ x₂ x₃         h = 2: x₂ to x₀, x₃ to x₁
    x₀ x₁               h = 1: x₁ to x₀

An error is at most ⌈log₂ n⌉ roundings deep.
"""

from __future__ import annotations

from torch import Tensor


def fold(x: Tensor) -> Tensor:
    """Return the sum over the first dimension, [n, ...] to [...]; 0.0 of nothing.

    Determinism: for h the powers of two below n, descending: x[j] ← x[j] + x[j + h] for all j + h < n, and n ← h.
    """
    count = len(x)
    if count == 0:
        return x.new_zeros(x.shape[1:])
    half = 1 << (count - 1).bit_length() >> 1
    total = x[: max(half, 1)].clone()
    total[: count - half] += x[half:] if half else 0.0
    while half > 1:
        half //= 2
        total[:half] += total[half : 2 * half]
    return total[0]
