"""What is installed by those who do not clone: everything that the packages need, and nothing else."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from house.tree import ROOT, packages, report


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Names of the files in a wheel that was built, without network, from a copy of the tree."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"  # a build leaves files behind, and finds those of earlier ones
    source.mkdir()
    for name in ("crdtmerge", "node", "simulations", "strategies"):
        shutil.copytree(
            ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__")
        )
    for name in ("LICENSE", "NOTICE", "README.md", "pyproject.toml"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    done = subprocess.run([*pip, "--wheel-dir", folder, source], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_a_wheel_holds_every_file_of_every_package_and_no_other(names: set[str]) -> None:
    wanted = {
        Path(*package.split("."), file.relative_to(folder)).as_posix(): file
        for package, folder in packages().items()
        for file in _own_files(folder)
    }
    content = {name for name in names if ".dist-info/" not in name}
    report(
        [
            *(
                f"{wanted[name].relative_to(ROOT)}:1: is not in the wheel"
                for name in sorted(set(wanted) - content)
            ),
            *(f"{name} is in the wheel, but not in the tree" for name in sorted(content - set(wanted))),
        ],
        "name its pattern in tool.setuptools.package-data in pyproject.toml, or move it out of the package",
    )


def _own_files(folder: Path) -> Iterator[Path]:
    """The files of a package: those beside its __init__.py, and those in folders that are no packages."""
    for path in folder.iterdir():
        if path.is_file() and "__pycache__" not in path.parts:
            yield path
        elif path.is_dir() and not path.is_symlink() and not (path / "__init__.py").exists():
            yield from _own_files(path)


def test_a_wheel_brings_its_types_its_licence_and_one_import_name(names: set[str]) -> None:
    assert "crdtmerge/py.typed" in names
    info = {Path(name).name for name in names if ".dist-info/" in name}
    assert {"LICENSE", "NOTICE", "entry_points.txt"} <= info
    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == {"crdtmerge"}
