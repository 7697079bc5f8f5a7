"""Campaigns count, go on where they were, and leave reports; the command does it from one line."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from crdtmerge.cli import main
from crdtmerge.errors import UsageError
from crdtmerge.simulations import campaign as campaigns
from crdtmerge.simulations import chart, report
from crdtmerge.simulations.campaign import Totals, campaign
from crdtmerge.simulations.run import simulate
from crdtmerge.simulations.scenario import Scenario, read

TEXT = """
about = "Small."
nodes = 3
duration_s = 60
[network]
loss_percent = 10
[work]
contribute = 2
[faults]
power_cut = 1
partition = 1
"""
BROKEN = "nodes = 3\nduration_s = 40\nsettle_s = 0\n[work]\ncontribute = 9\n[faults]\npartition = 5\n"


def parsed(plot: str) -> ElementTree.Element:
    """Parse a plot of ours."""
    return ElementTree.fromstring(plot)  # noqa: S314


@pytest.fixture
def small() -> Scenario:
    return read(TEXT, "small")


def test_an_interrupted_campaign_goes_on_with_what_is_missing(
    small: Scenario, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = campaign(small, range(4))
    results = tmp_path / "results.jsonl"
    campaign(small, range(3), results=results)
    results.write_bytes(results.read_bytes()[:-20])  # the last line was cut short
    run: list[int] = []

    def counted(scenario: Scenario, seed: int, *, without: tuple[str, ...]) -> object:
        run.append(seed)
        return simulate(scenario, seed, without=without)

    monkeypatch.setattr(campaigns, "simulate", counted)
    resumed = campaign(small, range(4), results=results)
    assert run == [2, 3]
    assert resumed.data() == whole.data()
    assert campaign(small, range(4), results=results).data() == whole.data()
    assert run == [2, 3]


def test_several_processes_find_what_one_finds(small: Scenario) -> None:
    assert campaign(small, range(3), jobs=2).data() == campaign(small, range(3)).data()


def test_results_of_something_else_are_refused(small: Scenario, tmp_path: Path) -> None:
    results = tmp_path / "results.jsonl"
    campaign(small, range(1), results=results)
    with pytest.raises(UsageError, match="another scenario"):
        campaign(small, range(1), results=results, without=["partition"])


def test_a_campaign_counts_simulated_time_and_faults(small: Scenario) -> None:
    outcomes = [simulate(small, seed) for seed in range(3)]
    seen: list[int] = []
    totals = campaign(small, range(3), progress=lambda totals: seen.append(totals.seeds))
    assert seen == [1, 2, 3]
    assert totals.elapsed_ms == sum(outcome.elapsed_ms for outcome in outcomes) > 3 * 60_000
    assert totals.node_ms == 3 * totals.elapsed_ms
    assert totals.faults["partition"] == 3
    assert totals.faults["power_cut"] == 3
    assert totals.sent == sum(outcome.sent for outcome in outcomes)
    assert totals.failures == {}


def test_a_failure_prints_the_line_that_replays_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "broken.toml"
    path.write_text(BROKEN)
    with pytest.raises(SystemExit) as end:
        main(["simulate", str(path), "--seeds", "4", "--jobs", "1"])
    assert end.value.code == 6
    (line, *_) = [line for line in capsys.readouterr().err.splitlines() if "replay: " in line]
    arguments = line.partition("replay: crdtmerge ")[2].split()
    with pytest.raises(SystemExit) as end:
        main([*arguments, "--json"])
    assert end.value.code == 6
    outcome = json.loads(capsys.readouterr().out.splitlines()[0])
    assert outcome["failure"].startswith("G3")


def test_the_command_runs_one_seed_and_writes_a_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, folder = tmp_path / "small.toml", tmp_path / "report"
    path.write_text(TEXT)
    with pytest.raises(SystemExit) as end:
        main(["simulate", str(path), "--seed", "1", "--report", str(folder), "--json"])
    assert end.value.code == 0
    outcome = json.loads(capsys.readouterr().out)
    assert (outcome["seed"], outcome["failure"], outcome["hosts"]) == (1, "", 3)
    assert json.loads((folder / "outcome.json").read_text())["trace"] == outcome["trace"]
    plots = sorted(folder.glob("*.svg"))
    assert [plot.name for plot in plots] == ["bytes.svg", "convergence.svg", "traffic.svg"]
    for plot in plots:
        parsed(plot.read_text())


def test_the_command_lists_scenarios_and_refuses_unknown_words(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["simulate", "--json"])
    assert "swarm" in json.loads(capsys.readouterr().out)["scenarios"]
    for arguments in (["nowhere"], ["swarm", "--without", "gravity"]):
        with pytest.raises(SystemExit) as end:
            main(["simulate", *arguments])
        assert end.value.code == 2


def test_a_report_of_a_campaign_is_well_formed(small: Scenario) -> None:
    files = report.of_many(campaign(small, range(2)))
    assert json.loads(files["campaign.json"])["seeds"] == 2
    for name in ("settled.svg", "faults.svg"):
        parsed(files[name])
    parsed(report.of_many(Totals("empty"))["settled.svg"])


@pytest.mark.parametrize(
    ("low", "high"), [(0, 0), (0, 1), (0, 0.003), (0, 7), (0, 13), (3, 1800), (0, 1e6), (5, 123456789)]
)
def test_ticks_are_few_and_reach_around_everything(low: float, high: float) -> None:
    ticks = chart.ticks(low, high)
    assert 2 <= len(ticks) <= 12
    assert ticks[0] <= low
    assert ticks[-1] >= high
    assert ticks == sorted(set(ticks))


def test_a_plot_escapes_what_it_is_given() -> None:
    plot = chart.lines("<&>", {"a<b": [(0, 1), (1, 2)]}, x="x", y="y", shades=[(0, 1, "<s>")], steps=True)
    texts = [element.text for element in parsed(plot).iter() if element.text]
    assert {"<&>", "a<b", "<s>"} <= set(texts)
