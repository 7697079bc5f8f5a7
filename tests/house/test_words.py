"""What must not stand in any file: other people's machines, silenced errors, work left for later."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from house.tree import ROOT, lines, parsed, place, report, texts


class Rule(NamedTuple):
    """A pattern that no line may match, where it does not apply, and what to do instead."""

    pattern: str
    mend: str
    files: str = "*"
    but: tuple[str, ...] = ()


RULES: Final = (
    Rule(
        r"(?<![\w./~-])/(?:root|work|farm|mnt|Users|home/\w+)/",
        "a path of one machine: make it relative, or take it from an argument",
    ),
    Rule(
        r"(?:pypi|pythonhosted|npmjs|debian|crates|huggingface)\.(?:org|com|io|co)\b",
        "a registry's host: name the package, and leave where it comes from to pip's configuration",
    ),
    Rule(r"(?i)\bsub-?agents?\b|\bcoding (?:agent|assistant)\b", "leave out how it was made"),
    Rule(
        r"except(?: \(?(?:\w+, ?)*Exception\b|\s*:)",
        "name the errors that are expected here; only one task boundary catches everything",
        "*.py",
        ("node/driver.py",),
    ),
    Rule(
        r"#\s?(?:TODO|FIXME|XXX|HACK)\b",
        "do it now, or leave it out; later work has no place in the code",
        "*.py",
    ),
    Rule(
        r"\bNotImplementedError\b",
        "leave out what is not there, or use an abstract method or a Protocol",
        "*.py",
    ),
)

SILENCERS: Final = {"importorskip", "skip", "skipif", "xfail"}


def test_no_line_breaks_a_rule_of_the_house() -> None:
    findings = []
    for path in texts():
        name = path.relative_to(ROOT).as_posix()
        for rule in RULES:
            if not path.match(rule.files) or name in rule.but or path == Path(__file__):
                continue
            findings += [
                f"{place(path, number)}: {line.strip()[:80]}\n    → {rule.mend}"
                for number, line in enumerate(lines(path), 1)
                if re.search(rule.pattern, line)
            ]
    report(findings, "a rule that is wrong here is changed in RULES, with its reason in the commit")


def test_no_test_is_skipped_or_expected_to_fail_without_a_reason() -> None:
    findings = [
        f"{place(path, line)}: {what} without a reason"
        for path in texts()
        if path.suffix == ".py" and "tests" in path.parts
        for what, line in _unreasoned(parsed(path))
    ]
    report(findings, "remove it, or say in reason= which machine lacks what")


def _unreasoned(tree: ast.Module) -> Iterator[tuple[str, int]]:
    called = {id(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute) or node.attr not in SILENCERS:
            continue
        if ast.unparse(node.value) not in {"pytest", "pytest.mark", "mark"}:
            continue
        call = called.get(id(node))
        reasoned = call is not None and (
            any(keyword.arg == "reason" for keyword in call.keywords) or (node.attr == "skip" and call.args)
        )
        if not reasoned:
            yield node.attr, node.lineno


def test_the_rules_notice_what_they_forbid() -> None:
    broken = {
        "open('/home/me/model')": 0,
        "see https://pypi" + ".org/project": 1,
        "written by a sub" + "agent": 2,
        "    except Exception:": 3,
        "    except (OSError, Exception) as error:": 3,
        "    except:": 3,
        "x = 1  # TO" + "DO: later": 4,
        "raise Not" + "ImplementedError": 5,
    }
    for line, rule in broken.items():
        assert re.search(RULES[rule].pattern, line), line
    for line in ("except ExceptionGroup:", "except OSError:", "import a/b/root/c", "~/home/x"):
        assert not any(re.search(rule.pattern, line) for rule in RULES), line
    assert list(_unreasoned(ast.parse("@pytest.mark.skip\ndef test(): ..."))) == [("skip", 1)]
    assert list(_unreasoned(ast.parse("pytest.skip('needs two cores')"))) == []
