"""A product of matrices is a sum of integers, which no order of additions can change."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from crdtmerge.arith import Tensor, draw
from crdtmerge.arith.fold import fold, fold_product
from crdtmerge.arith.product import BLOCK, Left, gram, product
from crdtmerge.arith.slices import Slices, slice_bits
from crdtmerge.errors import NonFiniteError, ParameterError
from reference import linear as reference
from reference.arith import float64 as nearest

NUMBERS = st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from(
    [0.0, -0.0, 5e-324, -(2.0**-1022), 1.7e308, 1.0, -1.0, 1 - 2.0**-53, 1 + 2.0**-52, 2.0**-60]
)
MODEST = st.floats(-4, 4)
MODES = list(Slices)


def float64(values: object) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def numbers(*shape: int, seed: int = 1) -> Tensor:
    """Bell-shaped numbers of 53 significant bits."""
    n = math.prod(shape)
    parts = [draw.words(bytes([seed]) * 32, i * n, n) - 2.0**31 for i in range(4)]
    return ((parts[0] + parts[1] + parts[2] + parts[3]) / 3 * 2.0**-33).reshape(shape)


@st.composite
def factors(draw: st.DrawFn, values: st.SearchStrategy[float] = NUMBERS) -> tuple[Tensor, Tensor]:
    m, k, n = draw(st.integers(1, 3)), draw(st.integers(1, 9)), draw(st.integers(1, 3))
    a = draw(st.lists(values, min_size=m * k, max_size=m * k))
    b = draw(st.lists(values, min_size=k * n, max_size=k * n))
    return float64(a).reshape(m, k), float64(b).reshape(k, n)


def bits(x: Tensor) -> bytes:
    return x.contiguous().numpy().tobytes()


@given(factors(), st.sampled_from(MODES))
def test_every_bit_agrees_with_the_definition(pair: tuple[Tensor, Tensor], mode: Slices) -> None:
    a, b = pair
    wanted = float64(reference.product(a.tolist(), b.tolist(), mode.name))
    if not torch.isfinite(wanted).all():
        with pytest.raises(NonFiniteError, match="exceeds"):
            product(a, b, mode)
    else:
        assert bits(product(a, b, mode)) == bits(wanted)


@pytest.mark.parametrize(
    ("length", "mode"),
    [
        *((length, mode) for length in (7, 8, 9) for mode in MODES),
        *((BLOCK + i, MODES[3]) for i in (-1, 0, 1)),
    ],
)
def test_the_definition_holds_at_the_boundaries_of_blocks_and_slices(length: int, mode: Slices) -> None:
    a, b = numbers(1, length), numbers(length, 1, seed=2)
    assert product(a, b, mode).tolist() == reference.product(a.tolist(), b.tolist(), mode.name)


@given(factors(MODEST), st.sampled_from(MODES))
def test_errors_stay_within_the_documented_bound(pair: tuple[Tensor, Tensor], mode: Slices) -> None:
    a, b = (x.tolist() for x in pair)
    exact = reference.exact_product(a, b)
    for row, got, wanted in zip(a, product(*pair, mode).tolist(), exact, strict=True):
        for column, x, y in zip(zip(*b, strict=True), got, wanted, strict=True):
            assert abs(Fraction(x) - y) <= reference.error_bound(row, column, mode.name)


@given(factors(MODEST))
def test_three_slices_are_better_than_float64_sums_may_be(pair: tuple[Tensor, Tensor]) -> None:
    a, b = pair
    exact = reference.exact_product(a.tolist(), b.tolist())
    allowed = a.shape[1] * Fraction(2) ** -53
    for i, row in enumerate(product(a, b).tolist()):
        for j, x in enumerate(row):
            peaks = Fraction(a[i].abs().max().item()) * Fraction(b[:, j].abs().max().item())
            assert abs(Fraction(x) - exact[i][j]) <= allowed * peaks + Fraction(1, 2**1074)


@pytest.mark.parametrize("length", [1, 2, 3, 8, 9, 512, 513, 1024, 1025, BLOCK])
def test_no_sum_of_slices_exceeds_what_integers_allow(length: int) -> None:
    beta = slice_bits(length)
    assert length * 2 ** (2 * beta - 2) <= 2**53
    assert beta == reference.beta(length)
    assert beta == 26 or length * 2 ** (2 * beta) > 2**53  # and there is no waste


@pytest.mark.parametrize("length", [1, 8, 1024, BLOCK, BLOCK + 5])
@pytest.mark.parametrize("pattern", ["equal", "alternating", "halves"])
def test_the_largest_slices_there_can_be_are_summed_exactly(length: int, pattern: str) -> None:
    """Every first slice is ±2^(β-1), and under "halves" every later one is as large as rounding leaves it."""
    beta = slice_bits(min(length, BLOCK))
    top = 1 - 2.0 ** -(beta + 1) if pattern == "halves" else 1 - 2.0**-53
    a = torch.full((2, length), top, dtype=torch.float64)
    b = a.mT.contiguous()
    if pattern == "alternating":
        a[:, 1::2] *= -1
    exact = reference.exact_product(a.tolist(), b.tolist())
    for i, row in enumerate(product(a, b).tolist()):
        for j, x in enumerate(row):
            assert abs(Fraction(x) - exact[i][j]) <= Fraction(length + 1, 2**53) * length
    order = torch.arange(length - 1, -1, -1)
    if length <= BLOCK:
        assert bits(product(a[:, order], b[order])) == bits(product(a, b))


@pytest.mark.parametrize("mode", MODES)
def test_order_of_terms_within_a_block_does_not_show(mode: Slices) -> None:
    a, b = numbers(5, 300), numbers(300, 4, seed=2)
    order = torch.argsort(numbers(300, seed=3), stable=True)
    assert bits(product(a[:, order], b[order], mode)) == bits(product(a, b, mode))
    assert not torch.equal(product(a, b, Slices.ONE), product(a, b))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (4, BLOCK + 3), (3, 0), (0, 3)])
def test_a_gram_matrix_has_the_bits_of_the_product_and_is_symmetric(
    shape: tuple[int, int], mode: Slices
) -> None:
    a = numbers(*shape) * 2.0 ** (torch.arange(shape[0], dtype=torch.float64)[:, None] * 40)
    assert bits(gram(a, mode)) == bits(product(a, a.mT, mode))
    assert torch.equal(gram(a, mode), gram(a, mode).mT)


def test_batches_are_products_one_by_one() -> None:
    a, b = numbers(2, 3, 4, 5), numbers(3, 5, 2, seed=2)
    together = product(a, b)
    assert together.shape == (2, 3, 4, 2)
    for i in range(2):
        for j in range(3):
            assert bits(together[i, j]) == bits(product(a[i, j], b[j]))
            assert bits(gram(a)[i, j]) == bits(gram(a[i, j]))


@given(factors(MODEST), st.integers(-500, 500), st.integers(-500, 500))
def test_powers_of_two_pass_through(pair: tuple[Tensor, Tensor], i: int, j: int) -> None:
    a, b = (x.round(decimals=3) for x in pair)
    assert torch.equal(product(a * 2.0**i, b * 2.0**j), product(a, b) * 2.0**i * 2.0**j)


def test_the_ends_of_the_range_meet_without_a_detour_over_infinity() -> None:
    large, small = float64([[1.7e308] * 4]), float64([[5e-324]] * 4)
    assert product(large, small).item() == 4 * (1.7e308 * 5e-324)
    assert product(small.mT, small).item() == 0.0
    assert product(large, float64([[1.0], [-1.0], [1.0], [-1.0]])).item() == 0.0


def test_a_subnormal_result_is_rounded_once() -> None:
    a = float64([[1.0, 2.0**-53]])
    b = float64([[3 * 2.0**-1075], [2.0**-1022]])
    exact = Fraction(a[0, 1].item()) * Fraction(b[1, 0].item()) + Fraction(b[0, 0].item())
    assert product(a, b).item() == nearest(exact)


def test_no_product_is_a_negative_zero() -> None:
    zero = product(float64([[-1.0, 0.0], [-5e-324, 0.0]]), float64([[0.0], [-0.0]]))
    tiny = product(float64([[-5e-324]]), float64([[5e-324]]))
    assert bits(zero) == bits(torch.zeros(2, 1, dtype=torch.float64))
    assert bits(tiny) == bits(torch.zeros(1, 1, dtype=torch.float64))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_refused(bad: float) -> None:
    a = torch.ones(3, 3, dtype=torch.float64)
    poisoned = a.clone()
    poisoned[1, 2] = bad
    for left, right in ((a, poisoned), (poisoned, a)):
        with pytest.raises(NonFiniteError):
            product(left, right)
    with pytest.raises(NonFiniteError):
        gram(poisoned)


def test_matrices_that_do_not_fit_are_refused() -> None:
    a = torch.ones(2, 3, dtype=torch.float64)
    with pytest.raises(ParameterError, match=r"\(2, 3\) and \(2, 3\)"):
        product(a, a)
    with pytest.raises(ParameterError, match="float32"):
        product(a.float(), a.mT)
    with pytest.raises(ParameterError, match="transpose"):
        gram(a[0])


def test_the_factors_are_left_alone() -> None:
    a, b = numbers(3, 3), numbers(3, 3, seed=2)
    before = bits(a), bits(b)
    product(a, b)
    gram(a)
    assert (bits(a), bits(b)) == before


@given(st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=40))
def test_sums_by_halving_follow_the_definition(values: list[float]) -> None:
    x = float64(values)
    assert fold(x).item() == reference.fold(values)
    assert torch.equal(fold(torch.stack([x, -x], 1)), torch.stack([fold(x), fold(-x)]))


def test_folding_nothing_gives_zero_and_products_are_folded_alike() -> None:
    assert fold(torch.empty(0, 2, dtype=torch.float64)).tolist() == [0.0, 0.0]
    assert fold_product(float64([2.0, 3.0, 5.0, 7.0, 11.0])).item() == 2310.0


def test_a_matrix_that_is_cut_once_gives_the_same_products() -> None:
    a, b = numbers(7, BLOCK + 5), numbers(BLOCK + 5, 3, seed=2)
    for kept in Slices:
        left = Left(a, kept)
        for slices in Slices:
            if slices.count <= kept.count:
                assert torch.equal(left.times(b, slices), product(a, b, slices))
            else:
                with pytest.raises(ParameterError, match=f"{slices.count} slices .* into {kept.count}"):
                    left.times(b, slices)
