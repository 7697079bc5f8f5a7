"""Checks that this machine computes the bits that all others do: one digest for every operation.

    python tools/vectors.py --check                 compares with tests/vectors/arith.json; 1 if any differs
    python tools/vectors.py --check --device cuda   the same with the numbers on a GPU, where there is one
    python tools/vectors.py --check --only ties     operations whose names contain this
    python tools/vectors.py --write                 makes the file again: new operations, or a new version;
                                                    with --only those alone
    python tools/vectors.py                         prints the digests as JSON, those of torch's own too

``--shift N`` changes what must not show: alignment, tiles, memory budget, threads, order of arrival.
The operations are those of tests/arith/every_*.py; what they compute is defined in docs/spec.

On a GPU an operation counts only if something was computed there; the others are named. The engine reads
and rounds on the CPU: there, strategies are given their tiles on the GPU. Random masks are drawn on the CPU
and brought to where they are used.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import Any, Final

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from crdtmerge.arith import compiled, environment
from crdtmerge.resolve import stream
from crdtmerge.strategy import Tile

ROOT: Final = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from arith import every_linear_operation, every_operation, every_strategy  # noqa: E402

VECTORS: Final = ROOT / "tests" / "vectors" / "arith.json"
NAIVE: Final = "naive"
"""How the names begin of what torch offers instead, whose digests differ between machines."""

Operations = Iterator[tuple[str, Callable[[], object]]]


class On(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Within it, operations on a device find their other operands there; and they are counted."""

    def __init__(self, device: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.device = torch.device(device)
        self.computed = 0

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        name = func._schema.name
        tensors = [arg for arg in args if isinstance(arg, torch.Tensor)]
        if name != "aten::copy_" and any(tensor.device.type == self.device.type for tensor in tensors):
            self.computed += name not in ("aten::_to_copy", "aten::_local_scalar_dense")
            written = [bool(a.alias_info and a.alias_info.is_write) for a in func._schema.arguments]
            args = [self._here(arg, stays) for arg, stays in zip(args, written, strict=False)]
        return func(*args, **(kwargs or {}))

    def _here(self, arg: Any, stays: bool) -> Any:
        return arg.to(self.device) if isinstance(arg, torch.Tensor) and not stays and arg.ndim else arg

    def engine(self) -> None:
        """Have the engine give strategies their tiles on the device, in every thread of it."""
        tile, merge = stream._tile, stream._merge

        def moved(*args: Any) -> Tile:
            made = tile(*args)
            base = None if made.base is None else made.base.to(self.device)
            return replace(
                made, stored_base=base, stored=tuple(given.to(self.device) for given in made.given)
            )

        def merged(*args: Any) -> None:
            with self:
                merge(*args)

        stream._tile, stream._merge = moved, merged  # type: ignore[assignment]


def operations(shift: int, device: str) -> Operations:
    """Every operation's name, and what computes its result."""
    return chain(
        every_operation.results(shift, device),
        every_linear_operation.results(shift, device),
        every_strategy.results(shift),
    )


def digest(result: object) -> str:
    """Return the digest of a result's bytes."""
    if not isinstance(result, bytes):
        result = torch.as_tensor(result).cpu().contiguous().numpy().tobytes()
    return sha256(result).hexdigest()[:32]


def digests(shift: int, device: str, only: str, *, naive: bool) -> tuple[dict[str, str], dict[str, str]]:
    """Return the digest of every operation, and why the others could not be computed on the device."""
    found, absent = {}, {}
    on = None if device == "cpu" else On(device)
    if on:
        on.engine()
    with on or nullcontext():
        before = 0
        for name, operation in operations(shift, device):
            if only in name and (naive or not name.startswith(NAIVE)):
                try:
                    found[name] = digest(operation())
                except (TypeError, RuntimeError) as error:
                    if on is None:
                        raise
                    absent[name] = str(error).partition("\n")[0]
                else:
                    if on and on.computed == before:
                        absent[name] = "computed on the CPU"
            before = on.computed if on else 0
    return found, absent


def main() -> int:
    """Print, write or compare."""
    parser = argparse.ArgumentParser(
        description="Compare the bits of every operation with the committed ones."
    )
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--only", default="", metavar="TEXT")
    parser.add_argument("--shift", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--compiled", action="store_true", help="with compiled loops (pip install numba)")
    options = parser.parse_args()
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        print("There is no GPU here that torch can use: nothing was checked.")
        return 0
    if options.compiled and not compiled.load():
        parser.error("--compiled needs numba: pip install 'crdtmerge[fast]'")
    environment.check()
    naive = not (options.check or options.write)
    found, absent = digests(options.shift, options.device, options.only, naive=naive)
    if options.write:
        kept = json.loads(VECTORS.read_text()) if options.only else {}
        VECTORS.write_text(json.dumps(kept | found, indent=1, sort_keys=True) + "\n")
    elif options.check:
        return compare(found, absent, options.only)
    else:
        print(json.dumps(found))
    return 0


def compare(found: Mapping[str, str], absent: Mapping[str, str], only: str = "") -> int:
    """Print what differs from the committed digests; return 1 if anything does."""
    wanted = {name: it for name, it in json.loads(VECTORS.read_text()).items() if only in name}
    for name, reason in absent.items():
        print(f"not on the device: {name} ({reason})")
    differing = [name for name in wanted | dict(found) if found.get(name) != wanted.get(name)]
    differing = [name for name in differing if name in found or name not in absent]
    for name in differing:
        print(f"DIFFERS: {name}: got {found.get(name, 'nothing')}, wanted {wanted.get(name, 'nothing')}")
    same = len(found.keys() - absent.keys() - set(differing))
    print(f"{same} operations have the bits that they have everywhere, {len(differing)} have others.")
    return 1 if differing or not same else 0


if __name__ == "__main__":
    sys.exit(main())
