"""Strategies of others come in by the door that ours use: an installed distribution's entry point."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

_THEIRS = textwrap.dedent(
    '''
    from crdtmerge.arith import Tensor
    from crdtmerge.strategy import Number, Tile, strategy


    @strategy("theirs", version=3, source="a test", parameters=[Number("shift", "0.5", "what is added")])
    def theirs(tile: Tile, *, shift) -> Tensor:
        """The first model and a bit."""
        return tile.models[0] + float(shift)
    '''
)
_USE = textwrap.dedent(
    """
    import torch
    from crdtmerge import Recipe, merge
    print(merge([{"x": torch.zeros(2)}], recipe=Recipe("theirs", shift="0.25"))["x"].tolist())
    """
)


def use(folder: Path, code: str, program: str = _USE) -> subprocess.CompletedProcess[str]:
    """Run a program with a distribution installed whose entry point names this module."""
    (folder / "their_strategies.py").write_text(code)
    info = folder / "theirs-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[crdtmerge.strategies]\ntheirs = their_strategies\n")
    return subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_strategy_of_another_distribution_is_found_by_name(tmp_path: Path) -> None:
    done = use(tmp_path, _THEIRS)
    assert done.stdout.strip() == "[0.25, 0.25]", done.stderr


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import a_module_that_is_not_there", "No module named 'a_module_that_is_not_there'"),
        (
            _THEIRS.replace('"theirs", version=3', '"ties", version=1'),
            "two strategies are called ties version 1",
        ),
        (_THEIRS.replace("*, shift", "*, shft"), "declares ['shift'], theirs takes ['shft']"),
        (_THEIRS.replace('source="a test"', 'source="a test", scope="galaxy"'), "scope 'galaxy'"),
    ],
)
def test_a_catalogue_that_is_wrong_fails_aloud_and_is_not_skipped(
    tmp_path: Path, code: str, message: str
) -> None:
    done = use(tmp_path, code)
    assert done.returncode != 0
    assert message in done.stderr
