"""Keys are replaced without anybody noticing, and what was stolen is worth nothing afterwards."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import node_harness as harness
import pytest

from crdtmerge.keys import SigningKey
from crdtmerge.ledger import Ledger
from crdtmerge.node import certificate, identity, seeds, wardrobe
from crdtmerge.node.address import Address
from crdtmerge.node.certificate import LIFE_MS, OVERLAP_MS
from crdtmerge.node.client import Contact
from crdtmerge.node.credentials import Credentials
from crdtmerge.node.record import current_record
from crdtmerge.node.renewal import Renewal
from crdtmerge.op import Operation
from crdtmerge.store import Store
from crdtmerge.sync.records import NodeRecord

START_MS = harness.NOW_MS


@pytest.fixture
def genesis(tmp_home: Path) -> Operation:
    with harness.founded(tmp_home) as store:
        return Ledger(store, identity.signing_key(tmp_home)).genesis


def load(home: Path, genesis: Operation, now_ms: int = START_MS) -> Credentials:
    return Credentials.load(home, genesis, now_ms=now_ms)


def test_a_node_that_restarts_presents_the_leaf_that_its_peers_have_pinned(
    tmp_home: Path, genesis: Operation
) -> None:
    first = load(tmp_home, genesis)
    assert load(tmp_home, genesis, START_MS + LIFE_MS // 2 - 1) == first


def test_after_a_rotation_the_old_leaf_is_kept_beside_the_new_one_for_a_month(
    tmp_home: Path, genesis: Operation
) -> None:
    before = load(tmp_home, genesis)
    wardrobe.rotate(tmp_home)
    after = load(tmp_home, genesis, START_MS + 1000)
    assert after.leaf != before.leaf
    assert after.old == (before.tls_key_pem, before.leaf)
    assert load(tmp_home, genesis, START_MS + OVERLAP_MS + 999).old is not None
    assert load(tmp_home, genesis, START_MS + OVERLAP_MS + 1000).old is None
    assert not (tmp_home / identity.TLS_OLD).exists(), "a key of no use is not kept"


def test_a_rotation_at_once_keeps_nothing_of_the_old_key(tmp_home: Path, genesis: Operation) -> None:
    load(tmp_home, genesis)
    wardrobe.rotate(tmp_home)
    between = load(tmp_home, genesis, START_MS + 1000)
    wardrobe.rotate(tmp_home, at_once=True)
    after = load(tmp_home, genesis, START_MS + 2000)
    assert after.leaf != between.leaf
    assert after.old is None
    assert not list(tmp_home.glob("tls.old*"))


def test_a_worn_key_is_replaced_by_the_node_itself(
    tmp_home: Path, genesis: Operation, monkeypatch: pytest.MonkeyPatch
) -> None:
    with harness.founded(tmp_home) as store:
        renewal = Renewal(tmp_home, store, identity.signing_key(tmp_home), genesis)
        now = [START_MS]
        monkeypatch.setattr("crdtmerge.node.renewal.ambient.now_ms", lambda: now[0])
        first = renewal.credentials()
        now[0] += LIFE_MS // 2 - 1000
        assert renewal.credentials() == first
        now[0] += 1000
        second = renewal.credentials()
        assert second.old == (first.tls_key_pem, first.leaf)
        now[0] += 3 * LIFE_MS
        third = renewal.credentials()
        assert third.old is None, "it was down for so long that both have expired"
        assert certificate.read(third.leaf, genesis.id).expires_ms > now[0]


def test_a_clock_that_went_back_makes_no_leaf_older_than_the_one_that_others_know(
    tmp_home: Path, genesis: Operation, monkeypatch: pytest.MonkeyPatch
) -> None:
    with harness.founded(tmp_home) as store:
        renewal = Renewal(tmp_home, store, identity.signing_key(tmp_home), genesis)
        first = renewal.credentials()
        renewal.record(first, ())
        monkeypatch.setattr("crdtmerge.node.renewal.ambient.now_ms", lambda: START_MS - LIFE_MS)
        wardrobe.rotate(tmp_home, at_once=True)
        second = renewal.credentials()
        issued = [certificate.read(made.leaf, genesis.id).issued_ms for made in (first, second)]
        assert issued == sorted(set(issued))


def test_a_new_leaf_makes_a_new_record_that_supersedes_the_old_one(
    tmp_home: Path, genesis: Operation
) -> None:
    with harness.founded(tmp_home) as store:
        renewal = Renewal(tmp_home, store, identity.signing_key(tmp_home), genesis)
        records = [NodeRecord.decode(renewal.record(renewal.credentials(), ()))]
        wardrobe.rotate(tmp_home)
        records.append(NodeRecord.decode(renewal.record(renewal.credentials(), ())))
    assert records[1].supersedes(records[0])
    assert records[1].leaf != records[0].leaf


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:50])


def _lose(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("name", ["tls.pem", "tls.old.pem", "tls.old.key"])
@pytest.mark.parametrize("harm", [_truncate, _lose])
def test_a_crash_in_the_middle_of_a_rotation_costs_the_overlap_at_most(
    tmp_home: Path, genesis: Operation, name: str, harm: Callable[[Path], None]
) -> None:
    load(tmp_home, genesis)
    wardrobe.rotate(tmp_home)
    load(tmp_home, genesis, START_MS + 1000)
    if not (name.endswith("key") and harm is _truncate):
        harm(tmp_home / name)
    made = load(tmp_home, genesis, START_MS + 2000)
    assert certificate.node_of(made.leaf, genesis.id) == identity.signing_key(tmp_home).id


def test_every_change_of_keys_is_noticed(tmp_home: Path, genesis: Operation) -> None:
    states = [wardrobe.state(tmp_home)]
    for at_once in (False, False, True):
        load(tmp_home, genesis, START_MS + 1000 * len(states))
        states.append(wardrobe.state(tmp_home))
        wardrobe.rotate(tmp_home, at_once=at_once)
        states.append(wardrobe.state(tmp_home))
    assert all(one != other for one, other in pairwise(states))


def test_a_leaf_of_another_key_or_node_in_the_home_is_not_presented(
    tmp_home: Path, genesis: Operation
) -> None:
    made = load(tmp_home, genesis)
    other = Credentials.make(
        SigningKey(b"x" * 32),
        tls_secret=identity.create_tls_secret(tmp_home),
        ca_secret=identity.ca_secret(tmp_home),
        federation=genesis.id,
        issued_ms=START_MS,
    )
    (tmp_home / "tls.pem").write_bytes(certificate.leaf_pem(other.leaf))
    assert load(tmp_home, genesis).leaf == made.leaf


def test_a_seed_is_expected_under_the_certificate_of_its_newest_record() -> None:
    key = harness.signing_key(2)
    contact = Contact(key.id, (Address("10.0.0.1", 7),), b"old leaf", given=True)
    with Store.memory() as store, Store.memory() as theirs:
        seeds.save(store, contact)
        known = seeds.load(store)
        record = current_record(theirs, key, addresses=(), leaf=b"new leaf", now_ms=START_MS)
        seeds.follow(store, known, record)
        assert known[key.id].leaf == seeds.load(store)[key.id].leaf == b"new leaf"
        assert known[key.id].addresses == contact.addresses
