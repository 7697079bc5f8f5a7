"""A few seeds of every scenario: whatever goes wrong, all promises hold and all correct nodes agree."""

from __future__ import annotations

import pytest

from crdtmerge.simulations.byzantine import BEHAVIOURS
from crdtmerge.simulations.campaign import replay, row_of
from crdtmerge.simulations.plan import FAULTS, WORK
from crdtmerge.simulations.run import Outcome, simulate
from crdtmerge.simulations.scenario import load, read


def kept(scenario: str, seed: int) -> Outcome:
    """Simulate, and show the line that replays it if a promise was broken."""
    outcome = simulate(load(scenario), seed)
    assert outcome.failure == "", replay(scenario, seed)
    assert outcome.settled_ms is not None
    return outcome


@pytest.mark.parametrize("seed", [0, 1, 2, 3, 6, 7])
def test_all_promises_hold_while_everything_goes_wrong(seed: int) -> None:
    kept("swarm", seed)


@pytest.mark.parametrize("seed", [1, 4])
def test_all_hosts_compute_the_same_bytes_whatever_went_wrong(seed: int) -> None:
    assert len(kept("merge", seed).merged) == 64


def test_nodes_that_come_and_go_all_the_time_agree_in_the_end() -> None:
    outcome = kept("churn", 3)
    assert outcome.hosts > 8, "nobody came by invitation"
    assert outcome.faults["power_cut"] >= 10


def only(behaviour: str) -> str:
    """A scenario of five nodes of which one does one thing only."""
    return f"""
        nodes = 4
        duration_s = 240
        settle_s = 3600
        [work]
        contribute = 4
        retract = 1
        block = 1
        [faults]
        power_cut = 2
        [enemies]
        count = 1
        behaviours = ["{behaviour}"]
    """


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
def test_an_enemy_breaks_no_promise_by(behaviour: str) -> None:
    scenario = read(only(behaviour), behaviour)
    for seed in range(12):
        outcome = simulate(scenario, seed)
        assert outcome.failure == "", f"seed {seed}"
        if outcome.faults.get(f"enemy: {behaviour}"):
            return
    pytest.fail("it never did")


@pytest.mark.parametrize("what", [*FAULTS, *WORK])
def test_every_kind_of_incident_happens(what: str) -> None:
    table = "faults" if what in FAULTS else "work"
    around = {"work": "contribute = 2", "faults": ""}
    if what == "unban":
        around["work"] += "\nban = 3"
    if what != "contribute":
        around[table] += f"\n{what} = 3"
    text = f"nodes = 4\nadmins = 1\nduration_s = 120\nlasting_s = [5, 20]\n[work]\n{around['work']}\n"
    scenario = read(f"{text}[faults]\n{around['faults']}\n", what)
    for seed in range(4):
        outcome = simulate(scenario, seed)
        assert outcome.failure == "", f"seed {seed}"
        if what in {text.partition(" for ")[0] for _, text in outcome.timeline}:
            return
    pytest.fail("nobody was ever able to")


def test_one_seed_has_one_outcome_and_another_seed_another() -> None:
    scenario = load("swarm")
    first, again, other = (row_of(simulate(scenario, seed)) for seed in (1, 1, 7))
    assert first == again
    assert first["trace"] != other["trace"]


def test_leaving_something_out_leaves_the_rest_of_the_plan_as_it_was() -> None:
    scenario = load("swarm")
    whole, part = scenario.plan(9), scenario.plan(9, without=["contribute", "enemies"])
    assert part.incidents == tuple(one for one in whole.incidents if one.what != "contribute")
    assert (part.enemies, part.nodes, part.conditions) == (0, whole.nodes, whole.conditions)
