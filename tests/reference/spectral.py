"""The matrix methods, written slowly: numpy's decompositions, the published formulas, one matrix at a time.

No rule for what decompositions leave open (equal singular values, missing rank) is repeated here, so these
agree with the strategies, up to rounding, where nothing is left open: on matrices without structure.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np

from reference import strategies as slow

Matrix: TypeAlias = Any
"""An array of float64; numpy's products have no narrower type."""


def star(taus: Sequence[Matrix], eta: float) -> Matrix:
    """Keep what reaches eta percent of the nuclear norm, rescale, average."""
    kept = []
    for tau in taus:
        u, s, v = np.linalg.svd(tau, full_matrices=False)
        r = next(r for r in range(1, len(s) + 1) if s[:r].sum() >= eta / 100 * s.sum() * (1 - 1e-12))
        kept.append((u[:, :r] * (s[:r] * s.sum() / s[:r].sum())) @ v[:r])
    return np.mean(kept, axis=0)


def truncated(tau: Matrix, rank: int) -> Matrix:
    """The best approximation of a rank."""
    u, s, v = np.linalg.svd(tau, full_matrices=False)
    return (u[:, :rank] * s[:rank]) @ v[:rank]


def knots(layers: Sequence[Sequence[Matrix]], density: Fraction, scale: float) -> list[Matrix]:
    """TIES over the parts of all layers; ``layers`` has the differences of each."""
    bases, parts = [], []
    for taus in layers:
        u, s, v = np.linalg.svd(np.concatenate(taus, axis=1), full_matrices=False)
        kept = s > 1e-9 * s[0]
        bases.append(u[:, kept])
        parts.append(np.split(s[kept, None] * v[kept], len(taus), axis=1))
    rows = [np.concatenate([p[i].flatten() for p in parts]).tolist() for i in range(len(layers[0]))]
    ones = [Fraction(1)] * len(rows)
    merged = np.array(slow.ties([0.0] * len(rows[0]), rows, ones, density=density))
    made, start = [], 0
    for u, p in zip(bases, parts, strict=True):
        made.append(scale * u @ merged[start : start + p[0].size].reshape(p[0].shape))
        start += p[0].size
    return made


def dual_projection(taus: Sequence[Matrix], weights: Sequence[float], space: str) -> Matrix:
    """The minimum nearest to the mean, by one large linear system instead of eigenvectors."""
    m, n = taus[0].shape
    shares = np.array(weights) / sum(weights)
    centre = sum(a * t for a, t in zip(shares, taus, strict=True))
    system, right = np.zeros((m * n, m * n)), np.zeros(m * n)
    for a, t in zip(shares, taus, strict=True):
        outputs = np.kron(t @ t.T, np.eye(n)) * ("u" in space)
        inputs = np.kron(np.eye(m), t.T @ t) * ("v" in space)
        system += a * (outputs + inputs)
        right += a * (outputs + inputs) @ (t - centre).flatten()
    return centre + (np.linalg.pinv(system, rcond=1e-12, hermitian=True) @ right).reshape(m, n)


def descent(
    taus: Sequence[Matrix],
    *,
    alpha: float,
    lr: float,
    steps: int,
    mgda: bool,
    beta: float,
    drop: int = 0,
) -> Matrix:
    """One contribution after the other, Adam on the sum of two squared norms, in the published words."""
    merged = taus[0]
    for following in taus[1:]:
        pair = (merged, following)
        cut = []
        for t in pair:
            u, s, v = np.linalg.svd(t, full_matrices=False)
            r = len(s) - drop
            cut.append((u[:, :r], s[:r], v[:r].T))
        w = (merged + following) / 2
        first, second = np.zeros_like(w), np.zeros_like(w)
        shares = np.array([alpha, 1 - alpha])
        for step in range(1, steps + 1):
            losses, gradients = [], []
            for t, (u, s, v) in zip(pair, cut, strict=True):
                left, right = np.diag(s) @ u.T @ (w - t), (w - t) @ v @ np.diag(s)
                losses.append((left**2).sum() + (right**2).sum())
                gradients.append(2 * u @ np.diag(s) @ left + 2 * right @ np.diag(s) @ v.T)
            if mgda:
                g, h = gradients[0] / losses[0], gradients[1] / losses[1]
                gg, gh, hh = (g * g).sum(), (g * h).sum(), (h * h).sum()
                gamma = 0.999 if gh >= gg else 0.001 if gh >= hh else (hh - gh) / (gg + hh - 2 * gh)
                shares = beta * shares + (1 - beta) * np.array([gamma, 1 - gamma])
            gradient = shares[0] * gradients[0] + shares[1] * gradients[1]
            first = 0.9 * first + 0.1 * gradient
            second = 0.999 * second + 0.001 * gradient**2
            size = np.sqrt(second / (1 - 0.999**step)) + 1e-8
            w = w - lr * first / (1 - 0.9**step) / size
        merged = w
    return merged


def polar(x: Matrix) -> Matrix:
    """The nearest matrix with orthonormal columns or rows, for a matrix of full rank."""
    u, _, v = np.linalg.svd(x, full_matrices=False)
    return u @ v


def tsv_merge(taus: Sequence[Matrix]) -> Matrix:
    """Shares of singular vectors, made orthogonal."""
    share = min(taus[0].shape) // len(taus)
    parts = [np.linalg.svd(t, full_matrices=False) for t in taus]
    u = np.concatenate([u[:, :share] for u, _, _ in parts], axis=1)
    s = np.concatenate([s[:share] for _, s, _ in parts])
    v = np.concatenate([v[:share] for _, _, v in parts], axis=0)
    return (polar(u) * s) @ polar(v)


def iso_c(taus: Sequence[Matrix]) -> Matrix:
    """The polar factor of the sum, times its mean singular value."""
    total = np.sum(taus, axis=0)
    return np.linalg.svd(total, compute_uv=False).mean() * polar(total)


def iso_cts(taus: Sequence[Matrix], common: float) -> Matrix:
    """Common directions, and for each task some orthogonal to them."""
    r, n = min(taus[0].shape), len(taus)
    own = round((r - int(r * common)) / n)
    c = r - own * n
    u, s, v = np.linalg.svd(np.sum(taus, axis=0), full_matrices=False)
    parts = [np.linalg.svd(t - u[:, :c] @ u[:, :c].T @ t, full_matrices=False) for t in taus]
    left = np.concatenate([p[0][:, :own] for p in parts] + [u[:, :c]], axis=1)
    sizes = np.concatenate([p[1][:own] for p in parts] + [s[:c]])
    right = np.concatenate([p[2][:own] for p in parts] + [v[:c]], axis=0)
    return sizes.mean() * polar(left) @ polar(right)
