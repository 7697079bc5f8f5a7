"""The parts of matrix methods: shapes, factors, and where a spectrum may be cut."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from spectral_harness import normal

from crdtmerge.arith import Tensor, linear
from crdtmerge.digest import Digest
from crdtmerge.strategies.parts.matrix import Matrix, beside, combined, leading, matrices, reaching, spectrum
from crdtmerge.strategy import Factors, Group, Member, Tile


def tile(shape: tuple[int, ...], *, factors: tuple[Factors | None, ...] = ()) -> Tile:
    row = torch.arange(torch.Size(shape).numel()).double()
    group = Group((("w", shape),), (Member(Digest(bytes(32))),))
    return Tile("w", shape, 0, row * 0, (row,), (True,), group, factors=factors)


def values(*numbers: float) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


@pytest.mark.parametrize(
    ("shape", "expected"), [((), None), ((4,), None), ((2, 3), (2, 3)), ((2, 3, 4, 5), (2, 60))], ids=str
)
def test_what_has_two_dimensions_or_more_is_a_matrix(
    shape: tuple[int, ...], expected: tuple[int, int] | None
) -> None:
    found = matrices(tile(shape))
    assert (found and tuple(found[0].whole.shape)) == expected


def test_the_scale_of_factors_is_in_the_first_of_them() -> None:
    a, b = values(1, 2, 3)[None], values(1, -1)[:, None]
    found = matrices(tile((2, 3), factors=(Factors(a, b, Fraction(1, 2)),)))
    assert found is not None
    assert found[0].factors is not None
    assert found[0].factors[0].tolist() == [[0.5], [-0.5]]
    assert found[0].mT.factors is not None
    assert found[0].mT.factors[1].tolist() == [[0.5, -0.5]]


def test_a_sum_is_of_low_rank_if_all_of_it_is() -> None:
    pairs = [(torch.as_tensor(normal(i, 4, 2)), torch.as_tensor(normal(i + 3, 2, 5))) for i in range(2)]
    low = [Matrix(linear.product(b, a), (b, a)) for b, a in pairs]
    total = combined(low, [Fraction(2), Fraction(-1)])
    assert total.factors is not None
    assert torch.allclose(linear.product(*total.factors), total.whole, rtol=0, atol=1e-14)
    assert combined([low[0], Matrix(low[1].whole)], [Fraction(1)] * 2).factors is None


def test_a_share_is_reached_exactly_and_never_within_equal_values() -> None:
    assert [reaching(values(3, 1), Fraction(n, 4)) for n in (1, 3, 4)] == [1, 1, 2]
    assert reaching(values(3, 1), Fraction(3, 4) + Fraction(1, 10**30)) == 2
    assert reaching(values(2, 2, 1), Fraction(1, 5)) == 2
    assert reaching(values(), Fraction(1)) == 0


def test_a_cut_through_equal_values_moves_to_their_beginning() -> None:
    found = spectrum(Matrix(torch.diag(values(3, 2, 2, 1))))
    assert [len(leading(found, k).values) for k in range(5)] == [0, 1, 1, 3, 4]


def test_a_matrix_of_zeros_has_no_component() -> None:
    found = spectrum(Matrix(torch.zeros(2, 3, dtype=torch.float64)))
    assert (found.u.shape, found.values.shape, found.v.shape) == ((2, 0), (0,), (3, 0))


def test_blocks_stand_side_by_side() -> None:
    assert beside([values(1, 2)[:, None], values()[None, :].expand(2, 0), torch.eye(2)]).tolist() == [
        [1, 1, 0],
        [2, 0, 1],
    ]
