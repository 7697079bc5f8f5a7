"""Checks that this machine computes the bits that all others do: one digest for every operation.

    python tools/vectors.py --check                  compares with tests/vectors/arith.json, exits 1 if any differs
    python tools/vectors.py --check --device cuda    the same with the numbers on a GPU, where there is one
    python tools/vectors.py --check --only ties      operations whose names contain this
    python tools/vectors.py --write                  makes the file again: rarely right, for bits are promises
    python tools/vectors.py                          prints the digests as JSON

``--shift N`` changes what must not show: alignment, tiles, memory budget, threads, order of arrival.
The operations are those of tests/arith/every_*.py; what they compute is defined in docs/spec.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import Final

import torch

ROOT: Final = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from arith import every_linear_operation, every_operation, every_strategy  # noqa: E402

VECTORS: Final = ROOT / "tests" / "vectors" / "arith.json"


def operations(shift: int, device: str) -> Iterator[tuple[str, Callable[[], object]]]:
    return chain(every_operation.results(shift), every_linear_operation.results(shift), every_strategy.results(shift))

def digest(result: object) -> str:
    """Return the digest of a result's bytes."""
    result = result() if callable(result) else result
    data = result if isinstance(result, bytes) else torch.as_tensor(result).cpu().contiguous().numpy().tobytes()
    return sha256(data).hexdigest()[:32]


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--shift", type=int, default=0)
    parser.add_argument("--only", default="")
    parser.add_argument("--device", default="cpu")
    a = parser.parse_args()
    found = {}
    wanted = json.loads(VECTORS.read_text()) if VECTORS.exists() else {}
    for name, f in operations(a.shift, a.device):
        if a.only in name and not (a.check and name.startswith("naive")):
            found[name] = digest(f)
            if a.check and found[name] != wanted.get(name):
                print("differs:", name, flush=True)
    if a.write:
        found = {n: d for n, d in found.items() if not n.startswith("naive")}
        VECTORS.write_text(json.dumps(found, indent=0, sort_keys=True) + "\n")
    if not a.check:
        print(json.dumps(found))
        return 0
    bad = [n for n in found if found[n] != wanted.get(n)] + [n for n in wanted if a.only in n and n not in found]
    print(f"{len(found)} operations, {len(bad)} differ", *bad, sep="\n")
    return 1 if bad else 0

if __name__ == "__main__":
    sys.exit(main())
