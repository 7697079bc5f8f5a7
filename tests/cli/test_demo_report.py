"""The demo's report: which models there were, who had them, and whether merging paid."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest
from rich.console import Console

from crdtmerge.demo.report import Report, Stage
from crdtmerge.errors import DemoError

A, B, C = ("aa" * 32, "bb" * 32, "cc" * 32)


def told(merged: float = 90.0) -> Report:
    split = Stage("split", {"n1": A, "n2": B}, {"n1": A, "n2": B}, {"n1": 80.0, "n2": 70.0})
    healed = Stage("healed", {"n1": C, "n2": C}, {"n1": C, "n2": C}, {"n1": merged, "n2": merged})
    return Report(0, nodes=2, peers=2, tested=500, base=75.0, alone=[60.0, 70.0], stages=[split, healed])


def test_each_different_model_of_a_stage_is_listed_once_with_its_holders() -> None:
    assert told().merged("split") == {"n1": 80.0, "n2": 70.0}
    assert told().merged("healed") == {"n1, n2": 90.0}


def test_merging_pays_when_it_beats_the_base_and_the_mean_peer_by_ten_points() -> None:
    told(75.1).check()
    for too_little in (75.0, 74.0):
        with pytest.raises(DemoError, match="merging did not pay"):
            told(too_little).check()


def test_a_strong_base_does_not_hide_a_small_gain_over_the_peers() -> None:
    report = told(84.0)
    report.alone = [74.0, 74.5]
    with pytest.raises(DemoError, match=r"the mean peer 74\.2 %"):
        report.check()


def test_the_tables_name_every_accuracy_root_and_model() -> None:
    console = Console(width=120)
    with console.capture() as captured:
        for table in told().tables():
            console.print(table)
    text = captured.get()
    for word in ("75.0 %", "65.0 %", "90.0 %", "merged, split (n2)", A[:12], B[:12], C[:12]):
        assert word in text


def test_the_report_is_plain_json() -> None:
    assert json.loads(json.dumps(asdict(told())))["stages"][1]["models"] == {"n1": C, "n2": C}
