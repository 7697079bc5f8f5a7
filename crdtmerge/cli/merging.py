"""Commands that compute and check: merge, verify."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from crdtmerge.errors import CrdtMergeError, UsageError

from . import homes, recipes
from .coefficients import merge_lines
from .screen import common, progress, short, show, size


@click.command()
@click.option("--out", type=click.Path(path_type=Path), help="Folder for the result [default: in the home].")
@click.option("--recipe", "recipe_", help="Another strategy or YAML file than the federation's recipe.")
@click.option("-p", "--parameter", "parameters", multiple=True, metavar="KEY=VALUE", help="With --recipe.")
@click.option("--budget", default="1GiB", show_default=True, help="Memory for tiles.")
@click.option("--threads", type=click.IntRange(1), help="Threads [default: one for each core].")
@click.option("--plan", "plan_only", is_flag=True, help="Say what would be done, and stop.")
@common
def merge(
    home: Path,
    json_: bool,
    out: Path | None,
    recipe_: str | None,
    parameters: tuple[str, ...],
    budget: str,
    threads: int | None,
    plan_only: bool,
) -> None:
    """Compute the merged model of the visible contributions.

    Interrupted, it goes on where it stopped when it is run again. Neither memory nor threads influence
    the result.
    """
    from crdtmerge.resolve import MODEL, passes

    chosen = recipes.read(recipe_, parameters) if recipe_ else None
    if parameters and not recipe_:
        raise UsageError("parameters belong to a recipe: give --recipe too")
    budget_bytes = size(budget)
    with homes.replica(home) as replica:
        made = replica.plan(chosen)
        data: dict[str, object] = {
            "root": made.root.hex(),
            "recipe": made.recipe.digest.hex(),
            "strategy": made.recipe.strategy,
            "contributions": [digest.hex() for digest, _ in made.contributions],
            "excluded": [{"contribution": d.hex(), "reason": reason} for d, reason in made.excluded],
            "tensors": len(made.layout),
            "shared_with_base": list(made.shared),
            "copied": [tensor.name for tensor in made.copied],
            "coefficients": [digest.hex() for digest in made.coefficients],
            "notes": list(made.notes),
        }
        for digest, reason in made.excluded:
            click.echo(f"warning: {short(digest)}… is left out by every replica: {reason}", err=True)
        summary = (
            f"{len(made.contributions)} contributions, {len(made.layout)} tensors, "
            f"{len(made.shared)} of them shared with the base"
        )
        if plan_only:
            said = merge_lines(made.notes, made.coefficients)
            show(json_, data, summary, f"root {data['root']}", f"recipe {made.recipe.strategy}", *said)
            return
        with progress(f"merging {len(made.contributions)}", passes(made), quiet=json_) as done:
            resolved = replica.resolve(
                out, recipe=chosen, budget_bytes=budget_bytes, threads=threads, progress=done
            )
    data |= {"model": resolved.model.hex(), "result": resolved.result.digest.hex()}
    data |= {"file": str(resolved.folder / MODEL), "blocks_read": resolved.blocks_read}
    notes, applied = resolved.result.notes, resolved.result.coefficients
    data |= {"coefficients": [digest.hex() for digest in applied], "notes": list(notes)}
    show(
        json_,
        data,
        summary,
        *merge_lines(notes, applied),
        f"root   {data['root']}",
        f"model  {data['model']}",
        f"file   {data['file']}",
    )


@click.command()
@click.argument("result", required=False, type=click.Path(exists=True, path_type=Path))
@click.option("--proof", type=click.Path(exists=True, path_type=Path), help="A proof from `crdtmerge prove`.")
@click.option("--root", help="The visible root that the proof is checked against.")
@click.option("--absent", is_flag=True, help="The proof should show absence.")
@click.option("--discard", is_flag=True, help="Remove what is corrupt, so that a sync brings it again.")
@common
def verify(
    home: Path,
    json_: bool,
    result: Path | None,
    proof: Path | None,
    root: str | None,
    absent: bool,
    discard: bool,
) -> None:
    """Read everything back and check it: operations, manifests, blocks and merged models.

    With RESULT (a folder that `crdtmerge merge` made) only that is checked, with --proof only the proof.
    """
    if proof is not None:
        _verify_proof(json_, proof, root, present=not absent)
        return
    if result is not None:
        from crdtmerge.resolve import verify_result

        record = verify_result(result)
        data: dict[str, object] = {"model": record.model.hex(), "root": record.root.hex(), "ok": True}
        show(json_, data, f"model {data['model']} under root {data['root']}: every byte is as it was merged")
        return
    with homes.ledger(home) as ledger, progress("verifying", None, quiet=json_):
        problems = list(_problems(ledger.store.verify(discard=discard), home))
    if problems:
        for problem in problems[1:]:
            click.echo(f"error: {problem}", err=True)
        raise problems[0]
    data = {"ok": True, "operations": len(ledger.operations), "problems": []}
    show(json_, data, f"{data['operations']} operations, all content and all results are intact")


def _problems(stored: Iterator[CrdtMergeError], home: Path) -> Iterator[CrdtMergeError]:
    yield from stored
    from crdtmerge.resolve import verify_result

    for folder in sorted((home / "results").glob("*")):
        if folder.is_dir() and folder.suffix != ".part":
            try:
                verify_result(folder)
            except CrdtMergeError as error:
                yield error


def _verify_proof(json_: bool, proof: Path, root: str | None, *, present: bool) -> None:
    from crdtmerge.digest import from_hex
    from crdtmerge.merkle import Proof, check

    if root is None:
        raise UsageError("a proof is checked against a root: give --root")
    parsed = Proof.decode(proof.read_bytes())
    check(parsed, from_hex(root), present=present)
    state = "is" if present else "is not"
    data = {"contribution": parsed.key.hex(), "present": present, "root": root, "ok": True}
    show(json_, data, f"contribution {parsed.key.hex()} {state} under root {root}")


COMMANDS = (merge, verify)
