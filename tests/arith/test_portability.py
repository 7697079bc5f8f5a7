"""Instruction sets, library settings, threads, alignment, tiles and hash seeds show in no result.

Every operation of arithmetic and every strategy, in one process for each variant, because libraries choose
their kernels when they are loaded; compared with tests/vectors/arith.json, so with every other machine too.
What torch itself offers is run beside, and must differ: otherwise the variants were variants of nothing.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from runpy import run_path
from typing import Final

import numpy as np
import pytest
from arith.every_strategy import cases, counts

from crdtmerge.strategy import find, strategies
from house.tree import ROOT

DRIVER: Final = ROOT / "tools" / "vectors.py"
VECTORS: Final = ROOT / "tests" / "vectors" / "arith.json"

NUMPY_FEATURES: Final = " ".join(np.show_config(mode="dicts")["SIMD Extensions"].get("found", []))

IDLE: Final = {"OMP_WAIT_POLICY": "PASSIVE"}
"""Workers that wait without computing: several processes share the machine."""

VARIANTS: Final[dict[str, dict[str, str]]] = {
    "as it comes": {"OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"},
    "oldest instructions": {
        "OMP_NUM_THREADS": "1",
        "PYTHONHASHSEED": "2",
        "ATEN_CPU_CAPABILITY": "default",
        "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "NPY_DISABLE_CPU_FEATURES": NUMPY_FEATURES,
        "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-FMA,-AVX512F",
    },
    "AVX2": {
        "OMP_NUM_THREADS": "2",
        "PYTHONHASHSEED": "3",
        "ATEN_CPU_CAPABILITY": "avx2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
    },
    "AVX-512, compatible MKL": {
        "OMP_NUM_THREADS": "1",
        "PYTHONHASHSEED": "4",
        "ATEN_CPU_CAPABILITY": "avx512",
        "MKL_CBWR": "COMPATIBLE",
    },
    "no vectors, compatible MKL": {
        "OMP_NUM_THREADS": "2",
        "PYTHONHASHSEED": "5",
        "ATEN_CPU_CAPABILITY": "default",
        "MKL_CBWR": "COMPATIBLE",
    },
}

COMPILED: Final[dict[str, dict[str, str]]] = {
    "compiled for this processor": {"OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "6"},
    "compiled for the oldest one": {
        "OMP_NUM_THREADS": "2",
        "PYTHONHASHSEED": "7",
        "NUMBA_CPU_NAME": "generic",
    },
}
"""The same with compiled loops; their compiler may use what instructions it likes."""

FLUSHING: Final = """
import torch
from arith.every_strategy import results
from crdtmerge.errors import EnvironmentRefusedError
merges = list(results(0))
torch.set_flush_denormal(True)
for name, merge in merges:
    try:
        merge()
    except EnvironmentRefusedError:
        print("refused")
    else:
        print(f"{name} was merged")
"""


def python(*arguments: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        env={**os.environ, **IDLE, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def computed(*options: str, **environment: str) -> dict[str, str]:
    """The digests of a process of its own, but for what torch offers instead."""
    said = json.loads(python(str(DRIVER), *options, **environment))
    return {name: it for name, it in said.items() if not name.startswith("naive")}


@pytest.fixture(scope="module")
def vectors() -> dict[str, str]:
    return json.loads(VECTORS.read_text())  # type: ignore[no-any-return]


def test_every_strategy_is_there_with_its_defaults_and_otherwise(vectors: dict[str, str]) -> None:
    for strategy in strategies():
        of_it = [case for _, case in cases() if (case.recipe.strategy, case.recipe.version) == strategy]
        assert any(not case.recipe.parameters for case in of_it)
        assert {case.count for case in of_it} == counts(find(*strategy))
        assert any(case.recipe.parameters for case in of_it) or not find(*strategy).parameters
    assert {f"strategy {name}" for name, _ in cases()} <= set(vectors)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_operation_and_strategy_and_no_other_gives_the_bits_it_gives_everywhere(
    variant: str, vectors: dict[str, str]
) -> None:
    shift = list(VARIANTS).index(variant)
    assert computed("--shift", str(shift), **VARIANTS[variant]) == vectors


@pytest.mark.parametrize("variant", COMPILED)
def test_compiled_loops_give_the_same_bits(variant: str, vectors: dict[str, str]) -> None:
    shift = list(COMPILED).index(variant)
    assert computed("--compiled", "--shift", str(shift), **COMPILED[variant]) == vectors


def test_what_torch_offers_instead_differs_with_threads_and_instructions() -> None:
    runs = [
        json.loads(python(str(DRIVER), "--only", "naive", "--shift", str(shift), **variant))
        for shift, variant in enumerate(VARIANTS.values())
    ]
    differing = {name for name in runs[0] if len({run[name] for run in runs}) > 1}
    assert differing >= {"naive sum", "naive product", "naive eigh", "naive svd"}
    assert differing & {"naive sqrt", "naive add with alpha"}


def test_no_strategy_merges_once_another_library_has_subnormal_numbers_flushed() -> None:
    said = python("-c", FLUSHING, PYTHONPATH=str(ROOT / "tests")).split("\n")[:-1]
    assert said == ["refused"] * len(list(cases()))


def test_a_machine_that_differs_is_told_in_which_operation(
    vectors: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    compare = run_path(str(DRIVER))["compare"]
    assert compare(vectors, {}) == 0
    assert compare({**vectors, "eigh": "00"}, {}) == 1
    assert "DIFFERS: eigh: got 00" in capsys.readouterr().out
    assert compare({name: it for name, it in vectors.items() if name != "eigh"}, {}) == 1
    assert "DIFFERS: eigh: got nothing" in capsys.readouterr().out
    assert compare({}, dict.fromkeys(vectors, "refused")) == 1


def test_without_a_gpu_the_check_of_one_says_so_in_one_sentence() -> None:
    said = python(str(DRIVER), "--check", "--device", "cuda", CUDA_VISIBLE_DEVICES="")
    assert said == "There is no GPU here that torch can use: nothing was checked.\n"
