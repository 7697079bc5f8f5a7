"""Make node/pb from proto/, with the pinned generator: `python tools/protos.py [FOLDER]`.

The generated files are committed, so that building and installing need no compiler; a house test makes
them again and compares.
"""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MOUNT = "crdtmerge/node/pb"  # the virtual folder under which .proto files see each other
GENERATOR = "1.76.0"  # later ones write code that refuses older protobuf runtimes


def generate(target: Path) -> None:
    """Write the Python modules of every file in proto/ under ``target``/crdtmerge/node/pb."""
    from grpc_tools import protoc

    if version("grpcio-tools") != GENERATOR:
        sys.exit(f"grpcio-tools {version('grpcio-tools')} is installed, {GENERATOR} is wanted")
    includes = Path(protoc.__file__).parent / "_proto"
    sources = sorted(f"{MOUNT}/{path.name}" for path in (ROOT / "proto").glob("*.proto"))
    outputs = [f"--{kind}_out={target}" for kind in ("python", "pyi")]
    if protoc.main(["protoc", f"-I{MOUNT}={ROOT / 'proto'}", f"-I{includes}", *outputs, *sources]):
        sys.exit("protoc failed")


if __name__ == "__main__":
    generate(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT)
