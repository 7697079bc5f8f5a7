"""What happens to whole nodes over months: keys are replaced, stolen and given up; results are compared."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest
from node_harness import run, until
from node_stories import CONFIG, agree, calling, contribute, founder, has, say, serving, ticket

from crdtmerge import witness
from crdtmerge.digest import Digest
from crdtmerge.keys import SigningKey
from crdtmerge.ledger import Ledger
from crdtmerge.limits import BLOCK_BYTES
from crdtmerge.node import identity, packing, wardrobe
from crdtmerge.node.client import CallError
from crdtmerge.node.join import join
from crdtmerge.op import Add, Ban, Operation
from crdtmerge.store import Store
from crdtmerge.store.database import Kind
from crdtmerge.sync import messages as m
from crdtmerge.sync.attestation import Claim
from crdtmerge.sync.records import NodeRecord

__all__ = ["founder"]


def leaf_known_to(home: Path, node: bytes) -> bytes:
    with Store.open(home) as store:
        return next((NodeRecord.decode(d).leaf for n, d in store.records() if n == node), b"")


def test_a_running_node_replaces_its_key_and_nobody_misses_anything(
    founder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crdtmerge.node.renewal.LOOK_S", 0.1)
    second = tmp_path / "second"

    async def story() -> None:
        async with serving(founder) as first:
            await join(second, ticket(founder), CONFIG)
            async with serving(second):
                await until(agree(founder, second))
                stolen = leaf_known_to(founder, first.node)
                async with calling(founder, first) as (thief, contact):
                    assert await thief.call(contact, m.GetOps(())) == m.GetOpsReply(())
                    wardrobe.rotate(founder)
                    await until(lambda: leaf_known_to(second, first.node) not in (b"", stolen))
                    with pytest.raises(CallError, match="replaced since"):
                        await thief.call(contact, m.GetOps(()))
                made = contribute(founder, b"under the new key")
                await until(has(second, made, b"under the new key"))
                back = contribute(second, b"and back")
                await until(has(founder, back, b"and back"))

    run(story())


def test_blocks_travel_packed_between_nodes_and_arrive_whole(
    founder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, packed = bytes(2 * BLOCK_BYTES) + b"end" * 100, Mock(wraps=packing.pack)
    monkeypatch.setattr(packing, "pack", packed)

    async def story() -> None:
        async with serving(founder):
            plain, second = tmp_path / "plain", tmp_path / "second"
            await join(plain, ticket(founder), CONFIG)
            await join(second, ticket(founder), CONFIG)
            made = contribute(founder, model)
            async with serving(plain, replace(CONFIG, compress=False)):
                await until(has(plain, made, model))
                assert packed.call_count == 0
            async with serving(second):
                await until(has(second, made, model))
                assert packed.call_count > 0

    run(story())


def test_a_stolen_identity_is_cut_off_with_its_past_kept_and_its_owner_joins_anew(
    founder: Path, tmp_path: Path
) -> None:
    second, anew = tmp_path / "second", tmp_path / "anew"

    async def story() -> None:
        async with serving(founder):
            node = await join(second, ticket(founder), CONFIG)
            async with serving(second):
                honest = contribute(second, b"before the theft")
                await until(has(founder, honest, b"before the theft"))
            thief = identity.signing_key(second)
            with Store.open(founder) as store:
                ops = Ledger(store, identity.signing_key(founder)).operations
                heads, federation = ops.heads(node), ops.federation
            say(founder, Ban(node, heads))
            forged = forge(thief, federation, prev=heads)
            await join(anew, ticket(founder), CONFIG)
            async with serving(anew):
                with Store.open(founder) as store:
                    store.add_operations([forged.encoded])
                mine = contribute(anew, b"under a new name")
                await until(has(founder, mine, b"under a new name"))
                await until(has(anew, honest, b"before the theft"))
                for home in (founder, anew):
                    with Store.open(home) as store:
                        view = Ledger(store, identity.signing_key(home)).view
                        assert set(view.contributions) == {honest, mine}
                        assert not view.authority.is_member(node)

    run(story())


def forge(thief: SigningKey, federation: Digest, prev: tuple[Digest, ...]) -> Operation:
    """What a thief of an identity signs after the ban, with a date before it."""
    return Operation.sign(thief, Add(Digest(b"x" * 32)), federation=federation, created_ms=1, prev=prev)


def test_a_running_node_forgets_what_was_retracted_and_has_rested(
    founder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crdtmerge.node.serve._COLLECT_S", 0.1)

    async def story() -> None:
        async with serving(founder):
            kept, gone = contribute(founder, b"kept"), contribute(founder, b"gone")
            with Store.open(founder) as store:
                ledger = Ledger(store, identity.signing_key(founder))
                ledger.retract(gone)
                store._database.put(Kind.UNNEEDED, [(gone, b"0")])  # first seen in 1970
                await until(lambda: not store.has_manifest(gone))
                assert store.has_manifest(kept)
                assert len(list(store.blocks)) == 1

    run(story())


def test_results_that_differ_are_known_to_both_nodes_and_logged_aloud(
    founder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    second = tmp_path / "second"
    one = Digest(b"1" * 32)
    claim = Claim(recipe=one, root=one, inputs=one, model=one, result=one)

    def attest(home: Path, said: Claim) -> None:
        with Store.open(home) as store:
            ledger = Ledger(store, identity.signing_key(home))
            federation = ledger.operations.federation
            witness.attest(
                store, ledger.key, ledger.view, said, federation=federation, environment="", now_ms=1
            )

    def known(home: Path) -> int:
        with Store.open(home) as store:
            return len(list(store.attestations()))

    async def story() -> None:
        async with serving(founder):
            await join(second, ticket(founder), CONFIG)
            async with serving(second):
                await until(agree(founder, second))
                attest(founder, claim)
                attest(second, replace(claim, model=Digest(b"2" * 32)))
                await until(lambda: known(founder) == known(second) == 2)
                await asyncio.sleep(0.3)

    with caplog.at_level(logging.ERROR):
        run(story())
    told = [record for record in caplog.records if "DIVERGED" in record.getMessage()]
    assert len(told) == 2
