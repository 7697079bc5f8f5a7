"""Order among streams: against Python's own sort, ties, and both zeros."""

from __future__ import annotations

import struct

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from crdtmerge.arith import ascending, ranks
from crdtmerge.errors import ParameterError

ROWS = st.integers(1, 5).flatmap(
    lambda n: st.lists(
        st.lists(st.sampled_from([-2.5, -0.0, 0.0, 5e-324, 1.0, 7.0]), min_size=n, max_size=n),
        min_size=1,
        max_size=6,
    )
)


def tensors(rows: list[list[float]]) -> list[torch.Tensor]:
    return [torch.tensor(row, dtype=torch.float64) for row in rows]


@given(ROWS)
def test_values_ascend_at_every_element(rows: list[list[float]]) -> None:
    got = [x.tolist() for x in ascending(tensors(rows))]
    wanted = list(zip(*(sorted(x + 0.0 for x in column) for column in zip(*rows, strict=True)), strict=True))
    assert [struct.pack(f"{len(row)}d", *row) for row in got] == [
        struct.pack(f"{len(row)}d", *row) for row in wanted
    ]


@given(ROWS)
def test_of_equal_values_the_earlier_streams_has_the_lower_rank(rows: list[list[float]]) -> None:
    got = [x.tolist() for x in ranks(tensors(rows))]
    for place, column in enumerate(zip(*rows, strict=True)):
        order = sorted(range(len(rows)), key=lambda i: (column[i], i))
        assert [got[i][place] for i in order] == list(range(len(rows)))


def test_an_order_among_nothing_is_an_error() -> None:
    with pytest.raises(ParameterError, match="no tensors"):
        ascending([])
