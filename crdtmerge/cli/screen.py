"""How commands speak: JSON for programs on standard output, text for people, progress on standard error."""

from __future__ import annotations

import functools
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table

from crdtmerge.digest import Digest
from crdtmerge.errors import UsageError

P = ParamSpec("P")
R = TypeVar("R")

_UNITS: Final = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def common(command: Callable[P, R]) -> Callable[P, R]:
    """Give a command the options that all have: ``--home`` and ``--json``."""

    @click.option(
        "--home",
        type=click.Path(path_type=Path),
        default=Path(".crdtmerge"),
        envvar="CRDTMERGE_HOME",
        show_default=True,
        show_envvar=True,
        help="Folder of this replica.",
    )
    @as_json
    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        return command(*args, **kwargs)

    return wrapped


def as_json(command: Callable[P, R]) -> Callable[P, R]:
    """Give a command the option ``--json``."""
    return click.option("--json", "json_", is_flag=True, help="Print one JSON object.")(command)


def show(json_: bool, data: dict[str, Any], *lines: str | Table) -> None:
    """Print ``data`` as JSON, or ``lines`` for people."""
    if json_:
        click.echo(json.dumps(data, ensure_ascii=False, sort_keys=True))
        return
    console = Console(highlight=False, soft_wrap=True)
    for line in lines:
        console.print(line, markup=False) if isinstance(line, str) else console.print(line)


def table(*columns: str, rows: Iterable[Iterable[str]]) -> Table:
    """Return a table for `show`."""
    made = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        made.add_column(column, overflow="fold")
    for row in rows:
        made.add_row(*row)
    return made


@contextmanager
def progress(what: str, total: int | None, *, quiet: bool) -> Iterator[Callable[[int], None]]:
    """Show a bar with amount, rate and time left on standard error while the block runs.

    Args:
        what: is being done.
        total: bytes to come, if known.
        quiet: show nothing; nothing is shown either where standard error is no terminal.

    Yields:
        A function that takes the number of bytes done since the last call.
    """
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=quiet or not sys.stderr.isatty(),
    )
    with bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.advance(task, done)


def short(digest: bytes) -> str:
    """Return the first digits of a digest: enough for people to tell a few apart."""
    return digest.hex()[:12]


def choose(prefix: str, known: Iterable[Digest], what: str, listed_by: str = "status") -> Digest:
    """Return the one of ``known`` whose hexadecimal form starts with ``prefix``.

    Args:
        prefix: the first digits, or all.
        known: what can be meant.
        what: they are, for the message.
        listed_by: the command that shows them.

    Raises:
        UsageError: if none does, or several do.
    """
    wanted = prefix.lower().rstrip("…")
    found = [digest for digest in known if digest.hex().startswith(wanted)] if wanted else []
    if len(found) != 1:
        which = "no" if not found else f"{len(found)}"
        raise UsageError(f"{which} {what} starts with {prefix!r}; `crdtmerge {listed_by}` lists them")
    return found[0]


def size(text: str) -> int:
    """Parse a number of bytes such as ``512M`` or ``2GiB``.

    Raises:
        UsageError: if it is none.
    """
    match = re.fullmatch(r"([0-9]+)\s*([kmgt]?)(i?b)?", text.strip().lower())
    if match is None:
        raise UsageError(f"wanted a size such as 512M or 2GiB, got {text!r}")
    return int(match[1]) * _UNITS[match[2]]


def pairs(given: Iterable[str], what: str) -> dict[str, str]:
    """Parse ``key=value`` words.

    Raises:
        UsageError: if one has no ``=``.
    """
    parsed = {}
    for word in given:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise UsageError(f"{what} is given as key=value, got {word!r}")
        parsed[key] = value
    return parsed
