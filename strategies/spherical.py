"""Interpolation along the sphere: angles between contributions count, tensor by tensor.

A tensor is one long vector. Two of them meet on the arc between them (slerp); more meet at the point of the
sphere with the least squared angles to all (the Karcher mean), or one after the other (fold).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from itertools import accumulate
from typing import Final

from crdtmerge.arith import Tensor, nearest, scalar, weighted_sum
from crdtmerge.errors import ParameterError
from crdtmerge.strategy import Choice, Group, Number, Tile, strategy

from .parts import span

ITERATIONS: Final = 10
TOLERANCE: Final = 1e-5
"""Angle, in radians, below which two directions are one; decides bits."""


def slerp_pair(cosine: float, t: Fraction, threshold: Fraction) -> tuple[float, float]:
    """Return the coefficients of the two ends of an arc at ``t``.

    ``sin((1-t)Ω) / sin Ω`` and ``sin(tΩ) / sin Ω`` with Ω the angle between them; ``1-t`` and ``t`` if the
    magnitude of its cosine exceeds the threshold, where the arc is straight or has no direction.
    """
    if abs(cosine) > threshold:
        return nearest(1 - t), nearest(t)
    omega = scalar.acos(cosine)
    whole = scalar.sin(omega)
    return scalar.sin(nearest(1 - t) * omega) / whole, scalar.sin(nearest(t) * omega) / whole


def fold(gram: span.Matrix, steps: Sequence[Fraction], threshold: Fraction, eps: Fraction) -> list[float]:
    """Return the coefficients of ``r ← slerp(r, vᵢ, stepᵢ)`` from i = 2 on, beginning at the first vector.

    A vector not longer than ``eps`` enters the cosine without normalisation.
    """
    count = len(gram)
    result = _axis(count, 0)
    for i in range(1, count):
        lengths = span.norm(gram, result), scalar.sqrt(gram[i][i])
        product = math.prod(length for length in lengths if length > eps)
        cosine = span.dot(gram, i, result) / product
        near, far = slerp_pair(cosine, steps[i], threshold)
        result = [near * a + far * b for a, b in zip(result, _axis(count, i), strict=True)]
    return result


def karcher(gram: span.Matrix, weights: Sequence[Fraction]) -> list[float]:
    """Return the coefficients of the weighted mean on the sphere, as long as the vectors are on average.

    From the normalised weighted mean of the directions, at most 10 times: ``T = Σ αᵢ θᵢ / sin θᵢ · (ûᵢ -
    cos θᵢ u)``, then u moves by ``|T|`` along T and is normalised; it stops when ``|T| < 10⁻⁵``. A direction
    within 10⁻⁵ of u or of -u pulls nowhere. Zero vectors count for the length only. If the directions cancel,
    u begins at the first of them.
    """
    lengths, cosines = span.units(gram)
    total = sum(weights, Fraction())
    size = math.fsum(nearest(w / total) * n for w, n in zip(weights, lengths, strict=True))
    pulling = [w if n else Fraction() for w, n in zip(weights, lengths, strict=True)]
    if not any(pulling):
        return [0.0] * len(gram)
    alphas = [nearest(w / sum(pulling, Fraction())) for w in pulling]
    u = alphas
    if span.norm(cosines, u) < TOLERANCE:
        u = _axis(len(gram), next(i for i, alpha in enumerate(alphas) if alpha))
    u = _normalised(cosines, u)
    for _ in range(ITERATIONS):
        tangent = _tangent(cosines, alphas, u)
        angle = span.norm(cosines, tangent)
        if angle < TOLERANCE:
            break
        stay, move = scalar.cos(angle), scalar.sin(angle) / angle
        u = _normalised(cosines, [stay * a + move * b for a, b in zip(u, tangent, strict=True)])
    return [size * a / n if n else 0.0 for a, n in zip(u, lengths, strict=True)]


def _tangent(cosines: span.Matrix, alphas: Sequence[float], u: Sequence[float]) -> list[float]:
    pulls, back = [], []
    for i, alpha in enumerate(alphas):
        cosine = max(-1.0, min(1.0, span.dot(cosines, i, u)))
        theta = scalar.acos(cosine)
        sine = scalar.sin(theta)
        pulls.append(alpha * theta / sine if sine >= TOLERANCE else 0.0)
        back.append(pulls[-1] * cosine)
    pulled_back = math.fsum(back)
    return [pull - pulled_back * a for pull, a in zip(pulls, u, strict=True)]


def _normalised(gram: span.Matrix, a: Sequence[float]) -> list[float]:
    length = span.norm(gram, a)
    return [x / length for x in a]


def _axis(count: int, i: int) -> list[float]:
    return [float(j == i) for j in range(count)]


def arcs(
    group: Group, *, t: Fraction | None, method: str, dot_threshold: Fraction, eps: Fraction
) -> span.Coefficients:
    """Return what `slerp` must see first: each tensor's dot products, and what follows from them."""
    weights = group.weights
    if min(weights) < 0 or not any(weights):
        raise ParameterError("slerp: weights must not be negative, and one must be positive")
    if t is not None and (group.count > 2 or len(set(weights)) > 1):
        raise ParameterError(
            f"slerp: t is for two contributions of equal weight, there are {group.count}; "
            "leave t out and let the weights decide"
        )
    totals = accumulate(weights)
    steps = [w / total if total else w for w, total in zip(weights, totals, strict=True)]
    if t is not None:
        steps[-1] = t

    def solve(gram: span.Matrix) -> list[float]:
        if group.count > 2 and method == "karcher":
            return karcher(gram, weights)
        return fold(gram, steps, dot_threshold, eps)

    return span.Coefficients(group, solve)


@strategy(
    "slerp",
    version=1,
    source="Shoemake 1985, doi:10.1145/325165.325242, in mergekit's form; Karcher mean beyond two",
    parameters=[
        Number(
            "t", None, "place on the arc of two, 0: lower digest; none: by weight", minimum="0", maximum="1"
        ),
        Choice("method", ("karcher", "fold"), "beyond two: mean on the sphere, or one after the other"),
        Number("dot_threshold", "0.9995", "|cosine| above which an arc is a line", minimum="0", below="1"),
        Number("eps", "0.00000001", "length up to which a vector has no direction", minimum="0"),
    ],
    alone_is_itself=True,
    survey=arcs,
)
def slerp(
    tile: Tile,
    survey: span.Coefficients,
    *,
    t: Fraction | None,
    method: str,
    dot_threshold: Fraction,
    eps: Fraction,
) -> Tensor:
    """Spherical interpolation of the contributed weights, tensor by tensor.

    Every tensor is a vector ``v`` with direction ``û = v / |v|`` (v itself if ``|v| <= eps``). One
    contribution is itself. Two, v₀ of lower digest and v₁, with ``c = û₀ · û₁`` and ``Ω = arccos c``::

        sin((1-t)Ω) / sin Ω · v₀ + sin(tΩ) / sin Ω · v₁        or (1-t) v₀ + t v₁ where |c| > dot_threshold

    with ``t = w₁ / (w₀ + w₁)`` if none is given: 1/2 for equal weights. More, with weights ``αᵢ = wᵢ / Σ w``:

    * ``karcher``: the point u of the unit sphere where ``Σ αᵢ θᵢ²`` is least, θᵢ being its angle to ``ûᵢ``,
      times ``Σ αᵢ |vᵢ|``; symmetric, except that where directions cancel the first decides;
    * ``fold``: ``r ← slerp(r, vᵢ)`` at ``wᵢ / Σ_{j≤i} wⱼ``, in canonical order, on which it depends.

    Both stay in the span of the vᵢ, so k coefficients per tensor are computed from its dot products, and the
    result is ``Σ cᵢ vᵢ``. [n] float64 to [n] float64.

    Determinism: dot products are lane sums; scalars are float64, their sums correctly rounded (fsum), sin,
    cos, acos and sqrt too; the Karcher mean takes at most 10 steps and stops below 10⁻⁵ (see `karcher`);
    then one weighted sum in canonical order. A squared length below 2⁻⁴⁰ of its terms counts as 0.

    Raises:
        ParameterError: if a weight is negative or all are 0; if ``t`` is given for more than two
            contributions, or together with weights that differ.
        NonFiniteError: if a tensor's squared norm exceeds 2¹⁰⁰⁰.

    Source: Shoemake 1985; as in mergekit and fusion_bench the ends are not normalised. Fixed by us: the
    pole is named by digest, weights choose ``t``, only a vector of length 0 has no direction for `karcher`
    (mergekit: up to 10⁻⁵), and directions within 10⁻⁵ of opposite pull nowhere.
    """
    return weighted_sum(tile.terms, [Fraction(c) for c in survey[tile.tensor]])
