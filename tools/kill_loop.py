"""Kills real writers of a real home, again and again, and checks each time that nothing was lost.

    python tools/kill_loop.py [--rounds 100] [--seed 1] [--home FOLDER]

In each round some processes write to one home at once: models, operations, settings; now and then another
one purges a model beside them. One of the writers is killed outright (SIGKILL) at a random moment, or all of
them are, and so is who purges. Then everything that any of them ever acknowledged has to be there, all that
is there has to verify, and nothing may be left in ``partial/``.

The short form of this is tests/store/test_crashes.py, whose writer and checks are used here. Which moment a
seed means depends on the machine, so a failure is kept: the home stays, and the last line names it.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from store.test_crashes import acknowledged, check, start  # noqa: E402

WRITERS: Final = 3
LATEST_S: Final = 0.6
"""Of the kill, after the writers began to write."""
EVERY_GROUP: Final = 4
"""In one round of so many all writers are killed at once."""
EVERY_PURGE: Final = 3
"""In one round of so many a model is purged while they write."""

PURGER: Final = """
import sys, time
from pathlib import Path
from crdtmerge.digest import from_hex
from crdtmerge.errors import LockedError
from crdtmerge.store import Store

with Store.open(Path(sys.argv[1])) as store:
    unwanted = from_hex(sys.argv[2])
    print("looking", flush=True)
    while store.has_manifest(unwanted):
        try:
            store.garbage.collect(set(store.manifests()) - {unwanted}, now_ms=0, purge={unwanted})
        except LockedError:  # a model is being taken in at this moment
            time.sleep(0.001)
"""


def round_(home: Path, number: int, acks: list[list[str]], chance: random.Random) -> None:
    """Let writers write and kill them; bring what was acknowledged up to date."""
    processes = [start(home, number * WRITERS + which) for which in range(WRITERS)]
    models = [ack for ack in acks if ack[0] == "manifest"]
    if models and chance.randrange(EVERY_PURGE) == 0:
        purged = chance.choice(models)
        acks.remove(purged)
        processes.append(Popen([sys.executable, "-c", PURGER, str(home), purged[1]], stdout=PIPE))
    outputs = [b""] * len(processes)
    try:
        for which, process in enumerate(processes):
            outputs[which] = process.stdout.read(1) if process.stdout else b""  # it is at work now
        time.sleep(chance.uniform(0, LATEST_S))
        if chance.randrange(EVERY_GROUP):
            victim = chance.randrange(WRITERS)
            outputs[victim] += ended(processes[victim])
            time.sleep(chance.uniform(0, LATEST_S / 4))
    finally:
        for process in processes:
            process.kill()
    rest = [ended(process) if process.returncode is None else b"" for process in processes]
    for output, more in list(zip(outputs, rest, strict=True))[:WRITERS]:
        acks += acknowledged(output + more)


def ended(writer: Popen[bytes]) -> bytes:
    """Kill a writer and return what it still said."""
    writer.kill()
    output, _ = writer.communicate()
    return output


def campaign(home: Path, *, rounds: int, seed: int) -> int:
    """Run rounds; return how many acknowledgements were checked."""
    chance = random.Random(seed)
    acks: list[list[str]] = []
    for number in range(rounds):
        round_(home, number + 1, acks, chance)
        check(home, acks)
        print(f"round {number + 1} of {rounds}: {len(acks)} acknowledgements, all there", flush=True)
    return len(acks)


def main() -> None:
    """Run a campaign; the status is 1 if something was lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--home", type=Path, help="a folder that does not exist; kept if something was lost")
    arguments = parser.parse_args()
    home = arguments.home or Path(tempfile.mkdtemp(prefix="kill-loop-")) / "home"
    try:
        campaign(home, rounds=arguments.rounds, seed=arguments.seed)
    except BaseException:
        print(f"kept: {home} (seed {arguments.seed})", file=sys.stderr)
        raise
    if arguments.home is None:
        shutil.rmtree(home.parent)


if __name__ == "__main__":
    main()
