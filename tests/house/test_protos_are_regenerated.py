"""The committed protobuf modules are what the pinned generator makes of proto/."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from house.tree import ROOT, report


def test_generated_modules_agree_with_the_proto_files(tmp_path: Path) -> None:
    tool = ROOT / "tools" / "protos.py"
    made = subprocess.run([sys.executable, tool, tmp_path], capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    fresh = {path.name: path.read_bytes() for path in (tmp_path / "crdtmerge" / "node" / "pb").iterdir()}
    committed = {path.name: path.read_bytes() for path in (ROOT / "node" / "pb").glob("*_pb2*")}
    report(
        [
            f"node/pb/{name}: is not what proto/ says"
            for name in sorted(fresh.keys() | committed.keys())
            if fresh.get(name) != committed.get(name)
        ],
        "run: python tools/protos.py",
    )
