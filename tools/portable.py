"""Finds operations whose bits may differ between machines, in the code that decides a merged model's bytes.

    python tools/portable.py        prints one line for each, and exits 1 if there is any

The rule (docs/spec/arith.md): IEEE 754 fixes elementwise + - * / and comparisons, and nothing else that
torch, numpy or libm offer is trusted; `crdtmerge.arith` computes the rest. So this is an allow-list. It
covers what is taken from the modules torch, numpy and math; every method that a tensor has, whatever it is
called on, for syntax does not show types; ``@``, ``**``, and built-in functions that differ between machines.

A line that is right in spite of its looks says why: ``count = flags.sum()  # portable: counts integers``.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import torch

ROOT: Final = Path(__file__).resolve().parents[1]

FOLDERS: Final = ("strategies", "crdtmerge/resolve")

COUNTS: Final = ("crdtmerge/resolve/",)
"""Where Python's own ``sum`` adds numbers of elements and of votes, never floats."""

WAIVER: Final = "# portable: "


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_ELEMENTWISE: Final = _words("""
    abs absolute neg negative positive add sub subtract mul multiply div divide true_divide reciprocal square
    sign sgn floor ceil round trunc fmod remainder frexp ldexp copysign where masked_fill
    eq ne lt le gt ge equal greater less isfinite isinf isnan logical_and logical_or logical_not logical_xor
    bitwise_and bitwise_or bitwise_not bitwise_xor bitwise_left_shift bitwise_right_shift
    amax amin aminmax argmax argmin any all count_nonzero bincount nonzero searchsorted bucketize unique
    """)

_STORAGE: Final = _words("""
    cat stack clone contiguous copy_ cpu cuda detach device dim double element_size empty empty_like expand
    fill flatten flip float from_numpy frombuffer full full_like gather index_select int is_contiguous
    is_floating_point is_shared item layout long masked_select movedim narrow new_empty new_full new_ones
    new_tensor new_zeros numel numpy nbytes ones ones_like pad permute pin_memory reshape select size split
    squeeze stride swapaxes t take to tolist transpose type unbind unflatten unsqueeze view view_as zero zeros
    zeros_like as_tensor asarray arange tensor tile repeat repeat_interleave chunk tensor_split
    bool values indices index name
    """)

_TORCH_NAMES: Final = _words("""
    Tensor Size dtype strided no_grad inference_mode set_num_threads get_num_threads
    uint8 int8 int16 int32 int64 float8_e4m3fn float8_e5m2 float16 bfloat16 float32 float64
    """)

METHODS: Final = _ELEMENTWISE | _STORAGE
ALLOWED: Final = {
    "torch": METHODS | _TORCH_NAMES,
    "numpy": _words("""
        array asarray frombuffer empty zeros ones ndarray dtype bool_ uint8 uint16 uint32 uint64 int32 int64
        float64 abs add subtract multiply divide sqrt less greater equal where errstate
        """),
    "math": _words("""
        sqrt isqrt floor ceil trunc fsum prod gcd lcm comb fabs copysign fmod frexp ldexp nextafter ulp
        isfinite isinf isnan inf nan pi
        """),
}
"""By module; ``math.prod`` multiplies in the order given, ``fsum`` rounds once."""

_ORDERED: Final = _words("sort argsort msort topk kthvalue median mode")
"""Values are the same everywhere, places only in a stable order."""

_INSTEAD: Final = {
    "crdtmerge.arith.lane_sum, ExactSum, or weighted_sum over contributions": """
        sum mean prod var std var_mean std_mean cumsum cumprod nansum nanmean trapz sumprod average""",
    "crdtmerge.arith.dot, squared_norm or LaneGram": "dot vdot inner norm vector_norm dist cdist hypot",
    "crdtmerge.arith.linear.product or gram, dot products by crdtmerge.arith.LaneGram": """
        matmul mm bmm mv addmm addmv addbmm baddbmm einsum tensordot outer ger kron multi_dot @""",
    "crdtmerge.arith.sqrt": "sqrt rsqrt",
    "crdtmerge.arith.scalar, which rounds correctly": """
        exp exp2 expm1 log log2 log10 log1p sin cos tan asin acos arccos atan atan2 sinh cosh tanh sigmoid
        erf erfc softmax log_softmax logsumexp pow cbrt gamma lgamma ** xlogy""",
    "crdtmerge.arith.maximum, minimum or clamp, which have no -0.0": """
        maximum minimum max min clamp clip clamp_min clamp_max relu fmax fmin""",
    "crdtmerge.arith.keep_mask, keyed by Tile.keys": """
        rand randn randint randperm rand_like randn_like bernoulli multinomial normal uniform dropout random
        manual_seed Generator seed exponential choice shuffle permutation secrets""",
    "x + y * c: two operations, two roundings": "alpha addcmul addcdiv lerp fma",
    "crdtmerge.arith.linear: cholesky, solve_positive, qr, eigh, svd, svd_top, polar, sylvester": """
        svd svdvals eig eigh eigvals eigvalsh qr cholesky solve lstsq inv inverse pinv det slogdet linalg
        fft lu matrix_power matrix_exp matrix_rank""",
    "stable=True, or only .values": " ".join(_ORDERED),
    "crdtmerge.arith.encode, which rounds once": "half bfloat16 float16",
    "math.fsum for floats, sum(…, Fraction()) for fractions": "sum()",
    "a digest: hash() differs between processes": "hash()",
}


class Finding(NamedTuple):
    """An operation that is not allowed, where it stands, and what to write for it."""

    path: str
    line: int
    operation: str
    instead: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.operation} is not the same everywhere; use {self.instead}"


def scan(source: str, path: str = "<source>") -> list[Finding]:
    """Return what is not allowed in a module, in the order of its lines."""
    lines = source.splitlines()
    visitor = _Visitor(path)
    visitor.visit(ast.parse(source, path))
    found = sorted(visitor.found, key=lambda finding: finding.line)
    return [finding for finding in found if not lines[finding.line - 1].partition(WAIVER)[2].strip()]


def scan_tree(root: Path = ROOT) -> Iterator[Finding]:
    """Yield what is not allowed in the files that decide bytes."""
    for folder in FOLDERS:
        for path in sorted((root / folder).rglob("*.py")):
            yield from scan(path.read_text(encoding="utf-8"), path.relative_to(root).as_posix())


class _Visitor(ast.NodeVisitor):
    def __init__(self, path: str) -> None:
        self.found: list[Finding] = []
        self._path = path
        self._modules: dict[str, str] = {}
        """Imported name -> where from: functions of these modules are not methods of a tensor."""
        self._values_only: set[ast.expr] = set()
        """Calls of which nothing but ``.values`` is used."""

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            module = alias.name
            self._modules[alias.asname or module.partition(".")[0]] = module.partition(".")[0]
            if module in ("random", "secrets"):
                self._report(node, f"import {module}", module)
            elif module.partition(".")[0] in ALLOWED and "." in module:
                self._check(node, *module.split(".")[:2])

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        module = node.module or ""
        top, _, inner = module.partition(".")
        for alias in node.names:
            if alias.name.islower():  # a module or function; constants and classes may hold tensors
                self._modules[alias.asname or alias.name] = f"{module}.{alias.name}"
            if module in ("random", "secrets"):
                self._report(node, f"from {module} import {alias.name}", module)
            elif top in ALLOWED:
                self._check(node, top, inner.partition(".")[0] or alias.name)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        module = self._module(node.value)
        if node.attr == "values" and isinstance(node.value, ast.Call):
            self._values_only.add(node.value)
        if module in ALLOWED and not (module == "torch" and node.attr in _ORDERED):
            self._check(node, module, node.attr)
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        match node.func:
            case ast.Attribute(value=owner, attr=name):
                module = self._module(owner)
                if module in ("torch", None) and hasattr(torch.Tensor, name):
                    self._tensor_call(node, name, is_method=module is None)
            case ast.Name(id="sum") if not self._path.startswith(COUNTS):
                start = [*node.args[1:], *(k.value for k in node.keywords if k.arg == "start")]
                if not any(isinstance(s, ast.Call) and ast.unparse(s.func) == "Fraction" for s in start):
                    self._report(node, "sum()", "sum()")
            case ast.Name(id="hash" | "pow" as name):
                self._report(node, f"{name}()", "hash()" if name == "hash" else "pow")
        self.generic_visit(node)

    def _tensor_call(self, node: ast.Call, name: str, *, is_method: bool) -> None:
        keywords = {keyword.arg: keyword.value for keyword in node.keywords}
        if name in _ORDERED:
            stable = keywords.get("stable")
            if not (isinstance(stable, ast.Constant) and stable.value) and node not in self._values_only:
                self._report(node, f"{name}() without stable order", name)
        elif is_method and not _allows(METHODS, name):
            self._report(node, f".{name}()", name)
        if "alpha" in keywords:
            self._report(node, f"{name}(alpha=…)", "alpha")
        if name in ("to", "type") and any(
            re.search(r"(float16|float8_\w+)$", ast.unparse(a)) for a in [*node.args, *keywords.values()]
        ):
            self._report(node, f"{name}() to a short type", "half")

    def visit_BinOp(self, node: ast.BinOp) -> None:
        self._operator(node, node.op, node.left, node.right)
        self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self._operator(node, node.op, node.target, node.value)
        self.generic_visit(node)

    def _operator(self, node: ast.AST, operator: ast.operator, left: ast.expr, right: ast.expr) -> None:
        if isinstance(operator, ast.MatMult):
            self._report(node, "@", "@")
        elif isinstance(operator, ast.Pow):
            of_integer = isinstance(left, ast.Constant) and (isinstance(left.value, int) or left.value == 2)
            small = isinstance(right, ast.Constant) and right.value in (2, 3)
            if not (of_integer or small):
                self._report(node, "**", "**")

    def _module(self, node: ast.expr) -> str | None:
        """Return the module or class that a name was imported as; None for anything else."""
        return self._modules.get(node.id) if isinstance(node, ast.Name) else None

    def _check(self, node: ast.AST, module: str, name: str) -> None:
        if not _allows(ALLOWED[module], name):
            self._report(node, f"{module}.{name}", name)

    def _report(self, node: ast.AST, operation: str, name: str) -> None:
        instead = next(
            (mend for mend, names in _INSTEAD.items() if name.rstrip("_") in names.split()),
            "crdtmerge.arith, or prove it portable and allow it in tools/portable.py",
        )
        self.found.append(Finding(self._path, getattr(node, "lineno", 1), operation, instead))


def _allows(names: frozenset[str], name: str) -> bool:
    return name in names or name.removesuffix("_") in names  # add_ is add


def main() -> int:
    """Print every finding."""
    findings = list(scan_tree())
    for finding in findings:
        print(finding)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
