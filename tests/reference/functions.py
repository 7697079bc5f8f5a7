"""The functions of tensors in docs/spec/arith.md, element by element in Python's floats."""

from __future__ import annotations

import math
from collections.abc import Sequence

H = float.fromhex("0x1.62e42fee00000p-1")
L = float.fromhex("0x1.a39ef35793c76p-33")
PER_LN2 = float.fromhex("0x1.71547652b82fep+0")
ROOT_HALF = float.fromhex("0x1.6a09e667f3bcdp-1")


def _reduced(x: float) -> tuple[int, float]:
    """n and p with e^x ≈ 2^n · (1 + p)."""
    n = round(x * PER_LN2)
    r = (x - n * H) - n * L
    p = r * (1 / math.factorial(13))
    for k in range(12, 0, -1):
        p = (p + 1 / math.factorial(k)) * r
    return n, p


def exp(x: float) -> float:
    """e^x of x <= 709.782712893384."""
    n, p = _reduced(max(x, -746.0))
    half = int(n / 2)
    return ((p + 1) * math.ldexp(1, half)) * math.ldexp(1, n - half)


def log(x: float) -> float:
    """The natural logarithm of x > 0."""
    fraction, e = math.frexp(x)
    if fraction < ROOT_HALF:
        fraction, e = 2 * fraction, e - 1
    f = fraction - 1
    s = f / (f + 2)
    z = s * s
    t = z * (2 / 23)
    for k in range(21, 2, -2):
        t = (t + 2 / k) * z
    g = (f * 0.5) * f
    t = (t + g) * s + e * L
    return (e * H - ((g - t) - f)) + 0.0


def tanh(x: float) -> float:
    """The hyperbolic tangent."""
    n, p = _reduced(-2 * min(abs(x), 350.0))
    scale = math.ldexp(1, max(n, -1000))
    d = p * scale + (scale - 1)
    q = d / (d + 2)
    return (q if x < 0 else -q) + 0.0


def sigmoid(x: float) -> float:
    """1 / (1 + e^-x)."""
    t = exp(-abs(x))
    return (t if x < 0 else 1.0) / (t + 1)


def softmax(values: Sequence[float]) -> list[float]:
    """e^x / Σ e^x, the largest subtracted, the sum by halving."""
    powers = [exp(x - max(values)) for x in values]
    total = list(powers)
    while len(total) > 1:
        half = 1 << (len(total) - 1).bit_length() - 1
        total = [total[j] + total[j + half] if j + half < len(total) else total[j] for j in range(half)]
    return [power / total[0] for power in powers]
