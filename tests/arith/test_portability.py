"""Instruction sets, threads, alignment, tiles and hash seeds do not show in any result.

One process for each variant, because libraries choose their kernels when they are loaded. What torch
itself offers is run beside, and must differ somewhere: otherwise the variants were variants of nothing.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import numpy as np
import pytest

DRIVER: Final = Path(__file__).with_name("every_operation.py")

NUMPY_FEATURES: Final = " ".join(np.show_config(mode="dicts")["SIMD Extensions"].get("found", []))

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


def run(shift: int, variant: dict[str, str]) -> dict[str, str]:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(DRIVER), str(shift)],
        env={**os.environ, **variant},
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
        runs = list(pool.map(run, range(len(VARIANTS)), VARIANTS.values()))
    return {name: {found[name] for found in runs} for name in runs[0]}


def test_every_operation_gives_the_same_bits_in_every_variant(digests: dict[str, set[str]]) -> None:
    assert [name for name, found in digests.items() if not name.startswith("naive") and len(found) > 1] == []


def test_what_torch_offers_instead_differs_with_threads_and_instructions(
    digests: dict[str, set[str]],
) -> None:
    differing = {name for name, found in digests.items() if name.startswith("naive") and len(found) > 1}
    assert "naive sum" in differing
    assert differing & {"naive sqrt", "naive add with alpha"}
