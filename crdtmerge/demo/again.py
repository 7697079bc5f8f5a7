"""The same merge once more, by somebody who was never connected to anybody.

    python -m crdtmerge.demo.again BASE OUT --recipe NAME --threads N LABEL=FILE …

A federation of one, founded here and now on the same base, takes the same fine-tunes and merges them. It
has another identity and other operations than the federation that they came from, only the content is the
same; the files in OUT must be the same too, byte for byte. Run it with other threads and another
``ATEN_CPU_CAPABILITY`` than the nodes to see that neither matters.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch

from crdtmerge.recipe import Recipe
from crdtmerge.replica import Replica


def main() -> None:
    """Merge, and print the digests as JSON."""
    parser = argparse.ArgumentParser(description="Merge fine-tunes of one base in a federation of one.")
    parser.add_argument("base", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("contributions", nargs="+", metavar="LABEL=FILE")
    parser.add_argument("--recipe", default="weight_average")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    with Replica.create(base=given.base, recipe=Recipe(given.recipe)) as replica:
        for contribution in given.contributions:
            label, _, file = contribution.partition("=")
            replica.contribute(Path(file), label=label)
        resolved = replica.resolve(given.out, threads=given.threads)
        digests = {"root": replica.root.hex(), "model": resolved.model.hex()}
    json.dump(digests, sys.stdout)


if __name__ == "__main__":
    main()
