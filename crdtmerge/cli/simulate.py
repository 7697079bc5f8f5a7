"""The command `simulate`: one seed in detail, or thousands of them."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from crdtmerge.errors import SimulationError

from .screen import as_json, show, table

if TYPE_CHECKING:
    from crdtmerge.simulations.campaign import Totals
    from crdtmerge.simulations.scenario import Scenario


@click.command()
@click.argument("scenario", required=False)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="The seed, or the first.")
@click.option("--seeds", type=click.IntRange(1), metavar="N", help="Run a campaign of N seeds.")
@click.option("--jobs", type=click.IntRange(1), default=os.cpu_count() or 1, help="Processes of a campaign.")
@click.option(
    "--results",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Keep finished seeds in this file, and go on from it.",
)
@click.option("--report", type=click.Path(path_type=Path, file_okay=False), help="Write plots and JSON here.")
@click.option("--without", multiple=True, metavar="WHAT", help="Leave out a kind of incident, or `enemies`.")
@as_json
def simulate(
    json_: bool,
    scenario: str | None,
    seed: int,
    seeds: int | None,
    jobs: int,
    results: Path | None,
    report: Path | None,
    without: tuple[str, ...],
) -> None:
    """Run the protocol in virtual time, where everything goes wrong, and check what it promises.

    SCENARIO is a TOML file or the name of one that comes along; without it, those are listed. One seed is
    one history: the same line replays it to the bit.
    """
    from crdtmerge.simulations.scenario import load

    if scenario is None:
        _list(json_)
        return
    loaded = load(scenario)
    loaded.check_left_out(without)
    if seeds is None:
        _one(loaded, seed, json_, report, without)
    else:
        _many(loaded, range(seed, seed + seeds), json_, jobs, results, report, without)


def _list(json_: bool) -> None:
    from crdtmerge.simulations.scenario import read, shipped

    about = {name: read(text, name).about for name, text in shipped().items()}
    show(json_, {"scenarios": about}, table("scenario", "what it is about", rows=about.items()))


def _one(scenario: Scenario, seed: int, json_: bool, report: Path | None, without: tuple[str, ...]) -> None:
    from crdtmerge.simulations.campaign import row_of
    from crdtmerge.simulations.report import of_one, write
    from crdtmerge.simulations.run import simulate

    started_s = time.perf_counter()
    outcome = simulate(scenario, seed, without=without)
    took_s = time.perf_counter() - started_s
    if report is not None:
        write(report, of_one(outcome))
    settled = "never" if outcome.settled_ms is None else f"after {outcome.settled_ms / 1000:g} s"
    show(
        json_,
        {**row_of(outcome), "bytes_per_host": outcome.bytes_per_host, "timeline": outcome.timeline},
        table("s", "what happened", rows=((f"{at / 1000:.1f}", what) for at, what in outcome.timeline)),
        "",
        f"{outcome.hosts} hosts, {outcome.enemies} of them enemies; {outcome.elapsed_ms / 1000:.0f} s of "
        f"virtual time in {took_s:.1f} s",
        f"{outcome.sent} messages, {outcome.bytes / 1e6:.2f} MB; " + _faults(outcome.faults),
        f"agreed on {outcome.operations} operations and {outcome.contributions} contributions {settled}",
        *([f"merged model {outcome.merged}, the same on every host"] if outcome.merged else []),
        f"history {outcome.trace}",
    )
    _fail_on({outcome.seed: outcome.failure} if outcome.failure else {}, scenario.name, without)


def _many(
    scenario: Scenario,
    seeds: range,
    json_: bool,
    jobs: int,
    results: Path | None,
    report: Path | None,
    without: tuple[str, ...],
) -> None:
    from crdtmerge.simulations.campaign import campaign
    from crdtmerge.simulations.report import of_many, write

    started_s = time.perf_counter()
    with _bar(len(seeds), quiet=json_) as advance:
        totals = campaign(scenario, seeds, jobs=jobs, results=results, without=without, progress=advance)
    if report is not None:
        write(report, of_many(totals))
    data = totals.data()
    show(
        json_,
        data,
        table("what went wrong", "times", rows=((w, f"{n:,}") for w, n in data["faults"].items())),
        "",
        f"{totals.seeds} seeds in {time.perf_counter() - started_s:.0f} s: "
        f"{data['simulated_years']} years of virtual time, {data['simulated_node_years']} node-years, "
        f"{data['faults_total']:,} faults",
        f"{totals.sent:,} messages; from the last fault to agreement: {_settled(data)}; "
        f"{totals.merges} merges compared",
        f"{len(totals.failures)} seeds broke a promise",
        f"fingerprint {data['fingerprint']}",
    )
    _fail_on(totals.failures, scenario.name, without)


def _settled(data: dict[str, Any]) -> str:
    return ", ".join(f"{name} {seconds:g} s" for name, seconds in data["settled_s"].items())


def _faults(faults: dict[str, int]) -> str:
    return ", ".join(f"{what}: {count}" for what, count in faults.items()) or "nothing went wrong"


def _fail_on(failures: dict[int, str], scenario: str, without: tuple[str, ...]) -> None:
    """Name the promises that were broken, and the lines that replay them."""
    from crdtmerge.simulations.campaign import replay

    if not failures:
        return
    left_out = "".join(f" --without {what}" for what in without)
    told = [f"{failures[seed]}\n  replay: {replay(scenario, seed)}{left_out}" for seed in sorted(failures)]
    raise SimulationError("\n".join(told), promise=failures[min(failures)].partition(":")[0])


@contextmanager
def _bar(total: int, *, quiet: bool) -> Iterator[Callable[[Totals], None]]:
    """Show how many seeds are done on standard error; lines now and then where that is no terminal."""
    if quiet or not sys.stderr.isatty():
        told_s = time.perf_counter()

        def tell(totals: Totals) -> None:
            nonlocal told_s
            if not quiet and time.perf_counter() - told_s > 30:
                told_s = time.perf_counter()
                click.echo(f"{totals.seeds} of {total} seeds, {len(totals.failures)} failed", err=True)

        yield tell
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("seeds", total=total)
        yield lambda totals: bar.update(
            task, completed=totals.seeds, description=f"seeds ({len(totals.failures)} failed)"
        )


COMMANDS = (simulate,)
