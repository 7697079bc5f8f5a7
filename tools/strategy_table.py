"""Writes docs/strategies.md from the registry: what each strategy is, needs, takes and comes from.

    python tools/strategy_table.py [--check]

The file is never edited by hand; a house test compares it with what this prints.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from crdtmerge.strategy import Strategy, strategies

TARGET: Final = Path(__file__).parent.parent / "docs" / "strategies.md"

HEAD: Final = """# Strategies

Written by `python tools/strategy_table.py` from the registry; `crdtmerge strategies` prints the same.
Which to take: [how-to-choose.md](how-to-choose.md).

Class **P** computes from the weights alone, **E** from weights and evidence that authors attach
([evidence.md](evidence.md)), **S** applies coefficients that a search published for exactly these
contributions; without any it uses the initial point that its text names, and the result says so.

| strategy | class | needs | what it does |
|---|---|---|---|
"""


def row(found: Strategy) -> str:
    """Return a strategy's line of the overview."""
    needs = ", ".join(found.declared.words()) or "–"
    return f"| [{found.name}](#{found.name}) | {found.declared.kind} | {needs} | {found.summary} |\n"


def chapter(found: Strategy) -> str:
    """Return a strategy's own paragraph and its parameters."""
    traits = [
        f"version {found.version}",
        f"tiles: {found.declared.scope}",
        *(["draws at random"] if found.declared.draws else []),
        *(["alone is itself"] if found.alone_is_itself else []),
        *([] if found.symmetric else ["digests decide"]),
        *([] if found.weighted else ["refuses weights that differ"]),
    ]
    lines = [f"## {found.name}", "", found.summary, "", f"*{'; '.join(traits)}.* Source: {found.source}.", ""]
    if found.parameters:
        lines += ["| parameter | default | meaning |", "|---|---|---|"]
        lines += [f"| `{p.name}` | {p.default_text} | {_cell(p.doc)} |" for p in found.parameters]
        lines.append("")
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def page() -> str:
    """Return the whole page."""
    newest = {found.name: found for found in strategies().values()}
    ordered = [newest[name] for name in sorted(newest)]
    return HEAD + "".join(map(row, ordered)) + "\n" + "\n".join(map(chapter, ordered))


if __name__ == "__main__":
    if "--check" in sys.argv[1:]:
        same = TARGET.read_text("utf-8") == page()
        sys.exit(None if same else f"{TARGET.name} is not what the registry says: run {sys.argv[0]}")
    TARGET.write_text(page(), "utf-8")
