"""Eigenvectors and singular vectors in 60 digits by another library (mpmath), QR factors by Gram and Schmidt.

Slow, and good for tens of rows. A matrix of float64 is taken as it is; what comes back is compared in 60
digits too, so that no error is the comparison's. Single vectors are compared nowhere: spaces are, by their
projectors.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import mpmath
import torch

from crdtmerge.arith import Tensor

Matrix: TypeAlias = Any
"""An mpmath matrix."""

DIGITS = 60


def exact(a: Tensor) -> Matrix:
    """The same numbers."""
    with mpmath.workdps(DIGITS):
        return mpmath.matrix(a.tolist()) if a.numel() else mpmath.matrix(*a.shape)


def eigenvalues(a: Tensor) -> list[Any]:
    """Ascending."""
    with mpmath.workdps(DIGITS):
        return sorted(mpmath.mp.eigsy(exact(a), eigvals_only=True))


def eigh(a: Tensor) -> tuple[list[Any], Matrix]:
    """Ascending values, and vectors as columns."""
    with mpmath.workdps(DIGITS):
        values, vectors = mpmath.mp.eigsy(exact(a))
        order = sorted(range(len(values)), key=lambda i: values[i])
        return [values[i] for i in order], columns(vectors, order)


def svd(a: Tensor) -> tuple[Matrix, list[Any], Matrix]:
    """U, descending values, V: all min(m, n) of them."""
    with mpmath.workdps(DIGITS):
        wide = a.shape[0] < a.shape[1]
        u, values, v = mpmath.mp.svd_r(exact(a.mT if wide else a))
        return (v.T, list(values), u) if wide else (u, list(values), v.T)


def singular_values(a: Tensor) -> list[Any]:
    """Descending."""
    with mpmath.workdps(DIGITS):
        return list(mpmath.mp.svd_r(exact(a if a.shape[0] >= a.shape[1] else a.mT), compute_uv=False))


def qr(a: Tensor) -> tuple[Matrix, Matrix]:
    """Q and R of independent columns: each is made orthogonal to those before it."""
    with mpmath.workdps(DIGITS):
        rest = exact(a)
        r = mpmath.matrix(a.shape[1], a.shape[1])
        for j in range(a.shape[1]):
            for _ in range(2):  # the second time, what the first one's rounding left
                for i in range(j):
                    along = sum(rest[k, i] * rest[k, j] for k in range(rest.rows))
                    r[i, j] += along
                    for k in range(rest.rows):
                        rest[k, j] -= rest[k, i] * along
            r[j, j] = mpmath.sqrt(sum(x**2 for x in rest[:, j]))
            for k in range(rest.rows):
                rest[k, j] /= r[j, j]
        return rest, r


def columns(a: Matrix, which: Sequence[int]) -> Matrix:
    """Some columns of a matrix, in this order."""
    return mpmath.matrix([[a[i, j] for j in which] for i in range(a.rows)])


def projector(basis: Matrix) -> Matrix:
    """Onto the space of orthonormal columns."""
    with mpmath.workdps(DIGITS):
        return basis * basis.T


def product(*factors: Matrix) -> Matrix:
    """Of several matrices."""
    with mpmath.workdps(DIGITS):
        result = factors[0]
        for factor in factors[1:]:
            result = result * factor
        return result


def diagonal(values: Sequence[Any]) -> Matrix:
    """A diagonal matrix."""
    return mpmath.diag(list(values))


def distance(a: Matrix, b: Matrix) -> Any:
    """The largest magnitude in a difference."""
    assert (a.rows, a.cols) == (b.rows, b.cols)
    with mpmath.workdps(DIGITS):
        return max(abs(x - y) for x, y in zip(a, b, strict=True))


def gaps(values: Sequence[Any], least: Any) -> Iterator[tuple[int, Any]]:
    """Where a sorted list falls apart: how many come before, and the gap, for gaps above ``least``."""
    for i in range(1, len(values)):
        gap = abs(values[i] - values[i - 1])
        if gap > least:
            yield i, gap


def condition(a: Tensor) -> Any:
    """The largest singular value over the least, of columns scaled to length 1; infinite at lower rank."""
    if a.shape[0] < a.shape[1] or not (a != 0).any(0).all():
        return mpmath.inf
    with mpmath.workdps(DIGITS):
        m = exact(a)
        for j in range(m.cols):
            length = mpmath.sqrt(sum(x**2 for x in m[:, j]))
            for i in range(m.rows):
                m[i, j] /= length
        values = mpmath.mp.svd_r(m, compute_uv=False)
        return max(values) / min(values) if min(values) > mpmath.mpf(10) ** -40 else mpmath.inf


def to_tensor(a: Matrix) -> Tensor:
    """Rounded to float64."""
    return torch.tensor([[float(x) for x in row] for row in a.tolist()], dtype=torch.float64)
