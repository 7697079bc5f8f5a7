"""Cholesky factors, triangular and positive definite systems, and the ladder of ridges."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from arith.matrices import distance, numbers, steps, symmetric
from hypothesis import given
from hypothesis import strategies as st

from crdtmerge.arith import Tensor
from crdtmerge.arith.cholesky import NotPositiveDefiniteError, cholesky
from crdtmerge.arith.product import gram, product
from crdtmerge.arith.solve import RIDGES, solve_positive
from crdtmerge.arith.triangular import solve_lower, solve_upper
from crdtmerge.errors import NonFiniteError, ParameterError
from reference import linear as reference

SIZES = [1, 2, 63, 64, 65, 130]


def positive(n: int, *, seed: int = 1) -> Tensor:
    return gram(numbers(n, n + 3, seed=seed)) + torch.eye(n, dtype=torch.float64) * 2.0**-10


@pytest.mark.parametrize("n", [1, 2, 63, 64, 66])
def test_factors_agree_with_the_definition_to_the_bit(n: int) -> None:
    a = positive(n)
    lower = cholesky(a)
    assert lower.tolist() == reference.cholesky(a.tolist())
    right = numbers(n, 1, seed=3)
    assert solve_lower(lower, right)[:, 0].tolist() == reference.solve_lower(
        lower.tolist(), right[:, 0].tolist()
    )


@pytest.mark.parametrize("n", SIZES)
def test_a_factor_times_its_transpose_is_the_matrix(n: int) -> None:
    a = positive(n)
    lower = cholesky(a)
    assert distance(gram(lower), a) <= 2e-15
    assert torch.equal(lower, lower.tril())
    assert (lower.diagonal() > 0).all()


def test_only_the_lower_triangle_is_read() -> None:
    a = positive(70)
    before = a.clone()
    other = a.tril() + torch.ones_like(a).triu(1) * 1e300
    assert torch.equal(cholesky(other), cholesky(a))
    assert torch.equal(a, before)


@pytest.mark.parametrize("n", SIZES)
def test_solutions_solve(n: int) -> None:
    a, x = positive(n), numbers(n, 5, seed=4)
    found = solve_positive(a, product(a, x))
    assert found.ridge == 0
    assert distance(product(a, found.x), product(a, x)) <= 1e-14
    upper = cholesky(a).mT
    assert distance(product(upper, solve_upper(upper, x)), x) <= 1e-12


@given(st.lists(st.integers(-400, 400), min_size=3, max_size=3))
def test_ill_scaled_rows_cost_no_accuracy(exponents: list[int]) -> None:
    scale = torch.tensor([2.0**e for e in exponents], dtype=torch.float64)
    a = torch.tensor([[4.0, 1, 0], [1, 3, 1], [0, 1, 2]], dtype=torch.float64)
    scaled = cholesky(a * scale[:, None] * scale)
    assert torch.equal(scaled, cholesky(a) * scale[:, None])


def test_the_example_of_a_hand_computation() -> None:
    a = torch.tensor([[4.0, 2.0], [2.0, 5.0]], dtype=torch.float64)
    assert cholesky(a).tolist() == [[2.0, 0.0], [1.0, 2.0]]
    assert solve_positive(a, torch.tensor([[6.0], [7.0]], dtype=torch.float64)).x.tolist() == [[1.0], [1.0]]


def test_a_matrix_that_is_not_positive_definite_is_named_by_its_pivot() -> None:
    a = positive(70)
    a[66, 66] = -1.0
    with pytest.raises(NotPositiveDefiniteError) as caught:
        cholesky(a)
    assert caught.value.pivot == 66


def test_the_first_ridge_that_helps_is_taken() -> None:
    singular = torch.ones(3, 3, dtype=torch.float64)
    found = solve_positive(singular, torch.ones(3, 1, dtype=torch.float64))
    assert found.ridge == Fraction(1, 10**6)
    assert found.x.sum().item() == pytest.approx(3 / (3 + 1e-6), rel=1e-9)
    indefinite = torch.diag(torch.tensor([1.0, -5e-4, 1.0], dtype=torch.float64))
    assert solve_positive(indefinite, torch.ones(3, 1, dtype=torch.float64)).ridge == Fraction(1, 10**3)


def test_the_ladder_ends_in_an_error() -> None:
    assert list(RIDGES) == [Fraction(1, 10**k) for k in range(6, -1, -1)]
    for hopeless in (-torch.eye(2), torch.zeros(2, 2), torch.tensor([[1.0, 0.0], [0.0, -1.0]])):
        with pytest.raises(NotPositiveDefiniteError):
            solve_positive(hopeless.double(), torch.ones(2, 1, dtype=torch.float64))


def test_a_nearly_singular_matrix_is_still_solved_backward_stably() -> None:
    a = symmetric(torch.cat([steps(30), torch.full((1,), 1e-11, dtype=torch.float64)]))
    right = numbers(31, 2)
    found = solve_positive(a, right)
    assert found.ridge == 0
    residual = (product(a, found.x) - right).abs().max() / (31 * found.x.abs().max())
    assert residual <= 1e-14


def test_what_cannot_be_solved_is_refused() -> None:
    eye = torch.eye(3, dtype=torch.float64)
    with pytest.raises(ParameterError, match="square"):
        cholesky(eye[:2])
    with pytest.raises(ParameterError, match="zero on its diagonal"):
        solve_lower(eye - torch.diag(eye[1]), eye)
    with pytest.raises(ParameterError, match="no system"):
        solve_lower(eye, eye[:2])
    with pytest.raises(ParameterError, match="no system"):
        solve_positive(eye, eye[0])
    with pytest.raises(NonFiniteError):
        cholesky(eye * math.inf)
    with pytest.raises(NonFiniteError):
        solve_lower(eye * 1e-300, eye * 1e300)


def test_systems_of_nothing_have_the_empty_solution() -> None:
    empty = torch.zeros(0, 0, dtype=torch.float64)
    assert cholesky(empty).shape == (0, 0)
    assert solve_positive(empty, torch.zeros(0, 2, dtype=torch.float64)).x.shape == (0, 2)
