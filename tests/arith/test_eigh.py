"""Eigenvalues and eigenvectors: small residuals, orthonormal vectors, canonical signs, for every spectrum."""

from __future__ import annotations

import math

import pytest
import torch
from arith.matrices import SPECTRA, numbers, orthonormality, steps, symmetric
from hypothesis import given
from hypothesis import strategies as st

from crdtmerge.arith import Tensor
from crdtmerge.arith.eigh import LEAF, Eigh, eigh
from crdtmerge.arith.jacobi import jacobi
from crdtmerge.arith.product import product
from crdtmerge.arith.secular import deflate, update
from crdtmerge.arith.spectrum import clusters, cut, rank, signs
from crdtmerge.errors import NonFiniteError, ParameterError

SIZES = [1, 2, 3, LEAF - 1, LEAF, LEAF + 1, 2 * LEAF, 2 * LEAF + 1, 100]


def random(n: int, *, seed: int = 1) -> Tensor:
    a = numbers(n, n, seed=seed)
    return (a + a.mT) * 0.5


def check(a: Tensor) -> Eigh:
    """Every promise of `eigh`; errors are relative to the largest eigenvalue."""
    found = eigh(a)
    size = found.values.abs().max() + 2.0**-1060
    assert (found.values[1:] >= found.values[:-1]).all()
    assert orthonormality(found.vectors) <= 3e-15
    assert (product(a, found.vectors) - found.vectors * found.values).abs().max() <= 3e-15 * size
    assert torch.equal(signs(found.vectors), found.vectors)
    return found


@pytest.mark.parametrize("n", SIZES)
def test_matrices_of_every_size(n: int) -> None:
    check(random(n))


@pytest.mark.parametrize("name", SPECTRA)
def test_spectra_that_are_hard_to_tell_apart(name: str) -> None:
    found = check(symmetric(SPECTRA[name]))
    wanted = SPECTRA[name].sort().values
    assert (found.values - wanted).abs().max() <= 1e-14 * wanted.max()


STRUCTURED = {
    "ones": torch.ones(33, 33),
    "identity": torch.eye(50),
    "zeros": torch.zeros(20, 20),
    "diagonal": torch.diag(torch.tensor([3.0, -1.0, 2.0])),
    "second difference": 2 * torch.eye(40)
    - torch.ones(40, 40).triu(1).tril(1)
    - torch.ones(40, 40).triu(-1).tril(-1),
    "Wilkinson": torch.diag((steps(41) - 21).abs().float())
    + torch.ones(41, 41).triu(-1).tril(1)
    - torch.eye(41),
    "Hadamard": torch.tensor([[1.0 - 2.0 * ((i & j).bit_count() % 2) for j in range(32)] for i in range(32)]),
    "arrow": torch.eye(35)
    + torch.nn.functional.pad(torch.ones(34, 1), (0, 34, 1, 0))
    + torch.nn.functional.pad(torch.ones(1, 34), (1, 0, 0, 34)),
}


@pytest.mark.parametrize("name", STRUCTURED)
def test_structured_matrices_with_many_ties(name: str) -> None:
    check(STRUCTURED[name].double())


@given(st.lists(st.integers(-3, 3), min_size=36, max_size=36))
def test_small_integers(values: list[int]) -> None:
    a = torch.tensor(values, dtype=torch.float64).reshape(6, 6)
    check(a + a.mT)


@given(st.lists(st.integers(-60, 60), min_size=8, max_size=8), st.integers(-800, 800))
def test_ill_scaled_matrices(exponents: list[int], overall: int) -> None:
    scale = torch.tensor([2.0**e for e in exponents], dtype=torch.float64)
    check(random(8) * scale[:, None] * scale * 2.0**overall)


def test_powers_of_two_pass_through_to_the_ends_of_the_range() -> None:
    a = random(20)
    plain = eigh(a)
    for exponent in (-1000, 900):
        scaled = eigh(a * 2.0**exponent)
        assert torch.equal(scaled.values, plain.values * 2.0**exponent)
        assert torch.equal(scaled.vectors, plain.vectors)


def test_only_the_lower_triangle_is_read() -> None:
    a = random(20)
    assert torch.equal(eigh(a.tril() + torch.ones_like(a).triu(1)).vectors, eigh(a).vectors)


def test_a_hand_computation() -> None:
    found = eigh(torch.tensor([[2.0, 1.0], [1.0, 2.0]], dtype=torch.float64))
    half = math.sqrt(0.5)
    assert (found.values - torch.tensor([1.0, 3.0])).abs().max() <= 1e-15
    assert (found.vectors.abs() - half).abs().max() <= 1e-15
    assert found.vectors[1, 1] > 0


@pytest.mark.parametrize("n", [1, 2, 5, 8, 33])
def test_rotations_alone_are_right_too(n: int) -> None:
    batch = torch.stack([random(n, seed=i) for i in range(3)])
    found = jacobi(batch)
    for a, values, rows in zip(batch, found.values, found.rows, strict=True):
        assert orthonormality(rows.mT) <= 3e-15
        assert (product(a, rows.mT) - rows.mT * values).abs().max() <= 3e-15 * values.abs().max()
        assert (values.sort().values - eigh(a).values).abs().max() <= 6e-15 * values.abs().max()


def test_matrices_of_a_batch_do_not_show_in_each_other() -> None:
    batch = torch.stack([random(7), torch.eye(7, dtype=torch.float64), torch.ones(7, 7, dtype=torch.float64)])
    together = jacobi(batch)
    for i in range(3):
        alone = jacobi(batch[i : i + 1])
        assert torch.equal(alone.values[0], together.values[i])
        assert torch.equal(alone.rows[0], together.rows[i])


GAPS = st.lists(st.floats(1e-3, 1) | st.just(1e-12), min_size=1, max_size=12)


@given(GAPS, st.data())
def test_a_rank_one_update_is_solved_between_its_poles(gaps: list[float], data: st.DataObject) -> None:
    delta = torch.tensor(gaps, dtype=torch.float64).cumsum(0)
    parts = data.draw(st.lists(st.floats(0.1, 1) | st.just(-1e-9), min_size=len(gaps), max_size=len(gaps)))
    z = torch.tensor(parts, dtype=torch.float64)
    values, vectors = update(delta, z, 0.5)
    assert (values >= delta).all()
    assert (values[:-1] <= delta[1:]).all()
    assert orthonormality(vectors) <= 2e-14
    matrix = torch.diag(delta) + 0.5 * z[:, None] * z
    assert (product(matrix, vectors) - vectors * values).abs().max() <= 2e-14 * values.max()


def test_what_needs_no_equation_is_deflated() -> None:
    equal = deflate([1.0, 1.0, 2.0], [0.6, 0.8, 0.0], 1.0)
    assert equal.kept == [1]
    assert equal.values == [1.0, 1.0, 2.0]
    assert equal.z == [0.0, 1.0, 0.0]
    assert [rotation[:2] for rotation in equal.rotations] == [(0, 1)]
    assert deflate([1.0, 2.0], [0.6, 0.8], 1.0).kept == [0, 1]


def test_signs_follow_the_first_of_the_largest_elements() -> None:
    columns = torch.tensor([[1.0, -2.0, 0.0], [-3.0, 2.0, 0.0], [3.0, 1.0, 0.0]], dtype=torch.float64)
    assert signs(columns).tolist() == [[-1.0, 2.0, 0.0], [3.0, -2.0, 0.0], [-3.0, -1.0, 0.0]]


def test_clusters_hold_what_is_not_told_apart_and_no_cut_goes_through() -> None:
    values = torch.tensor([4.0, 4.0 - 1e-12, 2.0, 1.0, 1.0], dtype=torch.float64)
    assert clusters(values) == [range(2), range(2, 3), range(3, 5)]
    assert [cut(values, k) for k in range(6)] == [0, 0, 2, 3, 3, 5]
    assert clusters(values[:0]) == []
    assert rank(torch.tensor([1.0, 1.1e-9, 1e-9, 0.0], dtype=torch.float64)) == 2
    assert rank(torch.zeros(3, dtype=torch.float64)) == 0


def test_what_is_no_finite_square_is_refused() -> None:
    with pytest.raises(ParameterError, match="square"):
        eigh(torch.ones(2, 3, dtype=torch.float64))
    with pytest.raises(NonFiniteError):
        eigh(torch.full((2, 2), math.inf, dtype=torch.float64))
    with pytest.raises(NonFiniteError, match="eigenvalue"):
        eigh(torch.full((3, 3), 1.7e308, dtype=torch.float64))
    assert eigh(torch.zeros(0, 0, dtype=torch.float64)).values.shape == (0,)
