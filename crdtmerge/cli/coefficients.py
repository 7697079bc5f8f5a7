"""The command about what searches found: publish it, and see what was published and applies."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import click

from crdtmerge.errors import UsageError
from crdtmerge.ledger import Ledger
from crdtmerge.op import Coefficients

from . import homes
from .screen import choose, common, pairs, short, show, table

_BOUND: Final = "bound to what is visible"
_OTHERS: Final = "for other contributions than are visible"


@click.command()
@click.argument("file", required=False, type=click.Path(exists=True, path_type=Path))
@click.option("--strategy", help="Which strategy applies it [default: what the file's metadata says].")
@click.option("-s", "--setting", "settings", multiple=True, metavar="KEY=VALUE", help="Such as mode=convex.")
@click.option("--list", "list_", is_flag=True, help="List what was published, without a FILE.")
@common
def coefficients(
    home: Path, json_: bool, file: Path | None, strategy: str | None, settings: tuple[str, ...], list_: bool
) -> None:
    """Publish what a search found, for all replicas to apply.

    FILE is a safetensors file of arrays, one row for each contribution. Its metadata says strategy, payload,
    settings, and as contributions a JSON list of digests in the order of the rows; without that list the rows
    are those that would be merged now, ascending by digest.
    """
    if (file is None) != list_:
        raise UsageError("name a file of coefficients, or give --list")
    if file is None:
        with homes.ledger(home) as ledger:
            rows = published(ledger)
        shown = (
            (
                row["payload"][:12],
                row["strategy"] or "?",
                row["author"][:12],
                str(len(row["contributions"])),
                row["standing"],
            )
            for row in rows
        )
        columns = ("payload", "strategy", "published by", "contributions", "standing")
        show(json_, {"coefficients": rows}, table(*columns, rows=shown))
        return
    from crdtmerge.resolve import read_payload

    payload, names = read_payload(file, strategy=strategy, settings=pairs(settings, "a setting"))
    with homes.replica(home) as replica:
        visible, members = replica.visible, None
        if names is not None:
            members = [choose(name, visible, "visible contribution") for name in names]
        operation = replica.publish(payload, members)
        body = operation.body
        assert isinstance(body, Coefficients)  # noqa: S101 - what publish says
        data = {
            "operation": operation.id.hex(),
            "payload": body.payload.hex(),
            "strategy": payload.strategy,
            "contributions": [digest.hex() for digest in body.bound_to],
        }
    show(
        json_,
        data,
        f"published {data['payload']}",
        f"for {payload.strategy}, bound to {len(body.bound_to)} contributions",
    )


def published(ledger: Ledger) -> list[dict[str, Any]]:
    """Return what was published, and where each of it stands, ascending by payload.

    Which of several counts is decided when a merge is planned: by authority, then by digest.
    """
    rows = []
    for operation in ledger.view.coefficients:
        body = operation.body
        if not isinstance(body, Coefficients):
            continue
        known = ledger.store.has_manifest(body.payload)
        said = dict(ledger.store.manifest(body.payload).metadata) if known else {}
        standing = _OTHERS
        if body.bound_to == ledger.visible:
            standing = _BOUND if ledger.is_ready(body.payload) else "not yet complete"
        rows.append(
            {
                "payload": body.payload.hex(),
                "strategy": said.get("strategy"),
                "author": operation.author.hex(),
                "contributions": [digest.hex() for digest in body.bound_to],
                "standing": standing,
            }
        )
    return sorted(rows, key=lambda row: (row["payload"], row["author"]))


def status_lines(rows: list[dict[str, Any]]) -> list[str]:
    """Return for people how many of the published coefficients are bound to what is visible."""
    bound = [row for row in rows if row["standing"] != _OTHERS]
    ready = sum(row["standing"] == _BOUND for row in bound)
    return [f"coefficients for what is visible: {ready} of {len(bound)} ready"] if rows else []


def merge_lines(notes: tuple[str, ...], applied: tuple[bytes, ...]) -> list[str]:
    """Return for people which coefficients a merge applies, and what else they should know about it."""
    return [
        *(f"applies coefficients {short(digest)}…" for digest in applied),
        *(f"note: {note}" for note in notes),
    ]


COMMANDS = (coefficients,)
