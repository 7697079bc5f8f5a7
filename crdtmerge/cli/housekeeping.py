"""Commands that keep a folder in order: gc, pin."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import click

from crdtmerge import ambient
from crdtmerge.digest import Digest
from crdtmerge.ledger import Ledger
from crdtmerge.limits import GARBAGE_GRACE_MS
from crdtmerge.store import garbage

from . import homes
from .screen import choose, common, short, show

_HOUR_MS = 3_600_000


@click.command()
@click.option(
    "--purge", is_flag=True, help="Erase at once what was retracted or blocked, or is of the banned."
)
@click.option("--dry-run", "-n", is_flag=True, help="Say what would go, and change nothing.")
@common
def gc(home: Path, json_: bool, purge: bool, dry_run: bool) -> None:
    """Forget content that nothing points to any more.

    What became unneeded stays for a day; --purge does not wait for what was taken out of the federation.
    Files that were contributed in place are never touched. A running node does this by itself, every hour.
    """
    with homes.ledger(home) as ledger:
        store, view = ledger.store, ledger.view
        wanted = garbage.needed(ledger.operations, view, store.pins())
        gone = garbage.withdrawn(ledger.operations, view) if purge else set()
        found = store.garbage.collect(wanted, now_ms=ambient.now_ms(), purge=gone, dry_run=dry_run)
        pinned = sorted(gone.intersection(store.pins()))
        results = [str(folder) for folder in _made_of(home, {*found.manifests, *pinned})] if purge else []
    data = {
        "dry_run": dry_run,
        "contributions": [digest.hex() for digest in found.manifests],
        "blocks": len(found.blocks),
        "bytes": found.bytes,
        "references": len(found.references),
        "resting": [digest.hex() for digest in found.resting],
        "pinned": [digest.hex() for digest in pinned],
        "results": results,
    }
    verb = "would free" if dry_run else "freed"
    lines = [
        f"{verb} {found.bytes:,} bytes: {len(found.blocks)} blocks, {len(found.manifests)} contributions"
    ]
    if found.references:
        lines.append(f"{len(found.references)} blocks in files of yours are offered no more; the files stay")
    if found.resting:
        hours = GARBAGE_GRACE_MS // _HOUR_MS
        lines.append(
            f"{len(found.resting)} contributions are not needed, and stay up to {hours} hours longer"
        )
    lines += [f"pinned, so it stays: {short(digest)}…" for digest in pinned]
    lines += [f"still holds a model made of it, remove it yourself: {folder}" for folder in results]
    show(json_, data, *lines)


def _made_of(home: Path, contributions: set[Digest]) -> Iterator[Path]:
    """Yield the folders with results that were merged from one of these."""
    if not contributions:
        return
    from crdtmerge.resolve import RECORD, read_record

    for folder in sorted((home / "results").glob("*")):
        if (folder / RECORD).exists() and contributions.intersection(
            read_record(folder / RECORD).contributions
        ):
            yield folder


@click.command()
@click.argument("what")
@click.option("--remove", is_flag=True, help="Let it go again.")
@common
def pin(home: Path, json_: bool, what: str, remove: bool) -> None:
    """Keep content although it may be retracted: WHAT is a contribution, or a folder made by `merge`.

    Of a result, everything that it was merged from is kept, so that it can be computed again.
    """
    with homes.ledger(home) as ledger:
        digests = sorted(_named(ledger, what))
        for digest in digests:
            (ledger.store.unpin if remove else ledger.store.pin)(digest)
        pinned = [digest.hex() for digest in ledger.store.pins()]
    verb = "let go" if remove else "pinned"
    show(json_, {"pinned": pinned}, *(f"{verb} {digest.hex()}" for digest in digests))


def _named(ledger: Ledger, what: str) -> Iterable[Digest]:
    if Path(what).is_dir():
        from crdtmerge.resolve import RECORD, read_record

        record = read_record(Path(what) / RECORD)
        return {*record.contributions, *record.coefficients}
    known = {*ledger.visible, *ledger.store.manifests(), *ledger.store.pins()}
    return [choose(what, sorted(known), "contribution")]


COMMANDS = (gc, pin)
