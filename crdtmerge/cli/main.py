"""The command group, and how errors become exit codes."""

from __future__ import annotations

import json
import sys
import warnings
from typing import Final, NoReturn

import click

from crdtmerge.errors import (
    CrdtMergeError,
    DemoError,
    DivergenceError,
    NotYetError,
    RejectedError,
    SimulationError,
    StoreError,
    UsageError,
)

from . import coefficients, contributions, federation, housekeeping, insight, merging, running, simulate

EXIT_CODES: Final = {
    UsageError: 2,
    RejectedError: 3,
    DemoError: 3,
    NotYetError: 4,
    StoreError: 5,
    DivergenceError: 6,
    SimulationError: 6,
}


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="crdtmerge")
def commands() -> None:
    """Pool fine-tunes of one base model, peer to peer; every replica merges the same bytes.

    \b
    Start a federation:  crdtmerge init --base base.safetensors
                         crdtmerge serve --listen HOST:7707
                         crdtmerge invite
    Join one:            crdtmerge join TICKET
                         crdtmerge serve --listen HOST:7707
    Take part:           crdtmerge contribute tuned.safetensors --label mine
                         crdtmerge merge
    See it happen:       crdtmerge demo
                         crdtmerge simulate partition
    """  # noqa: D301 - click leaves what follows \b as it is laid out


for _command in (
    *federation.COMMANDS,
    *coefficients.COMMANDS,
    *contributions.COMMANDS,
    *insight.COMMANDS,
    *merging.COMMANDS,
    *housekeeping.COMMANDS,
    *running.COMMANDS,
    *simulate.COMMANDS,
):
    commands.add_command(_command)


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run one command and exit with its code."""
    given = sys.argv[1:] if arguments is None else arguments
    warnings.showwarning = _warn
    try:
        code = commands.main(args=given, prog_name="crdtmerge", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted; what was finished is kept, run the same command to go on", err=True)
        sys.exit(130)
    except CrdtMergeError as error:
        _report(error, as_json="--json" in given)
        sys.exit(next((code for kind, code in EXIT_CODES.items() if isinstance(error, kind)), 1))
    sys.exit(code if isinstance(code, int) else 0)


def _report(error: CrdtMergeError, *, as_json: bool) -> None:
    if not as_json:
        click.echo(f"error: {error}", err=True)
        return
    details = {key: _plain(value) for key, value in vars(error).items()}
    click.echo(json.dumps({"error": {"type": type(error).__name__, "message": str(error), **details}}))


def _plain(value: object) -> object:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, (int, str)) else str(value)


def _warn(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: object = None,
    line: str | None = None,
) -> None:
    click.echo(f"warning: {message}", err=True)
