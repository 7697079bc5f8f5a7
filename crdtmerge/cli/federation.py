"""Commands about who is in a federation and what it computes: init, invite, join, ban, recipe."""

from __future__ import annotations

from pathlib import Path

import click
import yaml

from crdtmerge.errors import UsageError

from . import homes, recipes
from .mergekit import from_mergekit, named
from .screen import common, progress, short, show


@click.command()
@click.option(
    "--base",
    type=click.Path(exists=True, path_type=Path),
    required=True,
    help="The model that all fine-tune.",
)
@click.option(
    "--recipe", "recipe_", default="weight_average", show_default=True, help="Strategy or YAML file."
)
@click.option("-p", "--parameter", "parameters", multiple=True, metavar="KEY=VALUE", help="Of the strategy.")
@click.option("--per-author", type=click.IntRange(1), help="Visible contributions of one author that count.")
@click.option("--in-place", is_flag=True, help="Serve the base from where it is; do not copy it.")
@common
def init(
    home: Path,
    json_: bool,
    base: Path,
    recipe_: str,
    parameters: tuple[str, ...],
    per_author: int | None,
    in_place: bool,
) -> None:
    """Found a federation on a base model."""
    from crdtmerge.node import identity
    from crdtmerge.op import Policy
    from crdtmerge.replica import Replica

    chosen = recipes.read(recipe_, parameters)
    with (
        progress("reading the base", None, quiet=json_) as done,
        Replica.create(
            home,
            base=base,
            recipe=chosen,
            policy=Policy(visible_per_author_max=per_author),
            reference=in_place,
            progress=done,
        ) as replica,
    ):
        identity.create_ca_secret(home)
        data = {
            "federation": replica.operations.federation.hex(),
            "node": replica.id.hex(),
            "base": replica.base.digest.hex(),
            "tensors": len(replica.base.tensors),
            "home": str(home),
        }
    show(
        json_,
        data,
        f"federation {data['federation']}",
        f"this node  {data['node']}",
        f"base       {data['base']} ({data['tensors']} tensors)",
        "next: crdtmerge serve --listen HOST:PORT, where others reach this machine; then crdtmerge invite",
    )


@click.command()
@click.option(
    "--address",
    "addresses",
    multiple=True,
    metavar="HOST:PORT",
    help="Where the newcomer reaches this node [default: where it was last served].",
)
@click.option("--role", type=click.Choice(["member", "admin"]), default="member", show_default=True)
@click.option("--days", type=click.IntRange(1, 30), default=7, show_default=True, help="Until it expires.")
@common
def invite(home: Path, json_: bool, addresses: tuple[str, ...], role: str, days: int) -> None:
    """Make a ticket that lets one node join. Keep it secret until it is used."""
    from crdtmerge.node.address import Address
    from crdtmerge.node.invites import invite as make
    from crdtmerge.op import Role

    with homes.ledger(home) as ledger:
        ticket = str(
            make(
                home,
                ledger,
                addresses=tuple(Address.parse(address) for address in addresses),
                role=Role(role),
                life_ms=days * 24 * 3600 * 1000,
            )
        )
    show(json_, {"ticket": ticket, "role": role, "days": days}, ticket)


@click.command()
@click.argument("ticket")
@click.option("--proxy", metavar="URL", help="HTTP CONNECT proxy for the first contact.")
@common
def join(home: Path, json_: bool, ticket: str, proxy: str | None) -> None:
    """Join the federation that TICKET invites to."""
    from crdtmerge.node import config
    from crdtmerge.node.join import run
    from crdtmerge.node.ticket import parse

    run(home, parse(ticket), config.load(home, proxy=proxy))
    with homes.ledger(home) as ledger:
        data = {
            "federation": ledger.operations.federation.hex(),
            "node": ledger.id.hex(),
            "home": str(home),
        }
    show(
        json_,
        data,
        f"joined federation {data['federation']}",
        f"this node         {data['node']}",
        "next: crdtmerge serve --listen HOST:PORT, where others reach this machine",
    )


@click.command()
@click.argument("node")
@click.option("--keep", multiple=True, metavar="OPERATION", help="Their operations that stay honoured.")
@common
def ban(home: Path, json_: bool, node: str, keep: tuple[str, ...]) -> None:
    """Throw a node out (admins): all it said is void but what --keep names and what precedes it."""
    from crdtmerge.digest import Digest, from_hex
    from crdtmerge.keys import NodeId

    from .screen import choose

    with homes.ledger(home) as ledger:
        target = NodeId(
            choose(node, [Digest(member) for member in ledger.authority.members()], "member", "peers")
        )
        operation = ledger.ban(target, keep=[from_hex(kept) for kept in keep])
        data = {"banned": target.hex(), "operation": operation.id.hex(), "root": ledger.root.hex()}
    show(json_, data, f"banned {target.hex()}", f"visible root {data['root']}")


@click.command()
@click.argument("strategy", required=False)
@click.option("-p", "--parameter", "parameters", multiple=True, metavar="KEY=VALUE", help="Of the strategy.")
@click.option(
    "--mergekit",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Take the recipe from a mergekit configuration, whose models are labels of visible contributions.",
)
@common
def recipe(
    home: Path, json_: bool, strategy: str | None, parameters: tuple[str, ...], mergekit: Path | None
) -> None:
    """Show what the federation computes, or change it (admins).

    STRATEGY is a strategy's name or a recipe in YAML.
    """
    if mergekit is not None and (strategy is not None or parameters):
        raise UsageError("a mergekit configuration says it all: give no strategy and no parameters beside it")
    if strategy is None and mergekit is None:
        with homes.ledger(home) as ledger:
            current, operation = ledger.view.recipe, ledger.view.recipe_id
    else:
        with homes.replica(home) as replica:
            if mergekit is None:
                chosen = recipes.read(strategy or "", parameters)
            else:
                chosen = from_mergekit(recipes.document(mergekit), named(replica))
            operation = replica.set_recipe(chosen).id
            replica.refresh()
            current = replica.view.recipe
            in_force = replica.view.recipe_id == operation
            if not in_force:
                click.echo("warning: a recipe of somebody with more authority stays in force", err=True)
    described = recipes.describe(current)
    data = {"recipe": described, "digest": current.digest.hex(), "operation": operation.hex()}
    show(
        json_,
        data,
        yaml.safe_dump(described, sort_keys=False).rstrip(),
        f"# recipe {short(current.digest)}…, set by operation {short(operation)}…",
    )


@click.command()
@click.option("--at-once", is_flag=True, help="Forget the old key now: it was stolen, perhaps.")
@common
def rotate(home: Path, json_: bool, at_once: bool) -> None:
    """Replace the key of this node's TLS connections; its name and its contributions stay.

    A running node goes over to the new key within seconds. Those who have not heard of it yet still reach it
    under the old one, for up to 30 days; with --at-once they have to wait until it calls them. If
    identity.key was stolen this is no help: let an admin ban this node, keeping what it said before, and join
    anew from another home.
    """
    from crdtmerge.node import certificate, lock, wardrobe
    from crdtmerge.node.renewal import Renewal

    with homes.ledger(home) as ledger:
        wardrobe.rotate(home, at_once=at_once)
        served = lock.holder(home) is not None
        data: dict[str, object] = {"served": served, "old_kept": not at_once}
        lines = ["the running node goes over to a new key now"]
        if not served:
            made = Renewal(home, ledger.store, ledger.key, ledger.genesis).credentials()
            leaf = certificate.read(made.leaf, made.federation)
            data |= {"host": leaf.host, "expires_ms": leaf.expires_ms}
            lines = [f"new key {leaf.host.partition('.')[0]}; serve this home so that others hear of it"]
    show(json_, data, *lines)


COMMANDS = (init, invite, join, ban, recipe, rotate)
