"""The table of strategies in the documents is what the registry says."""

from __future__ import annotations

import subprocess
import sys

from house.tree import ROOT


def test_the_table_of_strategies_is_what_the_registry_says() -> None:
    tool = ROOT / "tools" / "strategy_table.py"
    done = subprocess.run([sys.executable, tool, "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
