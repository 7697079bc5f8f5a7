"""Every threat in docs/threats.md names a test that shows what holds against it, and the test exists."""

from __future__ import annotations

import ast
import re
from typing import Final

from house.tree import ROOT, lines, parsed, place, report

THREATS: Final = ROOT / "docs" / "threats.md"
NAMED: Final = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def rows() -> list[tuple[int, str]]:
    """The rows of the tables, with their line numbers, without headings."""
    numbered = list(enumerate(lines(THREATS), 1))
    return [
        (number, line)
        for (number, line), (_, after) in zip(numbered, [*numbered[1:], (0, "")], strict=True)
        if line.startswith("| ") and not after.startswith("|---")
    ]


def exists(file: str, name: str) -> bool:
    """Whether a file has a test of this name."""
    if not (ROOT / file).exists():
        return False
    functions = ast.FunctionDef | ast.AsyncFunctionDef
    return any(isinstance(node, functions) and node.name == name for node in parsed(ROOT / file).body)


def test_every_test_that_is_named_against_a_threat_exists() -> None:
    findings = [
        f"{place(THREATS, number)}: {file}::{name} does not exist"
        for number, line in rows()
        for file, name in NAMED.findall(line)
        if not exists(file, name)
    ]
    report(findings, "name the test that shows it now, or write it in tests/security")


def test_no_threat_stands_without_a_test() -> None:
    assert len(rows()) > 30
    findings = [
        f"{place(THREATS, number)}: {line[:60]}… names no test"
        for number, line in rows()
        if not NAMED.search(line.rsplit("|", 2)[1])
    ]
    report(findings, "write the test, named after the attack, and name it in the last column")


def test_a_test_that_does_not_exist_would_be_found() -> None:
    here = "tests/house/test_threats.py"
    assert exists(here, "test_no_threat_stands_without_a_test")
    assert not exists(here, "test_nothing")
    assert not exists("tests/house/test_nowhere.py", "test_nothing")
    assert NAMED.findall("`tests/a/test_b.py::test_c`, `x`") == [("tests/a/test_b.py", "test_c")]
