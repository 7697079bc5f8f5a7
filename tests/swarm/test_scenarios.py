"""Scenarios are read strictly, and those that come along are sound."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtmerge.errors import UsageError
from crdtmerge.simulations.plan import FAULTS, WORK, Span
from crdtmerge.simulations.scenario import load, read, shipped


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("nods = 4", "'nods' in scenario is unknown; known are about"),
        ("[faults]\nplague = 1", "'plague' in faults is unknown"),
        ("[work]\ncrash = 1", "'crash' in work is unknown"),
        ("[network]\nloss = 1", "'loss' in network is unknown"),
        ("[enemies]\nbehaviours = ['smile']", "'smile' in behaviours is unknown"),
        ("[[event]]\ndo = 'dance'", "an event does 'dance'"),
        ("nodes = [5, 2]", "the lowest comes first"),
        ("nodes = -1", "wanted a number or [lowest, highest]"),
        ("nodes = true", "wanted a number or [lowest, highest]"),
        ("nodes = [1, 2, 3]", "wanted a number or [lowest, highest]"),
        ("settle_s = 'soon'", "wanted int"),
        ("nodes = ", "scenario s: "),
    ],
)
def test_what_is_wrong_in_a_scenario_is_named(text: str, wrong: str) -> None:
    with pytest.raises(UsageError) as error:
        read(text, "s")
    assert wrong in str(error.value)


def test_a_scenario_that_is_not_there_is_answered_with_those_that_are() -> None:
    with pytest.raises(UsageError, match=r"one of .*swarm"):
        load("nowhere")


def test_a_scenario_is_found_by_its_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("about = 'mine'\nnodes = 2\n")
    assert load(str(path)).about == "mine"


@pytest.mark.parametrize("name", shipped())
def test_a_shipped_scenario_says_what_it_is_about_and_can_be_planned(name: str) -> None:
    scenario = load(name)
    assert scenario.about.endswith(".")
    for seed in range(20):
        plan = scenario.plan(seed)
        assert plan.incidents == tuple(sorted(plan.incidents, key=lambda one: one.at_ms))
        assert all(0 <= one.at_ms <= plan.duration_ms for one in plan.incidents)


def test_the_campaign_has_every_kind_of_fault_and_work_and_every_enemy() -> None:
    scenario = load("swarm")
    assert set(scenario.faults) == set(FAULTS)
    assert set(scenario.work) == set(WORK)
    assert scenario.enemies.high > 0


@given(st.integers(0, 1 << 40))
def test_a_plan_is_a_function_of_the_seed_and_stays_within_its_spans(seed: int) -> None:
    scenario = load("swarm")
    plan = scenario.plan(seed)
    assert plan == scenario.plan(seed)
    assert scenario.nodes.low <= plan.nodes <= scenario.nodes.high
    for what, span in {**scenario.work, **scenario.faults}.items():
        assert span.low <= sum(one.what == what for one in plan.incidents) <= span.high


def test_an_event_happens_at_its_time_in_every_seed() -> None:
    text = "nodes = 3\n[[event]]\ndo = 'partition'\nat_s = 7\nfor_s = 9\nsides = 3\n"
    for seed in range(3):
        (incident,) = read(text, "s").plan(seed).incidents
        assert (incident.at_ms, incident.for_ms, incident.sides) == (7000, 9000, 3)


def test_a_span_draws_all_of_its_numbers() -> None:
    from crdtmerge.sync.chance import Chance

    chance = Chance(b"span")
    assert {Span(2, 4).draw(chance) for _ in range(50)} == {2, 3, 4}
