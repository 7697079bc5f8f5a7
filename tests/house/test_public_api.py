"""What `import crdtmerge` offers is what docs/api.md lists: few names, each explained."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from typing import Final

import crdtmerge
from house.tree import ROOT, lines, modules, place, report

DOCUMENT: Final = ROOT / "docs" / "api.md"
ERRORS: Final = {
    "CrdtMergeError",
    "UsageError",
    "RejectedError",
    "NotYetError",
    "StoreError",
    "DivergenceError",
}


def documented() -> dict[str, int]:
    """The names in the first column of the tables of docs/api.md, with their lines."""
    rows = ((re.match(r"\| `(\w+)` \| \S", line), number) for number, line in enumerate(lines(DOCUMENT), 1))
    return {match[1]: number for match, number in rows if match}


def test_the_public_names_are_those_that_the_document_lists() -> None:
    public, described = set(crdtmerge.__all__), documented()
    report(
        [
            *(
                f"crdtmerge/__init__.py:1: {name} is not in docs/api.md"
                for name in sorted(public - set(described))
            ),
            *(
                f"{place(DOCUMENT, line)}: {name} is not in crdtmerge.__all__"
                for name, line in described.items()
                if name not in public
            ),
        ],
        "a public name has one line in docs/api.md, and a line there has a public name",
    )


def test_there_are_at_most_twenty_public_names() -> None:
    assert len(crdtmerge.__all__) <= 20, (
        f"crdtmerge/__init__.py: {len(crdtmerge.__all__)} public names, at most 20. "
        "Leave what few people need in the module where it is defined"
    )


def test_every_public_name_says_what_it_is() -> None:
    report(
        [
            f"crdtmerge/__init__.py:1: {name} has no docstring"
            for name in crdtmerge.__all__
            if not inspect.getdoc(getattr(crdtmerge, name))
        ],
        "give it a docstring where it is defined",
    )


def test_the_branches_of_the_tree_of_errors_are_public() -> None:
    assert set(crdtmerge.__all__) >= ERRORS
    root = crdtmerge.CrdtMergeError
    assert all(issubclass(getattr(crdtmerge, name), root) for name in ERRORS)


def test_no_public_name_is_also_a_module() -> None:
    """Importing a module binds its name in its package: the order of imports would decide what it means."""
    inside = {path.stem for path in (ROOT / "crdtmerge").glob("*.py")}
    inside |= {path.parent.name for path in modules() if path.name == "__init__.py"}
    report(
        [
            f"crdtmerge/__init__.py:1: {name} is a public name and a module"
            for name in sorted(inside & set(crdtmerge.__all__))
        ],
        "offer it from its module alone",
    )


def test_importing_the_package_loads_no_heavy_library() -> None:
    script = "import crdtmerge, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    heavy = {"grpc", "hypothesis", "numpy", "pytest", "rich", "torch"} & set(done.stdout.split())
    assert not heavy, f"`import crdtmerge` loads {', '.join(sorted(heavy))}: import it where it is used"
