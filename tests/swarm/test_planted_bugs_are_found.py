"""A simulator that finds nothing may be blind: every promise is broken here on purpose, and it says so."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from crdtmerge.block import Block
from crdtmerge.digest import Digest, Domain, digest
from crdtmerge.errors import NotYetError, SimulationError
from crdtmerge.keys import NodeId
from crdtmerge.op import Operation
from crdtmerge.simulations import merging
from crdtmerge.simulations.checkers import Checker
from crdtmerge.simulations.disk import Blocks, Disk
from crdtmerge.simulations.driver import Driver
from crdtmerge.simulations.host import Host
from crdtmerge.simulations.run import simulate
from crdtmerge.simulations.scenario import read
from crdtmerge.simulations.swarm import Swarm
from crdtmerge.sync import transfer
from crdtmerge.sync.blobs import GetBlockReply
from crdtmerge.sync.contacts import Contacts
from crdtmerge.sync.events import Failure
from crdtmerge.sync.exchange import Exchange
from crdtmerge.sync.intake import Intake
from crdtmerge.sync.peer import Peer
from crdtmerge.sync.transfer import Transfer
from crdtmerge.sync.wants import Piece

ROUGH = """
    nodes = 5
    admins = 1
    duration_s = 240
    settle_s = 600
    [network]
    loss_percent = 10
    [work]
    contribute = 6
    ban = 1
    [faults]
    power_cut = 5
    partition = 1
    rot = 3
    [enemies]
    count = 1
    behaviours = ["wrong_bytes", "forge"]
"""


def found(text: str = ROUGH, seeds: int = 4) -> str:
    """What is found first."""
    scenario = read(text, "planted")
    failures = (simulate(scenario, seed).failure for seed in range(seeds))
    return next((failure for failure in failures if failure), "nothing")


def test_without_a_planted_bug_nothing_is_found() -> None:
    assert found() == "nothing"


def test_a_disk_that_forgets_what_it_confirmed_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    cut_power = Driver.cut_power

    def forgets(self: Driver) -> None:
        cut_power(self)
        for op_id in self.acknowledged[-1:]:
            self.disk.operations.pop(op_id, None)

    monkeypatch.setattr(Driver, "cut_power", forgets)
    assert found().startswith("G2")


def test_a_block_that_nobody_checked_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    got_block, wanted = Transfer._got_block, []

    def remembers(
        self: Transfer, now_ms: int, node: NodeId, piece: Piece, end: GetBlockReply | Failure
    ) -> None:
        wanted.append(piece.digest)
        got_block(self, now_ms, node, piece, end)

    def believes(data: bytes) -> Block:
        block = Block(data)
        object.__setattr__(block, "digest", wanted[-1])
        return block

    monkeypatch.setattr(Transfer, "_got_block", remembers)
    monkeypatch.setattr(transfer, "Block", believes)
    assert found(seeds=12).startswith("G4: stored block")


def test_a_damaged_block_that_is_served_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def trusts(self: Blocks, wanted: Digest) -> bytes:
        if wanted not in self:
            raise NotYetError("no such block", [wanted])
        return self[wanted]

    monkeypatch.setattr(Blocks, "get", trusts)
    monkeypatch.setattr(Disk, "damaged", lambda self: sorted(self.rotten))
    assert found(seeds=12).startswith("G4: served block")


def test_a_forged_operation_that_passes_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def gullible(self: Intake, operations: Iterable[Operation]) -> list[Operation]:
        return [operation for operation in operations if not self.knows(operation.id)]

    monkeypatch.setattr(Intake, "verified", gullible)
    assert found(seeds=12).startswith("G4: an operation without a valid signature")


def test_a_banned_node_that_is_answered_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Peer, "_is_member", lambda self, node: self.view.authority.level(node) is not None)
    assert found(seeds=12).startswith("G5")


def test_replicas_that_never_reconcile_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Exchange, "_level", lambda self, run: run.sessions.clear())
    assert found().startswith("G3")


SPLIT = """
    nodes = 4
    duration_s = 600
    settle_s = 600
    [work]
    contribute = 20
    [[event]]
    do = "partition"
    at_s = 60
    for_s = 500
"""


def test_a_split_that_never_heals_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    assert found(SPLIT, seeds=2) == "nothing"
    monkeypatch.setattr(Contacts, "partner", lambda self, now_ms: next(iter(self.some(now_ms, 1)), None))
    assert found(SPLIT, seeds=4).startswith("G3")


def test_an_unbounded_waiting_room_is_found() -> None:
    swarm, checker = Swarm(seed=1, hosts=2), Checker()
    checker.look(swarm.hosts[1])
    waiting = swarm.hosts[1].running._intake._waiting
    waiting.update({digest(Domain.PAYLOAD, n.to_bytes(4, "big")): swarm.genesis for n in range(4097)})
    with pytest.raises(SimulationError, match=r"G6.*4097 operations of strangers"):
        checker.look(swarm.hosts[1])


def test_merged_models_that_differ_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    merged = merging.merged

    def otherwise(host: Host) -> Digest:
        return digest(Domain.MODEL, merged(host), host.id)

    monkeypatch.setattr(merging, "merged", otherwise)
    text = "nodes = 3\nmerge_percent = 100\nduration_s = 30\n[work]\ncontribute = 2\n"
    assert found(text, seeds=1).startswith("G1: merged models differ")
