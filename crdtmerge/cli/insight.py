"""Commands that only look: status, log, peers, strategies, doctor."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click

from crdtmerge import witness
from crdtmerge.op import Add, Admit, Ban, Block, Coefficients, Genesis, Operation, Retract, SetRecipe, Unban

from . import coefficients, homes, recipes, standing
from .screen import as_json, common, short, show, table

_LATEST_MS: Final = 253_402_300_799_000
"""The last millisecond that calendars of four-digit years can show; timestamps are claims."""


@click.command()
@common
def status(home: Path, json_: bool) -> None:
    """Show who this node is, what it sees, and what everybody should agree on."""
    from crdtmerge.node import shortage

    with homes.ledger(home) as ledger:
        now, labels, authors = ledger.status(), {}, {}
        for digest in now.contributions:
            if ledger.store.has_manifest(digest):
                labels[digest] = dict(ledger.store.manifest(digest).metadata).get("label", "")
            authors[digest] = [author.hex() for author in ledger.view.authors(digest)]
        short_of, found = shortage.load(ledger.store), coefficients.published(ledger)
        agreement = witness.agreement(
            ledger.store, ledger.view, me=now.node, recipe=now.recipe.digest, root=now.root
        )
    data = {
        "node": now.node.hex(),
        "federation": now.federation.hex(),
        "role": now.role,
        "members": now.members,
        "operations": now.operations,
        "root": now.root.hex(),
        "state_root": now.state_root.hex(),
        "recipe": recipes.describe(now.recipe),
        "contributions": [
            {
                "digest": digest.hex(),
                "label": labels.get(digest, ""),
                "authors": authors[digest],
                "ready": digest in now.ready,
            }
            for digest in now.contributions
        ],
        "ready": len(now.ready),
        "base_ready": now.base_ready,
        "coefficients": found,
        "attestations": standing.agreement_data(agreement),
        "waits_for_room": standing.room_data(short_of),
    }
    show(
        json_,
        data,
        f"node        {data['node']} ({now.role or 'not a member'})",
        f"federation  {data['federation']} ({now.members} members, {now.operations} operations)",
        f"recipe      {now.recipe.strategy} {dict(now.recipe.parameters) or ''}".rstrip(),
        f"root        {data['root']}",
        f"state root  {data['state_root']}",
        f"base {'ready' if now.base_ready else 'not yet complete'}, "
        f"{len(now.ready)} of {len(now.contributions)} contributions ready",
        *coefficients.status_lines(found),
        *standing.agreement_lines(agreement),
        *standing.room_lines(short_of),
        table(
            "contribution",
            "label",
            "added by",
            "ready",
            rows=(
                (
                    short(digest),
                    labels.get(digest, "?"),
                    ", ".join(author[:12] for author in authors[digest]),
                    "yes" if digest in now.ready else "not yet",
                )
                for digest in now.contributions
            ),
        ),
    )


@click.command()
@click.option(
    "-n", "--number", type=click.IntRange(1), default=20, show_default=True, help="Newest operations."
)
@common
def log(home: Path, json_: bool, number: int) -> None:
    """List operations, newest first. Times are claims of their authors."""
    with homes.ledger(home) as ledger:
        newest = sorted(ledger.operations, key=lambda op: (op.created_ms, op.id), reverse=True)[:number]
        honoured = {op.id for op in newest if ledger.authority.honours(op)}
    entries = [
        {
            "id": op.id.hex(),
            "kind": op.kind,
            "author": op.author.hex(),
            "created_ms": op.created_ms,
            "counts": op.id in honoured,
            "what": describe(op),
        }
        for op in newest
    ]
    rows = (
        (
            short(op.id),
            _time(op.created_ms),
            short(op.author),
            op.kind,
            describe(op) + ("" if op.id in honoured else "  (void)"),
        )
        for op in newest
    )
    show(
        json_, {"operations": entries}, table("operation", "time (UTC)", "author", "kind", "what", rows=rows)
    )


def describe(operation: Operation) -> str:
    """Say in a few words what an operation does."""
    body = operation.body
    if isinstance(body, Genesis):
        return f"founded by {len(body.founders)}, {body.recipe.strategy}"
    if isinstance(body, Admit):
        return f"{short(body.key)} as {body.role.value}"
    if isinstance(body, (Ban, Unban)):
        return short(body.key)
    if isinstance(body, (Add, Block)):
        return short(body.contribution)
    if isinstance(body, Retract):
        return ", ".join(short(add) for add in body.adds)
    if isinstance(body, SetRecipe):
        return body.recipe.strategy
    if isinstance(body, Coefficients):
        return f"for {len(body.bound_to)} contributions"
    return ""


@click.command()
@common
def peers(home: Path, json_: bool) -> None:
    """List the members, their addresses and when this node last reached them."""
    from crdtmerge.node import figures
    from crdtmerge.sync.records import NodeRecord

    with homes.ledger(home) as ledger:
        contacts = figures.load(ledger.store)
        addresses = {node: NodeRecord.decode(data).addresses for node, data in ledger.store.records()}
        rows: list[dict[str, Any]] = [
            {
                "node": node.hex(),
                "role": role.value if (role := ledger.authority.role(node)) else None,
                "self": node == ledger.id,
                "addresses": list(addresses.get(node, ())),
                "last_contact_ms": contacts[node].success_ms or None,
                "failures": contacts[node].failures,
                "round_trip_ms": contacts[node].round_trip_ms,
            }
            for node in ledger.authority.members()
        ]
    shown = (
        (
            row["node"][:12],
            f"{row['role']} (this node)" if row["self"] else row["role"],
            ", ".join(row["addresses"]) or "unknown",
            _time(row["last_contact_ms"]) if row["last_contact_ms"] else "" if row["self"] else "never",
            str(row["failures"] or ""),
        )
        for row in rows
    )
    columns = ("node", "role", "addresses", "last contact (UTC)", "failures since")
    show(json_, {"peers": rows}, table(*columns, rows=shown))


def _time(ms: int) -> str:
    return datetime.fromtimestamp(min(ms, _LATEST_MS) / 1000, UTC).strftime("%F %T")


@click.command()
@click.argument("name", required=False)
@as_json
def strategies(json_: bool, name: str | None) -> None:
    """List the installed strategies, or show what one needs, takes and comes from.

    Class P computes from the weights alone, E from weights and evidence, S with published coefficients.
    """
    from crdtmerge.strategy import find
    from crdtmerge.strategy import strategies as installed

    found = list(installed().values()) if name is None else [find(name)]
    data = [
        {
            "name": s.name,
            "version": s.version,
            "summary": s.summary,
            "source": s.source,
            "class": s.declared.kind,
            "needs": list(s.declared.words()),
            "needs_base": s.declared.base,
            "scope": s.declared.scope,
            "draws": s.declared.draws,
            "parameters": [{"name": p.name, "default": p.default_text, "doc": p.doc} for p in s.parameters],
        }
        for s in found
    ]
    if name is None:
        shown = table(
            "strategy", "class", "what it does", rows=((s.name, s.declared.kind, s.summary) for s in found)
        )
        show(
            json_,
            {"strategies": data},
            shown,
            "",
            "`crdtmerge strategies NAME` shows one: needs, parameters, source",
        )
        return
    (one,) = found
    takes = ((p.name, p.default_text, p.doc) for p in one.parameters)
    show(
        json_,
        {"strategies": data},
        f"{one.name} version {one.version}, class {one.declared.kind}",
        one.summary,
        f"needs  {', '.join(one.declared.words()) or 'nothing but contributions'}",
        f"source {one.source}",
        *([table("parameter", "default", "meaning", rows=takes)] if one.parameters else []),
    )


@click.command()
@common
def doctor(home: Path, json_: bool) -> None:
    """Check this machine: can it compute the bytes that everybody else computes?"""
    from . import checkup

    findings = checkup.run(home)
    healthy = all(finding.ok for finding in findings)
    data = {
        "healthy": healthy,
        "checks": [{"name": f.name, "ok": f.ok, "detail": f.detail} for f in findings],
    }
    show(
        json_,
        data,
        table("check", "", "detail", rows=((f.name, "ok" if f.ok else "FAILS", f.detail) for f in findings)),
    )
    if not healthy:
        raise click.exceptions.Exit(3)


COMMANDS = (status, log, peers, strategies, doctor)
