"""Methods that give every direction of the merged difference its due: no task's large values drown another's.

    D = U·diag(σ)·Vᵀ        flattened: σ̄·U·Vᵀ        Ũ, Ṽ of several tasks made orthogonal: polar(Ũ), polar(Ṽ)

Contributions enter with their weights as factors, ``Dᵢ = wᵢ τᵢ``. Directions that a matrix does not have are
not invented: polar factors are partial isometries, and means are taken over the singular values that are
there. What is no matrix is moved by the mean of τ.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Final

from crdtmerge.arith import Elements, Tensor, linear, nearest
from crdtmerge.strategy import Choice, Number, Tile, strategy

from .parts.matrix import Matrix, averaged, beside, combined, leading, matrices, spectrum
from .parts.scale import onto

SCALE: Final = Number("scale", "1", "λ, by which the merged difference is multiplied")

NOISE: Final = 2.0**-30
"""Of a matrix's largest element: what a projection leaves below counts as 0."""


def _weighted(differences: Sequence[Matrix], weights: Sequence[Fraction]) -> list[Matrix]:
    return [combined([matrix], [weight]) for matrix, weight in zip(differences, weights, strict=True)]


def _merged(tile: Tile, scale: Fraction, name: str, merge: Callable[[list[Matrix]], Tensor]) -> Elements:
    """Return the base plus ``scale`` times what ``merge`` makes of matrices; else plus the mean of τ."""
    differences = matrices(tile)
    if differences is None:
        return onto(tile, averaged(tile, tile.deltas, name), Fraction(1))
    return onto(tile, merge(_weighted(differences, tile.weights)).flatten(), scale)


def _joined(parts: Sequence[linear.SVD], values: Tensor) -> Tensor:
    """Return polar([U₁ | U₂ | …])·diag(values)·polar([V₁ | V₂ | …])ᵀ."""
    left, right = (linear.polar(beside(columns)) for columns in ([p.u for p in parts], [p.v for p in parts]))
    return linear.product(left * values, right.mT)


def _row(parts: Sequence[linear.SVD]) -> Tensor:
    return beside([part.values[None, :] for part in parts])[0]


def _mean(values: Tensor, count: int) -> float:
    return nearest(sum(map(Fraction, values.tolist()), Fraction()) / max(count, 1))


@strategy(
    "tsv_merge",
    version=1,
    source="Gargiulo et al. 2025 (CVPR), arXiv:2412.00081",
    parameters=[SCALE],
    needs_base=True,
    scope="tensor",
)
def tsv_merge(tile: Tile, *, scale: Fraction) -> Elements:
    """TSV-Merge: a share of each contribution's singular vectors, all of them made orthogonal to each other.

    For every matrix [m, n], r = min(m, n), and N contributions, ``Uᵢ Sᵢ Vᵢᵀ`` are the first ``k = ⌊r / N⌋``
    singular components of ``Dᵢ = wᵢ τᵢ``, and ``θ = θ₀ + λ polar([U₁ | …]) diag(S₁, …) polar([V₁ | …])ᵀ``, λ
    the parameter ``scale``. With more than r contributions nothing is left and matrices stay at the base.
    What is no matrix is moved by the mean of τ. [n] float64, a whole tensor at a time.

    Determinism: singular values by `parts.matrix.spectrum`, polar factors by `linear.polar`, over singular
    values above 1e-9 of the first; k moves down rather than cut through equal values.

    Raises:
        ParameterError: if the weights sum to 0, for what is no matrix.
        NonFiniteError: if a difference is not finite.

    Source: Gargiulo et al. 2025, section 4 (TSV-Merge). The published code completes polar factors by
    arbitrary directions where vectors depend on each other; here those directions are 0.
    """

    def merge(differences: list[Matrix]) -> Tensor:
        count = min(differences[0].whole.shape) // len(differences)
        parts = [leading(spectrum(matrix), count) for matrix in differences]
        return _joined(parts, _row(parts))

    return _merged(tile, scale, "tsv_merge", merge)


@strategy(
    "iso_c",
    version=1,
    source="Marczak et al. 2025 (ICML), arXiv:2502.04959",
    parameters=[
        SCALE,
        Choice(
            "mean_over", ("rank", "full"), "average the singular values that are there, or min(m, n) of them"
        ),
    ],
    needs_base=True,
    scope="tensor",
)
def iso_c(tile: Tile, *, scale: Fraction, mean_over: str) -> Elements:
    """Iso-C: the sum of all differences, all of whose singular values become their mean.

    For every matrix ``Σ wᵢ τᵢ = U diag(σ) Vᵀ``, and ``θ = θ₀ + λ σ̄ U Vᵀ`` with σ̄ the mean of the singular
    values, λ the parameter ``scale``; ``mean_over=full`` divides their sum by min(m, n) where the rank is
    less. Even one contribution is changed. What is no matrix is moved by the mean of τ. [n] float64, a whole
    tensor at a time.

    Determinism: singular values above 1e-9 of the first by `parts.matrix.spectrum`, of all factors together
    where all contributions are of low rank; their mean is exact, rounded once.

    Raises:
        ParameterError: if the weights sum to 0, for what is no matrix.
        NonFiniteError: if a difference is not finite.

    Source: Marczak et al. 2025, section 4.1. For low rank the published code spreads σ̄ over arbitrary
    directions; here directions that are not there stay 0.
    """

    def merge(differences: list[Matrix]) -> Tensor:
        total = combined(differences, [Fraction(1)] * len(differences))
        found = spectrum(total)
        count = min(total.whole.shape) if mean_over == "full" else len(found.values)
        return linear.product(found.u * _mean(found.values, count), found.v.mT)

    return _merged(tile, scale, "iso_c", merge)


@strategy(
    "iso_cts",
    version=1,
    source="Marczak et al. 2025 (ICML), arXiv:2502.04959",
    parameters=[
        SCALE,
        Number("common", "0.8", "share of the directions that the sum provides", above="0", below="1"),
    ],
    needs_base=True,
    scope="tensor",
)
def iso_cts(tile: Tile, *, scale: Fraction, common: Fraction) -> Elements:
    """Iso-CTS: directions of the sum and, orthogonal to them, of each contribution, all of one size.

    For every matrix [m, n] with r = min(m, n), N contributions and ``Dᵢ = wᵢ τᵢ``: of r directions each
    contribution provides ``k = round((r - ⌊r · common⌋) / N)`` (half to even), the sum ``M = Σ Dᵢ`` the first
    ``c = max(r - k N, 0)``. With ``U_c S_c V_cᵀ`` its components, ``Uᵢ Sᵢ Vᵢᵀ`` are the first k of ``Dᵢ - U_c
    U_cᵀ Dᵢ``, and ``θ = θ₀ + λ σ̄ polar([U₁ | … | U_c]) polar([V₁ | … | V_c])ᵀ``, σ̄ the mean of all S, λ the
    parameter ``scale``. What is no matrix is moved by the mean of τ. [n] float64, a whole tensor at a time.

    Determinism: as `tsv_merge` and `iso_c`. Of what projection leaves, singular values up to 2⁻³⁰ of the
    largest element of Dᵢ count as 0.

    Raises:
        ParameterError: if the weights sum to 0, for what is no matrix.
        NonFiniteError: if a difference is not finite.

    Source: Marczak et al. 2025, section 4.2; the published code likewise projects from the left only. Fewer
    components than wanted, for lack of rank, are not filled up.
    """

    def merge(differences: list[Matrix]) -> Tensor:
        size, count = min(differences[0].whole.shape), len(differences)
        own = round(Fraction(size - math.floor(size * common), count))
        shared = leading(spectrum(combined(differences, [Fraction(1)] * count)), max(size - own * count, 0))
        parts = [_own(matrix, shared.u, own) for matrix in differences]
        values = _row([*parts, shared])
        return _joined([*parts, shared], values * 0.0 + _mean(values, len(values)))

    return _merged(tile, scale, "iso_cts", merge)


def _own(matrix: Matrix, basis: Tensor, count: int) -> linear.SVD:
    """Return the first components of what of a matrix is orthogonal to a basis, which acts from the left."""

    def rest(x: Tensor) -> Tensor:
        return x - linear.product(basis, linear.product(basis.mT, x))

    factors = matrix.factors and (rest(matrix.factors[0]), matrix.factors[1])
    found = spectrum(Matrix(rest(matrix.whole), factors))
    # What is small beside the matrix itself is what the subtraction left by rounding, and no direction.
    there = (found.values > matrix.whole.abs().amax() * NOISE).count_nonzero()
    return leading(found, min(count, int(there)))
