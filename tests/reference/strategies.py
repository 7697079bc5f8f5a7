"""The strategies that are more than a weighted sum, written slowly: lists, loops and the catalogue's words.

Elementwise methods do the operations of the definition one by one in Python's floats, which are IEEE 754's,
so the fast ones must agree to the bit. Spherical ones work on the vectors themselves and not on their dot
products, so they agree up to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

from crdtmerge.digest import stream

Vector = list[float]


def trim(tau: Vector, density: Fraction, *, official: bool = False) -> Vector:
    """Keep the floor(density · D) elements that come first in the order (-|x|, index)."""
    kept = math.floor(density * len(tau))
    ranked = sorted(range(len(tau)), key=lambda i: (-abs(tau[i]), i))
    if official:
        threshold = abs(tau[ranked[kept]])
        return [x if abs(x) >= threshold else 0.0 for x in tau]
    first = set(ranked[:kept])
    return [x if i in first else 0.0 for i, x in enumerate(tau)]


def elect(rows: Sequence[Vector], weights: Sequence[Fraction], zero: str) -> list[int]:
    """The sign of each column's weighted sum."""
    common = math.lcm(*(w.denominator for w in weights))
    whole = [int(w * common) for w in weights]
    shared = math.gcd(*whole) or 1
    signs = []
    for column in zip(*rows, strict=True):
        total = 0.0
        for w, x in zip(whole, column, strict=True):
            total += (w // shared) * x
        signs.append((total > 0) - (total < 0))
    fill = {"plus": 1, "drop": 0, "majority": 1 if sum(signs) >= 0 else -1}[zero]
    return [s or fill for s in signs]


def disjoint(rows: Sequence[Vector], weights: Sequence[Fraction], elected: list[int], rule: str) -> Vector:
    """Merge, column by column, what has the elected sign."""
    merged = []
    for i, sign in enumerate(elected):
        agreeing = [
            (w, row[i])
            for w, row in zip(weights, rows, strict=True)
            if sign and w * Fraction(row[i]) * sign > 0
        ]
        if not agreeing:
            merged.append(0.0)
        elif rule == "max":
            merged.append(sign * max(abs(float(w) * x) for w, x in agreeing))
        elif rule == "sum":
            total = 0.0
            for w, x in agreeing:
                total += float(w) * x
            merged.append(total + 0.0)
        else:
            common = math.lcm(*(w.denominator for w in weights))
            shared = math.gcd(*(int(w * common) for w in weights)) or 1
            total, count = 0.0, 0
            for w, x in agreeing:
                part = int(w * common) // shared
                total += part * x
                count += part
            merged.append(total / (count or 1) + 0.0)
    return merged


def ties(
    base: Vector,
    rows: Sequence[Vector],
    weights: Sequence[Fraction],
    *,
    density: Fraction = Fraction(1, 5),
    scale: Fraction = Fraction(1),
    merge_func: str = "mean",
    zero: str = "majority",
    official: bool = False,
) -> Vector:
    """Trim, elect, merge, on one vector."""
    taus = [[x - b for x, b in zip(row, base, strict=True)] for row in rows]
    trimmed = [trim(tau, density, official=official) for tau in taus]
    merged = disjoint(trimmed, weights, elect(trimmed, weights, zero), merge_func)
    return [b + x * float(scale) for b, x in zip(base, merged, strict=True)]


def mask(key: bytes, count: int, keep: Fraction) -> Vector:
    """Word i of the key's stream, little-endian, decides about element i."""
    words = [stream(key, length=4, offset=4 * i) for i in range(count)]
    return [1.0 if int.from_bytes(word, "little") < math.floor(keep * 2**32) else 0.0 for word in words]


def dare_ties(
    base: Vector,
    rows: Sequence[Vector],
    weights: Sequence[Fraction],
    keys: Sequence[bytes],
    *,
    p: Fraction = Fraction(9, 10),
    trimmed_to: Fraction | None = None,
    zero: str = "majority",
) -> Vector:
    """Drop, rescale, then elect and merge as TIES, on one vector."""
    dropped = []
    for row, key in zip(rows, keys, strict=True):
        kept = mask(key, len(base), 1 - p)
        dropped.append([(x - b) * m / float(1 - p) for x, b, m in zip(row, base, kept, strict=True)])
    if trimmed_to is not None:
        dropped = [trim(tau, trimmed_to) for tau in dropped]
    merged = disjoint(dropped, weights, elect(dropped, weights, zero), "mean")
    return [b + x for b, x in zip(base, merged, strict=True)]


def slerp(v0: Vector, v1: Vector, t: float, threshold: float = 0.9995, eps: float = 1e-8) -> Vector:
    """The arc between two vectors, whose directions make the angle and whose values are combined."""
    c = dot(unit(v0, eps), unit(v1, eps))
    if abs(c) > threshold:
        return [(1 - t) * x + t * y for x, y in zip(v0, v1, strict=True)]
    omega = math.acos(c)
    near, far = math.sin((1 - t) * omega) / math.sin(omega), math.sin(t * omega) / math.sin(omega)
    return [near * x + far * y for x, y in zip(v0, v1, strict=True)]


def fold(rows: Sequence[Vector], weights: Sequence[Fraction]) -> Vector:
    """One arc after the other."""
    result, total = rows[0], weights[0]
    for row, weight in zip(rows[1:], weights[1:], strict=True):
        total += weight
        result = slerp(result, row, float(weight / total))
    return result


def karcher(rows: Sequence[Vector], weights: Sequence[Fraction], tolerance: float = 1e-5) -> Vector:
    """The mean of directions on the sphere, as long as the rows are on average."""
    total = sum(weights, Fraction())
    size = sum(float(w / total) * norm(row) for w, row in zip(weights, rows, strict=True))
    pulling = [(w, unit(row)) for w, row in zip(weights, rows, strict=True) if norm(row) and w]
    if not pulling:
        return [0.0] * len(rows[0])
    alphas = [float(w / sum((w for w, _ in pulling), Fraction())) for w, _ in pulling]
    directions = [direction for _, direction in pulling]
    u = combine(alphas, directions)
    u = unit(u if norm(u) >= tolerance else directions[0])
    for _ in range(10):
        tangent = [0.0] * len(u)
        for alpha, direction in zip(alphas, directions, strict=True):
            c = max(-1.0, min(1.0, dot(u, direction)))
            theta = math.acos(c)
            if math.sin(theta) >= tolerance:
                pull = alpha * theta / math.sin(theta)
                tangent = combine([1.0, pull, -pull * c], [tangent, direction, u])
        angle = norm(tangent)
        if angle < tolerance:
            break
        u = unit(combine([math.cos(angle), math.sin(angle) / angle], [u, tangent]))
    return [size * x for x in u]


def dot(a: Vector, b: Vector) -> float:
    return math.fsum(x * y for x, y in zip(a, b, strict=True))


def norm(a: Vector) -> float:
    return math.sqrt(dot(a, a))


def unit(a: Vector, eps: float = 0.0) -> Vector:
    length = norm(a)
    return [x / length for x in a] if length > eps else a


def combine(factors: Sequence[float], rows: Sequence[Vector]) -> Vector:
    return [sum(f * x for f, x in zip(factors, column, strict=True)) for column in zip(*rows, strict=True)]
