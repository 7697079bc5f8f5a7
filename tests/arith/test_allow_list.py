"""Which operations of torch the arithmetic is made of: those known to be portable, and no other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import pytest
import torch
from arith import every_linear_operation, every_operation
from torch.utils._python_dispatch import TorchDispatchMode

ARITHMETIC: Final = {"add", "sub", "mul", "div", "neg", "abs", "sign", "round", "trunc"}
COMPARISONS: Final = {"ge", "gt", "le", "lt", "maximum", "minimum", "clamp", "amax", "amin", "hardshrink"}
SELECTIONS: Final = {
    "where",
    "index",
    "index_put",
    "nonzero",
    "count_nonzero",
    "permute",
    "unsqueeze",
    "clone",
    "sort",  # values, and the order of a stable sort
    "scatter",  # to places that are all different
}
FLOATING: Final = ARITHMETIC | COMPARISONS | SELECTIONS
BITS: Final = {"bitwise_and", "bitwise_or", "__lshift", "__rshift"}
INTEGER: Final = BITS | {"add", "sub", "rsub", "sum", "lt", "where", "nonzero"}
MADE: Final = {"empty", "empty_like", "zeros", "ones_like", "scalar_tensor", "lift_fresh", "arange"}
STORAGE: Final = MADE | {"view", "slice", "select", "detach", "cat", "copy", "expand", "stack", "unbind"}
CASTS: Final = {"_to_copy", "_local_scalar_dense"}

FLOATING_OF_MATRICES: Final = ARITHMETIC | COMPARISONS | {"eq", "ne", "frexp", "reciprocal", "rsub"}
"""On float64: elementwise, comparisons, and the largest or smallest of many; rsub is 1 - x."""
INTEGER_OF_MATRICES: Final = {
    *("add", "sub", "mul", "neg", "abs", "rsub", "clamp", "sum", "amin", "amax", "all", "any", "nonzero"),
    *("bitwise_and", "bitwise_not", "__and", "__lshift", "__rshift", "eq", "ne", "lt", "ge"),
}
MOVES: Final = STORAGE | {
    *("_unsafe_view", "alias", "arange", "clone", "diagonal", "expand", "eye", "fill", "flip", "gather"),
    *(
        "index",
        "index_put",
        "new_zeros",
        "repeat",
        "sort",
        "split",
        "squeeze",
        "transpose",
        "tril",
        "triu",
    ),
    *("unbind", "unsqueeze", "where", "zero", "zeros_like"),
}
INTEGER_PRODUCTS: Final = {"mm", "bmm"}
"""Of slices, in product.py alone."""


class Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the operations that run within the context, as (name, whether a float64 went in)."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: Counter[tuple[str, bool]] = Counter()
        self.alphas: set[object] = set()

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        name = func._schema.name.removeprefix("aten::").rstrip("_")  # type: ignore[attr-defined]
        floating = any(isinstance(a, torch.Tensor) and a.is_floating_point() for a in args)
        self.seen[name, floating] += 1
        self.alphas.add((kwargs or {}).get("alpha", 1))
        return func(*args, **(kwargs or {}))


def watched(results: Iterator[tuple[str, Callable[[], object]]]) -> Watch:
    watch = Watch()
    with watch:
        for name, operation in results:
            if not name.startswith("naive"):
                operation()
    return watch


@pytest.fixture(scope="module")
def elementwise() -> Watch:
    return watched(every_operation.results(1))


def test_only_portable_operations_are_used(elementwise: Watch) -> None:
    unportable = {
        name
        for name, floating in elementwise.seen
        if name not in STORAGE | CASTS and name not in (FLOATING if floating else INTEGER)
    }
    assert unportable == set()
    assert elementwise.alphas == {1}


def test_matrices_take_portable_operations_and_products_of_integers() -> None:
    watch = watched(every_linear_operation.results(1))
    unportable = {
        name
        for name, floating in watch.seen
        if name not in MOVES | CASTS | INTEGER_PRODUCTS
        and name not in (FLOATING_OF_MATRICES if floating else INTEGER_OF_MATRICES)
    }
    assert unportable == set()
    assert watch.alphas == {1}
    assert watch.seen["mm", True] > 0


def test_operations_are_seen_and_what_is_not_portable_would_be_found(elementwise: Watch) -> None:
    assert elementwise.seen["mul", True] > 0
    with Watch() as watch:
        torch.add(torch.ones(2), torch.ones(2), alpha=3).sum()
    assert ("sum", True) in watch.seen
    assert 3 in watch.alphas
