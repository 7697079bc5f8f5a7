"""The layout that docs/adr/0001-mounted-layout.md describes, and files that stay readable."""

from __future__ import annotations

import ast
import re
from importlib.metadata import packages_distributions
from typing import Final

from house.tree import (
    ROOT,
    ignored,
    lines,
    modules,
    mounts,
    packages,
    parsed,
    place,
    pyproject,
    report,
    texts,
)

FOLDERS: Final = {
    ".ci",
    "benchmarks",
    "crdtmerge",
    "docs",
    "node",
    "proto",
    "simulations",
    "strategies",
    "tests",
    "tools",
}

LINES_MAX: Final = 300
LONGER: Final = {
    "crdtmerge/manifest.py": "a format: what is written and how it is read back stand side by side",
}
"""Files that may be longer, each with the reason why two files would be harder to read than one."""


def test_the_packages_in_pyproject_are_those_in_the_tree() -> None:
    declared, found = set(pyproject()["tool"]["setuptools"]["packages"]), set(packages())
    report(
        [
            *(f"pyproject.toml: package {name} is not in the tree" for name in sorted(declared - found)),
            *(
                f"{place(packages()[n] / '__init__.py')}: {n} is not in pyproject.toml"
                for n in sorted(found - declared)
            ),
        ],
        "make tool.setuptools.packages in pyproject.toml agree with the tree, then `make setup`",
    )


def test_mounted_folders_are_linked_into_the_package_relatively() -> None:
    links = {
        path.name: path.readlink().as_posix() for path in (ROOT / "crdtmerge").iterdir() if path.is_symlink()
    }
    wanted = {name.removeprefix("crdtmerge."): f"../{folder}" for name, folder in mounts().items()}
    assert links == wanted, (
        f"links in crdtmerge/ are {links}, package-dir in pyproject.toml asks for {wanted}. "
        "Mend with: ln -sfn ../NAME crdtmerge/NAME (and `git config core.symlinks true` before the clone)"
    )


def test_top_level_folders_are_the_agreed_ones() -> None:
    found = {path.name for path in ROOT.iterdir() if path.is_dir() and not ignored(path.name)}
    report(
        [f"{name}/: an unknown folder at the top" for name in sorted(found - FOLDERS)],
        "move it into one of the folders there are, or write an ADR and extend FOLDERS",
    )


def test_no_generic_import_name_is_installed() -> None:
    names = {name for name, owners in packages_distributions().items() if "crdtmerge" in owners}
    assert names == {"crdtmerge"}, (
        f"this package installs the import names {sorted(names)}, wanted only crdtmerge. "
        "Mend tool.setuptools.package-dir in pyproject.toml, then `make setup`"
    )


def test_test_folders_are_no_packages() -> None:
    report(
        [f"{place(path)}: a package among the tests" for path in (ROOT / "tests").rglob("__init__.py")],
        "remove it: tests are collected by path, and files in different folders may share a name",
    )


def test_every_module_opens_with_a_sentence_that_says_what_it_is() -> None:
    findings = []
    for path in modules():
        opening = (ast.get_docstring(parsed(path)) or "").partition("\n\n")[0]
        if not opening.endswith((".", ":", "?")):
            findings.append(f"{place(path)}: opens with {opening[:60]!r}, which is no sentence")
        elif re.match(r"This (module|package|file)\b|Placeholder", opening):
            findings.append(f"{place(path)}: opens with {opening[:60]!r}")
    report(findings, "say what it is or guards, in one sentence: 'BLAKE3-256 digests, each bound to …'")


def test_a_file_holds_one_idea_in_at_most_300_lines() -> None:
    lengths = {path.relative_to(ROOT).as_posix(): len(lines(path)) for path in modules()}
    report(
        [
            *(
                f"{name}:{LINES_MAX}: {length} lines"
                for name, length in lengths.items()
                if length > LINES_MAX and name not in LONGER
            ),
            *(
                f"tests/house/test_layout.py: {name} needs no exception"
                for name in LONGER
                if lengths.get(name, 0) <= LINES_MAX
            ),
        ],
        "split it where the idea changes, or give the reason in LONGER",
    )


def test_links_between_documents_lead_somewhere() -> None:
    findings = []
    for path in texts():
        if path.suffix != ".md":
            continue
        findings += [
            f"{place(path, number)}: {target} does not exist"
            for number, line in enumerate(lines(path), 1)
            for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", line)
            if "://" not in target and not (path.parent / target).exists()
        ]
    report(findings, "mend the link, or write what it promises")
