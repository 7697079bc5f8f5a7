"""Commands about contributions: contribute, fit, retract, block, prove."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

from crdtmerge.digest import Digest
from crdtmerge.ledger import Ledger
from crdtmerge.op import Operation

from . import homes
from .screen import choose, common, pairs, progress, short, show


@click.command()
@click.argument("model", type=click.Path(exists=True, path_type=Path))
@click.option("--label", help="A name for people; recipes can select by it.")
@click.option("--weight", default="1", show_default=True, help="Declared weight (decimal).")
@click.option(
    "--metric", "metrics", multiple=True, metavar="NAME=NUMBER", help="For example num_examples=1200."
)
@click.option("--meta", "metadata", multiple=True, metavar="KEY=TEXT", help="Anything worth telling.")
@click.option("--role", help="What a method needs it for: task, safety, forget, retain; as --meta role=…")
@click.option("--topic", help="What it is about, as --meta topic=…: methods take members of one together.")
@click.option(
    "--evidence",
    multiple=True,
    type=click.Path(exists=True, path_type=Path),
    help="File of statistics about it (Fisher, Gram matrices, …); repeatable.",
)
@click.option("--in-place", is_flag=True, help="Serve the file from where it is; do not copy it.")
@click.option("--any-float", is_flag=True, help="Accept another floating dtype than the base's.")
@click.option("--delta", is_flag=True, help="The file holds differences from the base.")
@common
def contribute(
    home: Path,
    json_: bool,
    model: Path,
    label: str | None,
    weight: str,
    metrics: tuple[str, ...],
    metadata: tuple[str, ...],
    role: str | None,
    topic: str | None,
    evidence: tuple[Path, ...],
    in_place: bool,
    any_float: bool,
    delta: bool,
) -> None:
    """Add a model to what the federation merges.

    MODEL is a safetensors file, a model directory or a PEFT adapter directory. It is checked against the
    base before anything is announced: names, shapes, dtypes, finite values; evidence likewise, and that it
    was computed for these very weights if its file says for which.
    """
    from crdtmerge.manifest import Kind

    with homes.replica(home) as replica, progress("reading", None, quiet=json_) as done:
        digest = replica.contribute(
            model,
            kind=Kind.DELTA if delta else Kind.FULL,
            label=label,
            weight=weight,
            metrics=dict(pairs(metrics, "a metric")),
            metadata=pairs(metadata, "metadata"),
            role=role,
            topic=topic,
            evidence=evidence or None,
            reference=in_place,
            any_float=any_float,
            progress=done,
        )
        manifest = replica.store.manifest(digest)
        roots = {tensor.name: tensor.root for tensor in replica.base.tensors}
        kinds = sorted({entry.name.partition("/")[0] for entry in manifest.evidence})
        shared = sum(roots.get(tensor.name) == tensor.root for tensor in manifest.tensors)
        data = {
            "contribution": digest.hex(),
            "tensors": len(manifest.tensors),
            "shared_with_base": shared,
            "bytes": manifest.content_bytes,
            "evidence": kinds,
            "root": replica.root.hex(),
        }
    show(
        json_,
        data,
        f"contribution {digest.hex()}",
        f"{data['tensors']} tensors, {shared} of them shared with the base",
        *([f"evidence {', '.join(kinds)}"] if kinds else []),
        f"visible root {data['root']}",
    )


@click.command()
@click.argument("model", type=click.Path(exists=True, path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@common
def fit(home: Path, json_: bool, model: Path, out: Path) -> None:
    """Make a model with more or fewer tokens fit the base, as a new file.

    Embeddings and other tensors that differ from the base in their number of rows keep the rows that both
    have; rows that only the base has are filled in from it. That is right where the tokenizer only appended
    tokens. Contribute OUT instead of MODEL.
    """
    from crdtmerge.store import fit_vocabulary

    with homes.replica(home) as replica, progress("writing", None, quiet=json_) as done:
        names, rows, wanted = fit_vocabulary(replica.store, replica.whole_base(), model, out, progress=done)
    data = {"out": str(out), "tensors": names, "rows": rows, "wanted": wanted}
    show(json_, data, f"{out}: {rows} rows made {wanted} in {', '.join(names)}")


@click.command()
@click.argument("contribution")
@common
def retract(home: Path, json_: bool, contribution: str) -> None:
    """Withdraw a contribution, named by the first digits of its digest."""
    _take_out(home, json_, contribution, Ledger.retract, "retracted")


@click.command()
@click.argument("contribution")
@common
def block(home: Path, json_: bool, contribution: str) -> None:
    """Refuse a contribution's content for good, whoever adds it again (admins)."""
    _take_out(home, json_, contribution, Ledger.block, "blocked")


def _take_out(
    home: Path, json_: bool, contribution: str, say: Callable[[Ledger, Digest], Operation], done: str
) -> None:
    with homes.ledger(home) as ledger:
        digest = choose(contribution, ledger.visible, "visible contribution")
        operation = say(ledger, digest)
        data = {done: digest.hex(), "operation": operation.id.hex(), "root": ledger.root.hex()}
    show(json_, data, f"{done} {digest.hex()}", f"visible root {data['root']}")


@click.command()
@click.argument("contribution")
@click.option("--out", type=click.Path(path_type=Path), help="Write the proof to this file.")
@common
def prove(home: Path, json_: bool, contribution: str, out: Path | None) -> None:
    """Prove that a contribution is, or is not, under the visible root.

    Name it by its whole digest, or by the first digits if it is known here. Anybody can check the proof
    against the root with `crdtmerge verify --proof FILE --root ROOT`.
    """
    from crdtmerge.digest import from_hex

    with homes.ledger(home) as ledger:
        digest = (
            from_hex(contribution)
            if len(contribution) == 64
            else choose(contribution, _known(ledger), "known contribution")
        )
        present = digest in ledger.view.contributions
        proof = ledger.prove(digest)
        if out is not None:
            out.write_bytes(proof.encode())
        data = {
            "contribution": digest.hex(),
            "present": present,
            "root": ledger.root.hex(),
            "proof": proof.encode().hex(),
        }
    verb = "is" if present else "is not"
    where = f"proof written to {out}" if out else f"proof {data['proof']}"
    show(json_, data, f"contribution {short(digest)}… {verb} under root {data['root']}", where)


def _known(ledger: Ledger) -> list[Digest]:
    return sorted(set(ledger.visible) | set(ledger.store.manifests()))


COMMANDS = (contribute, fit, retract, block, prove)
