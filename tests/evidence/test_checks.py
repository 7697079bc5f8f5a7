"""What hostile evidence tries: lies seen from outside are named, and nothing honest is refused."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from crdtmerge import selftest
from crdtmerge.arith.linear import pack
from crdtmerge.errors import EvidenceError
from crdtmerge.evidence import KINDS, check_content, check_form
from crdtmerge.evidence.checks import shape_of
from crdtmerge.manifest import Kind, Manifest
from crdtmerge.resolve import take
from crdtmerge.store import Store

BASE = {"w": torch.ones(5, 3), "b": torch.ones(9), "n": torch.tensor(1)}


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    with Store.memory() as made:
        yield made


def manifest(store: Store, evidence: dict[str, Tensor]) -> Manifest:
    return take(store, BASE, kind=Kind.FULL, base=None, evidence=evidence)


def check(store: Store, name: str, value: Tensor) -> None:
    made = manifest(store, {name: value})
    check_form(made, made.by_name)
    check_content(made, made.by_name, store.read)


def test_every_kind_has_an_honest_example_that_passes(store: Store) -> None:
    evidence = {
        f"{kind}/{name}": said
        for kind in KINDS
        for name in ("w", "b")
        if (said := selftest.testimony(kind, BASE[name].double())) is not None
    }
    made = manifest(store, evidence)
    read: list[int] = []
    check_form(made, made.by_name)
    check_content(made, made.by_name, store.read, read.append)
    assert {name.partition("/")[0] for name in evidence} == KINDS.keys()
    assert sum(read) == sum(entry.bytes for entry in made.evidence)


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("guess/w", torch.ones(5, 3), "no known kind"),
        ("fisher.diag", torch.ones(5, 3), "no known kind"),
        ("fisher.diag/x", torch.ones(5, 3), "'x', which is no floating tensor of the base"),
        ("fisher.diag/n", torch.tensor(1.0), "'n', which is no floating tensor of the base"),
        ("fisher.diag/w", torch.ones(3, 5), r"shape \[3, 5\], wanted \[5, 3\]"),
        ("fisher.diag/w", torch.ones(5, 3).bfloat16(), "dtype BF16, wanted F32 or F64"),
        ("mask/w", torch.ones(2), "dtype F32, wanted U8"),
        ("mask/w", torch.ones(3, dtype=torch.uint8), r"shape \[3\], wanted \[2\]"),
        ("gram/w", torch.ones(15), r"shape \[15\], wanted \[6\]"),
        ("gram/b", torch.ones(45), r"of shape \[9\], which has no gram"),
        ("gram.n/w", torch.tensor(8.0), "dtype F32, wanted I64"),
        ("adam.v.row/w", torch.ones(3), r"shape \[3\], wanted \[5\]"),
        ("gram.n/w", torch.tensor(0), "is 0, wanted a positive"),
        ("gram.n/w", torch.tensor(-8), "is -8, wanted a positive"),
        ("gram.n/w", torch.tensor(2**62), "wanted a positive whole number"),
        ("fisher.diag/b", torch.tensor([0.0, -0.0, -1e-40, *[1.0] * 6]), "negative at flat index 2"),
        ("fisher.diag/b", torch.tensor([math.nan, *[1.0] * 8]), "flat index 0"),
        ("saliency.median/b", torch.tensor([*[1.0] * 8, -math.inf]), "flat index 8"),
        ("gram.mean/w", torch.tensor([1.0, 2.0**64, 0.0]), "beyond 2⁶⁴ at flat index 1"),
        ("mask/b", torch.tensor([255, 2], dtype=torch.uint8), "bits set behind the last of 9"),
        (
            "gram/w",
            torch.tensor([1.0, 0.0, -1.0, 0.0, 0.0, 1.0]),
            "negative square on its diagonal, in row 1",
        ),
        ("gram/w", torch.tensor([1.0, 1.1, 1.0, 0.0, 0.0, 1.0]), "no Gram matrix, at flat index 1"),
        ("gram/w", torch.tensor([1.0, 0.0, 0.0, 0.0, 1e-20, 1.0]), "no Gram matrix, at flat index 4"),
        ("gram/w", torch.tensor([1.0, 0.0, math.inf, 0.0, 0.0, 1.0]), "flat index 2"),
    ],
    ids=str,
)
def test_a_lie_is_refused_and_named(store: Store, name: str, value: Tensor, complaint: str) -> None:
    with pytest.raises(EvidenceError, match=complaint) as refused:
        check(store, name, value)
    assert refused.value.tensor == name
    assert name in str(refused.value)
    assert "Compute it again" in str(refused.value)


def test_a_large_gram_matrix_is_checked_in_runs_to_its_last_row(store: Store) -> None:
    n = 700  # 245 350 elements of 8 bytes: two blocks
    base = {"w": torch.ones(1, n)}
    x = torch.randn(3, n, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    gram = pack(x.mT @ x)
    for place, wrong in ((None, None), (len(gram) - 2, 1e3), (200_000, 1e3), (131_072, math.nan)):
        lied = gram.clone()
        if place is not None and wrong is not None:
            lied[place] = wrong
        made = take(store, base, kind=Kind.FULL, base=None, evidence={"gram/w": lied})
        if place is None:
            check_content(made, made.by_name, store.read)
        else:
            with pytest.raises(EvidenceError, match=f"flat index {place}"):
                check_content(made, made.by_name, store.read)


@given(st.integers(1, 4), st.integers(1, 6), st.integers(0, 2**32), st.sampled_from([1e-20, 1e-18, 1.0, 1e8]))
def test_no_honest_gram_matrix_is_refused_however_it_was_rounded(
    n: int, rows: int, seed: int, size: float
) -> None:
    x = size * torch.randn(rows, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    x[:, 0] *= 1e-4
    with Store.memory() as store:
        for dtype in (torch.float32, torch.float64):
            said = {"gram/w": pack(x.mT @ x / rows).to(dtype)}
            made = take(store, {"w": torch.ones(2, n)}, kind=Kind.FULL, base=None, evidence=said)
            check_form(made, made.by_name)
            check_content(made, made.by_name, store.read)


def test_shapes_follow_from_the_tensors() -> None:
    shapes = {kind: shape_of(found.layout, (5, 2, 3)) for kind, found in KINDS.items()}
    assert shapes["fisher.diag"] == (5, 2, 3)
    assert shapes["mask"] == (4,)
    assert (shapes["adam.v.row"], shapes["adam.v.col"]) == ((5,), (3,))
    assert (shapes["gram"], shapes["gram.first"]) == ((6,), (15,))
    assert shapes["gram.n"] == ()
    assert shape_of(KINDS["adam.v.row"].layout, ()) is None
