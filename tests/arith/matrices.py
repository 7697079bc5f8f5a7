"""Matrices that decompositions stumble over, and how far computed factors may be off."""

from __future__ import annotations

import math

import torch

from crdtmerge.arith import Tensor, draw
from crdtmerge.arith.product import gram, product
from crdtmerge.arith.qr import qr


def numbers(*shape: int, seed: int = 1) -> Tensor:
    """Bell-shaped numbers of 53 significant bits."""
    n = math.prod(shape)
    parts = [draw.words(bytes([seed]) * 32, i * n, n) - 2.0**31 for i in range(4)]
    return ((parts[0] + parts[1] + parts[2] + parts[3]) / 3 * 2.0**-33).reshape(shape)


def with_spectrum(values: Tensor, *, rows: int | None = None, seed: int = 1) -> Tensor:
    """A matrix with these singular values, [rows, n]."""
    n = len(values)
    left, right = qr(numbers(rows or n, n, seed=seed)).q, qr(numbers(n, n, seed=seed + 1)).q
    return product(left * values, right.mT)


def symmetric(values: Tensor, *, seed: int = 1) -> Tensor:
    """A symmetric matrix with these eigenvalues."""
    q = qr(numbers(len(values), len(values), seed=seed)).q
    a = product(q * values, q.mT)
    return (a + a.mT) * 0.5


def steps(n: int) -> Tensor:
    """1, 2, …, n."""
    return torch.arange(1, n + 1, dtype=torch.float64)


SPECTRA = {
    "distinct": steps(40),
    "two values": torch.cat([torch.ones(20), torch.full((20,), 2.0)]).double(),
    "near ties": torch.cat([1 + 1e-13 * steps(20), 1 + 1e-7 * steps(20)]),
    "low rank": torch.cat([steps(5), torch.zeros(35)]).double(),
    "falling": 2.0 ** -steps(40),
    "one large": torch.cat([torch.full((1,), 1e8), torch.ones(39)]).double(),
}
"""By what is hard about them."""


def orthonormality(columns: Tensor) -> float:
    """The largest element of VᵀV - I."""
    if not columns.numel():
        return 0.0
    return (gram(columns.mT) - torch.eye(columns.shape[1], dtype=torch.float64)).abs().max().item()


def distance(a: Tensor, b: Tensor) -> float:
    """The largest difference between elements, relative to the largest element of ``b``."""
    return ((a - b).abs().max() / (b.abs().max() + (b == 0).all())).item()
