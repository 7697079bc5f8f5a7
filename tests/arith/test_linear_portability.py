"""Instruction sets, library settings, threads and alignment show in no matrix operation.

One process for each variant, as in test_portability. torch's own decompositions are run beside, and differ.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import pytest
from arith.every_linear_operation import results
from arith.test_allow_list import ARITHMETIC, CASTS, COMPARISONS, STORAGE, Watch
from arith.test_portability import VARIANTS

DRIVER: Final = Path(__file__).with_name("every_linear_operation.py")
CHOSEN: Final = ("as it comes", "oldest instructions", "AVX-512, compatible MKL", "AVX2")

FLOATING: Final = ARITHMETIC | COMPARISONS | {"eq", "ne", "frexp", "reciprocal", "rsub"}
"""On float64: elementwise, comparisons, and the largest or smallest of many; rsub is 1 - x."""
INTEGER: Final = {
    *("add", "sub", "mul", "neg", "rsub", "clamp", "sum", "amin", "all", "any", "nonzero"),
    *("bitwise_and", "bitwise_not", "__and", "__lshift", "__rshift", "eq", "ne", "lt", "ge"),
}
MOVES: Final = STORAGE | {
    *("_unsafe_view", "alias", "arange", "clone", "diagonal", "expand", "eye", "fill", "flip", "gather"),
    *("index", "index_put", "new_zeros", "repeat", "sort", "split", "squeeze", "transpose", "tril", "triu"),
    *("unbind", "unsqueeze", "where", "zero", "zeros_like"),
}
INTEGER_PRODUCTS: Final = {"mm", "bmm"}
"""Of slices, in product.py alone."""


def run(shift: int, variant: str) -> dict[str, str]:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(DRIVER), str(shift)],
        env={**os.environ, **VARIANTS[variant]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["digests"]  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def digests() -> dict[str, set[str]]:
    """For every operation, the digests that the variants gave."""
    with ThreadPoolExecutor(2) as pool:
        runs = list(pool.map(run, range(len(CHOSEN)), CHOSEN))
    return {name: {found[name] for found in runs} for name in runs[0]}


def test_every_matrix_operation_gives_the_same_bits_in_every_variant(digests: dict[str, set[str]]) -> None:
    assert len(digests) > 40
    assert [name for name, found in digests.items() if not name.startswith("naive") and len(found) > 1] == []


def test_what_torch_offers_instead_differs(digests: dict[str, set[str]]) -> None:
    assert {name for name, found in digests.items() if name.startswith("naive") and len(found) > 1} >= {
        "naive product",
        "naive eigh",
        "naive svd",
    }


def test_only_portable_operations_and_products_of_integers_are_used() -> None:
    with Watch() as watch:
        for name, _ in results(1):
            if name == "sylvester":
                break
    unportable = {
        name
        for name, floating in watch.seen
        if name not in MOVES | CASTS | INTEGER_PRODUCTS and name not in (FLOATING if floating else INTEGER)
    }
    assert unportable == set()
    assert watch.alphas == {1}
    assert watch.seen["mm", True] > 0
