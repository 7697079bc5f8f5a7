"""The demonstration itself, as `crdtmerge demo` runs it: real training, real processes, real sockets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from crdtmerge.resolve import MODEL, verify_result


@pytest.mark.timeout(280)
def test_peers_train_split_heal_and_agree_on_one_model_byte_for_byte(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "crdtmerge.cli", "demo", "--dir", str(tmp_path / "demo"), "--json"],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "2"},
        timeout=270,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert len(report["alone"]) >= 8
    split, healed, retracted = report["stages"]
    for stage in (split, healed, retracted):
        assert len(stage["models"]) >= 4
        assert len(set(stage["models"].values())) == len(set(stage["roots"].values()))
    assert len(set(split["models"].values())) == 2
    assert len(set(healed["models"].values())) == 1
    assert len(set(retracted["models"].values())) == 1
    digests = {next(iter(stage["models"].values())) for stage in (split, healed, retracted)}
    assert len(digests) == 3
    assert report["refused"] > 0

    merged = sorted((tmp_path / "demo").rglob(MODEL))
    of_the_healed = [
        path for path in merged if verify_result(path.parent).model.hex() in healed["models"].values()
    ]
    assert len(of_the_healed) >= 5, "every node's, and the one merged in another process"
    assert len({path.read_bytes() for path in of_the_healed}) == 1
