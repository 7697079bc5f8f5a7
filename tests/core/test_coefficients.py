"""Payloads of coefficients: what is well-formed, what is passed over, and which of several is taken."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies_harness import published

from crdtmerge import canon
from crdtmerge.arith import Tensor
from crdtmerge.coefficients import Coefficients, Published, Row, candidates, columns
from crdtmerge.digest import Digest
from crdtmerge.errors import LimitError, MalformedError
from crdtmerge.limits import PATTERNS_MAX
from reference import coefficients as reference

SHAPES = {"conv": (2, 3, 2, 2), "layers.0.w": (2, 3), "layers.1.w": (2, 3), "norm": (5,), "scale": ()}
ELEMENTS = 24 + 6 + 6 + 5 + 1
K = 2


def ones(*shape: int) -> Tensor:
    return torch.ones(shape, dtype=torch.float64)


def read(payload: str, arrays: dict[str, Tensor], **settings: str) -> Coefficients:
    return published("anything", arrays, SHAPES, K, payload, **settings)


def row(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def octets(*values: int) -> Tensor:
    return torch.tensor(values, dtype=torch.uint8)


def plan(*rows: tuple[str, int, str, str]) -> Tensor:
    return torch.frombuffer(bytearray(canon.encode([list(row) for row in rows])), dtype=torch.uint8)


GOOD: dict[str, tuple[str, dict[str, Tensor], dict[str, str]]] = {
    "one number for each model": ("coeffs", {"weights": ones(K)}, {}),
    "one for each tensor": ("coeffs", {"weights": ones(K, 5)}, {"granularity": "tensor"}),
    "one for some groups": (
        "coeffs",
        {"weights/layers.*": ones(K), "weights/layers.0.w": ones(K)},
        {"granularity": "group"},
    ),
    "chunks": ("coeffs", {"weights/norm": ones(K, 3)}, {"granularity": "chunk"}),
    "columns of a convolution": ("coeffs", {"weights/conv": ones(K, 12)}, {"granularity": "column"}),
    "one column for all": ("coeffs", {"weights/norm": ones(K, 1)}, {"granularity": "column"}),
    "intervals": (
        "coeffs",
        {"breaks": row(1, ELEMENTS - 1), "weights": ones(K, 3)},
        {"granularity": "interval"},
    ),
    "a convex combination": ("coeffs", {"weights": row(0.1, 0.9)}, {"mode": "convex"}),
    "packed bits": ("masks", {"masks/norm": octets(31, 0)[:, None]}, {}),
    "shared bits with weights": (
        "masks",
        {"masks/norm": octets(31), "weights": ones(K)},
        {"shared": "yes"},
    ),
    "soft masks": ("masks", {"masks/norm": ones(K, 5) / 3}, {"form": "real"}),
    "components": (
        "masks",
        {"masks/conv": octets(1, 0, 0, 1).reshape(K, 2)},
        {"form": "components"},
    ),
    "a genome": ("hyper", {"weight/*": ones(K), "density/layers.?.w": ones(K)}, {}),
    "a plan": ("plan", {"plan": plan(("out", 1, "norm", "0.5"))}, {}),
    "adapters": ("delta", {"down/t": ones(2, 7), "up/t": ones(7, 2)}, {"merged": "ab" * 32}),
}


@pytest.mark.parametrize("case", GOOD)
def test_what_the_formats_describe_is_accepted(case: str) -> None:
    payload, arrays, settings = GOOD[case]
    assert read(payload, arrays, **settings).payload == payload


BAD: dict[str, tuple[str, dict[str, Tensor], dict[str, str], str]] = {
    "no array": ("coeffs", {}, {}, "without arrays"),
    "an array that nobody knows": ("coeffs", {"weights": ones(K), "x": ones(K)}, {}, "no array 'x'"),
    "a row too few": ("coeffs", {"weights": ones(1)}, {}, r"shape \[1\], wanted \[2\]"),
    "a granularity that nobody knows": ("coeffs", {"weights": ones(K)}, {"granularity": "x"}, "granularity"),
    "a mode that nobody knows": ("coeffs", {"weights": ones(K)}, {"mode": "x"}, "mode = 'x'"),
    "a tensor too few": ("coeffs", {"weights": ones(K, 4)}, {"granularity": "tensor"}, r"wanted \[2, 5\]"),
    "a pattern for nothing": ("coeffs", {"weights/x*": ones(K)}, {"granularity": "group"}, "no tensor"),
    "a pattern that longer ones cover": (
        "coeffs",
        {"weights/n*": ones(K), "weights/nor*": ones(K)},
        {"granularity": "group"},
        "weights/n. matches no tensor, or only",
    ),
    "one array and many": (
        "coeffs",
        {"weights": ones(K), "weights/norm": ones(K)},
        {"granularity": "group"},
        "does not go with",
    ),
    "chunks that stay unused": (
        "coeffs",
        {"weights/norm": ones(K, 4)},
        {"granularity": "chunk"},
        "cut into 3",
    ),
    "no chunks": ("coeffs", {"weights/norm": ones(K, 0)}, {"granularity": "chunk"}, "number of chunks"),
    "columns of another tensor": (
        "coeffs",
        {"weights/norm": ones(K, 3)},
        {"granularity": "column"},
        "columns of norm",
    ),
    "breaks without intervals": ("coeffs", {"weights": ones(K), "breaks": ones(1)}, {}, "interval alone"),
    "breaks that do not ascend": (
        "coeffs",
        {"breaks": ones(2), "weights": ones(K, 3)},
        {"granularity": "interval"},
        "ascend",
    ),
    "a break between elements": (
        "coeffs",
        {"breaks": ones(1) / 2, "weights": ones(K, 2)},
        {"granularity": "interval"},
        "whole numbers",
    ),
    "a break behind the model": (
        "coeffs",
        {"breaks": ones(1) * ELEMENTS, "weights": ones(K, 2)},
        {"granularity": "interval"},
        "42 elements",
    ),
    "a convex combination of more than 1": (
        "coeffs",
        {"weights": row(0.5, 0.5 + 2e-12)},
        {"mode": "convex"},
        "sum to",
    ),
    "a convex combination in float32": (
        "coeffs",
        {"weights": torch.tensor([0.1, 0.9], dtype=torch.float32)},
        {"mode": "convex"},
        "store them as float64",
    ),
    "weights as bytes": ("coeffs", {"weights": octets(1, 1)}, {}, "wanted floating point"),
    "masks without masks": ("masks", {"weights": ones(K)}, {}, "without a mask"),
    "a mask for no tensor": ("masks", {"masks/x": octets(1, 1)}, {}, "does not have"),
    "bits behind the end": ("masks", {"masks/norm": octets(31, 32)[:, None]}, {}, "behind the last"),
    "bits as numbers": ("masks", {"masks/norm": ones(K, 1)}, {}, "are U8"),
    "numbers as bits": ("masks", {"masks/scale": octets(1, 1)[:, None]}, {"form": "real"}, "are floats"),
    "a mask that amplifies": ("masks", {"masks/norm": ones(K, 5) * 2}, {"form": "real"}, "outside"),
    "components of a vector": ("masks", {"masks/norm": octets()[None].expand(K, 0)}, {"form": "x"}, "form"),
    "half a component": (
        "masks",
        {"masks/conv": octets(2, 0, 0, 0).reshape(K, 2)},
        {"form": "components"},
        "outside",
    ),
    "a gene for nothing": ("hyper", {"weight/x*": ones(K)}, {}, "no tensor"),
    "a gene without tensors": ("hyper", {"weight": ones(K)}, {}, "no array weight/"),
    "genes for others": ("hyper", {"weight/*": ones(K + 1)}, {}, "wanted"),
    "a plan of nothing": ("plan", {"plan": plan()}, {}, "without rows"),
    "a plan from nowhere": ("plan", {"plan": plan(("o", 0, "x", "1"))}, {}, "not there"),
    "a plan from nobody": ("plan", {"plan": plan(("o", 2, "norm", "1"))}, {}, "not there"),
    "a plan that says a name twice": (
        "plan",
        {"plan": plan(("o", 0, "norm", "1"), ("o", 1, "norm", "1"))},
        {},
        "twice",
    ),
    "a plan with a scale that is no decimal": ("plan", {"plan": plan(("o", 0, "norm", "1.0"))}, {}, "scale"),
    "a plan that is no plan": ("plan", {"plan": octets(193)}, {}, "MessagePack|type|canonical"),
    "adapters for no model": ("delta", {"down/t": ones(2, 7), "up/t": ones(7, 2)}, {}, "merged"),
    "adapters that do not fit": (
        "delta",
        {"down/t": ones(2, 7), "up/t": ones(2, 7)},
        {"merged": "ab" * 32},
        "wanted .rank, features",
    ),
    "half an adapter": ("delta", {"down/t": ones(2, 7)}, {"merged": "ab" * 32}, "up of shape"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_malformed_is_refused(case: str) -> None:
    payload, arrays, settings, message = BAD[case]
    with pytest.raises(MalformedError, match=message):
        read(payload, arrays, **settings)


def test_a_payload_of_too_many_patterns_is_refused_before_it_costs_time() -> None:
    arrays = {f"weights/{'?' * (i + 1)}": ones(K) for i in range(PATTERNS_MAX + 1)}
    with pytest.raises(LimitError, match="patterns"):
        read("coeffs", arrays, granularity="group")


NAMES = st.text("ab*?", min_size=1, max_size=4)


@given(st.sets(NAMES, min_size=1, max_size=6), st.text("ab", min_size=1, max_size=4))
def test_a_name_speaks_first_then_the_longest_pattern(names: set[str], tensor: str) -> None:
    arrays = {f"weights/{name}": ones(1) for name in names}
    found = Coefficients(
        Digest(bytes(32)),
        "anything",
        "coeffs",
        {},
        dict.fromkeys(arrays, (1,)),
        frozenset(),
        1,
        ((tensor, (1,)),),
        lambda name, start, stop: arrays[name],
    )
    rows = {name: [[1.0]] for name in arrays}
    assert found.about("weights", tensor) == reference.about(rows, "weights", tensor)


def test_rows_of_a_plan_are_read_as_they_were_written() -> None:
    found = read("plan", {"plan": plan(("a", 0, "norm", "1"), ("b", 1, "conv", "-0.5"))})
    assert found.rows == (Row("a", 0, "norm", Fraction(1)), Row("b", 1, "conv", Fraction(-1, 2)))


@pytest.mark.parametrize(
    ("shape", "wide"), [((), 1), ((5,), 5), ((2, 3), 3), ((2, 3, 2, 2), 12), ((0, 3), 3)], ids=str
)
def test_columns_of_a_tensor_are_all_dimensions_but_the_first(shape: tuple[int, ...], wide: int) -> None:
    assert columns(shape) == wide


def named(text: str) -> Digest:
    return Digest(text.encode().ljust(32, b"\0"))


@given(st.permutations([(1, "a"), (0, "c"), (0, "b"), (2, "d"), (0, "b")]))
def test_candidates_come_by_authority_then_digest_whatever_order_they_arrive_in(
    arrived: list[tuple[int, str]],
) -> None:
    members = (named("m"), named("n"))
    said = [Published(level, named(name), members) for level, name in arrived]
    others = [Published(0, named("a"), members[:1]), Published(0, named("a"), (*members, named("o")))]
    order = [p.payload for p in candidates(said + others, members)]
    assert order == [named("b"), named("c"), named("a"), named("d")]
