"""A certificate speaks for a node only if that node signed its key."""

from __future__ import annotations

import contextlib
from datetime import timedelta
from pathlib import Path

import node_harness as harness
import pytest
from hypothesis import given
from hypothesis import strategies as st
from node_harness import reissued

from crdtmerge.digest import Digest
from crdtmerge.errors import (
    LimitError,
    MalformedError,
    PolicyError,
    RejectedError,
    SignatureError,
    UsageError,
)
from crdtmerge.node import certificate, identity
from crdtmerge.node.certificate import BINDING, LEAF_BYTES_MAX, node_of
from crdtmerge.node.credentials import Credentials

LEAF = harness.credentials(1).leaf


def test_a_leaf_speaks_for_the_node_that_it_was_issued_to() -> None:
    assert node_of(LEAF, harness.FEDERATION) == harness.signing_key(1).id
    assert len(LEAF) < LEAF_BYTES_MAX // 2


def test_issuing_again_gives_the_same_leaf_so_pins_survive_a_restart() -> None:
    assert harness.credentials(1).leaf == LEAF
    assert harness.credentials(1, tls=2).leaf != LEAF


def test_reissuing_by_another_member_changes_nothing_as_long_as_the_key_is_the_same() -> None:
    assert node_of(reissued(LEAF), harness.FEDERATION) == harness.signing_key(1).id


def test_another_member_can_neither_prolong_nor_shorten_a_leaf() -> None:
    for days in (-1, 1, 9999):
        with pytest.raises(MalformedError, match="another day"):
            node_of(reissued(LEAF, longer=timedelta(days=days)), harness.FEDERATION)


def test_a_leaf_says_when_it_was_issued_and_ends() -> None:
    said = certificate.read(LEAF, harness.FEDERATION)
    assert (said.issued_ms, said.expires_ms) == (harness.NOW_MS, harness.NOW_MS + certificate.LIFE_MS)


def test_two_leaves_of_one_node_have_different_names() -> None:
    hosts = {certificate.read(harness.credentials(1, tls=n).leaf, harness.FEDERATION).host for n in (1, 2, 3)}
    assert len(hosts) == 3


def test_a_binding_copied_onto_another_key_is_refused() -> None:
    with pytest.raises(SignatureError):
        node_of(reissued(LEAF, key=identity.p256(b"k" * 32).public_key()), harness.FEDERATION)


def test_a_binding_that_names_another_node_is_refused() -> None:
    forged = LEAF.replace(harness.signing_key(1).id, harness.signing_key(2).id)
    assert forged != LEAF
    with pytest.raises(SignatureError):
        node_of(forged, harness.FEDERATION)


def test_a_leaf_without_binding_is_refused() -> None:
    with pytest.raises(MalformedError):
        node_of(reissued(LEAF, drop=BINDING), harness.FEDERATION)


def test_a_leaf_under_another_nodes_name_is_refused() -> None:
    with pytest.raises(MalformedError):
        node_of(reissued(LEAF, name=harness.signing_key(2).id.hex()), harness.FEDERATION)


def test_a_leaf_for_another_federation_is_refused() -> None:
    other = harness.credentials(1, federation=Digest(b"g" * 32)).leaf
    with pytest.raises(PolicyError):
        node_of(other, harness.FEDERATION)


def test_a_huge_certificate_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(LimitError):
        node_of(LEAF + bytes(LEAF_BYTES_MAX), harness.FEDERATION)


@given(st.integers(0, len(LEAF) - 1), st.integers(1, 255))
def test_a_damaged_leaf_is_refused_or_still_the_nodes(position: int, flip: int) -> None:
    damaged = bytearray(LEAF)
    damaged[position] ^= flip
    with contextlib.suppress(RejectedError):
        assert node_of(bytes(damaged), harness.FEDERATION) == harness.signing_key(1).id


@given(st.binary(max_size=200))
def test_bytes_that_are_no_certificate_are_refused(data: bytes) -> None:
    with pytest.raises(RejectedError):
        node_of(data, harness.FEDERATION)
    with pytest.raises(RejectedError):
        certificate.leaf_der(data)


def test_host_names_fit_into_a_label() -> None:
    labels = certificate.read(LEAF, harness.FEDERATION).host.split(".")
    assert max(map(len, labels)) <= 63


def test_a_home_keeps_its_keys_and_shows_them_to_nobody(tmp_home: Path) -> None:
    key = identity.create_signing_key(tmp_home)
    tls = identity.create_tls_secret(tmp_home)
    ca = identity.create_ca_secret(tmp_home)
    assert identity.create_signing_key(tmp_home).id == identity.signing_key(tmp_home).id == key.id
    assert identity.create_tls_secret(tmp_home) == tls
    assert identity.ca_secret(tmp_home) == identity.create_ca_secret(tmp_home, secret=ca) == ca
    assert {path.stat().st_mode & 0o777 for path in tmp_home.iterdir()} == {0o600}
    made = Credentials.make(
        key, tls_secret=tls, ca_secret=ca, federation=harness.FEDERATION, issued_ms=harness.NOW_MS
    )
    assert repr(made.tls_key_pem) not in repr(made)


def test_a_home_of_one_federation_takes_no_other_authority(tmp_home: Path) -> None:
    identity.create_ca_secret(tmp_home)
    with pytest.raises(UsageError):
        identity.create_ca_secret(tmp_home, secret=identity.new_p256_secret())
