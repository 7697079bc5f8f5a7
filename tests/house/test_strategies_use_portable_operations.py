"""No strategy, and nothing in the engine, computes with operations whose bits differ between machines."""

from __future__ import annotations

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

from house.tree import ROOT, report


def load() -> ModuleType:
    """The checker; tools are no package."""
    spec = spec_from_file_location("portable", ROOT / "tools" / "portable.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


portable = load()

IMPORTS = "import math\nimport torch\nimport numpy as np\nfrom crdtmerge.arith import scalar\n"
LINE = IMPORTS.count("\n") + 1

PLANTED = {
    # what a reviewer might let pass: what the finding must propose
    "y = torch.sum(x)": "lane_sum",
    "y = x.sum()": "lane_sum",
    "y = x.mean(dim=0)": "weighted_sum",
    "y = tile.base.square().sum()": "lane_sum",
    "y = torch.Tensor.sum(x)": "lane_sum",
    "y = x.cumsum_(0)": "lane_sum",
    "y = sum(values)": "math.fsum",
    "y = sum(values, 0.0)": "math.fsum",
    "y = math.sumprod(a, b)": "lane_sum",
    "y = a @ b": "LaneGram",
    "a @= b": "LaneGram",
    "y = torch.einsum('ij,ij->', a, b)": "LaneGram",
    "y = a.dot(b)": "LaneGram",
    "y = a.norm()": "squared_norm",
    "y = torch.sqrt(x)": "arith.sqrt",
    "y = x.sqrt()": "arith.sqrt",
    "x.sqrt_()": "arith.sqrt",
    "y = torch.exp(x)": "arith.scalar",
    "y = math.exp(1.5)": "arith.scalar",
    "y = math.acos(c)": "arith.scalar",
    "y = np.log(x)": "arith.scalar",
    "y = x ** 0.5": "arith.scalar",
    "y = x ** t": "arith.scalar",
    "x **= t": "arith.scalar",
    "y = pow(x, t)": "arith.scalar",
    "y = torch.nn.functional.softmax(x, 0)": "arith",
    "y = torch.maximum(a, b)": "-0.0",
    "y = x.clamp(min=0)": "-0.0",
    "y = torch.randn(3)": "keep_mask",
    "y = x.bernoulli_(0.5)": "keep_mask",
    "y = np.random.default_rng(0)": "keep_mask",
    "import random": "keep_mask",
    "from random import shuffle": "keep_mask",
    "from torch import sum": "lane_sum",
    "from math import log as ln": "arith.scalar",
    "import torch.linalg": "crdtmerge.arith.linear",
    "from torch.linalg import svd": "crdtmerge.arith.linear",
    "u, s, v = torch.linalg.svd(x)": "crdtmerge.arith.linear",
    "q = torch.linalg.qr(x)": "crdtmerge.arith.linear",
    "y = torch.add(a, b, alpha=2)": "two roundings",
    "y = a.sub(b, alpha=c)": "two roundings",
    "y = torch.addcmul(a, b, c)": "two roundings",
    "y = a.lerp(b, 0.5)": "two roundings",
    "i = torch.sort(x).indices": "stable=True",
    "v, i = x.sort()": "stable=True",
    "i = x.argsort(stable=False)": "stable=True",
    "v, i = torch.topk(x, 5)": "stable=True",
    "m = x.kthvalue(3)": "stable=True",
    "i = np.argsort(x)": "stable=True",
    "y = x.half()": "encode",
    "y = x.to(torch.float16)": "encode",
    "y = x.to(dtype=torch.float16)": "encode",
    "y = x.to(torch.float8_e5m2)": "encode",
    "torch.set_flush_denormal(True)": "tools/portable.py",
    "seed = hash(name)": "digest",
}

PORTABLE = """
y = (a - b) * c / d + 0.0
y = abs(a) * (a > 0)
y = torch.where(a > b, a, b).double()
y = x.square() + x ** 2 + x ** 3 + 2.0 ** -40 + 10 ** k
n = (signs > 0).count_nonzero()
total = math.fsum(terms) / math.sqrt(2.0)
whole = sum(weights, Fraction())
angle = scalar.acos(cosine) * scalar.exp(0.5)
values = torch.sort(x).values
values = x.topk(3).values
order = x.argsort(stable=True)
places = torch.sort(x, stable=True).indices
roots = np.sqrt(x)
names = sorted(d.values()) + text.split() + [*d.items()]
count = flags.sum()  # portable: counts integers
y = arith.LaneSum().result()
"""


def test_whatever_decides_bytes_uses_only_portable_operations() -> None:
    report(list(map(str, portable.scan_tree())), "write it with crdtmerge.arith; docs/spec/arith.md says why")


def test_the_scan_sees_every_file_of_strategies_and_engine(tmp_path: Path) -> None:
    for folder in ("strategies/parts/deep", "crdtmerge/resolve"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "planted.py").write_text("def f(x):\n    return x.mean()\n")
    assert [(f.path, f.line) for f in portable.scan_tree(tmp_path)] == [
        ("strategies/parts/deep/planted.py", 2),
        ("crdtmerge/resolve/planted.py", 2),
    ]


@pytest.mark.parametrize("planted", PLANTED)
def test_an_operation_that_differs_between_machines_is_found(planted: str) -> None:
    findings = portable.scan(f"{IMPORTS}{planted}\n", "strategies/new.py")
    assert findings, f"{planted!r} passes"
    assert {finding.line for finding in findings} == {LINE}
    assert any(PLANTED[planted] in finding.instead for finding in findings), findings
    assert all(str(finding).startswith(f"strategies/new.py:{LINE}: ") for finding in findings)


@pytest.mark.parametrize("line", PORTABLE.strip().splitlines())
def test_what_is_the_same_everywhere_is_let_pass(line: str) -> None:
    assert portable.scan(f"{IMPORTS}{line}\n", "strategies/new.py") == []


def test_a_waiver_without_a_reason_waives_nothing() -> None:
    assert portable.scan("count = flags.sum()  # portable: \n")
    assert portable.scan("count = flags.sum()  # portable\n")


def test_an_imported_constant_is_no_module() -> None:
    assert portable.scan("from crdtmerge.strategies.tables import TABLE\ny = TABLE.sum()\n")
