"""The project's own files, as the house tests look at them."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterable, Iterator
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
BINARY: Final = {".npz", ".safetensors", ".png"}


@cache
def pyproject() -> Any:
    """The parsed pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def mounts() -> dict[str, str]:
    """Packages that stand elsewhere than their names say: import name -> folder."""
    return dict(pyproject()["tool"]["setuptools"]["package-dir"])


def packages() -> dict[str, Path]:
    """Every package in the tree by its import name, found by its __init__.py."""
    found = {}
    for name, folder in {"crdtmerge": "crdtmerge", **mounts()}.items():
        for init in (ROOT / folder).rglob("__init__.py"):  # does not follow links
            inside = init.parent.relative_to(ROOT / folder).parts
            found[".".join((name, *inside))] = init.parent
    return found


def modules() -> list[Path]:
    """Every Python file of the packages that a person wrote."""
    return sorted(
        path
        for folder in packages().values()
        for path in folder.glob("*.py")
        if folder.name != "pb" or path.name == "__init__.py"
    )


def ignored(name: str) -> bool:
    """Whether git is told to ignore everything of this name."""
    lines = (ROOT / ".gitignore").read_text().split()
    return name == ".git" or any(fnmatch(name, line.strip("/")) for line in lines)


def texts() -> Iterator[Path]:
    """Every text file of the project that a person wrote."""
    for path in sorted(_files(ROOT)):
        if path.suffix not in BINARY:
            yield path


def _files(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if ignored(path.name) or path.is_symlink():
            continue
        if path.is_dir():
            yield from _files(path)
        elif not path.name.endswith(("_pb2.py", "_pb2.pyi", "_pb2_grpc.py")):
            yield path


@cache
def lines(path: Path) -> tuple[str, ...]:
    """The lines of a file."""
    return tuple(path.read_text(encoding="utf-8").splitlines())


@cache
def parsed(path: Path) -> ast.Module:
    """The syntax tree of a Python file."""
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def place(path: Path, line: int = 1) -> str:
    """Where something stands, as an editor can jump to it."""
    return f"{path.relative_to(ROOT)}:{line}"


def report(findings: Iterable[str], mend: str) -> None:
    """Fail if there are findings, each on a line, followed by what to do about them."""
    found = list(findings)
    if found:
        pytest.fail("\n".join([*found, f"→ {mend}"]), pytrace=False)
