"""Decompositions beside those in 60 digits: values, spaces and whole matrices, within documented bounds.

The bounds are those of docs/spec/linear.md, "Errors". Matrices are what goes wrong elsewhere: badly scaled,
nearly equal columns, of low rank, with values that are hard to tell apart.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from arith.matrices import SPECTRA, numbers, symmetric, with_spectrum
from hypothesis import given
from hypothesis import strategies as st

from crdtmerge.arith import Tensor
from crdtmerge.arith.linear import eigh, polar, qr, svd
from crdtmerge.arith.spectrum import RANK
from reference import decompositions as reference
from reference.decompositions import columns, diagonal, distance, exact, gaps, product, projector

VALUE = 4e-15
"""Of an eigenvalue or a singular value, relative to the largest."""
WHOLE = 1e-14
"""Of the product of the factors, likewise."""
SPACE = 2e-14
"""Of a projector, times the largest value over the gap that sets the space apart."""
COLUMN = 4e-15
"""Of a column of Q·R, relative to its largest element."""
SPAN = 2e-14
"""Of the projector onto leading columns, times their condition."""
TINY = 2.0**-1060

KINDS = ("plain", "ill-scaled", "cancelling", "low rank", "clustered")


def drawn(data: st.DataObject, m: int, n: int, largest: int) -> Tensor:
    values = data.draw(st.lists(st.integers(-largest, largest), min_size=m * n, max_size=m * n))
    return torch.tensor(values, dtype=torch.float64).reshape(m, n)


@st.composite
def shapes(draw: st.DrawFn) -> tuple[int, int]:
    return draw(st.integers(1, 6)), draw(st.integers(1, 6))


def matrix(data: st.DataObject, m: int, n: int) -> Tensor:
    """A matrix of one of the `KINDS`, exactly representable, at any scale."""
    kind = data.draw(st.sampled_from(KINDS))
    scale = 2.0 ** data.draw(st.integers(-300, 300))
    if kind == "low rank":
        r = data.draw(st.integers(0, min(m, n)))
        return sum(
            (drawn(data, m, 1, 9) * drawn(data, 1, n, 9) for _ in range(r)), torch.zeros(m, n)
        ).double()
    if kind == "clustered":
        return (torch.eye(m, n, dtype=torch.float64) + drawn(data, m, n, 9) * 2.0**-45) * scale
    entries = drawn(data, m, n, 1 << 20)
    if kind == "cancelling":
        return (entries * 2.0**-30 + 1.0) * scale
    if kind == "ill-scaled":
        exponents = data.draw(st.lists(st.integers(-60, 60), min_size=n, max_size=n))
        return entries * torch.tensor([2.0**e for e in exponents], dtype=torch.float64)
    return entries * scale


def check_eigh(a: Tensor, wanted: tuple[list[Any], Any] | None = None) -> None:
    values, vectors = wanted or reference.eigh(a)
    found = eigh(a)
    got = exact(found.vectors)
    size = max(map(abs, values)) + TINY
    for value, best in zip(found.values.tolist(), values, strict=True):
        assert abs(value - best) <= VALUE * size
    assert distance(product(got, diagonal(found.values.tolist()), got.T), exact(a)) <= WHOLE * size
    for i, gap in gaps(values, size * 1e-10):
        found_space, space = (projector(columns(x, range(i))) for x in (got, vectors))
        assert distance(found_space, space) <= SPACE * size / gap


def check_svd(a: Tensor) -> None:
    u, values, v = reference.svd(a)
    found = svd(a)
    kept, size = len(found.values), values[0] + TINY
    assert all(value > size * RANK * (1 - 1e-5) for value in values[:kept])
    assert all(value < size * RANK * (1 + 1e-5) for value in values[kept:])
    for value, best in zip(found.values.tolist(), values, strict=False):
        assert abs(value - best) <= VALUE * size
    cut = values[kept] if kept < len(values) else 0
    if kept:
        whole = product(exact(found.u), diagonal(found.values.tolist()), exact(found.v).T)
        assert distance(whole, exact(a)) <= WHOLE * size + cut
    for i, gap in gaps([*values, 0], size * 1e-8):
        if i <= kept:
            for got, wanted in ((found.u, u), (found.v, v)):
                space = projector(columns(wanted, range(i)))
                assert distance(projector(columns(exact(got), range(i))), space) <= SPACE * size / gap
    if kept and values[kept - 1] > size * 1e-8:
        isometry = product(columns(u, range(kept)), columns(v, range(kept)).T)
        assert distance(exact(polar(a)), isometry) <= SPACE * size / values[kept - 1]


def check_qr(a: Tensor) -> None:
    found = qr(a)
    q, r = exact(found.q), exact(found.r)
    errors, largest = product(q, r) - exact(a), a.abs().amax(0).tolist()
    for j, size in enumerate(largest):
        assert max(abs(e) for e in errors[:, j]) <= COLUMN * size + 2.0**-1070
    conditions = ((j, reference.condition(a[:, :j])) for j in range(a.shape[1], 0, -1))
    j, condition = next(((j, c) for j, c in conditions if c < 1e12), (0, 1))
    if j:
        wanted, triangle = reference.qr(a[:, :j])
        for i in range(1, j + 1):
            assert (
                distance(projector(columns(q, range(i))), projector(columns(wanted, range(i))))
                <= SPAN * condition
            )
            assert abs(r[i - 1, j - 1] - triangle[i - 1, j - 1]) <= SPAN * condition * largest[j - 1]


@given(st.data(), st.integers(1, 6))
def test_eigenvalues_and_spaces_are_those_of_sixty_digits(data: st.DataObject, n: int) -> None:
    a = matrix(data, n, n)
    check_eigh(a.tril() + a.tril(-1).mT)


@given(st.data(), shapes())
def test_singular_values_and_spaces_are_those_of_sixty_digits(
    data: st.DataObject, shape: tuple[int, int]
) -> None:
    check_svd(matrix(data, *shape))


@given(st.data(), shapes())
def test_spans_of_leading_columns_are_those_of_sixty_digits(
    data: st.DataObject, shape: tuple[int, int]
) -> None:
    check_qr(matrix(data, *shape))


@pytest.mark.parametrize("n", [20, 33])
def test_eigenvalues_of_larger_matrices_are_right_to_the_last_bits(n: int) -> None:
    a = numbers(n, n)
    a = a.tril() + a.tril(-1).mT
    wanted = reference.eigenvalues(a)
    size = max(map(abs, wanted))
    assert all(abs(x - y) <= VALUE * size for x, y in zip(eigh(a).values.tolist(), wanted, strict=True))


def test_singular_values_of_larger_matrices_are_right_to_the_last_bits() -> None:
    a = numbers(40, 24)
    wanted = reference.singular_values(a)
    values = svd(a).values.tolist()
    assert all(abs(x - y) <= VALUE * wanted[0] for x, y in zip(values, wanted, strict=True))


def test_larger_matrices_hold_every_bound() -> None:
    check_eigh(symmetric(SPECTRA["near ties"][14:27]))
    check_svd(with_spectrum(SPECTRA["falling"][:10]))
    check_qr(numbers(16, 14))


def test_the_reference_is_right_about_a_hand_computation() -> None:
    a = torch.tensor([[2.0, 1.0], [1.0, 2.0]], dtype=torch.float64)
    values, vectors = reference.eigh(a)
    assert [float(v) for v in values] == [1.0, 3.0]
    assert reference.to_tensor(projector(columns(vectors, [1]))).tolist() == [[0.5, 0.5], [0.5, 0.5]]
    assert [float(v) for v in reference.svd(a)[1]] == [3.0, 1.0]
    assert float(reference.qr(a)[1][0, 0]) == pytest.approx(5**0.5, abs=1e-16)
