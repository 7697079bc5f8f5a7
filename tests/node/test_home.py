"""What a home keeps around the machine: a lock, a record, invitations, seeds and figures."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import node_harness as harness
import pytest
from node_harness import signing_key

from crdtmerge.errors import LockedError, PermissionDeniedError, UsageError
from crdtmerge.keys import SigningKey
from crdtmerge.ledger import Ledger
from crdtmerge.node import figures, identity, invites, lock, seeds, ticket
from crdtmerge.node.address import Address
from crdtmerge.node.client import Contact
from crdtmerge.node.figures import Figures
from crdtmerge.node.record import LIFE_MS, current_record, own_record
from crdtmerge.op import Role
from crdtmerge.store import Store

NODE = signing_key(2).id


def test_a_home_is_served_by_one_process_at_a_time(tmp_path: Path) -> None:
    assert lock.holder(tmp_path) is None
    with lock.locked(tmp_path) as held:
        held.note("process 1 serves it")
        assert lock.holder(tmp_path) == "process 1 serves it"
        with pytest.raises(LockedError, match="process 1 serves it"), lock.locked(tmp_path):
            pass
    assert lock.holder(tmp_path) is None
    with lock.locked(tmp_path):
        assert str(os.getpid()) in (lock.holder(tmp_path) or "")


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    script = (
        "import os, sys, pathlib; from crdtmerge.node import lock\n"
        "with lock.locked(pathlib.Path(sys.argv[1])): print(flush=True); os.kill(os.getpid(), 9)"
    )
    killed = subprocess.run([sys.executable, "-c", script, tmp_path], capture_output=True, check=False)
    assert (killed.returncode, killed.stdout) == (-9, b"\n")
    assert lock.holder(tmp_path) is None
    with lock.locked(tmp_path):
        pass


def test_a_record_is_signed_again_only_when_it_changed_or_grew_old() -> None:
    with Store.memory() as store:

        def record(
            now_ms: int, address: str = "node.example.org:1", leaf: bytes = b"leaf"
        ) -> tuple[int, bytes]:
            made = current_record(
                store, signing_key(1), addresses=(Address.parse(address),), leaf=leaf, now_ms=now_ms
            )
            return made.sequence, made.encoded

        first = record(1000)
        assert record(2000) == first
        moved = record(3000, "node.example.org:2")
        renewed = record(3000 + LIFE_MS // 2, "node.example.org:2")
        behind = record(5000, "node.example.org:2", b"other leaf")
        sequences = [sequence for sequence, _ in (first, moved, renewed, behind)]
        assert sequences == sorted(set(sequences))
        stored = own_record(store, signing_key(1).id)
        assert stored is not None
        assert stored.encoded == behind[1]
        assert own_record(store, NODE) is None


def test_a_record_signed_after_the_store_was_lost_supersedes_the_lost_one() -> None:
    def fresh(now_ms: int) -> int:
        with Store.memory() as store:
            address = (Address("node.example.org", 1),)
            return current_record(
                store, signing_key(1), addresses=address, leaf=b"leaf", now_ms=now_ms
            ).sequence

    assert fresh(2000) > fresh(1000)


def test_seeds_are_kept_as_they_were_given() -> None:
    contact = Contact(NODE, (Address("10.0.0.1", 7), Address("::1", 8)), b"leaf", given=True)
    with Store.memory() as store:
        assert seeds.load(store) == {}
        seeds.save(store, contact)
        assert seeds.load(store) == {NODE: contact}


def test_figures_survive_a_restart_and_never_stop_one() -> None:
    kept = Figures()
    kept.succeeded(NODE, now_ms=1000, round_trip_ms=12)
    kept.failed(NODE, now_ms=2000, reason="unreachable: nobody")
    kept.failed(NODE, now_ms=3000, reason="timeout: slow")
    kept.reachable = False
    with Store.memory() as store:
        assert figures.load(store).reachable is None
        figures.save(store, kept.encode())
        loaded = figures.load(store)
        assert loaded.reachable is False
        assert loaded[NODE] == kept[NODE]
        assert (kept[NODE].failures, kept[NODE].success_ms, kept[NODE].reason) == (2, 1000, "timeout: slow")
        assert loaded[signing_key(3).id].failures == 0
        for damaged in (b"", b"\xff", b"\x92\xc0\x91\x91\x01"):
            figures.save(store, damaged)
            assert figures.load(store).encode() == Figures().encode()


def test_an_invitation_is_a_ticket_outside_and_an_open_invite_inside(tmp_home: Path) -> None:
    with harness.founded(tmp_home) as store:
        ledger = Ledger(store, identity.signing_key(tmp_home))
        made = invites.invite(
            tmp_home, ledger, addresses=(Address("node.example.org", 1),), role=Role.ADMIN, life_ms=1000
        )
        read = ticket.parse(str(made))
        (invite,) = invites.outstanding(store)
    assert read == made
    assert read.federation == ledger.operations.federation
    assert read.ca_secret == identity.ca_secret(tmp_home)
    assert invite.key == SigningKey(read.invite_seed).id
    assert (invite.role, invite.expires_ms, invite.claimed) == (Role.ADMIN, read.expires_ms, None)


def test_an_invitation_needs_an_address(tmp_home: Path) -> None:
    with harness.founded(tmp_home) as store:
        ledger = Ledger(store, identity.signing_key(tmp_home))
        for addresses in ((), (Address("node.example.org", 0),)):
            with pytest.raises(UsageError, match="address"):
                invites.invite(tmp_home, ledger, addresses=addresses)
        assert list(invites.outstanding(store)) == []


def test_only_an_admin_invites(tmp_home: Path) -> None:
    with harness.founded(tmp_home) as store:
        stranger = Ledger(store, signing_key(2))
        with pytest.raises(PermissionDeniedError):
            invites.invite(tmp_home, stranger, addresses=(Address("node.example.org", 1),))


def test_an_invite_remembers_who_claimed_it_until_it_is_forgotten() -> None:
    with Store.memory() as store:
        key = signing_key(7).id
        assert invites.find(store, key) is None
        invites.save(store, invites.Invite(key, Role.MEMBER, 5))
        invites.save(store, invites.Invite(key, Role.MEMBER, 5, claimed=NODE))
        assert invites.find(store, key) == invites.Invite(key, Role.MEMBER, 5, NODE)
        invites.forget(store, key)
        invites.forget(store, key)
        assert list(invites.outstanding(store)) == []
