"""Ingest and read throughput of the store beside a plain copy of the same file.

    python benchmarks/store.py [--mib 1024] [--folder /some/disk]

The copy is `shutil.copyfile` followed by fsync: what any store that keeps its own, durable copy must do
at least. Each figure is the best of three; the page cache is warm, so these are costs of this software
and of writing, not of a disk's reading.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from crdtmerge.dtypes import DType
from crdtmerge.limits import MIB
from crdtmerge.manifest import Kind, Manifest
from crdtmerge.store import Store, TensorFileWriter, ingest_file

ROUNDS = 3


def make_model(path: Path, mib: int) -> None:
    """Write a model of random BF16 tensors of 16 MiB."""
    names = [f"layers.{index:04}.weight" for index in range(max(mib // 16, 1))]
    with TensorFileWriter(path, [(name, DType.BF16, (2048, 4096)) for name in names]) as writer:
        for name in names:
            writer.write(name, 0, os.urandom(16 * MIB))
        writer.publish()


def copy(source: Path, folder: Path) -> None:
    """Copy a file durably."""
    with (folder / "copy").open("wb") as target:
        shutil.copyfile(source, target.name)
        os.fsync(target.fileno())


def read_all(home: Path, manifest: Manifest) -> None:
    """Read every tensor in tiles of 1 MiB, verified."""
    with Store.open(home) as store:
        for tensor in manifest.tensors:
            for begin in range(0, tensor.bytes, MIB):
                store.read(tensor, begin, min(begin + MIB, tensor.bytes))


def plain_read(path: Path) -> None:
    """Read a file in pieces of 1 MiB."""
    with path.open("rb", buffering=0) as file:
        while file.read(MIB):
            pass


def best(folder: Path, work: Callable[[Path], object]) -> float:
    """Return the shortest time in seconds that ``work`` took, each time in a fresh folder."""
    times = []
    for round_ in range(ROUNDS):
        fresh = folder / f"round{round_}"
        fresh.mkdir()
        os.sync()
        start = time.perf_counter()
        work(fresh)
        times.append(time.perf_counter() - start)
        shutil.rmtree(fresh)
    return min(times)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--folder", type=Path, default=None)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        model, home = folder / "model.safetensors", folder / "home"
        make_model(model, arguments.mib)
        size = model.stat().st_size

        def ingest(target: Path, *, reference: bool = False) -> Manifest:
            with Store.open(target) as store:
                return ingest_file(store, model, kind=Kind.FULL, reference=reference)

        manifest = ingest(home)
        rows: list[tuple[str, Callable[[Path], object], str]] = [
            ("plain copy + fsync", lambda target: copy(model, target), ""),
            ("ingest", ingest, "plain copy + fsync"),
            ("ingest again, nothing new", lambda _: ingest(home), "plain copy + fsync"),
            ("ingest in place", lambda target: ingest(target, reference=True), "plain copy + fsync"),
            ("plain read", lambda _: plain_read(model), ""),
            ("verified read", lambda _: read_all(home, manifest), "plain read"),
        ]
        rates: dict[str, float] = {}
        print(f"{'':28}{'MB/s':>8}   against")
        for title, work, against in rows:
            rates[title] = size / best(folder, work) / 1e6
            ratio = f"{rates[title] / rates[against]:.2f} of {against}" if against else ""
            print(f"{title:28}{rates[title]:8.0f}   {ratio}")


if __name__ == "__main__":
    main()
