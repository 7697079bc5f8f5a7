"""The guide's program and commands do what the guide says."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from crdtmerge.cli.main import main

GUIDE = (Path(__file__).resolve().parents[2] / "docs" / "evidence.md").read_text(encoding="utf-8")


def test_the_guides_program_and_commands_run_as_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    program, commands, refused = re.findall(r"```(?:python)?\n(.*?)```", GUIDE, re.DOTALL)
    first, *rest = commands.splitlines()
    assert first == "python train.py"
    subprocess.run([sys.executable, "-c", program], check=True)
    prompt, message = refused.splitlines()
    for line in [*rest, prompt.removeprefix("$ ")]:
        _, *words = shlex.split(line)
        with pytest.raises(SystemExit) as ended:
            main(words)
        err = capsys.readouterr().err
        assert bool(ended.value.code) == (line not in rest), err
    before, between, _ = message.split("…")
    assert before in err
    assert between in err
