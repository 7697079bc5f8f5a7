"""Dual projection: each contribution holds on to the directions that its own difference uses.

    least  Σ aᵢ · ( |τᵢᵀ (W - τᵢ)|²  +  |(W - τᵢ) τᵢᵀ|² )        over W, the merged difference

A merged matrix should do on the outputs and inputs that a contribution uses what that contribution does;
where only one of them is active, it gets its way. That is a quadratic problem, so it is solved rather than
descended. The published procedure takes contributions one after the other and stops a descent early; it is
kept as a mode.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction

from crdtmerge.arith import Elements, Tensor, dot, linear, nearest, weighted_sum
from crdtmerge.errors import ParameterError
from crdtmerge.strategy import Choice, Flag, Integer, Number, Tile, strategy

from .parts.consensus import mean, proportions
from .parts.descent import adam, least_norm
from .parts.matrix import Matrix, beside, leading, matrices, reaching, spectrum
from .parts.scale import onto


def directions(matrix: Matrix, epsilon: Fraction, *, fewer: bool = False) -> tuple[Tensor, Tensor]:
    """Return U·diag(σ) and V·diag(σ) of the components that hold ``epsilon`` of Σ σ; τ and τᵀ for all of it.

    Both ways F·Fᵀ is the same. ``fewer`` drops the last component, as the published code does.
    """
    if epsilon == 1 and not fewer:
        return matrix.whole, matrix.whole.mT
    found = spectrum(matrix)
    kept = leading(found, max(reaching(found.values, epsilon) - fewer, 0))
    return kept.u * kept.values, kept.v * kept.values


def _basis(blocks: Sequence[Tensor]) -> Tensor | None:
    """Return orthonormal columns that span all blocks [m, nᵢ]; None if that may be everything."""
    columns = [block.shape[1] for block in blocks]
    if sum(columns) >= len(blocks[0]):  # portable: counts columns
        return None
    return linear.qr(beside(blocks)).q


def balanced(
    differences: Sequence[Matrix], weights: Sequence[Fraction], epsilon: Fraction, space: str
) -> Tensor:
    """Return the W that minimises the objective, [m, n]; see `dual_projection`."""
    parts = proportions(weights)
    centre = mean([matrix.whole for matrix in differences], weights)
    if all(not (matrix.whole - centre).any() for matrix in differences):
        return centre
    # A power of two, so that squares neither vanish nor overflow; W scales with the differences.
    peak = max(matrix.whole.abs().amax().item() for matrix in differences)
    unit = 2.0 ** max(-1000, min(1000, math.frexp(peak)[1]))
    left = _basis([m.whole if m.factors is None else m.factors[0] for m in differences])
    right = _basis([m.whole.mT if m.factors is None else m.factors[1].mT for m in differences])

    def inside(x: Tensor) -> Tensor:
        x = x / unit if left is None else linear.product(left.mT, x / unit)
        return x if right is None else linear.product(x, right)

    outputs, inputs, pulls = [], [], []
    for matrix in differences:
        f, g = directions(Matrix(inside(matrix.whole)), epsilon)
        a, b = linear.gram(f), linear.gram(g)
        a, b = a * float("u" in space), b * float("v" in space)
        apart = inside(matrix.whole - centre)
        outputs.append(a)
        inputs.append(b)
        pulls.append(linear.product(a, apart) + linear.product(apart, b))
    move = linear.sylvester(*(weighted_sum(terms, parts) for terms in (outputs, inputs, pulls)))
    move = move if left is None else linear.product(left, move)
    return centre + (move if right is None else linear.product(move, right.mT)) * unit


def _squared(f: Tensor) -> Callable[[Tensor], Tensor]:
    """Return the map X to F·Fᵀ·X for F [m, k], in whichever order costs less."""
    if 2 * f.shape[1] < len(f):
        return lambda x: linear.product(f, linear.product(f.mT, x))
    square = linear.gram(f)
    return lambda x: linear.product(square, x)


class Pull:
    """The gradient of one contribution's part of the objective.

    Args:
        tau: its difference, [m, n].
        f, g: its `directions`.
        space: ``uv``, ``u`` or ``v``.
    """

    def __init__(self, tau: Tensor, f: Tensor, g: Tensor, space: str) -> None:
        self._tau = tau
        self._outputs = _squared(f) if "u" in space else None
        self._inputs = _squared(g) if "v" in space else None

    def __call__(self, w: Tensor) -> tuple[Tensor, float]:
        """Return ``2 (A D + D B)`` with D = W - τ, and the value ``D · (A D + D B)``."""
        apart = w - self._tau
        half = apart * 0.0
        if self._outputs is not None:
            half = half + self._outputs(apart)
        if self._inputs is not None:
            half = half + self._inputs(apart.mT).mT
        return half * 2.0, dot(apart.flatten(), half.flatten())


class Balance:
    """How the two gradients of a descent are weighed against each other: fixed, or anew in every step.

    Args:
        pulls: of what is merged already, and of the next.
        alpha: the weight of the first, or where its moving mean begins.
        adaptive: weigh by MGDA.
        beta: of the moving mean of these weights; None takes them as they are.
    """

    def __init__(
        self, pulls: tuple[Pull, Pull], alpha: Fraction, *, adaptive: bool, beta: Fraction | None
    ) -> None:
        self._pulls, self._adaptive = pulls, adaptive
        self._beta = None if beta is None else (nearest(beta), nearest(1 - beta))
        self._shares = nearest(alpha), nearest(1 - alpha)

    def __call__(self, w: Tensor) -> Tensor:
        """Return the gradient at W."""
        (first, loss), (second, other_loss) = (pull(w) for pull in self._pulls)
        if self._adaptive:
            # A loss of 0 has a gradient of 0, which stays so.
            gamma = least_norm(first / (loss or 1.0), second / (other_loss or 1.0))
            fresh = gamma, 1 - gamma
            if self._beta is not None:
                old, new = self._beta
                fresh = old * self._shares[0] + new * fresh[0], old * self._shares[1] + new * fresh[1]
            self._shares = fresh
        return first * self._shares[0] + second * self._shares[1]


@strategy(
    "dual_projection",
    version=1,
    source="Yang et al. 2025 (NeurIPS), Continual Model Merging without Data; n-ary form ours",
    parameters=[
        Choice(
            "mode",
            ("sylvester", "official_fixed_alpha", "official_mgda"),
            "all at once and solved; or the published descent, one contribution after the other",
        ),
        Choice("space", ("uv", "u", "v"), "directions that count: of outputs (u), of inputs (v)"),
        Number("epsilon", "1", "share of Σ σ whose components count", above="0", maximum="1"),
        Number("alpha", "0.8", "official: weight of what is merged already", minimum="0", maximum="1"),
        Number("lr", "0.0001", "official: Adam's learning rate", above="0"),
        Integer("steps", 200, "official: Adam's steps", minimum=0, maximum=10_000),
        Flag("ema", True, "official_mgda: a moving mean of the weights, from alpha on"),
        Number("beta", "0.999", "official_mgda: how much of the moving mean stays", minimum="0", maximum="1"),
        Choice("compat", ("none", "official"), "official modes: count one component fewer, as published"),
    ],
    needs_base=True,
    scope="tensor",
)
def dual_projection(
    tile: Tile,
    *,
    mode: str,
    space: str,
    epsilon: Fraction,
    alpha: Fraction,
    lr: Fraction,
    steps: int,
    ema: bool,
    beta: Fraction,
    compat: str,
) -> Elements:
    """DOP: keep each contribution's effect on the directions that its own difference uses.

    For every matrix, with ``aᵢ = wᵢ / Σ w``, W is the least of ``Σ aᵢ (|Fᵢᵀ (W - τᵢ)|² + |(W - τᵢ) Gᵢ|²)``,
    ``Fᵢ = Uᵢ Σᵢ`` and ``Gᵢ = Vᵢ Σᵢ`` of the first singular components of τᵢ that hold ``epsilon`` of the sum
    of singular values, and ``θ = θ₀ + W``. ``space=u`` and ``v`` take one of the two terms. [n] float64, a
    whole tensor at a time.

    ``sylvester``: ``W = M + X`` with M the weighted mean of τ and ``(Σ aᵢ Aᵢ) X + X (Σ aᵢ Bᵢ) = Σ aᵢ (Aᵢ Dᵢ +
    Dᵢ Bᵢ)``, ``Aᵢ = Fᵢ Fᵢᵀ``, ``Bᵢ = Gᵢ Gᵢᵀ``, ``Dᵢ = τᵢ - M``. Where the sum of two eigenvalues is at most
    1e-12 of the largest, X is 0: what no contribution cares for is the mean. Vectors and scalars are moved by
    M. What all contributions agree on comes out as they have it.

    The official modes take contributions by ascending digest: of the merged so far and the next, ``steps``
    steps of Adam from half their sum, the two objectives weighed by ``alpha`` and ``1 - alpha``, or by MGDA:
    gradients divided by their objectives, weights of the shortest mixture, of which ``ema`` is a moving mean.
    What is no matrix becomes half the sum of merged and next. They depend on the order, and 200 steps on a
    large matrix take minutes.

    Determinism: differences are divided by a power of two; where the τᵢ together span less, the equation is
    solved within QR factors of their columns and rows (of their factors for low rank); `linear.sylvester`;
    sums over contributions in canonical order with whole weights in proportion. epsilon = 1 takes
    ``Aᵢ = τᵢ τᵢᵀ`` and needs no singular values. For the descent see `parts.descent`; F·(Fᵀ·D) replaces
    (F·Fᵀ)·D if F has more than twice as many rows as columns.

    Raises:
        ParameterError: if a weight is negative or all are 0; if weights differ in an official mode.
        NonFiniteError: if a difference is not finite.

    Source: Yang et al. 2025 for the objective and the descent, as in fusion_bench `dop`; solving it for all
    contributions at once is ours. The code counts one component fewer than its text (``compat=official``),
    and divides by an objective of 0, whose gradient counts as 0 here. The paper takes epsilon = 0.99999.
    """
    if min(tile.weights) < 0 or not any(tile.weights):
        raise ParameterError("dual_projection: weights must not be negative, and one must be positive")
    differences = matrices(tile)
    if mode == "sylvester":
        if differences is None:
            return onto(tile, mean(tile.changes, tile.weights), Fraction(1))
        return onto(tile, balanced(differences, tile.weights, epsilon, space).flatten(), Fraction(1))
    tile.group.unweighted(f"dual_projection mode={mode}")
    if differences is None:
        steps, differences = 0, [Matrix(tau[None, :]) for tau in tile.deltas]
    merged = differences[0]
    for following in differences[1:]:
        half = (merged.whole + following.whole) * 0.5
        if steps:
            first, second = (
                Pull(m.whole, *directions(m, epsilon, fewer=compat == "official"), space)
                for m in (merged, following)
            )
            gradient = Balance(
                (first, second), alpha, adaptive=mode == "official_mgda", beta=beta if ema else None
            )
            half = adam(half, gradient, lr, steps)
        merged = Matrix(half)
    return onto(tile, merged.whole.flatten(), Fraction(1))
