"""Methods that choose among the singular components of every contribution by itself.

    τ = σ₁·u₁·v₁ᵀ + σ₂·u₂·v₂ᵀ + …        large components carry the task, small ones disturb the others

What is no matrix keeps its differences. Components of equal singular values have no meaning one by one, so
they are kept or dropped together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Final

from crdtmerge.arith import Elements, Tensor, linear, nearest
from crdtmerge.coefficients import Coefficients
from crdtmerge.errors import MalformedError
from crdtmerge.strategy import Choice, Number, Tile, strategy

from .parts.coefficients import combine, factors, published, wanted
from .parts.matrix import Matrix, averaged, combined, leading, matrices, reaching, rebuilt, spectrum
from .parts.scale import onto

ORIGINS: Final = ("ta", "cart")
"""θ₀, as task arithmetic has it, or the mean of the contributions."""


def truncated(matrix: Matrix, share: Fraction) -> Tensor:
    """Return the largest components that hold ``share`` of Σ σ, rescaled to all of it."""
    found = spectrum(matrix)
    kept = reaching(found.values, share)
    if kept == len(found.values):
        return matrix.whole
    sizes = [Fraction(value) for value in found.values.tolist()]
    factor = nearest(sum(sizes, Fraction()) / sum(sizes[:kept], Fraction()))
    first = leading(found, kept)
    return rebuilt(first, first.values * factor)


@strategy(
    "star",
    version=1,
    source="Lee et al. 2025 (NAACL), arXiv:2502.10339",
    parameters=[
        Number("eta", "40", "percent of the sum of singular values that is kept", above="0", maximum="100")
    ],
    needs_base=True,
    scope="tensor",
)
def star(tile: Tile, *, eta: Fraction) -> Elements:
    """STAR: keep the largest singular components of each difference, rescale them, average.

    For every matrix ``τᵢ = Σ σₖ uₖ vₖᵀ`` with descending σ, r is the least number with ``σ₁ + … + σᵣ >=
    η/100 · Σ σ``, and ``τ̂ᵢ = Σ_{k≤r} σ̂ₖ uₖ vₖᵀ`` with ``σ̂ₖ = σₖ · Σ σ / (σ₁ + … + σᵣ)``: what is kept
    has the nuclear norm of the whole. ``θ = θ₀ + Σ wᵢ τ̂ᵢ / Σ wᵢ``. Where nothing is cut, ``τ̂ᵢ = τᵢ``.
    Vectors and scalars are moved by the mean of τ. [n] float64, a whole tensor at a time.

    Determinism: singular values by `parts.matrix.spectrum`, from the factors where a contribution is of low
    rank; those up to 1e-9 of the first count as 0. r is found in exact arithmetic and never cuts through
    equal values: they are kept together. Then one product by the float nearest to the ratio of sums, one
    product of matrices, and the mean as in `weight_average`.

    Raises:
        ParameterError: if the weights sum to 0.
        NonFiniteError: if a difference is not finite.

    Source: Lee et al. 2025, section 3. The published code touches only layers with LoRA factors, uses a
    randomised decomposition, and answers NaN for a difference of zeros, here 0.
    """
    differences = matrices(tile)
    values = tile.deltas
    if differences is not None:
        values = tuple(truncated(matrix, eta / 100).flatten() for matrix in differences)
    return onto(tile, averaged(tile, values, "star"), Fraction(1))


def selected(matrix: Matrix, bits: Sequence[bool]) -> Tensor:
    """Return the components of a matrix whose bit is set; equal values only if all their bits are set."""
    if all(bits):
        return matrix.whole
    found = spectrum(matrix)
    kept = found.values.new_zeros(len(found.values))
    for cluster in linear.clusters(found.values):
        kept[cluster.start : cluster.stop] = float(all(bits[cluster.start : cluster.stop]))
    return rebuilt(found, found.values * kept)


def _recentred(differences: Sequence[Matrix], centre: Tensor) -> list[Matrix]:
    """Return the differences from their mean ``centre`` instead; their factors are those of all members."""
    count = len(differences)
    axes = [[Fraction(i == j) - Fraction(1, count) for j in range(count)] for i in range(count)]
    return [
        Matrix(matrix.whole - centre, combined(differences, axis).factors)
        for matrix, axis in zip(differences, axes, strict=True)
    ]


def _bits(found: Coefficients | None, tile: Tile, dimension: int, ratio: Fraction) -> list[list[bool]]:
    """Return k rows: which components a payload keeps, or, without one, the first of them."""
    name = f"masks/{tile.tensor}"
    if found is None:
        kept = math.floor(ratio * dimension)
        return [[j < kept for j in range(dimension)]] * tile.count
    if name not in found:
        return [[True] * dimension] * tile.count
    rows: list[list[bool]] = (found.array(name).reshape(-1, dimension) > 0).tolist()
    return rows if len(rows) == tile.count else rows * tile.count


def by_components(
    found: Coefficients, *, origin: str, ratio: Fraction | None, scale: Fraction | None
) -> None:
    """Check that coefficients are masks of components, or weights alone, for differences."""
    wanted(found, ("masks", "coeffs"), ("task_vector",))
    found.setting("origin", *ORIGINS)
    form = found.setting("form", "bits", "real", "components")
    if found.payload == "masks" and form != "components":
        raise MalformedError(f"it holds masks of form {form}, and adarank applies masks of form components")


@strategy(
    "adarank",
    version=1,
    source="Lee et al. 2026 (ICLR), arXiv:2503.22178",
    parameters=[
        Choice("origin", ORIGINS, "where differences begin: at the base, or at the contributed mean"),
        Number(
            "ratio",
            None,
            "initial point: share of components kept; none: 1 for ta, 0.16 for cart",
            minimum="0",
            maximum="1",
        ),
        Number("scale", None, "initial λ; none: 0.3 for ta, 1.3 for cart, 1/k if ratio is 0"),
    ],
    needs_base=True,
    scope="tensor",
    coefficients=True,
    weighted=False,
    suits=by_components,
)
def adarank(tile: Tile, *, origin: str, ratio: Fraction | None, scale: Fraction | None) -> Elements:
    """AdaRank: add those singular components of each difference that a search has chosen.

    ``θ = o + Σ λᵢ τ̂ᵢ`` with o the base θ₀ (``ta``) or the mean of all θᵢ (``cart``), ``τᵢ = θᵢ - o`` and
    ``τ̂ᵢ = Σ_{j: mᵢⱼ} σⱼ uⱼ vⱼᵀ`` those components of τᵢ, descending by σ, whose bit is set. Published are

    * ``masks/<tensor>`` [k, min(m, n)], form ``components``: the bits, or [min(m, n)] if all share them; a
      tensor without keeps all of τ;
    * weights as in any payload of coefficients: the λᵢ, for tensors without them ``scale``;
    * the setting ``origin``, ``ta`` if absent, which replaces the parameter.

    Without coefficients, the initial point: every matrix keeps its first ``⌊ratio · min(m, n)⌋`` components,
    and λᵢ is ``scale``: truncated task arithmetic, nothing of which is adaptive. Vectors and scalars keep
    their differences. [n] float64, a whole tensor at a time.

    Determinism: bits refer to `parts.matrix.spectrum` of τᵢ, which a search must use too; components of equal
    values are kept only if all their bits are set. Means are taken of differences from the base; the sum over
    contributions runs in canonical order.

    Raises:
        ParameterError: if the recipe's weights differ.
        MalformedError: if the coefficients are of another kind.
        NonFiniteError: if a difference is not finite.

    Source: Lee et al. 2026, section 4; defaults of the initial point are the low ends of the released
    configurations. The search (entropy on unlabelled inputs) is left to whoever publishes coefficients.
    """
    tile.group.unweighted("adarank")
    found = published(tile, "adarank")
    if found is not None:
        by_components(found, origin=origin, ratio=ratio, scale=scale)
        origin = found.setting("origin", *ORIGINS)
    if ratio is None:
        ratio = Fraction(16, 100) if origin == "cart" else Fraction(1)
    if scale is None:
        scale = Fraction(13 if origin == "cart" else 3, 10) if ratio else Fraction(1, tile.count)
    differences = matrices(tile) or [Matrix(tau[None, :]) for tau in tile.deltas]
    centre = None
    if origin == "cart":
        centre = averaged(tile, [matrix.whole for matrix in differences], "adarank")
        differences = _recentred(differences, centre)
    chosen = [matrix.whole for matrix in differences]
    if len(tile.shape) >= 2:
        bits = _bits(found, tile, min(chosen[0].shape), ratio)
        chosen = [selected(matrix, row) for matrix, row in zip(differences, bits, strict=True)]
    merged = combine([values.flatten() for values in chosen], factors(tile, found, scale))
    return onto(tile, merged if centre is None else centre.flatten() + merged, Fraction(1))
