"""Fuzzing campaigns against every decoder of what peers send.

    python tools/fuzz.py --runs 10000000 [--target operation …] [--results FILE] [--engine mutate|atheris]

``mutate`` changes good inputs at random, several processes at once, and stops at the first crash with the
input that caused it; with ``--results`` it goes on where it was interrupted. ``atheris`` (pip install
atheris) is guided by coverage and keeps what it finds interesting in .fuzz/<target>/. Both refuse memory
beyond a cap. Targets and what they may answer: tests/fuzz_targets.py.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent
MEMORY_BYTES: Final = 1 << 30
"""Address space that a decoder's process may use beyond what it starts with; inputs are below 100 KiB."""

sys.path.insert(0, str(ROOT / "tests"))


Job = tuple[str, int, int]
"""Target, number of the piece, inputs in it: the same inputs every time."""


def mutate(job: Job) -> tuple[Job, int, str | None]:
    """Try mutants of one target; return the job, inputs tried, and what went wrong."""
    name, part, runs = job
    from fuzz_targets import TARGETS, mutants

    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    target = TARGETS[name]
    for tried, data in enumerate(mutants(target.seeds, f"{name} {part}", runs)):
        try:
            target.attack(data)
        except BaseException as error:
            return job, tried, f"{type(error).__name__}: {error}\n  input {data.hex()}"
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - used
    return job, runs, f"memory grew by {grown} bytes" if grown > MEMORY_BYTES else None


def campaign(names: list[str], runs: int, jobs: int, results: Path | None, piece: int = 100_000) -> bool:
    """Run mutation campaigns and report; whether nothing went wrong."""
    work = [
        (name, part, min(piece, runs - part * piece)) for name in names for part in range(-(-runs // piece))
    ]
    lines = results.read_text().splitlines() if results and results.exists() else []
    before = {tuple(json.loads(line)) for line in lines}
    done = {name: sum(job[2] for job in work if job[0] == name and job in before) for name in names}
    work = [job for job in work if job not in before]
    begun, last = time.monotonic(), 0.0
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        for job, tried, fault in pool.imap(mutate, work):
            name = job[0]
            done[name] += tried
            if fault is not None:
                print(f"{name}: {fault}", flush=True)
                return False
            if results:
                with results.open("a") as file:
                    file.write(json.dumps(job) + "\n")
            if time.monotonic() - last > 10 or done[name] == runs:
                last = time.monotonic()
                print(f"{last - begun:7.0f} s  {name:12} {done[name]:>12,} inputs, no fault", flush=True)
    print(f"{sum(done.values()):,} inputs on {len(names)} decoders, no fault")
    return True


def guided(name: str, runs: int) -> None:
    """Run a coverage-guided campaign in this process."""
    import atheris

    with atheris.instrument_imports(include=["crdtmerge"]):
        from fuzz_targets import TARGETS
    target = TARGETS[name]
    corpus = ROOT / ".fuzz" / name
    corpus.mkdir(parents=True, exist_ok=True)
    for i, seed in enumerate(target.seeds):
        (corpus / f"seed-{i}").write_bytes(seed)
    atheris.Setup(
        [sys.argv[0], f"-runs={runs}", "-max_len=65536", "-rss_limit_mb=2048", "-verbosity=1", str(corpus)],
        lambda data: target.attack(bytes(data)),
    )
    atheris.Fuzz()


def main() -> None:
    """Run what is asked for."""
    from fuzz_targets import TARGETS

    parser = argparse.ArgumentParser(description="Fuzzing campaigns against every decoder.")
    parser.add_argument("--runs", type=int, default=1_000_000, help="inputs for each target")
    parser.add_argument(
        "--target", action="append", choices=sorted(TARGETS), help="may be given several times"
    )
    parser.add_argument("--engine", choices=("mutate", "atheris"), default="mutate")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--results", type=Path, help="note finished pieces here, and go on from it")
    parser.add_argument("--within", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    names = chosen.target or sorted(TARGETS)
    if chosen.engine == "mutate":
        sys.exit(0 if campaign(names, chosen.runs, chosen.jobs, chosen.results) else 1)
    if chosen.within:
        guided(names[0], chosen.runs)
        return
    for name in names:  # libFuzzer ends the process that it ran in
        command = [sys.executable, __file__, "--engine=atheris", "--within", f"--runs={chosen.runs}"]
        subprocess.run([*command, "--target", name], check=True)


if __name__ == "__main__":
    main()
