"""The README tells the truth: its programs run as they stand, and print what it says that they print."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from house.tree import ROOT

README = (ROOT / "README.md").read_text()
PROGRAMS = re.findall(r"```python\n(.*?)```\n+```text\n(.*?)```", README, re.DOTALL)


def test_every_program_in_the_readme_is_followed_by_what_it_prints() -> None:
    assert len(PROGRAMS) == README.count("```python") > 0, (
        "README.md: a ```python block without the ```text block that shows its output"
    )


@pytest.mark.parametrize(("program", "output"), PROGRAMS)
def test_a_program_in_the_readme_prints_what_it_says(program: str, output: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == (output, ""), (
        "README.md: mend the program, or what it is said to print"
    )


def test_the_readme_has_at_most_three_badges() -> None:
    assert README.count("](https://img.") + README.count("badge") <= 3
