"""Arithmetic stays in the memory that its numbers are in, so that a GPU can do it; checked without a GPU.

`elsewhere` stands for the GPU: it raises where tensors of two memories meet, and computes the CPU's bits,
which are compared with the committed ones.
"""

from __future__ import annotations

import json
from itertools import chain
from runpy import run_path
from typing import Final

import pytest
import torch
from arith import every_linear_operation, every_operation
from arith.elsewhere import DEVICE, MixedDevicesError, There, elsewhere

from house.tree import ROOT

TWICE: Final = ("svd wide", "svd tall", "qr wide", "eigh of low rank", "low rank product", "sylvester")
"""What takes long, and goes where others have been."""


def test_every_operation_keeps_to_one_memory_and_has_the_bits_it_has_everywhere() -> None:
    digest = run_path(str(ROOT / "tools" / "vectors.py"))["digest"]
    vectors = json.loads((ROOT / "tests" / "vectors" / "arith.json").read_text())
    found, there = {}, set()
    with elsewhere():
        shift, device = 0, str(DEVICE)
        for name, operation in chain(
            every_operation.results(shift, device), every_linear_operation.results(shift, device)
        ):
            if not name.startswith("naive") and name not in TWICE:
                result = operation()
                found[name] = digest(result)
                there |= {name} if isinstance(result, There) else set()
    assert found == {name: vectors[name] for name in found}
    assert there >= {
        "product THREE",
        "cholesky",
        "svd square",
        "qr square",
        "polar",
        "largest",
        "exp",
        "sqrt",
    }


def test_numbers_of_two_memories_do_not_meet_unseen() -> None:
    with elsewhere():
        there = torch.arange(3.0, device=DEVICE)
        assert (there + 1.0).tolist() == [1.0, 2.0, 3.0]
        assert (there * torch.tensor(2.0)).tolist() == [0.0, 2.0, 4.0]
        with pytest.raises(MixedDevicesError, match=r"aten::add was given .*'meta', \(3,\).*'cpu', \(3,\)"):
            there + torch.ones(3)
        with pytest.raises(MixedDevicesError, match="aten::index"):
            there[torch.tensor([0, 1])]
        with pytest.raises(RuntimeError, match="numpy"):
            there.numpy()
        assert there[torch.tensor([2, 1], device=DEVICE)].cpu().numpy().tolist() == [2.0, 1.0]
