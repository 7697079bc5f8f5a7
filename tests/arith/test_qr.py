"""QR factors reproduce the matrix, column by column, whatever its rank and scale."""

from __future__ import annotations

import math

import pytest
import torch
from arith.matrices import SPECTRA, numbers, orthonormality, with_spectrum
from hypothesis import given
from hypothesis import strategies as st

from crdtmerge.arith import Tensor
from crdtmerge.arith.product import product
from crdtmerge.arith.qr import QR, qr
from crdtmerge.errors import NonFiniteError, ParameterError

SHAPES = [(1, 1), (2, 1), (1, 2), (31, 31), (32, 32), (33, 33), (90, 33), (33, 90), (70, 64), (0, 3), (3, 0)]


def check(a: Tensor) -> QR:
    """Every promise of `qr`; errors are relative to each column."""
    found = qr(a)
    k = min(a.shape)
    assert found.q.shape == (a.shape[0], k)
    assert found.r.shape == (k, a.shape[1])
    assert orthonormality(found.q) <= 4e-15
    assert torch.equal(found.r, found.r.triu())
    assert (found.r.diagonal() >= 0).all()
    if a.numel():
        error = (product(found.q, found.r) - a).abs().amax(0)
        assert (error <= 4e-15 * a.abs().amax(0) + 2.0**-1070).all()
    return found


@pytest.mark.parametrize("shape", SHAPES)
def test_factors_of_every_shape(shape: tuple[int, int]) -> None:
    check(numbers(*shape))


@pytest.mark.parametrize("spectrum", SPECTRA)
def test_rank_and_condition_do_not_matter(spectrum: str) -> None:
    check(with_spectrum(SPECTRA[spectrum]))
    check(with_spectrum(SPECTRA[spectrum], rows=65).mT)


@given(st.lists(st.integers(-1000, 1000), min_size=6, max_size=6))
def test_scaling_columns_by_powers_of_two_scales_r_alone(exponents: list[int]) -> None:
    a = numbers(9, 6)
    scale = torch.tensor([2.0**e for e in exponents], dtype=torch.float64)
    plain, scaled = qr(a), qr(a * scale)
    check(a * scale)
    if min(exponents) > -960:  # or elements of A become subnormal
        assert torch.equal(scaled.q, plain.q)


@given(st.lists(st.sampled_from([0.0, 1.0, -1.0, 1e-200, 5e-324, 3.0]), min_size=12, max_size=12))
def test_zeros_ties_and_tiny_numbers(values: list[float]) -> None:
    a = torch.tensor(values, dtype=torch.float64).reshape(4, 3)
    check(a)
    check(a.mT)


def test_the_factors_are_unique_where_the_rank_is_full() -> None:
    a = torch.tensor([[3.0, 1.0], [4.0, 2.0]], dtype=torch.float64)
    found = qr(a)
    wanted = torch.tensor([[0.6, -0.8], [0.8, 0.6]], dtype=torch.float64)
    assert (found.q - wanted).abs().max() <= 1e-15
    flipped = qr(-a)
    assert (flipped.q + found.q).abs().max() <= 1e-15
    assert (flipped.r - found.r).abs().max() <= 1e-15


def test_a_matrix_of_zeros_has_unit_vectors() -> None:
    found = qr(torch.zeros(3, 2, dtype=torch.float64))
    assert found.q.tolist() == [[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]
    assert found.r.tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_what_is_no_finite_matrix_is_refused() -> None:
    with pytest.raises(ParameterError, match="matrix"):
        qr(torch.ones(3, dtype=torch.float64))
    with pytest.raises(NonFiniteError):
        qr(torch.full((2, 2), math.nan, dtype=torch.float64))
    with pytest.raises(NonFiniteError, match="exceeds"):
        qr(torch.full((4, 4), 1.7e308, dtype=torch.float64))
