"""Commands that run for a while: serve, demo."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import click

from .screen import as_json, common


@click.command()
@click.option(
    "--listen", metavar="HOST:PORT", help="Where the socket is, port 0 for any [default: 127.0.0.1:7707]."
)
@click.option(
    "--advertise",
    multiple=True,
    metavar="HOST:PORT",
    help="What other nodes are told [default: as --listen].",
)
@click.option("--proxy", metavar="URL", help="HTTP CONNECT proxy for outgoing connections.")
@click.option("--period", type=float, metavar="SECONDS", help="Between two rounds of anti-entropy.")
@common
def serve(
    home: Path,
    json_: bool,
    listen: str | None,
    advertise: tuple[str, ...],
    proxy: str | None,
    period: float | None,
) -> None:
    """Run the node: exchange operations and models with the federation until interrupted.

    Others fetch from this node what is contributed here, so they have to reach it: let it listen on an
    address of this machine that they can dial, or say with --advertise which one leads to it. All of this can
    stand in config.toml in the home.
    """
    from crdtmerge.node.config import load
    from crdtmerge.node.serve import Serving, run

    config = load(home, listen=listen, advertise=list(advertise) or None, proxy=proxy, period_s=period)

    def ready(serving: Serving) -> None:
        told = ", ".join(map(str, serving.addresses))
        event = {"event": "serving", "node": serving.node.hex(), "address": str(serving.listen)}
        click.echo(json.dumps(event) if json_ else f"serving on {serving.listen}, told to others: {told}")

    run(home, config, ready)


@click.command()
@click.option("--dir", "directory", type=click.Path(path_type=Path), help="Keep everything in this folder.")
@click.option("--nodes", type=click.IntRange(4, 16), default=4, show_default=True)
@click.option("--peers", type=click.IntRange(8, 32), default=8, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@as_json
def demo(json_: bool, directory: Path | None, nodes: int, peers: int, seed: int) -> None:
    """Train real peers, gossip between real processes, split the network, heal it, and converge."""
    from crdtmerge.demo import story

    if directory is not None:
        directory.mkdir(parents=True, exist_ok=True)
        story.main(directory, seed=seed, nodes=nodes, peers=peers, json_=json_)
        return
    with tempfile.TemporaryDirectory(prefix="crdtmerge-demo-") as folder:
        story.main(Path(folder), seed=seed, nodes=nodes, peers=peers, json_=json_)


COMMANDS = (serve, demo)
