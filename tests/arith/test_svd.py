"""Singular values, polar factors and Sylvester equations, for every rank."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from arith.matrices import SPECTRA, distance, numbers, orthonormality, steps, with_spectrum
from hypothesis import given
from hypothesis import strategies as st

from crdtmerge.arith import Tensor
from crdtmerge.arith.polar import BEGINNING, LIFT, Odd, polar
from crdtmerge.arith.product import gram, product
from crdtmerge.arith.spectrum import signs
from crdtmerge.arith.subspace import svd_top
from crdtmerge.arith.svd import SVD, svd, svd_product
from crdtmerge.arith.sylvester import sylvester
from crdtmerge.errors import NonFiniteError, ParameterError


def check(a: Tensor, found: SVD | None = None) -> SVD:
    """Every promise of `svd`; errors are relative to the largest singular value."""
    found = found or svd(a)
    u, values, v = found
    assert orthonormality(u) <= 3e-15
    assert orthonormality(v) <= 3e-15
    assert (values[1:] <= values[:-1]).all()
    assert torch.equal(signs(u), u)
    if len(values):
        assert (values > values[0] * 1e-9).all()
        size = 3e-15 * values[0] + 2.0**-1065
        assert (product(a, v) - u * values).abs().max() <= size
        assert (product(a.mT, u) - v * values).abs().max() <= size
    return found


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (16, 16), (17, 5), (5, 33), (50, 49)])
def test_matrices_of_every_shape(shape: tuple[int, int]) -> None:
    a = numbers(*shape)
    found = check(a)
    assert len(found.values) == min(shape)
    assert distance(product(found.u * found.values, found.v.mT), a) <= 1e-14


@pytest.mark.parametrize("name", SPECTRA)
def test_spectra_that_are_hard_to_tell_apart(name: str) -> None:
    wanted = SPECTRA[name].sort(descending=True).values
    wanted = wanted[wanted > wanted[0] * 1e-9]
    for a in (with_spectrum(SPECTRA[name]), with_spectrum(SPECTRA[name], rows=50).mT):
        found = check(a)
        assert len(found.values) == len(wanted)
        assert (found.values - wanted).abs().max() <= 1e-14 * wanted[0]


def test_small_singular_values_keep_the_precision_of_the_matrix() -> None:
    values = torch.tensor([1.0, 1e-3, 1e-6, 3e-8, 2e-8, 1e-8, 3e-9], dtype=torch.float64)
    found = check(with_spectrum(values))
    assert (found.values - values).abs().max() <= 2e-15


@given(st.lists(st.integers(-2, 2), min_size=20, max_size=20), st.integers(-900, 900))
def test_small_integers_at_any_scale(values: list[int], exponent: int) -> None:
    a = torch.tensor(values, dtype=torch.float64).reshape(5, 4)
    plain, scaled = check(a), check(a * 2.0**exponent)
    assert torch.equal(scaled.values, plain.values * 2.0**exponent)
    assert torch.equal(scaled.u, plain.u)
    assert torch.equal(scaled.v, plain.v)


def test_nothing_has_no_singular_values() -> None:
    for shape in ((3, 2), (0, 2), (2, 0)):
        found = svd(torch.zeros(shape, dtype=torch.float64))
        assert (found.u.shape, found.values.shape, found.v.shape) == ((shape[0], 0), (0,), (shape[1], 0))


@pytest.mark.parametrize("r", [1, 4, 20])
def test_a_product_of_low_rank_is_decomposed_by_its_factors(r: int) -> None:
    b, a = numbers(30, r), numbers(r, 25, seed=2)
    whole = product(b, a)
    found = check(whole, svd_product(b, a))
    assert len(found.values) == r
    assert distance(product(found.u * found.values, found.v.mT), whole) <= 1e-14
    twice = svd_product(torch.cat([b, b], 1), torch.cat([a, a]))
    assert len(twice.values) == r
    assert (twice.values - 2 * found.values).abs().max() <= 1e-14 * twice.values[0]


@pytest.mark.parametrize("values", [0.7 ** steps(60), 1 / steps(60)])
def test_the_largest_of_many_are_those_of_the_whole(values: Tensor) -> None:
    a = with_spectrum(values, rows=70)
    found = check(a, svd_top(a, 4))
    assert len(found.values) == 4
    assert (found.values - values[:4]).abs().max() <= 1e-14
    assert distance(found.u.mT, svd(a).u[:, :4].mT) <= 1e-12


def test_the_largest_are_found_where_the_rest_is_far_below_them() -> None:
    values = 0.02 ** steps(60)
    a = with_spectrum(values, rows=70)
    assert (check(a, svd_top(a, 4)).values - values[:4]).abs().max() <= 1e-14 * values[0]
    low = with_spectrum(torch.cat([1 / steps(3), torch.zeros(57)]).double())
    assert len(check(low, svd_top(low, 4)).values) == 3


@pytest.mark.parametrize("gap", [1e-3, 1e-2, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("falls", [1.0, 0.95, 0.5, 1e-3])
def test_the_largest_are_found_whatever_the_gap_below_them_and_the_fall_among_them(
    gap: float, falls: float
) -> None:
    wanted = falls ** torch.linspace(0, 1, 5, dtype=torch.float64)
    rest = wanted[-1] * (1 - gap) * torch.linspace(1, 0.5, 67, dtype=torch.float64)
    values = torch.cat([wanted if falls < 1 else 1 + 1e-3 * steps(5).flip(0), rest])
    a = with_spectrum(values, rows=80)
    found = svd_top(a, 5)
    assert len(found.values) == 5
    assert (found.values - values[:5]).abs().max() <= 3e-15 * values[0]
    u, v, sizes = found.u, found.v, found.values
    for residual in (product(a, v) - u * sizes, product(a.mT, u) - v * sizes):
        assert residual.square().sum(0).sqrt().max() <= 2.0**-44 * values[0]
    whole = svd(a)
    mine, theirs = (product(x.v[:, :5], x.v[:, :5].mT) for x in (found, whole))
    assert (mine - theirs).abs().max() <= 2.0**-43 * values[0] / (wanted[-1] * gap)


def test_a_truncation_never_cuts_through_a_cluster() -> None:
    values = torch.cat([torch.tensor([3.0, 2.0, 2.0, 2.0]).double(), 0.5 ** steps(50)])
    a = with_spectrum(values)
    assert [len(svd_top(a, k).values) for k in (0, 1, 2, 3, 4)] == [0, 1, 1, 1, 4]
    small = with_spectrum(values[:5])
    assert len(svd_top(small, 3).values) == 1


def test_a_flat_spectrum_ends_in_the_whole_decomposition() -> None:
    a = with_spectrum(torch.cat([2 - 1e-3 * steps(44), torch.zeros(1)]).double())
    found = check(a, svd_top(a, 2))
    assert (found.values - (2 - 1e-3 * steps(2))).abs().max() <= 1e-14


@pytest.mark.parametrize("shape", [(20, 20), (30, 7), (7, 30)])
def test_the_polar_factor_is_orthonormal_and_leaves_a_positive_one(shape: tuple[int, int]) -> None:
    a = numbers(*shape)
    factor = polar(a)
    assert orthonormality(factor if shape[0] >= shape[1] else factor.mT) <= 4e-15
    positive = product(factor.mT, a)
    assert distance(positive, positive.mT) <= 1e-14
    assert distance(product(factor, positive), a) <= 1e-14


def test_a_polar_factor_invents_no_direction() -> None:
    a = torch.diag(torch.tensor([4.0, -3.0, 0.0, 1.0], dtype=torch.float64))
    assert (polar(a) - torch.diag(torch.tensor([1.0, -1.0, 0.0, 1.0]))).abs().max() <= 1e-15
    low = product(numbers(20, 3), numbers(3, 20, seed=2))
    projector = product(polar(low), polar(low).mT)
    assert projector.diagonal().sum().item() == pytest.approx(3, abs=1e-13)
    assert distance(product(projector, projector), projector) <= 1e-14


@pytest.mark.parametrize("small", [1.0, 1e-2, 1e-3, 1e-4, 1e-6, 1e-8, 1.2e-9, 0.8e-9, 1e-12, 0.0])
@pytest.mark.parametrize("count", [1, 7, 20])
def test_polar_factors_have_the_rank_of_the_singular_values_by_whichever_way(
    small: float, count: int
) -> None:
    values = torch.cat([1 / steps(40 - count), torch.full((count,), small, dtype=torch.float64)])
    a = with_spectrum(values, rows=44)
    factor = polar(a)
    rank = 40 if small > 1e-9 else 40 - count
    assert product(factor.mT, factor).diagonal().sum().item() == pytest.approx(rank, abs=1e-12)
    positive = product(factor.mT, a)
    assert distance(positive, positive.mT) <= 1e-14
    least = min(small, 1 / 40) if rank == 40 else 1 / 40
    assert (product(factor, positive) - a).abs().max() <= (1e-14 if rank == 40 else small + 1e-14)
    u, _, v = svd(a)
    assert (factor - product(u, v.mT)).abs().max() <= 1e-14 / least


def image(polynomial: Odd, low: Fraction, high: Fraction) -> tuple[Fraction, Fraction]:
    """Where [low, high] goes, as far as 1001 points tell; a little more, in 40 bits."""
    a, b, c = (Fraction(repr(x)) for x in polynomial)
    points = [low + (high - low) * i / 1000 for i in range(1001)]
    values = [x * (a + b * x**2 + c * x**4) for x in points]
    for x, y in zip(points, values, strict=True):
        assert 0 < y <= a * x, "what grows by more than the slope would pass for a larger singular value"
        small = x / 1000
        assert 0 < small * (a + b * small**2 + c * small**4) <= a * small
    return Fraction(math.floor(min(values) * 2**40), 2**40), Fraction(math.ceil(max(values) * 2**40), 2**40)


def test_the_first_polynomials_take_each_other_s_range_to_one_and_grow_by_their_slopes_at_most() -> None:
    low, high = Fraction(1, 4096), Fraction(1)
    for polynomial in BEGINNING:
        low, high = image(polynomial, low, high)
    assert 1 - low <= Fraction(9, 10000)
    assert high - 1 <= Fraction(9, 10000)


def test_what_is_lifted_keeps_company_with_what_is_near_one() -> None:
    low, high = image(LIFT, Fraction(93, 100), Fraction(108, 100))
    assert 1 <= low <= high <= Fraction(103, 100)


def test_sylvester_equations_are_solved() -> None:
    a, b, x = gram(numbers(12, 15)), gram(numbers(9, 10, seed=2)), numbers(12, 9, seed=3)
    c = product(a, x) + product(x, b)
    assert distance(sylvester(a, b, c), x) <= 1e-11


def test_what_an_equation_leaves_open_is_the_callers() -> None:
    a, b, x = gram(numbers(12, 3)), gram(numbers(9, 2, seed=2)), numbers(12, 9, seed=3)
    c = product(a, x) + product(x, b)
    assert distance(sylvester(a, b, c, fallback=x), x) <= 1e-11
    least = sylvester(a, b, c)
    assert distance(product(a, least) + product(least, b), c) <= 1e-13
    assert (least.square().sum() < x.square().sum()).item()
    zero = torch.zeros(2, 2, dtype=torch.float64)
    assert sylvester(zero, zero, zero).tolist() == zero.tolist()


def test_a_diagonal_sylvester_equation_by_hand() -> None:
    a = torch.diag(torch.tensor([1.0, 3.0], dtype=torch.float64))
    c = torch.tensor([[4.0], [12.0]], dtype=torch.float64)
    assert sylvester(a, torch.ones(1, 1, dtype=torch.float64), c).tolist() == [[2.0], [3.0]]


def test_what_does_not_fit_or_is_not_finite_is_refused() -> None:
    a = torch.ones(2, 3, dtype=torch.float64)
    with pytest.raises(ParameterError, match="matrix"):
        svd(a[0])
    with pytest.raises(ParameterError, match="no product"):
        svd_product(a, a)
    with pytest.raises(ParameterError, match="-1 largest"):
        svd_top(a, -1)
    with pytest.raises(ParameterError, match="no equation"):
        sylvester(gram(a), gram(a), a)
    for bad in (math.nan, math.inf):
        with pytest.raises(NonFiniteError):
            svd(a * bad)
    with pytest.raises(NonFiniteError):
        svd(a * 1.7e308)
