"""A merge stays within its budget however large the model is."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

_SCRIPT = textwrap.dedent(
    """
    import resource, sys
    from pathlib import Path

    import numpy as np

    import torch

    from crdtmerge import Recipe, Replica, merge
    from crdtmerge.arith import compiled
    from crdtmerge.dtypes import DType
    from crdtmerge.store.tensorfile import TensorFileWriter

    folder, strategy = Path(sys.argv[1]), sys.argv[2]
    rows, columns = 24576, 1024                      # 96 MiB in float32

    def write(name, seed):
        path = folder / name
        with TensorFileWriter(path, [("weight", DType.F32, (rows, columns))]) as writer:
            for row in range(0, rows, 256):
                chunk = (np.arange(256 * columns, dtype=np.float32) + row) % 97 - 48 + seed * (row % 5)
                writer.write("weight", row * columns * 4, chunk.astype("<f4").tobytes())
            writer.publish()
        return path

    base = write("base.safetensors", 0)
    tuned = [write(f"tuned{i}.safetensors", i) for i in (1, 2, 3)]
    with Replica.create(folder / "home", base=base, recipe=Recipe(strategy), reference=True) as replica:
        for path in tuned:
            replica.contribute(path, reference=True)
        compiled.load()                              # what the compiler takes for itself is no tile
        w = torch.zeros(9)
        merge([{"w": w}, {"w": w + 1}], base={"w": w}, recipe=Recipe(strategy))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        replica.resolve(budget_bytes=48 << 20, threads=2)
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(before, after)
    """
)


@pytest.mark.parametrize(("strategy", "survey_mib"), [("weight_average", 0), ("ties", 3 * 16)])
def test_a_merge_of_384_mib_stays_within_its_budget_and_its_surveys(
    tmp_path: Path, strategy: str, survey_mib: int
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, str(tmp_path), strategy],
        check=True,
        capture_output=True,
        text=True,
        timeout=280,
    )
    before, after = (int(kib) / 1024 for kib in done.stdout.split())
    budget_mib, allocator_mib = 48, 32
    grown = after - before
    assert grown < budget_mib + survey_mib + allocator_mib, f"{grown:.0f} MiB for 384 MiB of content"
