"""Loops over matrices give the bits of the torch operations that they replace.

As in `test_compiled`, the same thing is computed twice, once without the loops; what is compared is bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import nullcontext

import pytest
import torch
from arith.both_ways import SEEDS, twice
from arith.matrices import SPECTRA, numbers, symmetric, with_spectrum
from hypothesis import given
from hypothesis import strategies as st

from crdtmerge.arith import Tensor, compiled
from crdtmerge.arith.cholesky import NotPositiveDefiniteError, cholesky
from crdtmerge.arith.eigh import eigh
from crdtmerge.arith.jacobi import jacobi
from crdtmerge.arith.polar import polar
from crdtmerge.arith.product import gram, product
from crdtmerge.arith.qr import qr
from crdtmerge.arith.slices import Slices
from crdtmerge.arith.subspace import svd_top
from crdtmerge.arith.svd import svd
from crdtmerge.arith.sylvester import sylvester
from crdtmerge.arith.triangular import solve_lower, solve_upper
from crdtmerge.errors import NonFiniteError

SIDES = st.sampled_from([1, 2, 5, 31, 32, 33, 65, 130])


@pytest.fixture(autouse=True)
def loops() -> None:
    assert compiled.load(), "numba is among what `make setup` installs"


def same(work: Callable[[], Tensor | Iterable[Tensor]]) -> None:
    """Compare what ``work`` returns, one tensor or several, both ways."""

    def run() -> bytes:
        result = work()
        parts = [result] if isinstance(result, Tensor) else list(result)
        return b"".join(part.contiguous().numpy().tobytes() + repr(part.shape).encode() for part in parts)

    ours, theirs = twice(run)
    assert ours == theirs


def hard(rows: int, columns: int, seed: int) -> Tensor:
    """A matrix with rows and columns of all sizes, zeros of both signs, subnormals and equal columns."""
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, columns, generator=draw, dtype=torch.float64)
    for size in ((rows, 1), (1, columns)):
        scale = torch.randint(-3, 4, size, generator=draw) * torch.randint(0, 40, size, generator=draw)
        x *= torch.where(torch.rand(size, generator=draw) < 0.3, 2.0**scale, 1.0)
    x[torch.rand(rows, columns, generator=draw) < 0.1] = -0.0
    x[:, torch.rand(columns, generator=draw) < 0.1] = 0.0
    x[torch.rand(rows, generator=draw) < 0.1] *= 2.0**-1060
    x[:, columns // 2] = x[:, 0]
    return x


def cuts(x: Tensor, kind: str) -> Tensor:
    """The same matrix as it may lie in memory."""
    if kind == "transposed":
        return x.mT.contiguous().mT
    if kind == "part":
        return torch.nn.functional.pad(x, (3, 2, 1, 1))[1:-1, 3:-2]
    return x[:, ::1] if kind == "whole" else torch.stack([x, x], -1)[..., 0]


LYING = st.sampled_from(["whole", "transposed", "part", "every other"])


@given(SIDES, SIDES, SIDES, SEEDS, st.sampled_from(Slices), LYING, LYING)
def test_products(m: int, k: int, n: int, seed: int, slices: Slices, one: str, other: str) -> None:
    a, b = cuts(hard(m, k, seed), one), cuts(hard(k, n, seed + 1), other)
    same(lambda: product(a, b, slices))
    same(lambda: gram(a, slices))
    assert gram(a, slices).numpy().tobytes() == product(a, a.mT, slices).numpy().tobytes()


@pytest.mark.parametrize("exponents", [(-1074, -1074), (-1000, 1000), (511, 511), (300, -800), (440, 441)])
def test_products_of_extreme_sizes(exponents: tuple[int, int]) -> None:
    a, b = (numbers(40, 40, seed=i + 1) * 2.0 ** (e / 2) * 2.0 ** (e / 2) for i, e in enumerate(exponents))
    same(lambda: product(a, b))


def test_products_of_several_blocks_and_of_many_matrices() -> None:
    a, b = numbers(5, 4500), numbers(4500, 7, seed=2)
    same(lambda: product(a, b))
    same(lambda: gram(a))
    many = numbers(3, 20, 20)
    same(lambda: product(many, many[0]))
    same(lambda: gram(many))


def test_what_is_not_finite_is_refused_by_loops_too() -> None:
    for place in ((0, 0), (6, 8)):
        for bad in (float("nan"), float("inf"), -float("inf")):
            a = numbers(7, 9)
            a[place] = bad
            for left, right in ((a, numbers(9, 2)), (numbers(2, 7), a)):
                with pytest.raises(NonFiniteError):
                    product(left, right)
    with pytest.raises(NonFiniteError, match="a product"):
        product(numbers(40, 40) * 2.0**1000, numbers(40, 40) * 2.0**1000)


@given(SIDES, SIDES, SEEDS, LYING)
def test_orthonormal_factors(m: int, n: int, seed: int, lying: str) -> None:
    a = cuts(hard(m, n, seed), lying)
    same(lambda: qr(a))


@given(SIDES, SIDES, SEEDS)
def test_triangles(n: int, k: int, seed: int) -> None:
    a = gram(numbers(n, n + 3, seed=seed % 256)) + torch.eye(n, dtype=torch.float64) * 1e-3
    right = hard(n, k, seed)
    same(lambda: cholesky(a))
    same(lambda: solve_lower(cholesky(a), right))
    same(lambda: solve_upper(cholesky(a).mT, right.mT.contiguous().mT))


@pytest.mark.parametrize("pivot", [0, 10, 70])
def test_the_pivot_that_is_not_positive_is_the_same(pivot: int) -> None:
    a = gram(numbers(80, 90))
    a[pivot, pivot] = -1.0
    found = []
    for way in (compiled.without(), nullcontext()):
        with way, pytest.raises(NotPositiveDefiniteError) as caught:
            cholesky(a)
        found.append((caught.value.pivot, str(caught.value)))
    assert found[0] == found[1]
    assert found[0][0] == pivot


@pytest.mark.parametrize("name", SPECTRA)
def test_eigenvectors_and_singular_vectors_of_hard_spectra(name: str) -> None:
    a = symmetric(SPECTRA[name])
    same(lambda: eigh(a))
    same(lambda: svd(with_spectrum(SPECTRA[name], rows=50)))
    same(lambda: polar(with_spectrum(SPECTRA[name], rows=50)))
    same(lambda: jacobi(torch.stack([a[:13, :13], a[5:18, 5:18], a[:13, :13] * 0.0])))


@given(SIDES, SEEDS)
def test_eigenvectors_of_anything_symmetric(n: int, seed: int) -> None:
    a = hard(n, n, seed).clamp(-1e30, 1e30)
    same(lambda: eigh(a))


def test_what_is_made_of_all_this() -> None:
    a, b = gram(numbers(70, 80)), gram(numbers(40, 45, seed=2))
    same(lambda: sylvester(a, b, numbers(70, 40, seed=3)))
    same(lambda: svd_top(with_spectrum(0.8 ** torch.arange(60).double(), rows=90), 5))
