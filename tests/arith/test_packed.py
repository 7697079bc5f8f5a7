"""Symmetric matrices stored by half."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from crdtmerge.arith.linear import diagonal, pack, unit, unpack
from crdtmerge.arith.packed import side
from crdtmerge.errors import ParameterError


def test_the_lower_triangle_is_stored_row_by_row() -> None:
    a = torch.tensor([[1.0, 9.0, 9.0], [2.0, 3.0, 9.0], [4.0, 5.0, 6.0]], dtype=torch.float64)
    assert pack(a).tolist() == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    assert unpack(pack(a)).tolist() == [[1.0, 2.0, 4.0], [2.0, 3.0, 5.0], [4.0, 5.0, 6.0]]


@given(st.integers(0, 40))
def test_what_was_packed_comes_out_again_symmetric_to_the_bit(n: int) -> None:
    packed = torch.arange(n * (n + 1) // 2, dtype=torch.float64) / 7
    full = unpack(packed)
    assert torch.equal(full, full.mT)
    assert torch.equal(pack(full), packed)


def test_what_stands_beside_the_diagonal_can_be_shrunk() -> None:
    packed = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    assert unpack(packed, 0.5).tolist() == [[1.0, 1.0], [1.0, 3.0]]
    assert diagonal(packed).tolist() == [1.0, 3.0]
    assert torch.equal(unpack(unit(3)), torch.eye(3, dtype=torch.float64))


@given(st.integers(0, 10**12))
def test_only_triangular_numbers_are_triangles(n: int) -> None:
    assert side(n * (n + 1) // 2) == n
    if n > 1:
        with pytest.raises(ParameterError, match="no triangle"):
            side(n * (n + 1) // 2 + 1)


def test_what_is_not_square_has_no_triangle_to_store() -> None:
    with pytest.raises(ParameterError, match="square"):
        pack(torch.zeros(2, 3, dtype=torch.float64))
