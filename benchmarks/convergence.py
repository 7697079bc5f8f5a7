"""How fast, and at what cost, federations come to agree: 2 to 10 000 nodes, and whatever stands in their way.

    python benchmarks/convergence.py [SUITE …] [--nodes N] [--orderings N] [--report FOLDER]

    orderings    every node of N receives the same contributions in an order of its own: one root, one model
    partitions   N nodes in ten parts that work on apart, and heal
    strategies   every installed strategy: do all nodes compute the same bytes?
    scaling      2 to 50 nodes: time, messages and bytes per node
    loss         N nodes while 0 to 40 % of all messages are lost
    churn        N nodes of which one loses power every five seconds
    repeated     N nodes that are split again and again
    large        1000 nodes, every one of them the whole machine
    crowd        10 000 nodes: the dissemination alone (`crdtmerge.simulations.spread`)

Times are virtual, in seconds, unless they are called CPU. One way takes 10 to 150 ms. A seed is a history:
all figures but those of the CPU come out the same everywhere.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from crdtmerge.digest import Digest
from crdtmerge.errors import CrdtMergeError
from crdtmerge.keys import SigningKey
from crdtmerge.op import Add, Operation
from crdtmerge.recipe import Recipe
from crdtmerge.simulations import chart, report
from crdtmerge.simulations.host import Host
from crdtmerge.simulations.large import (
    SMALL,
    add,
    gathered,
    of_small_models,
    remembering,
    settle,
    took,
    traffic,
)
from crdtmerge.simulations.merging import merged
from crdtmerge.simulations.network import Conditions
from crdtmerge.simulations.spread import Crowd
from crdtmerge.simulations.work import floats
from crdtmerge.strategy import pin, strategies
from crdtmerge.sync.chance import Chance

Rows = list[dict[str, object]]
Plots = dict[str, str]

MINUTE_MS = 60_000
SQUARE: dict[str, tuple[int, ...]] = {"w": (512, 512)}


def orderings(options: argparse.Namespace) -> tuple[Rows, Plots]:
    """The same contributions in many orders, 512 x 512, slerp: one root and one model everywhere."""
    rows: Rows = []
    base = floats(Chance(b"base"), SQUARE)
    found: set[tuple[Digest, Digest]] = set()
    for seed in range(options.orderings):
        started = time.process_time()
        swarm = gathered(seed, options.nodes, base=base, recipe=Recipe("slerp", version=1))
        chance = Chance(f"ordering {seed}".encode())
        for number in chance.sample(range(options.contributions), options.contributions):
            add(chance.choose(swarm.hosts), number, SQUARE)
            swarm.run(chance.below(2000))
        agreed = took(swarm, swarm.agreed)
        complete = took(swarm, swarm.complete, every_ms=1000)
        results = {(host.running.view.root, merged(host)) for host in swarm.hosts[:: options.merge_every]}
        assert len(results) == 1, f"ordering {seed}: {len(results)} different results"
        found |= results
        rows.append(
            {
                "ordering": seed,
                "agreed": agreed,
                "complete": round(agreed + complete, 3),
                "models compared": len(swarm.hosts[:: options.merge_every]),
                "model": next(iter(results))[1].hex()[:16],
                "CPU s": round(time.process_time() - started, 1),
            }
        )
    assert len(found) == 1, "the order shows"
    return rows, {}


def partitions(options: argparse.Namespace) -> tuple[Rows, Plots]:
    """Ten parts that work on apart for ten minutes, and heal."""
    swarm = gathered(1, options.nodes, base=floats(Chance(b"base"), SMALL))
    chance, line = Chance(b"partitions"), list[tuple[float, float]]()

    def look(seconds: int) -> None:
        for _ in range(seconds):
            line.append(
                (swarm.clock.elapsed_ms / 1000, len({h.running.view.state_root for h in swarm.hosts}))
            )
            swarm.run(1000)

    look(30)
    parts = [swarm.hosts[part::10] for part in range(10)]
    swarm.network.split(*([host.id for host in part] for part in parts), silent=True)
    for number in range(30):
        add(chance.choose(parts[number % 10]), number)
        look(chance.below(10))
    look(600)
    apart = len({host.running.view.state_root for host in swarm.hosts})
    inside = all(swarm.agreed(part) for part in parts)
    swarm.network.heal()
    healed_s = swarm.clock.elapsed_ms / 1000
    while not swarm.agreed():
        look(1)
    agreed_s = swarm.clock.elapsed_ms / 1000 - healed_s
    complete_s = agreed_s + took(swarm, swarm.complete, 1000)
    look(30)
    models = {merged(host) for host in swarm.hosts}
    assert len(models) == 1
    row = {
        "nodes": options.nodes,
        "parts": 10,
        "states while apart": apart,
        "every part agreed": inside,
        "agreed after healing": agreed_s,
        "complete": complete_s,
        "different models": len(models),
        **traffic(swarm),
    }
    plot = chart.lines(
        f"{options.nodes} nodes, ten parts that heal",
        {"different states": line},
        x="virtual time, s",
        y="states",
        shades=[(30, healed_s, "apart")],
        steps=True,
    )
    return [row], {"partitions.svg": plot}


def every_strategy(options: argparse.Namespace) -> tuple[Rows, Plots]:
    """Every installed strategy with its defaults, at every node of a small federation."""
    swarm = gathered(1, 8, base=floats(Chance(b"base"), SMALL))
    for number in range(5):
        add(swarm.hosts[number], number)
    took(swarm, swarm.complete)
    rows: Rows = []
    for name, version in sorted(strategies()):
        results = {_model(host, pin(Recipe(name, version=version))) for host in swarm.hosts}
        assert len(results) == 1, f"{name}: {results}"
        rows.append({"strategy": name, "nodes": 8, "results": len(results), "model": results.pop()[:70]})
    return rows, {}


def _model(host: Host, recipe: Recipe) -> str:
    """Return the merged model, or why there is none: every node has to refuse alike, too."""
    try:
        return merged(host, recipe).hex()[:16]
    except CrdtMergeError as error:
        return f"refused: {error}"


def scaling(options: argparse.Namespace) -> tuple[Rows, Plots]:
    """Every node contributes once."""
    rows: Rows = [{"nodes": n, **settle(of_small_models(1, n), n)} for n in (2, 5, 10, 20, 50)]
    return rows, _plots("scaling", "nodes", rows, ("agreed", "complete"))


def loss(options: argparse.Namespace) -> tuple[Rows, Plots]:
    """Twenty contributions while messages are lost."""
    rows: Rows = []
    for percent in (0, 10, 20, 30, 40):
        swarm = of_small_models(1, options.nodes, Conditions(loss_percent=percent, duplicate_percent=percent))
        rows.append({"lost, percent": percent, **settle(swarm, 20)})
    return rows, _plots("loss", "lost, percent", rows, ("agreed", "complete"))


def churn(options: argparse.Namespace) -> tuple[Rows, Plots]:
    """One node loses power every five seconds for ten minutes, for half a minute each time."""
    swarm, chance = of_small_models(1, options.nodes), Chance(b"churn")
    for number in range(120):
        host = chance.choose(swarm.up())
        if number % 6 == 0:
            add(host, number)
        host.cut_power()
        swarm.clock.after(30_000, host.revive)
        swarm.run(5000)
    swarm.run(30_000)
    agreed = took(swarm, swarm.agreed)
    row: dict[str, object] = {"nodes": options.nodes, "power cuts": 120, "agreed": agreed}
    return [{**row, "complete": agreed + took(swarm, swarm.complete), **traffic(swarm)}], {}


def repeated(options: argparse.Namespace) -> tuple[Rows, Plots]:
    """Ten splits into two to six parts, of a minute each, ten seconds apart."""
    swarm, chance = of_small_models(1, options.nodes), Chance(b"repeated")
    for number in range(10):
        parts = 2 + chance.below(5)
        sides: list[list[Host]] = [[] for _ in range(parts)]
        for host in swarm.hosts:
            chance.choose(sides).append(host)
        swarm.network.split(*([host.id for host in side] for side in sides), silent=True)
        add(chance.choose(swarm.hosts), number)
        swarm.run(MINUTE_MS)
        swarm.network.heal()
        swarm.run(10_000)
    agreed = took(swarm, swarm.agreed)
    row: dict[str, object] = {"nodes": options.nodes, "splits": 10, "agreed after the last": agreed}
    return [{**row, "complete": agreed + took(swarm, swarm.complete), **traffic(swarm)}], {}


def large(options: argparse.Namespace) -> tuple[Rows, Plots]:
    """A thousand whole machines, ten contributions, a fifth of all messages lost."""
    started = time.process_time()
    swarm = of_small_models(1, options.large, Conditions(loss_percent=20))
    founded = time.process_time()
    row: dict[str, object] = {"nodes": options.large, **settle(swarm, 10)}
    cpu = {"CPU s, founding": round(founded - started), "CPU s": round(time.process_time() - founded)}
    return [{**row, **cpu}], {}


def crowd(options: argparse.Namespace) -> tuple[Rows, Plots]:
    """One operation among many: a fifth of all messages lost, a tenth of the nodes down."""
    rows, lines = Rows(), dict[str, list[tuple[float, float]]]()
    author = SigningKey(bytes(32))
    for size in (100, 1000, options.crowd):
        started = time.process_time()
        people = Crowd(1, size, conditions=Conditions(loss_percent=20), down_percent=10)
        said = Operation.sign(author, Add(Digest(bytes(32))), federation=Digest(bytes(32)), created_ms=1)
        people.publish(said, people.nodes[0])
        line, up = lines.setdefault(f"{size} nodes", [(0.0, 0.0)]), len(people.nodes)
        while line[-1][1] < 100:
            people.clock.run(100)
            line.append((people.clock.elapsed_ms / 1000, 100 * people.knowing(said) / up))
        network = people.network
        rows.append(
            {
                "nodes": size,
                "half": next(at for at, percent in line if percent >= 50),
                "99 %": next(at for at, percent in line if percent >= 99),
                "all": line[-1][0],
                "messages per node": round(network.sent.total() / size, 1),
                "bytes per node": round(network.bytes_of.total() / size),
                "CPU s": round(time.process_time() - started),
            }
        )
    plot = chart.lines("who knows the news", lines, x="virtual time, s", y="percent of the nodes", steps=True)
    return rows, {"crowd.svg": plot}


def _plots(name: str, x: str, rows: Rows, columns: Iterable[str]) -> Plots:
    def line(column: str) -> list[tuple[float, float]]:
        return [(float(str(row[x])), float(str(row[column]))) for row in rows]

    times = chart.lines(name, {column: line(column) for column in columns}, x=x, y="virtual time, s")
    cost = chart.lines(name, {"kB per node": line("kB per node")}, x=x, y="kB")
    return {f"{name}.svg": times, f"{name}-bytes.svg": cost}


SUITES: dict[str, Callable[[argparse.Namespace], tuple[Rows, Plots]]] = {
    "orderings": orderings,
    "partitions": partitions,
    "strategies": every_strategy,
    "scaling": scaling,
    "loss": loss,
    "churn": churn,
    "repeated": repeated,
    "large": large,
    "crowd": crowd,
}


def main() -> None:
    """Run suites, print a table for each, and write what was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=f"of {', '.join(SUITES)}; all by default")
    parser.add_argument("--nodes", type=int, default=100)
    parser.add_argument("--orderings", type=int, default=20)
    parser.add_argument("--contributions", type=int, default=10, help="of 1 MiB, in `orderings`")
    parser.add_argument("--merge-every", type=int, default=1, help="compute the model at every n-th node")
    parser.add_argument("--large", type=int, default=1000)
    parser.add_argument("--crowd", type=int, default=10_000)
    parser.add_argument("--report", type=Path)
    options = parser.parse_args()
    for name in options.suites or SUITES:
        with remembering():
            rows, plots = SUITES[name](options)
        print(f"\n## {name}\n")
        print("| " + " | ".join(rows[0]) + " |\n|" + "---|" * len(rows[0]))
        for row in rows:
            print("| " + " | ".join(str(value) for value in row.values()) + " |", flush=True)
        if options.report is not None:
            report.write(options.report, {f"{name}.json": json.dumps(rows, indent=1) + "\n", **plots})


if __name__ == "__main__":
    main()
