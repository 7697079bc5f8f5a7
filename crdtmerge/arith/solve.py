"""Systems of linear equations with a symmetric positive matrix, mended where it is singular.

Gram matrices of few samples are singular, and which pivot shows it is a matter of rounding. So a matrix
without Cholesky factor gets a *ridge*: ρ · trace / n is added to its diagonal, with the first ρ on a ladder
of seven that gives it one. Which rung it was is part of the answer.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Final, NamedTuple

from torch import Tensor

from crdtmerge.arith.cholesky import NotPositiveDefiniteError, cholesky, require_square
from crdtmerge.arith.reduce import lane_sum
from crdtmerge.arith.scalar import nearest
from crdtmerge.arith.triangular import solve_lower, solve_upper
from crdtmerge.errors import ParameterError

RIDGES: Final = tuple(Fraction(10**k, 10**6) for k in range(7))
"""The ladder: 1e-6, 1e-5, …, 1."""


class Solution(NamedTuple):
    """What solves a system, and how much it was changed for that.

    Attributes:
        x: [n, k] float64.
        ridge: ρ; 0 if the matrix was solved as it came.
    """

    x: Tensor
    ridge: Fraction


def solve_positive(
    a: Tensor, right: Tensor, ridges: tuple[Fraction, ...] = (Fraction(), *RIDGES)
) -> Solution:
    """Return X with (A + ρ · trace(A)/n · I) · X = B for the first ρ that gives a positive definite matrix.

    Args:
        a: [n, n] float64, symmetric; only its lower triangle is read.
        right: B, [n, k] float64.
        ridges: what ρ is tried, in this order.

    Determinism: the trace is the lane sum of the diagonal; nearest(ρ) · (trace / n) is added to each diagonal
        element; then `cholesky`, `solve_lower`, `solve_upper`.

    Raises:
        ParameterError: if the shapes do not fit.
        NotPositiveDefiniteError: if no ρ makes the matrix positive definite.
        NonFiniteError: if an element is not finite, or the solution exceeds float64.
    """
    require_square(a)
    if right.ndim != 2 or len(right) != len(a):
        raise ParameterError(f"{tuple(a.shape)} and {tuple(right.shape)} make no system of equations")
    if not len(a):
        return Solution(right.clone(), Fraction())
    mean = lane_sum(a.diagonal().contiguous()) / len(a)
    failure = NotPositiveDefiniteError(0, math.nan)
    for ridge in ridges:
        raised = a.clone()
        raised.diagonal().add_(nearest(ridge) * mean)
        try:
            lower = cholesky(raised)
        except NotPositiveDefiniteError as error:
            failure = error
            continue
        return Solution(solve_upper(lower.mT, solve_lower(lower, right)), ridge)
    raise failure
